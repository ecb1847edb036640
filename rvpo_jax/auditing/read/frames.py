"""Tables in memory, of any library, as parts of a log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...basics.refusals import Refusal
from .log import Tally, shown
from .parts import CHUNK_ROWS, Chunk, Kind, Part, Row, flatten, rows_to_chunk
from .tables import TablePart


class ListsPart:
    """A table whose columns hold values of any type, as lists."""

    def __init__(self, columns: Mapping[str, list[Any]]) -> None:
        self.name = "the table"
        self._columns = columns

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: only the rows tell."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows."""
        del wants, tally  # everything is in memory, and nothing of it is damaged
        num_rows = len(next(iter(self._columns.values())))
        for first in range(0, num_rows, CHUNK_ROWS):
            places = range(first, min(first + CHUNK_ROWS, num_rows))
            yield rows_to_chunk(list(self.pick(places, ())), places, places)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by number."""
        del columns
        for place in places:
            yield flatten({name: values[place] for name, values in self._columns.items()})


class RowsPart:
    """A list of dictionaries, one for each row."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.name = "the list"
        self._rows = rows

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: only the rows tell."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows that are dictionaries."""
        del wants  # everything is in memory
        for first in range(0, len(self._rows), CHUNK_ROWS):
            places = []
            for place in range(first, min(first + CHUNK_ROWS, len(self._rows))):
                if isinstance(self._rows[place], Mapping):
                    places.append(place)
                else:
                    tally.add("not_object", f"item {place + 1} of the list")
            if places:
                yield rows_to_chunk(list(self.pick(places, ())), places, places)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by number."""
        del columns
        for place in places:
            yield flatten({str(name): value for name, value in self._rows[place].items()})


def open_frame(frame: Any) -> Part:
    """A frame of any library as a part of a log.

    Args:
      frame: A pyarrow Table or RecordBatch, a pandas or polars DataFrame, a polars LazyFrame, a
        dictionary of columns, a list of dictionaries, or anything with ``__arrow_c_stream__``.

    Returns:
      The part.

    Raises:
      ValueError: if it is none of these.
    """
    if isinstance(frame, (list, tuple)) and any(isinstance(row, Mapping) for row in frame):
        return RowsPart(frame)
    if hasattr(frame, "collect_schema") and not hasattr(frame, "__arrow_c_stream__"):
        frame = frame.collect()  # a LazyFrame, which has no rows before
    try:
        if isinstance(frame, pa.RecordBatch):
            frame = pa.Table.from_batches([frame])
        return TablePart(pa.table(frame))
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        # Columns of mixed types, which Arrow does not have.
        columns = _columns_of(frame)
        problem = shown(str(error).split("\n")[0].rstrip(".") or type(error).__name__)
        if len({len(values) for values in columns.values()}) != 1:
            raise Refusal(
                f"the log must be a path or a table, got {type(frame).__name__}: {problem}.",
                "Give a file, a folder, a pyarrow, pandas or polars table, or a list of "
                "dictionaries.",
            ) from None
        return ListsPart(columns)


def _columns_of(frame: Any) -> dict[str, list[Any]]:
    """Columns of a dictionary or a pandas frame as lists; none for anything else."""
    if isinstance(frame, dict):
        columns = frame
    else:
        names = getattr(frame, "columns", ())
        columns = {name: frame[name] for name in names} if hasattr(frame, "to_dict") else {}
    found = {}
    for name, values in columns.items():
        if not isinstance(values, (list, tuple)) and not hasattr(values, "tolist"):
            return {}
        found[str(name)] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found
