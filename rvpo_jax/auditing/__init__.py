"""The audit: what the average of several rewards hides, in a log of any trainer.

``audit`` reads a log and returns an ``Audit``. The quantities are defined in
``rvpo_jax.method.diagnostics`` and in words in ``definitions``; ``findings`` says when there is
an alarm.
"""

from rvpo_jax.auditing.audit import Audit, audit
from rvpo_jax.auditing.compare import compare
from rvpo_jax.auditing.definitions import DEFINITIONS
from rvpo_jax.auditing.fail_on import check_condition
from rvpo_jax.auditing.outputs import audit_folder, source_id

__all__ = [
    "DEFINITIONS",
    "Audit",
    "audit",
    "audit_folder",
    "check_condition",
    "compare",
    "source_id",
]
