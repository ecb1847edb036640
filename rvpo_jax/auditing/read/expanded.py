"""Rows that hold several completions, and rows that a trainer writes in another shape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .log import Tally, shown
from .parts import CHUNK_ROWS, Chunk, Kind, Part, Row, flatten, rows_to_chunk
from .rows_of_trainers import MAX_IN_ROW, Expand
from .trainers import COMPLETIONS, TOTALS
from .values import to_list

BITS = 16  # of a place, for the number of a completion in its row


class ExpandedPart:
    """A part of which every row becomes some rows of completions.

    Args:
      part: As it is in the file.
      expand: From one of its rows to those that it holds.
    """

    def __init__(self, part: Part, expand: Expand) -> None:
        self.name = part.name
        self._part = part
        self._expand = expand

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: only the rows tell."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows; the place of one is that of its row and its number in it."""
        del wants  # what a column becomes is known only afterwards
        ordinal = 0
        for chunk in self._part.chunks(lambda name, kind: True, tally):
            rows: list[Row] = []
            places: list[int] = []
            for row, place in zip(chunk_rows(chunk), chunk.places.tolist(), strict=True):
                inner = self._expand(row)
                if not inner:
                    tally.add("evaluation", f"row {place} of {shown(self.name)}")
                if len(inner) > MAX_IN_ROW:
                    tally.add("full_row", f"row {place} of {shown(self.name)}")
                rows += inner[:MAX_IN_ROW]
                places += [place << BITS | number for number in range(len(inner[:MAX_IN_ROW]))]
            for first in range(0, len(rows), CHUNK_ROWS):
                some = rows[first : first + CHUNK_ROWS]
                ordinals = range(ordinal, ordinal + len(some))
                ordinal += len(some)
                yield rows_to_chunk(
                    some, places[first : first + CHUNK_ROWS], ordinals, typed=chunk.typed
                )

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows at places; a row of the file is read once for all of its completions."""
        del columns
        outer = np.asarray(places, np.int64) >> BITS
        wanted = dict.fromkeys(outer.tolist())
        found = self._part.pick(list(wanted), list(self._part.fields()))
        expanded = dict(zip(wanted, map(self._expand, found), strict=False))
        for place in places:
            number = place & ((1 << BITS) - 1)
            rows = expanded.get(place >> BITS, [])  # the file may have changed meanwhile
            yield rows[number] if number < len(rows) else {}


def chunk_rows(chunk: Chunk) -> Iterator[Row]:
    """The rows of a chunk as objects.

    Args:
      chunk: Any.

    Yields:
      ``num_rows`` rows; a column that only other rows of the chunk have is None.
    """
    columns = [to_list(chunk.column(name)) for name in chunk.names]
    for values in zip(*columns, strict=True):
        yield dict(zip(chunk.names, values, strict=True))


def holds_lists(rows: Sequence[Row]) -> bool:
    """Whether a log has one row per prompt, with lists of completions and rewards.

    Args:
      rows: Its first ones.

    Returns:
      True where one of them does; ``explode`` leaves the others as they are.
    """
    return any(_completions(row) is not None for row in rows)


def explode(row: Row) -> list[Row]:
    """The completions of a row whose completions and rewards are lists.

    Args:
      row: Flattened; what is no list, or one of another length, holds for all its completions.

    Returns:
      One row per completion; the row itself where it holds no lists.

    >>> explode({"prompt": "p", "completions": ["a", "b"], "rewards.right": [0, 1]})
    [{'prompt': 'p', 'completions': 'a', 'rewards.right': 0}, \
{'prompt': 'p', 'completions': 'b', 'rewards.right': 1}]
    """
    count = _completions(row)
    if count is None:
        return [row]
    lists = {name for name, value in row.items() if isinstance(value, list) and len(value) == count}
    return [
        flatten({name: value[place] if name in lists else value for name, value in row.items()})
        for place in range(min(count, MAX_IN_ROW + 1))
    ]


def _completions(row: Row) -> int | None:
    """How many completions a row holds; None where it is one."""
    by_lower = {name.lower(): value for name, value in row.items()}
    texts = next((by_lower[name] for name in COMPLETIONS if by_lower.get(name) is not None), None)
    if texts is not None:
        # A list of objects is the messages of one completion.
        if not (isinstance(texts, list) and all(isinstance(item, (str, list)) for item in texts)):
            return None
        counts = {len(texts)}
    else:
        counts = {len(v) for n, v in row.items() if _is_reward(n) and _are_rewards(v)}
    fitting = [v for v in row.values() if _are_rewards(v) and len(v) in counts]
    return len(fitting[0]) if len(counts) == 1 and fitting else None


def _is_reward(name: str) -> bool:
    return name in TOTALS or name.startswith("rewards.")


def _are_rewards(value: Any) -> bool:
    """A list of numbers, or of objects of numbers."""
    scores = (int, float, bool, dict, type(None))
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(item, scores) for item in value)
        and not any(isinstance(item, dict) and "role" in item for item in value)
    )
