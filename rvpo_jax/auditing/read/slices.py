"""Slices of a log: the values of a column that prompts differ in, such as a family or a source."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ...basics.refusals import Refusal
from .groups import Key
from .log import Note, listing, shown
from .parts import Part

MAX_SLICES = 40
MAX_MIXED = 0.05  # of the groups may hold several values; they belong to no slice
# Columns that are worth slicing by whoever wrote the log; others are, where their texts are few.
SLICED = (
    "family",
    "category",
    "domain",
    "subject",
    "topic",
    "task",
    "source",
    "data_source",
    "dataset",
    "difficulty",
    "language",
    "lang",
)
FEW = (2, 20)  # values of a column that is proposed


def slice_groups(column: str, key: Key | None, group: np.ndarray) -> tuple[np.ndarray, list[Note]]:
    """Which slice each completion is of.

    Args:
      column: that the user named.
      key: ``[N]`` codes of its values and whether a row has one; None: no row has.
      group: ``[N]`` int64, dense.

    Returns:
      ``[N]`` int64 ids from 0 in order of appearance, -1 for none; notes of kind unsliced.

    Raises:
      ValueError: if there is one value only, or too many, or groups hold several.
    """
    codes, present = key if key is not None else (np.zeros(len(group), np.int64), group < 0)
    values, first, inverse = np.unique(codes[present], return_index=True, return_inverse=True)
    if not 2 <= len(values) <= MAX_SLICES:
        raise Refusal(
            f"--by must name a column with 2 to {MAX_SLICES} values, got {shown(column)} with "
            f"{len(values):,}.",
            "Slices are for values that many prompts share, such as a family or a source.",
        )
    low, high = (np.full(int(group.max()) + 1, end) for end in (len(values), -1))
    order = np.argsort(np.argsort(first))[inverse]
    np.minimum.at(low, group[present], order)
    np.maximum.at(high, group[present], order)
    mixed = (low != high) & (high >= 0)
    if mixed.mean() > MAX_MIXED:
        raise Refusal(
            f"--by must name a column that is the same for all completions of a prompt, got "
            f"{shown(column)}, which differs within {int(mixed.sum()):,} of {len(mixed):,} groups.",
            "Rules compare the completions of a group, so a group is in one slice.",
        )
    of_group = np.where(mixed, -1, high)
    without = int((of_group < 0).sum())
    text = (
        f"{without:,} of {len(mixed):,} groups have no value of {shown(column)}, or several, and "
        "are in no slice."
    )
    notes = [Note(kind="unsliced", count=without, text=text)] if without else []
    return of_group[group], notes


def name_slices(
    column: str, slices: np.ndarray, part: np.ndarray, place: np.ndarray, parts: Sequence[Part]
) -> tuple[str, ...]:
    """The values that slices stand for, read again from one row of each.

    Args:
      column: that the user named.
      slices: ``[N]`` ids, -1 for none.
      part: ``[N]`` int64, the file of each row.
      place: ``[N]`` int64, see ``Part.pick``.
      parts: of the log.

    Returns:
      A name per id, distinct.
    """
    ids, rows = np.unique(slices, return_index=True)
    names: dict[int, str] = {}
    for id, row in zip(ids[ids >= 0].tolist(), rows[ids >= 0].tolist(), strict=True):
        [found] = parts[part[row]].pick([int(place[row])], [column])
        name = shown(found.get(column))
        names[id] = name if name not in names.values() else f"{name} ({id})"
    return tuple(names[id] for id in sorted(names))


def propose(values: Mapping[str, Collection[int]], used: Collection[str]) -> list[Note]:
    """That a log could be sliced.

    Args:
      values: codes of the distinct values that the first rows hold, by column.
      used: columns that are something else.

    Returns:
      One note of kind sliceable, or none.
    """
    found = [
        f"{shown(name)} ({len(some)} values in its first rows)"
        for name, some in values.items()
        if FEW[0] <= len(some) <= FEW[1] and name not in used
    ]
    if not found:
        return []
    text = f"The same numbers for each value of a column: --by one of {listing(found, 5)}."
    return [Note(kind="sliceable", count=len(found), text=text)]
