"""IFEval's four accuracies, from verdicts."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.instructions.verdicts import Verdict, all_followed


class Accuracies(NamedTuple):
    """Shares of 1; NaN where nothing was scored."""

    prompt_strict: float  # of prompts, all of whose instructions were followed
    prompt_loose: float
    instruction_strict: float  # of instructions
    instruction_loose: float
    num_prompts: int  # that were scored: each of their instructions was
    num_instructions: int  # that were scored


def accuracies(
    strict: Sequence[Sequence[Verdict]], loose: Sequence[Sequence[Verdict]]
) -> Accuracies:
    """The four accuracies of IFEval.

    A prompt with an instruction that was not scored is left out of those of prompts, and that
    instruction out of those of instructions; the two counts say what is left.

    Args:
      strict: For each answer the strict verdicts on its prompt's instructions.
      loose: The loose ones, likewise.

    Returns:
      The accuracies and what they are shares of.

    Raises:
      Refusal: when the two do not have the same shape, or differ in what was scored.

    Source:
      IFEval, arXiv:2311.07911, section 2.3.

    >>> accuracies([[True, False], [True]], [[True, True], [True]])[:4]
    (0.5, 1.0, 0.6666666666666666, 1.0)
    """
    scored = [[verdict is not None for verdict in row] for row in strict]
    if scored != [[verdict is not None for verdict in row] for row in loose]:
        raise Refusal(
            "strict and loose verdicts must be on the same answers and instructions, got "
            f"{_shape(strict)} and {_shape(loose)}, or other ones that were not scored.",
            "Take strict_verdicts and loose_verdicts of the same texts.",
        )
    prompts = [_scored(all_followed(row) for row in rows if row) for rows in (strict, loose)]
    single = [_scored(verdict for row in rows for verdict in row) for rows in (strict, loose)]
    return Accuracies(
        prompt_strict=_mean(prompts[0]),
        prompt_loose=_mean(prompts[1]),
        instruction_strict=_mean(single[0]),
        instruction_loose=_mean(single[1]),
        num_prompts=len(prompts[0]),
        num_instructions=len(single[0]),
    )


def _scored(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and not math.isnan(value)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _shape(verdicts: Sequence[Sequence[Verdict]]) -> str:
    return f"{len(verdicts)} answers with {sum(map(len, verdicts))} instructions"
