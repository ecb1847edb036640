"""Calls a reward function with lists and rows of its own, and says when it edited them.

A reward that sorts its completions or pops a column from a row would otherwise change what the
other channels and the log see, and none of them could tell. ``N`` completions.
"""

import logging
from collections.abc import Sequence
from typing import Any

from rvpo_jax.rewards.binding import Bound, call_with, values
from rvpo_jax.rewards.channels import Example, RewardFn

_logger = logging.getLogger(__name__)
_told: list[RewardFn] = []  # functions that have been warned about; a list: some have no hash


def call(
    fn: RewardFn, name: str, bound: Bound, completions: Sequence[str], examples: Sequence[Example]
) -> Any:
    """What a reward function returns for copies of its inputs; warns once if it edited them.

    Args:
      fn: The function; whatever it raises passes.
      name: Of its channel, for the warning.
      bound: What it is called with.
      completions: ``N`` texts.
      examples: ``N`` rows; those that are one object are one copy.

    Returns:
      What the function returned.
    """
    given = values(bound, completions, own_rows(examples))
    try:
        return call_with(fn, bound, given)
    finally:
        before = values(bound, completions, examples)
        edited = [argument for argument in given if not _equal(given[argument], before[argument])]
        if edited and not any(fn is other for other in _told):
            _told.append(fn)
            _logger.warning(
                "reward function %s edited its %s. It has copies, so other channels and the log "
                "are intact; its own values may depend on the order of the completions. Edit a "
                "copy: sorted(completions), dict(example).",
                *(name, " and ".join(edited)),
            )


def own_rows(examples: Sequence[Example]) -> list[Example]:
    """The rows with copies of their dicts, lists and tuples, all the way down.

    Values of other types, which rows of a file do not have, are shared.

    >>> row = {"prompt": "a", "tools": ["f"]}
    >>> own = own_rows([row, row])
    >>> own[0]["tools"].append("g")
    >>> own[0] is own[1], row
    (True, {'prompt': 'a', 'tools': ['f']})
    """
    copies = {key: _copy(row) for key, row in {id(row): row for row in examples}.items()}
    return [copies[id(row)] for row in examples]


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _copy(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_copy, value))
    return value


def _equal(one: list, other: list) -> bool:
    try:
        return bool(one == other)  # values that were not touched are the same object: fast
    except Exception:  # an array put into a row has no truth value; neither may a user's object
        return False
