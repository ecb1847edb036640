"""IFEval's 25 kinds of instruction: their verdicts, accuracies and reward channels.

Source:
  Instruction-Following Evaluation for Large Language Models, arXiv:2311.07911. The rules follow the
  authors' code (google-research/instruction_following_eval, Apache-2.0); the code here is ours.
"""

from rvpo_jax.rewards.instructions.accuracy import Accuracies, accuracies
from rvpo_jax.rewards.instructions.channels import (
    instructions_loose,
    instructions_share,
    instructions_strict,
)
from rvpo_jax.rewards.instructions.kinds import KINDS, Kind, why_not_scored
from rvpo_jax.rewards.instructions.loose import loose_texts
from rvpo_jax.rewards.instructions.rows import Instruction, instructions_of
from rvpo_jax.rewards.instructions.verdicts import (
    Verdict,
    all_followed,
    loose_verdicts,
    share_followed,
    strict_verdicts,
)

__all__ = [
    "KINDS",
    "Accuracies",
    "Instruction",
    "Kind",
    "Verdict",
    "accuracies",
    "all_followed",
    "instructions_loose",
    "instructions_of",
    "instructions_share",
    "instructions_strict",
    "loose_texts",
    "loose_verdicts",
    "share_followed",
    "strict_verdicts",
    "why_not_scored",
]
