"""Named methods of which the audit has no NumPy formula, as it takes them. JAX is loaded late.

``B`` prompts of a step, ``G`` completions per prompt, ``M`` reward channels.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from rvpo_jax.auditing import Formula
from rvpo_jax.basics.channel import Channel
from rvpo_jax.config import AdvantageConfig

# The setting that ``k`` means, by what a method reads, in units of k: a variance penalty with
# beta = k/2 matches the soft minimum to second order.
_COEFFICIENTS = {"risk_coef": 1.0, "variance_coef": 0.5}


def further_rules() -> dict[str, Formula]:
    """The records of all named methods, for ``audit(further=...)``.

    Returns:
      By name; those that a log cannot be replayed under say why.
    """
    from rvpo_jax.method.aggregators import METHODS

    found = {}
    for name, record in METHODS.items():
        coefficient = next((key for key in _COEFFICIENTS if key in record.reads), None)
        obstacle = None
        if hasattr(record.rule, "init"):
            obstacle = "it remembers earlier steps, and a log may hold any part of a run"
        found[name] = Formula(
            label=record.label,
            color=record.color,
            takes_k=coefficient is not None,
            largest_k=math.inf if coefficient == "risk_coef" else float(np.finfo(np.float32).max),
            whitened=not record.standardized,
            advantages=advantages_under(name, coefficient, whiten=not record.standardized),
            needs_ranges="levels" in record.reads,
            obstacle=obstacle,
        )
    return found


def advantages_under(
    method: object, coefficient: str | None = None, *, whiten: bool = True
) -> Callable[[np.ndarray, float | None, Sequence[Channel]], np.ndarray]:
    """The advantages of a step under a rule, as training has them.

    Args:
      method: as ``AdvantageConfig.method``.
      coefficient: the field of the config that k sets; None: the rule takes no k.
      whiten: whether it is standardised over the batch.

    Returns:
      A function of rewards ``[B, G, M]``, NaN where not scored, k and the M channels, to ``[B, G]``
      float32.
    """

    def advantages(rewards: np.ndarray, k: float | None, channels: Sequence[Channel]) -> np.ndarray:
        fields = {"method": method, "whiten": "batch" if whiten else "none"}
        if coefficient is not None and k is not None:
            fields[coefficient] = k * _COEFFICIENTS[coefficient]
        return np.asarray(_compiled(AdvantageConfig.of(fields), tuple(channels))(rewards))

    return advantages


@functools.cache
def _compiled(
    config: AdvantageConfig, channels: tuple[Channel, ...]
) -> Callable[[np.ndarray], object]:
    import jax

    from rvpo_jax.method.advantages import compute_advantages

    return jax.jit(
        lambda rewards: (
            compute_advantages(
                rewards, config=config, channels=channels, with_weights=False
            ).advantages
        )
    )
