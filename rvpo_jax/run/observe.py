"""The metrics of one step, computed from what the step judged. The names stand in ``metrics.py``.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.diagnostics import channel_metrics
from rvpo_jax.method.live_audit import make_comparison, make_live_audit
from rvpo_jax.types import Advantages

Observe = Callable[..., dict[str, float]]


class Counts(NamedTuple):
    """What one step sampled, in numbers, of this process or of all ``K``."""

    rewards: np.ndarray  # [B, G, M] float32
    where: np.ndarray  # [B, G, M] bool
    lengths: np.ndarray  # [B, G] int32, tokens
    truncated: np.ndarray  # [B, G] bool, cut at the length limit
    computed: np.ndarray  # [B] float32, token positions that decoding computed
    num_failed: np.ndarray  # [K, M] int32, completions on which a reward function raised


def make_observer(
    config: AdvantageConfig, channels: Sequence[Channel], audit_every: int
) -> Observe:
    """Builds ``observe(step, counts, judged, step_metrics) -> metrics`` by name.

    Args:
      config: the run's rule and conventions, weights in channel order.
      channels: M channels.
      audit_every: steps between comparisons with other rules; 0: none.

    Returns:
      The function; its values are floats.
    """
    names = [channel.name for channel in channels]
    pass_at = jnp.array([channel.pass_at for channel in channels], jnp.float32)
    live_audit = make_live_audit(config, channels)
    compare = jax.jit(make_comparison(config, channels))

    @jax.jit
    def look(judged: Advantages, rewards, where, risk_coef):
        return channel_metrics(rewards, where, pass_at), live_audit(
            judged, rewards, where, risk_coef
        )

    def observe(
        step: int, counts: Counts, judged: Advantages, step_metrics: dict[str, Any]
    ) -> dict[str, float]:
        risk_coef = step_metrics["risk_coef"]
        looked: Any = look(judged, counts.rewards, counts.where, risk_coef)
        compared: dict[str, Any] = {}
        if audit_every and step % audit_every == 0:
            compared = compare(counts.rewards, counts.where, counts.lengths, risk_coef)
        by_channel, audited = jax.device_get(looked)
        joint = by_channel.pop("joint_pass_rate")
        flat = _by_name(step_metrics | audited | jax.device_get(compared), names)
        flat["reward/joint_pass_rate"] = float(joint)
        by_channel["failed_frac"] = counts.num_failed.sum(0) / counts.lengths.size
        for statistic, values in by_channel.items():
            for name, value in zip(names, values, strict=True):
                flat[f"reward/{name}/{statistic}"] = float(value)
        return flat

    return observe


def _by_name(metrics: dict[str, Any], channel_names: Sequence[str]) -> dict[str, float]:
    """One float per name; a metric with an axis has one value per channel."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if np.ndim(value):
            for channel, entry in zip(channel_names, value, strict=True):
                flat[f"{name}/{channel}"] = float(entry)
        else:
            flat[name] = float(value)
    return flat
