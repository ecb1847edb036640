"""The metrics of one step, computed from what the step judged. The names stand in ``metrics.py``.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.diagnostics import channel_metrics
from rvpo_jax.method.live_audit import make_comparison, make_live_audit
from rvpo_jax.types import Advantages, Batch

Observe = Callable[..., dict[str, float]]


def make_observer(
    config: AdvantageConfig, channels: Sequence[Channel], audit_every: int
) -> Observe:
    """Builds ``observe(step, batch, judged, step_metrics, num_failed) -> metrics`` by name.

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
        step: int,
        batch: Batch,
        judged: Advantages,
        step_metrics: dict[str, Any],
        num_failed: np.ndarray,
    ) -> dict[str, float]:
        risk_coef = step_metrics["risk_coef"]
        looked: Any = look(judged, batch.rewards, batch.where, risk_coef)
        compared: dict[str, Any] = {}
        if audit_every and step % audit_every == 0:
            lengths = np.sum(batch.completion_mask, axis=-1)
            compared = compare(batch.rewards, batch.where, lengths, risk_coef)
        by_channel, audited = jax.device_get(looked)
        joint = by_channel.pop("joint_pass_rate")
        flat = _by_name(step_metrics | audited | jax.device_get(compared), names)
        flat["reward/joint_pass_rate"] = float(joint)
        by_channel["failed_frac"] = num_failed / (batch.rewards.shape[0] * batch.rewards.shape[1])
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
