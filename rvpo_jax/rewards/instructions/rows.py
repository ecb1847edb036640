"""The instructions of a row of the data, checked before anything is judged by them."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example
from rvpo_jax.rewards.instructions.kinds import KINDS


class Instruction(NamedTuple):
    """One instruction of a prompt: its kind and what the kind asks for."""

    kind: str  # a key of KINDS
    arguments: Mapping[str, Any]  # exactly those of the kind


def has_instructions(example: Example) -> bool:
    """Whether a row has instructions: rows of another task beside IFEval's have none.

    Args:
      example: A row.

    Returns:
      True where ``instruction_id_list`` holds anything.

    >>> has_instructions({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
    True
    """
    value = example.get("instruction_id_list")
    return value is not None and (not isinstance(value, Sequence) or len(value) > 0)


def instructions_of(example: Example, index: int = 0) -> list[Instruction]:
    """The instructions of a row, in its order.

    Args:
      example: A row with ``instruction_id_list``, names of kinds, and ``kwargs``, one mapping per
        instruction, as IFEval has them. An argument that is None counts as absent: some copies of
        the data give every mapping all names.
      index: Position of the row in its batch, for messages.

    Returns:
      One per name; none where the row has no ``instruction_id_list``.

    Raises:
      Refusal: when a kind does not exist, an argument is missing, unknown or of the wrong type, or
        the two lists do not fit together. The original draws missing arguments at random.

    >>> instructions_of({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
    [Instruction(kind='punctuation:no_comma', arguments={})]
    """
    if not has_instructions(example):
        return []
    names = _list(example, "instruction_id_list", index)
    kwargs = _list(example, "kwargs", index)
    if len(names) != len(kwargs):
        raise Refusal(
            f"example {index} must have as many kwargs as instructions, got {len(kwargs)} and "
            f"{len(names)}.",
            "Write {} for an instruction without arguments.",
        )
    return [
        _instruction(name, given, f"of instruction {place} of example {index}")
        for place, (name, given) in enumerate(zip(names, kwargs, strict=True))
    ]


def _list(example: Example, column: str, index: int) -> Sequence[object]:
    value = example.get(column)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Refusal(
            f"{column} of example {index} must be a list, got {type(value).__name__} "
            f"{excerpt(value)}.",
            "Write instruction_id_list: [names] and kwargs: [objects], as IFEval does.",
        )
    return value


def _instruction(name: object, given: object, where: str) -> Instruction:
    if not isinstance(name, str) or name not in KINDS:
        raise Refusal(
            f"the name {where} must be one of IFEval's {len(KINDS)}, got {excerpt(name)}.",
            _nearest(str(name)[:80], KINDS),
        )
    if not isinstance(given, Mapping):
        raise Refusal(
            f"kwargs {where}, {name}, must be an object, got {type(given).__name__} "
            f"{excerpt(given)}.",
            "Write {} for an instruction without arguments.",
        )
    expected = KINDS[name].arguments
    present = {key: value for key, value in given.items() if value is not None}
    listed = ", ".join(expected) or "none"
    for key in [key for key in present if key not in expected]:
        raise Refusal(
            f"kwargs {where}, {name}, must have the arguments {listed}; got {excerpt(key)}.",
            _nearest(str(key)[:80], expected) if expected else "Leave it out.",
        )
    for key, argument in expected.items():
        if key not in present:
            raise Refusal(
                f"kwargs {where}, {name}, must have the arguments {listed}; {key} is missing.",
                f"Add {key}: {argument.rule}.",
            )
        if not argument.fits(present[key]):
            value = present[key]
            raise Refusal(
                f"{key} {where}, {name}, must be {argument.rule}, got {type(value).__name__} "
                f"{excerpt(value)}.",
                "Correct the row, or remove it.",
            )
    return Instruction(name, present)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known are: {', '.join(known)}."
