"""Multi-reward post-training of language models in JAX (RVPO, arXiv:2605.05750)."""

from typing import TYPE_CHECKING, Any

from rvpo_jax.config import AdvantageConfig, Channel, Config
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.types import Advantages

if TYPE_CHECKING:
    from rvpo_jax.auditing import Audit

__version__ = "0.1.0"

__all__ = ["AdvantageConfig", "Advantages", "Channel", "Config", "audit", "compute_advantages"]


def audit(source: Any, other: Any = None, **options: Any) -> "Audit":
    """Shows what the average of several rewards hides in a log of any trainer.

    Args:
      source: a run folder, a file or folder of a trainer's log (Parquet, JSONL, CSV), or a frame
        in memory (Arrow, pandas, polars).
      other: a second log, compared with the first.
      **options: how to read it, by the names of ``rvpo_jax.auditing.ReadOptions``:
        ``rewards``, ``group``, ``step``, ``pass_at``, ``constraints``, ...; and
        ``risk_coef``, ``what_if`` and ``redact``.

    Returns:
      An ``Audit`` with ``sentences``, ``tables``, ``figures``, ``report`` and ``save(folder)``; in
      a notebook it shows itself.

    Raises:
      ValueError: on a source that cannot be read, or options that do not fit it.
    """
    # Only here: `import rvpo_jax` must not load what files and reports need.
    from rvpo_jax.auditing import audit_with

    return audit_with(source, other, **options)
