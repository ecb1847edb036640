"""Any value that a row of a file may have, in JSON's types."""

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Mapping
from typing import Any

from rvpo_jax.basics.refusals import Refusal


def to_plain(value: Any) -> Any:
    """The value in JSON's types, for any value that a row of a file may have.

    Arrays and tuples become lists, structs and maps objects, NaN and infinities ``None``, dates
    and times ISO 8601 text, durations seconds, decimals floats, bytes their UTF-8 text or, if they
    are not UTF-8, base64, UUIDs text.

    Args:
      value: A value of Python, NumPy or pyarrow.

    Returns:
      None, bool, int, float, str, or lists and string-keyed dicts of these.

    Raises:
      ValueError: for a value of any other type.

    >>> to_plain({"score": float("nan"), "day": datetime.date(2026, 1, 2), "raw": b"ok"})
    {'score': None, 'day': '2026-01-02', 'raw': 'ok'}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, bytes):
        return _bytes_to_text(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return to_plain(float(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    for method in ("tolist", "as_py"):  # NumPy, pyarrow
        if hasattr(value, method):
            return to_plain(getattr(value, method)())
    raise Refusal(
        f"a column must hold values of JSON, got {value!r:.80} of type {type(value).__name__}.",
        "Convert it to text or numbers when the file is written.",
    )


def _bytes_to_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")
