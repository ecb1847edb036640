"""Files of objects, whatever their columns, as ``rvpo_jax.data.row_files`` reads them."""

from pathlib import Path
from typing import Any

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.row_files import SUFFIXES, kind_of, read_file

Record = dict[str, Any]
LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


def read_records(path: Path, option: str) -> list[Record]:
    """All objects of a file.

    Args:
      path: JSON lines, one JSON list, Parquet or CSV with a header.
      option: what the user named it with, for messages.

    Returns:
      At least one, in the order of the file; values are those of JSON.

    Raises:
      Refusal: when the file is missing, of another kind, damaged or empty.
    """
    path = path.expanduser()
    if kind_of(path.name) is None:
        raise Refusal(
            f"{option} must be a file ending in {', '.join(SUFFIXES)}, got {path}.",
            "Save the rows in one of these formats.",
        )
    if not path.is_file():
        raise Refusal(
            f"{option} must be an existing file, got {path}.",
            "Check the path; it is relative to the current directory.",
        )
    records = [row for _, row in read_file(path)]
    if not records:
        raise Refusal(f"{option} {path} must have at least one row, got none.", "Add rows.")
    return records
