"""Files of rows, one object each: JSON Lines, JSON, CSV and Parquet, read one row at a time.

What a file holds is checked here only as far as its format goes; each row comes with a name for
messages. Everything that is wrong with a file is one ``Refusal``.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.plain_values import to_plain

Row = dict[str, Any]  # the columns of one example
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
"""Kinds of file by their name; all but .parquet also with .gz."""
MAX_ROW_BYTES = 64 << 20
"""Of one row, as JSON; of one line of a file, before it is parsed."""


def kind_of(name: str) -> str | None:
    """The kind of a file, by its name.

    Args:
      name: Of the file.

    Returns:
      One of ``SUFFIXES``; None where it has none of them.

    >>> kind_of("rows.csv.gz"), kind_of("rows.parquet.gz")
    ('.csv', None)
    """
    suffix = Path(name.removesuffix(".gz")).suffix
    compressed_parquet = suffix == ".parquet" and name.endswith(".gz")
    return suffix if suffix in SUFFIXES and not compressed_parquet else None


def read_file(path: Path, kind: str | None = None) -> Iterator[tuple[str, Row]]:
    """Rows of a file, each with a name for messages, such as ``line 3 of rows.jsonl``.

    A .jsonl file has one object per line; a .json file that, or one list of objects; a .csv file a
    header and texts; a .parquet file any columns.

    Args:
      path: The file; compressed where its name ends in .gz.
      kind: One of ``SUFFIXES``; None: by the name of the file.

    Returns:
      The rows in their order; values are those of JSON.

    Raises:
      Refusal: while reading, where the file is damaged, not UTF-8, or a row is no object or has
        more than ``MAX_ROW_BYTES``.
    """
    kind = kind or kind_of(path.name)
    if kind == ".parquet":
        return _sized(_read_parquet(path))
    if kind == ".csv":
        return _sized(_read_csv(path))
    if kind == ".json" and _is_list(path):
        return _sized(_read_list(path))
    return _read_jsonl(path)


def _sized(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """The rows, none of which is too large."""
    for where, row in rows:
        size = len(json.dumps(row))
        if size > MAX_ROW_BYTES:
            raise _too_large(where, f"{size:,} bytes")
        yield where, row


def _too_large(where: str, size: str) -> Refusal:
    return Refusal(
        f"{where} must have at most {MAX_ROW_BYTES:,} bytes, got {size}.",
        "Leave out what no reward reads.",
    )


def _open(path: Path) -> BinaryIO:
    # gzip's own file type says that it may write, too; nothing here does.
    return io.BufferedReader(gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")


def _damaged(path: Path, error: Exception) -> Refusal:
    return Refusal(
        f"{path} must be a whole gzip file, got: {error}.", "Fetch it again, or compress it again."
    )


_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    """Objects, one per line; blank lines are skipped."""
    with _open(path) as file:
        for number, line in enumerate(_read_lines(file, path), start=1):
            where = f"line {number} of {path}"
            if len(line) > MAX_ROW_BYTES:
                raise _too_large(where, "more")
            if line.strip():
                yield where, _to_row(_parse(line, where, "Write one JSON object per line"), where)


def _read_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Lines, of which a long one is cut."""
    try:
        while line := file.readline(MAX_ROW_BYTES + 1):
            yield line
    except _GZIP_ERRORS as error:
        raise _damaged(path, error) from error


def _is_list(path: Path) -> bool:
    try:
        with _open(path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except _GZIP_ERRORS as error:
        raise _damaged(path, error) from error


def _read_list(path: Path) -> Iterator[tuple[str, Row]]:
    """Objects of one list, which is read into memory."""
    try:
        with _open(path) as file:
            content = file.read()
    except _GZIP_ERRORS as error:
        raise _damaged(path, error) from error
    items = _parse(content, str(path), "Write one list of objects")
    for number, item in enumerate(items, start=1):
        where = f"item {number} of {path}"
        yield where, _to_row(item, where)


def _parse(content: bytes, where: str, remedy: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also bad UTF-8, 5,000 digits, deep nesting
        raise Refusal(
            f"{where} must be valid JSON, got: {error}.",
            f"{remedy}; the file may have been cut off.",
        ) from error


def _to_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise Refusal(
            f"{where} must be a JSON object, got {value!r:.80}.",
            'Write objects, for example {"prompt": "..."}.',
        )
    try:
        return to_plain(value)
    except RecursionError as error:
        raise Refusal(
            f"{where} must be valid JSON, got: {error}.", "Write values that are less deep."
        ) from error


def _read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows of texts under a header; a quoted field may hold line breaks; blank lines are skipped.

    Nothing is guessed from a text: 007 stays as it is.
    """
    with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as lines:
        records = _read_records(lines, path)
        header = next(records, [])
        if len(set(header)) < len(header) or "" in header:
            raise Refusal(
                f"{path} must have a header of different names, got {excerpt(','.join(header))}.",
                "Name each column once, in the first line.",
            )
        for number, record in enumerate(records, start=1):
            where = f"row {number} of {path}"
            if len(record) != len(header):
                raise Refusal(
                    f"{where} must have {len(header)} fields, as the header has, got "
                    f"{len(record)}.",
                    "Quote fields that hold commas or line breaks; the file may have been cut off.",
                )
            yield where, dict(zip(header, record, strict=True))


def _read_records(lines: Iterable[str], path: Path) -> Iterator[list[str]]:
    reader = csv.reader(lines, strict=True)
    while True:
        # The limit is the process's: it is raised only while a record is read.
        limit = csv.field_size_limit(MAX_ROW_BYTES)
        try:
            record = next(reader, None)
        except _GZIP_ERRORS as error:
            raise _damaged(path, error) from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise Refusal(
                f"{path} must be valid CSV in UTF-8, got after line {reader.line_num}: {error}.",
                "Write it again; fields that hold quotes, commas or line breaks are quoted.",
            ) from error
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        if record:
            yield record


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows with a name for messages, a thousand in memory at a time."""
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    yield f"row {number} of {path}", to_plain(row)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise Refusal(
            f"{path} must be a readable Parquet file, got after row {number}: {problem}.",
            "Fetch it again, or write it again.",
        ) from error
