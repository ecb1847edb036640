"""The audit: what the average of several rewards hides, in a log of any trainer.

This is the room's one door: nothing outside imports a module behind it. ``audit`` reads a log and
returns an ``Audit``. The quantities are defined in ``judge`` and in words in ``definitions``;
``findings`` says when there is an alarm. The folder needs no JAX, and with ``basics`` it is also
the package ``rvpo_audit``.
"""

from .fail_on import check_condition
from .formulas import Formula
from .outputs import audit_folder, source_id
from .read import Note, ReadOptions, RewardLog, read_log
from .report import Audit, audit, audit_with
from .terminal import show_audit

__all__ = [
    "Audit",
    "Formula",
    "Note",
    "ReadOptions",
    "RewardLog",
    "audit",
    "audit_folder",
    "audit_with",
    "check_condition",
    "read_log",
    "show_audit",
    "source_id",
]
