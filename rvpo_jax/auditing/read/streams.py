"""What the readers of text files share: opening, and rows in chunks of bounded size."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from .parts import Row

MAX_LINE_BYTES = 64 << 20
CHUNK_ROWS = 8_192
CHUNK_BYTES = 16 << 20
READ_ERRORS = (OSError, EOFError, zlib.error)
Located = tuple[int, int, int, Row]  # place, ordinal, size in bytes or characters, row


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file, decompressed where its name ends in .gz.

    Args:
      path: The file.

    Returns:
      A stream of bytes.
    """
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def in_chunks(rows: Iterator[Located]) -> Iterator[list[Located]]:
    """Rows in lists of bounded size.

    Args:
      rows: Any number of them.

    Yields:
      Lists with at least one row.
    """
    chunk: list[Located] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += row[2]
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
