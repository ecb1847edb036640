"""Logs of JSON objects, one per line: files that grow, or numbered parts in a bucket.

An object in a bucket cannot grow. There, lines are kept until ``flush``, or for ``FLUSH_S``
seconds, and become a part of their own, named after the step of its first line: ``with_parts``. A
line without a whole number ``step`` belongs to no step.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rvpo_jax.basics.files import cannot_write, part_number, replacing, to_json, with_parts
from rvpo_jax.basics.refusals import Refusal

FLUSH_S = 30.0
Line = tuple[bytes, dict[str, Any]]


class JsonLines:
    """A log that is written to.

    Args:
      path: Of the log. In a folder every line is there when ``append`` returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[Mapping[str, Any]] = []
        self._flushed = time.monotonic()

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends one JSON object.

        Args:
          row: What JSON can hold, and NumPy or JAX arrays; ``step`` never falls.

        Raises:
          WriteError: when it cannot be written.
        """
        if isinstance(self.path, Path):
            append_jsonl(self.path, row)
            return
        # All lines of a step are in one part: another one of that name would replace it.
        is_new_step = bool(self._waiting) and self._waiting[-1]["step"] != row["step"]
        if is_new_step and time.monotonic() - self._flushed >= FLUSH_S:
            self.flush()
        self._waiting.append(row)

    def flush(self) -> None:
        """Writes what is kept; call it between two steps.

        Raises:
          WriteError: when it cannot be written.
        """
        self._flushed = time.monotonic()
        if self._waiting:
            name = f"{self.path.name}.{self._waiting[0]['step']:08d}"
            _replace(self.path.with_name(name), map(_encoded, self._waiting))
            self._waiting.clear()


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Appends one JSON object as a line of a file and flushes it.

    Args:
      path: File to append to; created if absent.
      row: What JSON can hold, and NumPy or JAX arrays; a float that is not finite becomes null.

    Raises:
      WriteError: when the disk is full or the file cannot be written to, naming the path.
    """
    line = to_json(row)
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines that are JSON objects with a whole number ``step``, in the order of their steps.

    Args:
      path: Of a log that ``JsonLines`` wrote.

    Returns:
      The objects; none where there is no log.

    Raises:
      ValueError: if something is there and cannot be read.
    """
    with ThreadPoolExecutor(16) as pool:  # a bucket answers many questions at once
        files = list(pool.map(_lines, with_parts(path)))
    rows = [row for lines in files for _, row in lines if _has_step(row)]
    return sorted(rows, key=lambda row: row["step"])


def truncate_jsonl(path: Path, resume_step: int) -> None:
    """Drops the lines with ``step >= resume_step`` and what is no line of ours, all or nothing.

    Args:
      path: Of a log that ``JsonLines`` wrote; nothing happens where it is absent.
      resume_step: First step that will be written again. Lines without a step stay.
    """
    files = with_parts(path)
    for file in files:
        if part_number(file) >= resume_step:
            file.unlink()
    early = [file for file in files if part_number(file) < resume_step]
    # Only the last part of them may go on beyond that step, or the file, where a run was copied.
    for file in dict.fromkeys([*early[:1], *early[-1:]]):
        kept = [line for line, row in _lines(file) if _is_before(row, resume_step)]
        if _joined(kept) != file.read_bytes():
            _replace(file, kept)


def start_jsonl(path: Path, resume_step: int | None, header: Mapping[str, Any]) -> None:
    """Starts a log with a first line that describes it, or goes on with one.

    Args:
      path: Of the log.
      resume_step: See ``truncate_jsonl``; None: whatever is there goes.
      header: The object under ``header`` in the first line; an older one stays on resuming.
    """
    if resume_step is None:
        for file in with_parts(path):
            file.unlink()
    else:
        truncate_jsonl(path, resume_step)
    lines = _lines(path)
    if not any("header" in row for _, row in lines[:1]):
        _replace(path, [_encoded({"header": header}), *(line for line, _ in lines)])


def _is_before(row: Mapping[str, Any], step: int) -> bool:
    return "step" not in row or (_has_step(row) and row["step"] < step)


def _has_step(row: Mapping[str, Any]) -> bool:
    return type(row.get("step")) is int


def _lines(path: Path) -> list[Line]:
    """The lines that hold a JSON object: a killed process leaves at most its last one cut."""
    return list(_read_lines(path)) if path.exists() else []


def _read_lines(path: Path) -> Iterator[Line]:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise Refusal(
            f"{path} must be a file that can be read, got: {error.strerror or error}.",
            "Restore it, or move it out of the way.",
        ) from None
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # cut, damaged, or nested without end
            continue
        if isinstance(row, dict):
            yield line, row


def _encoded(row: Mapping[str, Any]) -> bytes:
    return to_json(row).encode()


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    with replacing(path) as part:
        part.write_bytes(_joined(lines))
