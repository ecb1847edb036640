"""ToolRL's correctness reward in three channels: tool names, argument names, argument values.

With C calls and P arguments in the reference, and t, a, v the three channels::

    toolrl_correctness = 6 (t + C a + P v) / (1 + C + P) - 3

``toolrl_format`` is the fourth channel. A sum lets many right values pay for a wrong tool; a rule
that sees the channels need not. ``N`` completions.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from rvpo_jax.rewards.channels import Example, reward_channel
from rvpo_jax.rewards.tool_calling import (
    Agreement,
    agreement,
    has_tool_call,
    reference_answer,
)


@reward_channel()
def toolrl_tool_names(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """How well the names of the called tools agree: their Jaccard index, each as often as called.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 1; 0 where the calls cannot be read; NaN where the reference has none.

    Raises:
      ValueError: when a row has no reference answer, or its tool calls cannot be read.

    Source:
      ToolRL, arXiv:2504.13958, the first part of its correctness reward.

    >>> call = '<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>'
    >>> toolrl_tool_names([call, call.replace("f", "g")], [{"ground_truth": call}] * 2)
    array([1., 0.])
    """
    return _each(lambda found: found.tool_names, completions, examples)


@reward_channel()
def toolrl_argument_names(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """How well the names of the arguments agree: Jaccard index, mean over the reference's calls.

    Calls are paired as in ``toolrl_correctness``: greedily, among those of the same tool. A call of
    the reference without a partner counts 0.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 1; 0 where the calls cannot be read; NaN where the reference has none.

    Raises:
      ValueError: when a row has no reference answer, or its tool calls cannot be read.

    Source:
      ToolRL, arXiv:2504.13958, the second part of its correctness reward.

    >>> call = '<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>'
    >>> toolrl_argument_names([call, call.replace("x", "y")], [{"ground_truth": call}] * 2)
    array([1., 0.])
    """
    return _each(lambda found: found.argument_names / found.num_calls, completions, examples)


@reward_channel()
def toolrl_argument_values(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """Share of the reference's arguments whose value the paired call has too.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 1; 0 where the calls cannot be read; NaN where the reference has no
      argument.

    Raises:
      ValueError: when a row has no reference answer, or its tool calls cannot be read.

    Source:
      ToolRL, arXiv:2504.13958, the third part of its correctness reward.

    >>> call = '<tool_call>{"name": "f", "parameters": {"x": 1, "y": 2}}</tool_call>'
    >>> toolrl_argument_values([call, call.replace("2", "3")], [{"ground_truth": call}] * 2)
    array([1. , 0.5])
    """

    def share(found: Agreement) -> float:
        return found.argument_values / found.num_arguments if found.num_arguments else np.nan

    return _each(share, completions, examples)


# Three channels read each completion. A broken reference raises, which is not kept.
_agreement = functools.lru_cache(maxsize=1 << 10)(agreement)


def _each(
    part: Callable[[Agreement], float], completions: Sequence[str], examples: Sequence[Example]
) -> np.ndarray:
    return np.array(
        [
            part(_agreement(text, reference_answer(example, i), i))
            if has_tool_call(example)
            else np.nan
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )
