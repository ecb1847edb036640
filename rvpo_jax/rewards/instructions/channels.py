"""The reward channels of IFEval's instructions. ``N`` completions."""

from collections.abc import Callable, Sequence

import numpy as np

from rvpo_jax.rewards.channels import Example, reward_channel
from rvpo_jax.rewards.instructions.rows import Instruction, has_instructions, instructions_of
from rvpo_jax.rewards.instructions.verdicts import (
    all_followed,
    loose_verdicts,
    share_followed,
    strict_verdicts,
)


@reward_channel(applies=has_instructions)
def instructions_strict(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion follows all instructions of its prompt literally, else 0.0.

    Five of the 25 kinds are judged by langdetect, NLTK and Punkt (extra ``rvpo-jax[ifeval]``).
    Without the library a prompt with such an instruction is not scored; a warning names the kind.

    Time is linear in the length of the completion. 64 kB of the worst text that we know take a kind
    at most 10 ms; langdetect 0.06 s, NLTK's words 0.3 s, Punkt's sentences 0.7 s.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``instruction_id_list`` and ``kwargs``, as IFEval has them.

    Returns:
      ``[N]`` float64, 0 or 1; NaN where the row has no instructions or one is not scored.

    Raises:
      Refusal: when a row's instructions are not IFEval's.

    Source:
      IFEval, arXiv:2311.07911: its strict accuracy at the level of prompts.

    >>> row = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    >>> instructions_strict(["Yes.", "Yes, sir.", "Yes."], [row, row, {}])
    array([ 1.,  0., nan])
    """
    return _per_row(lambda *each: all_followed(strict_verdicts(*each)), completions, examples)


@reward_channel(applies=has_instructions)
def instructions_loose(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion follows all instructions of its prompt loosely, else 0.0.

    As ``instructions_strict``, but each instruction may hold for the completion without its first
    or last line or its asterisks: up to eight texts are judged, in as many times the time.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``instruction_id_list`` and ``kwargs``, as IFEval has them.

    Returns:
      ``[N]`` float64, 0 or 1; NaN where the row has no instructions or one is not scored.

    Raises:
      Refusal: when a row's instructions are not IFEval's.

    Source:
      IFEval, arXiv:2311.07911: its loose accuracy at the level of prompts.

    >>> row = {"instruction_id_list": ["startend:quotation"], "kwargs": [{}]}
    >>> instructions_loose(['Sure:' + chr(10) + '"Yes."', "Yes."], [row, row])
    array([1., 0.])
    """
    return _per_row(lambda *each: all_followed(loose_verdicts(*each)), completions, examples)


@reward_channel(applies=has_instructions)
def instructions_share(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """The share of the prompt's instructions that the completion follows literally.

    Tells completions apart where none follows all instructions. Those that are not scored (see
    ``instructions_strict``) are left out of the share.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``instruction_id_list`` and ``kwargs``, as IFEval has them.

    Returns:
      ``[N]`` float64, 0 to 1; NaN where the row has no instructions or none is scored.

    Raises:
      Refusal: when a row's instructions are not IFEval's.

    Source:
      Ours; its mean over prompts weighs each prompt alike, IFEval's accuracy at the level of
      instructions each instruction.

    >>> row = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"]}
    >>> instructions_share(["Yes.", "Yes, sir."], [row | {"kwargs": [{}, {}]}] * 2)
    array([0.5, 0. ])
    """
    return _per_row(lambda *each: share_followed(strict_verdicts(*each)), completions, examples)


def _per_row(
    one: Callable[[str, list[Instruction]], float],
    completions: Sequence[str],
    examples: Sequence[Example],
) -> np.ndarray:
    """``[N]``: ``one(completion, instructions)``; a row is read once for all its completions."""
    rows: dict[int, list[Instruction]] = {}
    values = []
    for i, (text, example) in enumerate(zip(completions, examples, strict=True)):
        if id(example) not in rows:
            rows[id(example)] = instructions_of(example, i)
        values.append(one(text, rows[id(example)]))
    return np.array(values, np.float64)
