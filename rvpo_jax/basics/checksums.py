"""Sizes and checksums of files, to tell what was damaged since it was written."""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHECKSUM_KEY = b"rvpo_crc32"
"""Where a rollouts file keeps the checksum of its header, in the metadata of its schema."""

FileSums = dict[str, list[int]]
"""Path below the folder, with forward slashes, to size in bytes and CRC-32."""


def file_sums(folder: str | Path) -> FileSums:
    """Size and CRC-32 of every file below a folder.

    Args:
      folder: The folder.

    Returns:
      What ``damage`` takes, in the order of the paths.
    """
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): file_sum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def file_sum(path: Path) -> list[int]:
    """Size and CRC-32 of one file.

    Args:
      path: The file.

    Returns:
      Two numbers, as ``file_sums`` has them.
    """
    return [path.stat().st_size, _crc32(path)]


def damage(folder: str | Path, sums: Mapping[str, Any]) -> str | None:
    """The first thing that differs from what was written.

    Args:
      folder: The folder.
      sums: From ``file_sums``, when the files were written. Further files do not count.

    Returns:
      For example ``file a.txt is missing``; None where every file is as it was.
    """
    for name, expected in sums.items():
        path = Path(folder) / name
        if not path.is_file():
            return f"file {name} is missing"
        size = path.stat().st_size
        if [size] != expected[:1]:
            return f"file {name} has {size} of {expected[0]} bytes"
        if [size, _crc32(path)] != expected:
            return f"file {name} differs from what was written"
    return None


def is_file_sums(value: Any) -> bool:
    """Whether a value read from JSON is what ``file_sums`` returned, of one file or more.

    Args:
      value: Anything.

    Returns:
      Whether ``damage`` can use it.

    >>> is_file_sums({"a": [3, 77]}), is_file_sums({}), is_file_sums({"a": 3})
    (True, False, False)
    """
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(
            isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)
            for pair in value.values()
        )
    )


def header_checksum(described: bytes, fields: Iterable[Any], num_rows: int) -> bytes:
    """Checksum of what a rollouts file says about itself, which no page checksum covers.

    Args:
      described: Its metadata.
      fields: Its columns, with ``name`` and ``type``.
      num_rows: Its rows.

    Returns:
      CRC-32 in eight hexadecimal digits: what stands under ``CHECKSUM_KEY``.
    """
    table = [num_rows, *([field.name, str(field.type)] for field in fields)]
    return b"%08x" % zlib.crc32(json.dumps(table).encode(), zlib.crc32(described))


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
