"""Files of objects, whatever their columns: JSON lines, also compressed, Parquet and CSV."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.plain_values import to_plain

Record = dict[str, Any]
LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
SUFFIXES = (*LINES, ".parquet", ".csv")


def read_records(path: Path, option: str) -> list[Record]:
    """All objects of a file.

    Args:
      path: JSON lines, Parquet or CSV with a header.
      option: what the user named it with, for messages.

    Returns:
      At least one, in the order of the file; values are those of JSON.

    Raises:
      Refusal: when the file is missing, of another kind, damaged or empty.
    """
    path = path.expanduser()
    if not path.name.endswith(SUFFIXES):
        raise Refusal(
            f"{option} must be a file ending in {', '.join(SUFFIXES)}, got {path}.",
            "Save the rows in one of these formats.",
        )
    if not path.is_file():
        raise Refusal(
            f"{option} must be an existing file, got {path}.",
            "Check the path; it is relative to the current directory.",
        )
    read = {".parquet": _read_parquet, ".csv": _read_csv}.get(path.suffix, _read_lines)
    records = list(read(path, option))
    if not records:
        raise Refusal(f"{option} {path} must have at least one row, got none.", "Add rows.")
    return records


def _read_lines(path: Path, option: str) -> Iterator[Record]:
    for number, line in enumerate(_text(path, option).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {option} {path}"
        try:
            record = to_plain(json.loads(line))
        except (ValueError, RecursionError) as error:  # also 5,000 digits, deep nesting
            raise Refusal(
                f"{where} must be valid JSON, got {excerpt(line, 60)}: {error}.",
                "Write one JSON object per line; the file may have been cut off.",
            ) from None
        if not isinstance(record, dict):
            raise Refusal(
                f"{where} must be a JSON object, got {excerpt(record)}.",
                'Write one object per line, for example {"key": "1", "response": "..."}.',
            )
        yield record


def _read_csv(path: Path, option: str) -> Iterator[Record]:
    lines = io.StringIO(_text(path, option), newline="")
    try:
        for record in csv.DictReader(lines, strict=True):
            if None in record or None in record.values():
                raise csv.Error("a row has more or fewer cells than the header")
            yield record
    except csv.Error as error:
        raise Refusal(
            f"{option} must be a CSV file with a header, got {path}: {error}.", "Fetch it again."
        ) from None


def _read_parquet(path: Path, option: str) -> Iterator[Record]:
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                yield from map(to_plain, batch.to_pylist(maps_as_pydicts="lossy"))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Refusal(
            f"{option} must be a readable Parquet file, got {path}: {excerpt(error)}.",
            "Fetch it again, or write it again.",
        ) from None


def _text(path: Path, option: str) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Refusal(
            f"{option} must be a whole file in UTF-8, got {path}: {error}.",
            "Fetch it again, or compress it again.",
        ) from None
