"""Whether a text follows instructions: one verdict per instruction, and what follows from them."""

import functools
import logging
from collections.abc import Iterable, Sequence

import numpy as np

from rvpo_jax.rewards.instructions.kinds import KINDS, why_not_scored
from rvpo_jax.rewards.instructions.loose import loose_texts
from rvpo_jax.rewards.instructions.rows import Instruction

_logger = logging.getLogger(__name__)

Verdict = bool | None
"""Whether an instruction was followed; None where its kind cannot be judged here."""


def strict_verdicts(text: str, instructions: Sequence[Instruction]) -> list[Verdict]:
    """Whether a text follows each instruction, literally.

    Args:
      text: A completion.
      instructions: Of its prompt, from ``instructions_of``.

    Returns:
      One verdict per instruction. An empty text follows none.

    >>> strict_verdicts("Yes, no", [Instruction("punctuation:no_comma", {})])
    [False]
    """
    return _verdicts([text] if text.strip() else [], instructions)


def loose_verdicts(text: str, instructions: Sequence[Instruction]) -> list[Verdict]:
    """Whether a text or one of its ``loose_texts`` follows each instruction.

    Args:
      text: A completion.
      instructions: Of its prompt, from ``instructions_of``.

    Returns:
      One verdict per instruction; each may hold for another of the texts.

    >>> loose_verdicts("Sure, here:" + chr(10) + "no", [Instruction("punctuation:no_comma", {})])
    [True]
    """
    return _verdicts(loose_texts(text), instructions)


def all_followed(verdicts: Sequence[Verdict]) -> float:
    """The verdict on a prompt: 1.0 where all its instructions were followed, else 0.0.

    Args:
      verdicts: Of the prompt's instructions.

    Returns:
      NaN where there is none, or one was not scored, whatever the others say: only failures would
      be known.

    >>> all_followed([True, False]), all_followed([False, None])
    (0.0, nan)
    """
    if not verdicts or any(verdict is None for verdict in verdicts):
        return np.nan
    return float(all(verdicts))


def share_followed(verdicts: Sequence[Verdict]) -> float:
    """The share of instructions that were followed, of those that were scored.

    Args:
      verdicts: Of the prompt's instructions.

    Returns:
      0 to 1; NaN where none was scored.

    >>> share_followed([True, False, None])
    0.5
    """
    scored = [verdict for verdict in verdicts if verdict is not None]
    return sum(scored) / len(scored) if scored else np.nan


def _verdicts(texts: Sequence[str], instructions: Iterable[Instruction]) -> list[Verdict]:
    return [_verdict(texts, instruction) for instruction in instructions]


def _verdict(texts: Sequence[str], instruction: Instruction) -> Verdict:
    if _is_skipped(instruction.kind):
        return None
    check = KINDS[instruction.kind].check
    return any(check(text, **instruction.arguments) for text in texts)


@functools.cache  # said once in a process
def _is_skipped(kind: str) -> bool:
    reason = why_not_scored(kind)
    if reason is not None:
        _logger.warning("instructions of this kind are not scored: %s.", reason)
    return reason is not None
