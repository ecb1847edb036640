"""Files that are written as a whole or not at all, and values that JSON can hold."""

import contextlib
import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .refusals import Failure
from .text import printable

_FULL = (errno.ENOSPC, errno.EDQUOT)


class WriteError(Failure):
    """A file could not be written; what was there before is intact."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` when the block ends well.

    Args:
      path: The file; its folder exists. Or a path of another kind with pathlib's methods, such as
        one in a bucket: there an object appears as a whole, and has no folder.

    Yields:
      The path to write to, with the suffix of ``path``. It is removed when the block raises.

    Raises:
      WriteError: when the disk is full or the folder cannot be written to, naming the path.
    """
    if not isinstance(path, (str, Path)):
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, path.name)
            yield part
            _upload(part, path)
        return
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _upload(part: Path, path: Any) -> None:
    try:
        path.write_bytes(part.read_bytes())
    except Exception as error:  # clients of buckets have errors of their own
        raise cannot_write(path, error) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no space left.

    Args:
      error: Of the system, or of a library that passes on the system's words.

    Returns:
      True for a full disk and an exceeded quota.
    """
    if getattr(error, "errno", None) in _FULL:
        return True
    return any(os.strerror(number) in str(error) for number in _FULL)


def cannot_write(path: str | Path, error: BaseException) -> WriteError:
    """The one message for a file that could not be written.

    Args:
      path: The file.
      error: What the system or a library said.

    Returns:
      The error to raise.
    """
    full = is_disk_full(error)
    reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
    place = "bucket" if "://" in str(path) else "folder"
    remedy = "Free some space" if full else f"Make its {place} writable"
    return WriteError(f"{path} could not be written: {reason}.\n  {remedy}, then start again.")


def write_text(path: str | Path, text: str) -> None:
    """Writes a text as UTF-8, as a whole or not at all.

    Args:
      path: The file; its folder exists.
      text: The content.

    Raises:
      WriteError: when it could not be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def with_parts(path: Path) -> list[Path]:
    """The files of a log that grows: a file, and the numbered parts that a bucket has in its place.

    An object cannot grow, so what is appended becomes ``metrics.jsonl.00000012`` and so on, each
    with the step of its first line. A run that moves between a folder and a bucket has both.

    Args:
      path: Of the log; need not exist.

    Returns:
      Those that there are, the file first, the parts in their order.
    """
    parts = [part for part in path.parent.glob(f"{path.name}.*") if part_number(part) >= 0]
    return [*([path] if path.exists() else []), *sorted(parts)]


def part_number(path: Path) -> int:
    """The number of a part of a log.

    Args:
      path: Of a file.

    Returns:
      The number; -1 where it is no part.

    >>> part_number(Path("metrics.jsonl.00000012")), part_number(Path("metrics.jsonl"))
    (12, -1)
    """
    number = re.fullmatch(r"\.(\d{8})", path.suffix)
    return int(number[1]) if number else -1


def read_object(path: str | Path) -> tuple[dict[str, Any] | None, str]:
    """The JSON object in a file, or why there is none.

    Args:
      path: The file; what it holds may be anything.

    Returns:
      The object and an empty text; or None and what is there instead, for a message.

    >>> read_object("no such file")
    (None, 'which cannot be read: No such file or directory')
    """
    try:
        found = json.loads((Path(path) if isinstance(path, str) else path).read_bytes())
    except OSError as error:
        return None, f"which cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError):
        return None, "which is not valid JSON"
    if not isinstance(found, dict):
        return None, f"which holds {printable(f'{found!r:.60}')}"
    return found, ""


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON, in ASCII: a lone surrogate that a policy wrote has no UTF-8 form.

    Args:
      value: See ``jsonable``.
      indent: Spaces per level; None: one line.

    Returns:
      The text, without a line feed at the end.

    >>> to_json({"loss": float("nan")})
    '{"loss": null}'
    """
    return json.dumps(jsonable(value), indent=indent, allow_nan=False)


def jsonable(value: Any) -> Any:
    """The value in JSON's types: arrays become lists, a float that is not finite None.

    Args:
      value: Mappings, sequences, NumPy or JAX arrays and scalars, Python's own values.

    Returns:
      Nested dicts and lists.
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy and JAX, scalars too
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
