"""Multi-reward post-training of language models in JAX (RVPO, arXiv:2605.05750)."""

import importlib
from typing import TYPE_CHECKING, Any

from rvpo_jax.basics.version import __version__

if TYPE_CHECKING:
    from rvpo_jax.auditing import Audit
    from rvpo_jax.config import AdvantageConfig, Channel, Config, LossConfig
    from rvpo_jax.method.advantages import compute_advantages
    from rvpo_jax.method.step import init_state, make_train_step
    from rvpo_jax.rewards import reward_channel
    from rvpo_jax.types import Advantages, Batch

__all__ = [
    "AdvantageConfig",
    "Advantages",
    "Batch",
    "Channel",
    "Config",
    "LossConfig",
    "__version__",
    "audit",
    "compute_advantages",
    "init_state",
    "make_train_step",
    "reward_channel",
]

# Where a name comes from when it is first asked for: `import rvpo_jax` alone loads no JAX.
_HOMES = {
    "AdvantageConfig": "rvpo_jax.config",
    "Advantages": "rvpo_jax.types",
    "Batch": "rvpo_jax.types",
    "Channel": "rvpo_jax.config",
    "Config": "rvpo_jax.config",
    "LossConfig": "rvpo_jax.config",
    "compute_advantages": "rvpo_jax.method.advantages",
    "init_state": "rvpo_jax.method.step",
    "make_train_step": "rvpo_jax.method.step",
    "reward_channel": "rvpo_jax.rewards",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return list(__all__)


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
    from rvpo_jax.what_if import further_rules

    return audit_with(source, other, further_rules, **options)
