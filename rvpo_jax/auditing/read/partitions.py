"""Columns that the folders of a file give it, as in ``step=3/part-0.parquet``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from .log import Tally
from .parts import Chunk, Kind, Part, Row


def columns_in_path(path: str) -> dict[str, str | None]:
    """The columns of a Hive partition.

    Args:
      path: Of a file, in the folder of the log.

    Returns:
      Name to value, as text; Hive has a name of its own for a missing one.

    >>> columns_in_path("step=3/env=math%2Feasy/part-0.parquet")
    {'step': '3', 'env': 'math/easy'}
    """
    pairs = [part.partition("=") for part in PurePosixPath(path).parts[:-1]]
    found = {unquote(name): unquote(value) for name, sign, value in pairs if sign and name}
    missing = "__HIVE_DEFAULT_PARTITION__"
    return {name: None if value == missing else value for name, value in found.items()}


class PartitionedPart:
    """A part of which all rows have the columns of its path besides their own.

    Args:
      part: The file.
      columns: See ``columns_in_path``; a column of the file comes before one of its name.
    """

    def __init__(self, part: Part, columns: Mapping[str, str | None]) -> None:
        self.name = part.name
        self._part = part
        self._columns = columns

    def fields(self) -> Mapping[str, Kind]:
        """Those of the file, where they are known, and those of the path, which hold texts."""
        known = self._part.fields()
        added: dict[str, Kind] = dict.fromkeys(self._columns, "text")
        return added | dict(known) if known else {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows."""
        for chunk in self._part.chunks(wants, tally):
            yield self._widened(chunk)

    def _widened(self, chunk: Chunk) -> Chunk:
        added = {name: value for name, value in self._columns.items() if name not in chunk.names}
        return Chunk(
            names=[*chunk.names, *added],
            num_rows=chunk.num_rows,
            column=lambda name: (
                [added[name]] * chunk.num_rows if name in added else chunk.column(name)
            ),
            places=chunk.places,
            ordinals=chunk.ordinals,
            typed=chunk.typed,
        )

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by their place in the file."""
        for row in self._part.pick(places, columns):
            yield dict(self._columns) | row
