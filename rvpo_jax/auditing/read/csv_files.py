"""CSV and TSV files, also compressed, as parts of a log.

Whatever is in a file, reading it ends: what cannot be used is counted in a ``Tally``.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .log import Tally, shown
from .parts import Chunk, Kind, Row, rows_to_chunk
from .streams import (
    MAX_LINE_BYTES,
    READ_ERRORS,
    Located,
    in_chunks,
    open_bytes,
)


class CsvPart:
    """Rows of a CSV file with a header; a quoted field may hold line breaks.

    Args:
      path: The file; one with .tsv in its name has tabs between its fields.
      name: For messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._delimiter = "\t" if ".tsv" in path.suffixes else ","
        self.name = name
        self._header = next((row for _, _, row in self._records(Tally())), [])

    def fields(self) -> Mapping[str, Kind]:
        """The columns of the header; a repeated name gets a number."""
        return dict.fromkeys(self._columns(), "any")

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows that can be read; a last row with too few fields counts as cut."""
        del wants
        for chunk in in_chunks(self._rows(tally)):
            places, ordinals, _, rows = zip(*chunk, strict=True)
            yield rows_to_chunk(list(rows), places, ordinals, typed=False)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by their number among the records."""
        del columns
        wanted = set(places)
        for place, _, _, row in self._rows(Tally()):
            if place in wanted:
                yield row

    def _columns(self) -> list[str]:
        names: dict[str, None] = {}
        for name in self._header:
            number = 1
            unique = name
            while unique in names:
                unique, number = f"{name}.{number}", number + 1
            names[unique] = None
        return list(names)

    def _rows(self, tally: Tally) -> Iterator[Located]:
        names = self._columns()
        records = self._records(tally)
        next(records, None)  # the header
        held = next(records, None)
        while held is not None:
            (place, where, fields), held = held, next(records, None)
            if held is None and len(fields) < len(names):
                tally.add("cut_line", where)
                return
            if len(fields) != len(names):
                tally.add("ragged_row", where)
            yield place, place - 1, sum(map(len, fields)), dict(zip(names, fields, strict=False))

    def _records(self, tally: Tally) -> Iterator[tuple[int, str, list[str]]]:
        """Records with content and their number; the header is number 0."""
        number = 0
        try:
            with open_bytes(self._path) as file:
                text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
                for record in _read_csv(text, self._delimiter):
                    where = f"record {number} of {shown(self.name)}"
                    if record is None:
                        tally.add("bad_line", where)
                    elif record:
                        clean = [field if field.isascii() else _clean(field) for field in record]
                        if clean != record:
                            tally.add("bad_utf8", where)
                        yield number, where, clean
                    number += record != []
        except READ_ERRORS:
            tally.add("cut_file", f"{shown(self.name)} after record {number}")


def _clean(field: str) -> str:
    """The field with bytes that were not UTF-8 as replacement characters."""
    return field.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_csv(lines: Iterator[str], delimiter: str) -> Iterator[list[str] | None]:
    """Records; None for one that cannot be read."""
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        # The limit is the process's: it is raised only while a record is read.
        limit = csv.field_size_limit(MAX_LINE_BYTES)
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            record = None
        finally:
            csv.field_size_limit(limit)
        yield record
