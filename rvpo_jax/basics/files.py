"""Files that are written as a whole or not at all, and values that JSON can hold."""

import contextlib
import errno
import json
import math
import os
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
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Args:
      path: The file; its folder exists.

    Yields:
      The path to write to, with the suffix of ``path``. It is removed when the block raises.

    Raises:
      WriteError: when the disk is full or the folder cannot be written to, naming the path.
    """
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
    remedy = "Free some space" if full else "Make its folder writable"
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
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        return None, f"which cannot be read: {error.strerror}"
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
