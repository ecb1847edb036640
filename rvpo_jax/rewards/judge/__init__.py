"""The reward ``rubric``: a language model behind an OpenAI-compatible endpoint judges completions.

``rubric(Judge(endpoint=..., model=...))`` is a reward function. From a row to a verdict: ``items``
and ``polarity`` read the rubric, ``protocol`` makes the request and reads the reply, ``client``
asks with ``cache``, ``limits``, ``budget`` and ``http``, and ``reward`` puts the values together.
Needs the extra ``rvpo-jax[judge]``.
"""

from rvpo_jax.rewards.judge.budget import BudgetSpent
from rvpo_jax.rewards.judge.client import JudgeDown
from rvpo_jax.rewards.judge.counts import Counts
from rvpo_jax.rewards.judge.items import Item, read_items
from rvpo_jax.rewards.judge.polarity import PolarityReport
from rvpo_jax.rewards.judge.reward import Rubric, polarity_report, rubric
from rvpo_jax.rewards.judge.settings import Judge

__all__ = [
    "BudgetSpent",
    "Counts",
    "Item",
    "Judge",
    "JudgeDown",
    "PolarityReport",
    "Rubric",
    "polarity_report",
    "read_items",
    "rubric",
]
