"""The audit of reward logs, alone: what the average of several rewards hides."""

from typing import Any

from .auditing import Audit, audit_with
from .basics.channel import Channel
from .basics.version import __version__

__all__ = ["Audit", "Channel", "__version__", "audit"]


def audit(source: Any, other: Any = None, **options: Any) -> Audit:
    """Shows what the average of several rewards hides in a log of any trainer.

    Args:
      source: a file or folder of a trainer's log (Parquet, JSONL, CSV), or a frame in memory
        (Arrow, pandas, polars).
      other: a second log, compared with the first.
      **options: how to read it, by the names of ``auditing.ReadOptions``: ``rewards``, ``group``,
        ``step``, ``pass_at``, ``constraints``, ...; and ``risk_coef``, ``what_if`` and ``redact``.

    Returns:
      An ``Audit`` with ``sentences``, ``tables``, ``figures``, ``report`` and ``save(folder)``.

    Raises:
      ValueError: on a source that cannot be read, or options that do not fit it.
    """
    return audit_with(source, other, **options)
