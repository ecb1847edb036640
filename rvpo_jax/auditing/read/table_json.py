"""Tables that a JSON file holds as columns and rows: W&B's ``*.table.json``, pandas' split."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .json_files import decode_at, items, located_chunks, read_text
from .log import Tally, shown
from .parts import Chunk, Kind, Row, flatten
from .streams import READ_ERRORS, Located, open_bytes

HEAD = re.compile(r'\s*\{\s*"columns"\s*:\s*(?=\[)')
# Inside a text the quotes would have backslashes before them.
DATA = re.compile(r'"data"\s*:\s*(?=\[)')


def is_table(path: Path) -> bool:
    """Whether a JSON file holds a table: its first key tells.

    Args:
      path: Of the file.

    Returns:
      True for ``{"columns": [...``.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(4096).decode("utf-8-sig", "replace")
    except READ_ERRORS:
        return False
    return HEAD.match(head) is not None


class TableJsonPart:
    """Rows of a table in a JSON file, which is read into memory.

    Args:
      path: The file.
      name: For messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.name = name

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: only the rows tell."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows before damage."""
        del wants  # a row is parsed whole
        yield from located_chunks(self._rows(tally))

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows by the character where they start."""
        del columns
        text = read_text(self._path, Tally(), self.name)
        names, _ = _table_in(text) or ([], 0)
        for place in places:
            yield flatten(dict(zip(names, decode_at(text, place), strict=False)))

    def _rows(self, tally: Tally) -> Iterator[Located]:
        text = read_text(self._path, tally, self.name)
        found = _table_in(text)
        if found is None:
            tally.add("cut_file", f"{shown(self.name)} before its first row")
            return
        names, start = found
        for place, ordinal, size, values in items(text, start, tally, self.name):
            where = f"row {ordinal + 1} of {shown(self.name)}"
            if not isinstance(values, list):
                tally.add("not_object", where)
                continue
            if len(values) != len(names):
                tally.add("ragged_row", where)
            yield place, ordinal, size, dict(zip(names, values, strict=False))


def _table_in(text: str) -> tuple[list[str], int] | None:
    """Names of the columns, and where the list of the rows starts; None where it is cut off."""
    head = HEAD.match(text)
    try:
        columns = decode_at(text, head.end()) if head else None
    except (ValueError, RecursionError):
        return None
    data = DATA.search(text, head.end()) if head else None
    if not isinstance(columns, list) or data is None:
        return None
    return [str(name) for name in columns], data.end()
