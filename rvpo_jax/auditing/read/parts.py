"""What a file, or a table in memory, gives: chunks of rows, and single rows again later."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from .log import Tally
from .values import Column

# What the type of a column promises: numbers, texts (verdicts perhaps), neither, or nothing until
# it is read.
Kind = Literal["number", "text", "other", "any"]
Row = dict[str, Any]
CHUNK_ROWS = 8_192
# Objects whose entries are columns of their own.
NESTED = ("rewards", "reward_components", "metrics", "scores")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some rows of a part, in its order."""

    names: Sequence[str]
    """Columns that at least one of the rows has."""
    num_rows: int
    column: Callable[[str], Column]
    """``[num_rows]`` values of a column; None where a row lacks it."""
    places: np.ndarray
    """``[num_rows]`` int64: where ``Part.pick`` finds a row again; ascending."""
    ordinals: np.ndarray
    """``[num_rows]`` int64: number of the row in its part, rows that were left out included."""
    typed: bool
    """False where every value is text, so that a number is known by its look."""


class Part(Protocol):
    """One file, or one table in memory."""

    @property
    def name(self) -> str:
        """Name of the file, for messages."""

    def fields(self) -> Mapping[str, Kind]:
        """The columns, where they are known before the rows are read; else nothing."""

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows; only columns that ``wants`` need be there. Damage goes to ``tally``."""

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """The rows at ascending ``places``, with at least those of the columns that exist."""


def flatten(row: Row) -> Row:
    """A row with the entries of nested rewards as columns of their own.

    Args:
      row: Columns of a row.

    Returns:
      The same row where nothing is nested.

    >>> flatten({"prompt": "p", "rewards": {"format": 1}})
    {'prompt': 'p', 'rewards.format': 1}
    """
    nested = [name for name in NESTED if isinstance(row.get(name), dict)]
    if not nested:
        return row
    flat = {name: value for name, value in row.items() if name not in nested}
    for name in nested:
        flat.update({f"{name}.{key}": value for key, value in row[name].items()})
    return flat


def rows_to_chunk(
    rows: list[Row], places: Iterable[int], ordinals: Iterable[int], *, typed: bool = True
) -> Chunk:
    """A chunk of rows that are in memory.

    Args:
      rows: ``[n]`` columns by name.
      places: ``[n]`` see ``Chunk``.
      ordinals: ``[n]`` see ``Chunk``.
      typed: see ``Chunk``.

    Returns:
      The chunk; its columns are lists.
    """
    return Chunk(
        names=list(dict.fromkeys(name for row in rows for name in row)),
        num_rows=len(rows),
        column=lambda name: [row.get(name) for row in rows],
        places=np.array(places, np.int64),
        ordinals=np.array(ordinals, np.int64),
        typed=typed,
    )
