"""What XLA writes down of the programs that it compiles: their text, and what fills the memory.

``compiled.as_text()`` reads a program back from a form that libtpu cannot always read: one that
gathers on a SparseCore, as on v5p, is refused. The compiler's own files have no such gap.
"""

import re
from pathlib import Path
from typing import Any

_TEXT, _MEMORY = "*.after_optimizations.txt", "*-memory-usage-report.txt"
_ROW = re.compile(r"^\s*[\d.]+\w+\([\s\d]+%\);\s*([\d.]+)(GiB|MiB|KiB|B);.*;\s*\d+; (.*)$")
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def flags(folder: Path) -> str:
    """What ``XLA_FLAGS`` must hold before JAX is loaded.

    Args:
      folder: where the compiler writes.

    Returns:
      The flags.
    """
    return f"--xla_dump_to={folder} --xla_dump_hlo_as_text"


def take(folder: Path, num_buffers: int = 5) -> tuple[str | None, list[dict[str, Any]]]:
    """The largest program that was written since the last time, and its largest buffers.

    Args:
      folder: of ``flags``. Its files are removed.
      num_buffers: how many.

    Returns:
      The text, None where there is none, and for each buffer its bytes and the shapes in it.
    """
    text = max((path.read_text() for path in folder.glob(_TEXT)), key=len, default=None)
    report = max((path.read_text() for path in folder.glob(_MEMORY)), key=len, default="")
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    return text, buffers_of_report(report)[:num_buffers]


def buffers_of_report(report: str) -> list[dict[str, Any]]:
    """The buffers of a memory usage report, of the chip's main memory, largest first.

    Args:
      report: its text, which goes through the kinds of memory, the main one first.

    Returns:
      A record with ``bytes`` and ``shapes`` for each buffer.
    """
    main = report.split("\nMemory Space:")[0]
    rows = [_ROW.match(line) for line in main.splitlines()]
    found = [
        {"bytes": float(row[1]) * _UNITS[row[2][0]], "shapes": row[3].strip()}
        for row in rows
        if row is not None
    ]
    return sorted(found, key=lambda row: -row["bytes"])
