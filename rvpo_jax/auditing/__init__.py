"""The audit: what the average of several rewards hides, in a log of any trainer.

This is the room's one door: nothing outside imports a module behind it. ``audit`` reads a log and
returns an ``Audit``. The quantities are defined in ``judge`` and in words in ``definitions``;
``findings`` says when there is an alarm. The folder needs no JAX, and with ``basics`` it is also
the package ``rvpo_audit``. A module behind the door is loaded when one of its names is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "Audit": ".report",
    "Formula": ".formulas",
    "Note": ".read",
    "ReadOptions": ".read",
    "RewardLog": ".read",
    "audit": ".report",
    "audit_folder": ".outputs",
    "audit_with": ".report",
    "check_condition": ".fail_on",
    "read_log": ".read",
    "show_audit": ".terminal",
    "source_id": ".outputs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return list(__all__)
