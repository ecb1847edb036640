"""JSON files, also compressed, as parts of a log.

Whatever is in a file, reading it ends: what cannot be used is counted in a ``Tally``.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .log import Tally, shown
from .parts import Chunk, Kind, Row, flatten, rows_to_chunk
from .streams import (
    MAX_LINE_BYTES,
    READ_ERRORS,
    Located,
    in_chunks,
    open_bytes,
)
from .values import MAX_NUMBER_CHARS


def _parse_int(digits: str) -> float | int:
    """A number of thousands of digits is no reason to lose its row."""
    return int(digits) if len(digits) <= MAX_NUMBER_CHARS else float(digits)


# strict=False: a raw control character inside a text is no reason to lose its row either.
_DECODER = json.JSONDecoder(strict=False)
_LENIENT = json.JSONDecoder(strict=False, parse_int=_parse_int)


def decode_json(text: str) -> Any:
    """A JSON value; control characters in texts and integers of any length are accepted.

    Args:
      text: One value.

    Returns:
      The value; an integer of more than 64 digits may be a float.

    Raises:
      ValueError or RecursionError: if it is none.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _LENIENT.decode(text)


def decode_at(text: str, place: int) -> Any:
    """The JSON value that starts at a character.

    Args:
      text: With values.
      place: Of the first character of one.

    Returns:
      The value.

    Raises:
      ValueError or RecursionError: if there is none.
    """
    return _LENIENT.raw_decode(text, place)[0]


def located_chunks(rows: Iterator[Located]) -> Iterator[Chunk]:
    """Chunks of rows that were parsed whole.

    Args:
      rows: with their places.

    Yields:
      Chunks; nested rewards are columns of their own.
    """
    for chunk in in_chunks(rows):
        places, ordinals, _, parsed = zip(*chunk, strict=True)
        yield rows_to_chunk([flatten(row) for row in parsed], places, ordinals)


class JsonPart:
    """Rows of a JSON file: one object per line, or one list of objects.

    Args:
      path: The file. Only a name with .json may hold a list, which is read into memory.
      name: For messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.name = name

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: only the rows tell."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All rows that can be read."""
        del wants  # a line is parsed whole
        rows = self._list_rows(tally) if self._is_list() else self._line_rows(tally)
        yield from located_chunks(rows)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows at byte offsets, or by their start in a list."""
        del columns
        if self._is_list():
            text = read_text(self._path, Tally(), self.name)
            for place in places:
                yield flatten(decode_at(text, place))
            return
        with open_bytes(self._path) as file:
            for place in places:
                file.seek(place)
                yield flatten(decode_json(file.readline().decode("utf-8-sig", "replace")))

    def _is_list(self) -> bool:
        if not self._path.name.endswith((".json", ".json.gz")):
            return False
        with contextlib.suppress(*READ_ERRORS), open_bytes(self._path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        return False

    def _line_rows(self, tally: Tally) -> Iterator[Located]:
        """Rows with their byte offset and their number among the lines with content."""
        ordinal = -1
        for number, (place, line) in enumerate(_lines(self._path, tally, self.name), start=1):
            if line.strip():
                ordinal += 1
                row = _parse_line(line, f"line {number} of {shown(self.name)}", tally)
                if row is not None:
                    yield place, ordinal, len(line), row

    def _list_rows(self, tally: Tally) -> Iterator[Located]:
        """Objects of one list, up to damage, with the character where each starts."""
        text = read_text(self._path, tally, self.name)
        for place, ordinal, size, row in items(text, text.index("["), tally, self.name):
            if isinstance(row, dict):
                yield place, ordinal, size, row
            else:
                tally.add("not_object", f"item {ordinal + 1} of {shown(self.name)}")


def _lines(path: Path, tally: Tally, name: str) -> Iterator[tuple[int, bytes]]:
    """Lines and their byte offsets; a line that is too long comes as a single ``?``."""
    number = 0
    try:
        with open_bytes(path) as file:
            place = 0
            while line := file.readline(MAX_LINE_BYTES):
                number, size = number + 1, len(line)
                while not line.endswith(b"\n") and size >= MAX_LINE_BYTES:
                    tail = file.readline(MAX_LINE_BYTES)
                    size += len(tail)
                    if not tail or tail.endswith(b"\n"):
                        line = b"?\n"
                yield place, line
                place += size
    except READ_ERRORS:
        tally.add("cut_file", f"{shown(name)} after line {number}")


def _parse_line(line: bytes, where: str, tally: Tally) -> Row | None:
    if line == b"?\n":
        tally.add("long_line", where)
        return None
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = line.decode("utf-8-sig", "replace")
        tally.add("bad_utf8", where)
    try:
        row = decode_json(text)
    except (ValueError, RecursionError):
        tally.add("bad_line" if line.endswith(b"\n") else "cut_line", where)
        return None
    if not isinstance(row, dict):
        tally.add("not_object", where)
        return None
    return row


def items(text: str, place: int, tally: Tally, name: str) -> Iterator[tuple[int, int, int, Any]]:
    """Values of a JSON list, up to damage.

    Args:
      text: That holds the list.
      place: Of its bracket.
      tally: For damage.
      name: Of the file.

    Yields:
      The character where a value starts, its number, its length, the value.
    """
    place, ordinal = place + 1, 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if text[place : place + 1] == "]":
            return
        try:
            value, end = _LENIENT.raw_decode(text, place)
        except (ValueError, RecursionError):
            tally.add("cut_line", f"item {ordinal + 1} of {shown(name)}")
            return
        yield place, ordinal, end - place, value
        place, ordinal = end, ordinal + 1


def read_text(path: Path, tally: Tally, name: str) -> str:
    """The whole text of a file.

    Args:
      path: The file.
      tally: For damage.
      name: Of the file.

    Returns:
      The text before damage; bytes that are not UTF-8 become replacement characters.
    """
    content = bytearray()
    try:
        with open_bytes(path) as file:
            while piece := file.read(1 << 20):
                content += piece
    except READ_ERRORS:
        tally.add("cut_file", shown(name))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        tally.add("bad_utf8", shown(name))
        return content.decode("utf-8-sig", "replace")
