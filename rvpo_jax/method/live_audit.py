"""What the average hides in one rollout batch: the audit's quantities, live.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method import diagnostics
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.aggregators import softmin_aggregate
from rvpo_jax.method.masking import masked_mean
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.rules import pointwise_weights
from rvpo_jax.types import Advantages

Metrics = dict[str, jax.Array]
USED = "used"
COUNTERFACTUAL = ("grpo", "gdpo", "rvpo", "hard_min")


def make_live_audit(config: AdvantageConfig, channels: Sequence[Channel]) -> Callable[..., Metrics]:
    """Builds ``live_audit(judged, rewards, where, risk_coef) -> metrics`` of the rule in use.

    It looks at what the train step judged; nothing is judged again.

    Args:
      config: the run's rule and conventions.
      channels: M channels.

    Returns:
      The function. Its arguments are the step's ``Advantages``, rewards ``[B, G, M]`` float32,
      their mask and k; its metrics are float32, ``[M]`` under ``audit/quiet_failures/used``,
      ``audit/failure_gap`` and ``audit/bottleneck``, else scalar.
    """
    pass_at = _pass_at(channels)
    constraints = jnp.array([channel.kind == "constraint" for channel in channels])
    # Where no constraint is declared, every failure counts.
    counted = constraints | ~jnp.any(constraints)
    weights = config.with_channels(tuple(channel.name for channel in channels)).weights
    drop = config.dead_channels == "drop"

    def live_audit(judged: Advantages, rewards, where, risk_coef) -> Metrics:
        used = judged.advantages
        present = where & judged.live[:, None, :] if drop else where

        def soft_minimum(scores):
            return softmin_aggregate(scores, risk_coef=risk_coef, weights=weights, where=present)

        gap, defined = diagnostics.failure_gap(used, rewards, where, pass_at)
        failed = jnp.any(
            where & counted.reshape(1, 1, -1) & (rewards < pass_at.reshape(1, 1, -1)), axis=-1
        )
        return {
            f"audit/quiet_failures/{USED}": _quiet_share(used, rewards, where, pass_at),
            "audit/failure_gap": masked_mean(gap, defined, axis=0),
            "audit/compensation": masked_mean(
                (used > diagnostics.POSITIVE).astype(jnp.float32), failed
            ),
            **_who_decides(judged, where, soft_minimum, risk_coef),
        }

    return live_audit


def make_comparison(config: AdvantageConfig, channels: Sequence[Channel]) -> Callable[..., Metrics]:
    """Builds ``compare(rewards, where, lengths, risk_coef) -> metrics`` of other rules.

    What the sum (grpo), the mean (gdpo), the soft minimum (rvpo) and the minimum (hard_min) would
    do with the failures of the same batch, under the conventions of the run.

    Args:
      config: the run's rule and conventions.
      channels: M channels.

    Returns:
      The function; its metrics are ``[M]`` float32 under ``audit/quiet_failures/RULE``.
    """
    pass_at = _pass_at(channels)

    def compare(rewards, where, lengths, risk_coef) -> Metrics:
        metrics = {}
        for name in COUNTERFACTUAL:
            # What is standardised in its group already stays as it is; the others over the batch.
            whiten: Any = "batch" if METHODS[name].whitened else "none"
            other = dataclasses.replace(config, method=name, options=None, whiten=whiten)
            out = compute_advantages(
                rewards,
                where,
                other,
                channels=channels,
                risk_coef=risk_coef,
                lengths=lengths,
                with_weights=False,
            )
            share = _quiet_share(out.advantages, rewards, where, pass_at)
            metrics[f"audit/quiet_failures/{name}"] = share
        return metrics

    return compare


def _pass_at(channels: Sequence[Channel]) -> jax.Array:
    return jnp.array([channel.pass_at for channel in channels], jnp.float32)


def _quiet_share(advantages, rewards, where, pass_at) -> jax.Array:
    flags = diagnostics.quiet_failures(advantages, rewards, where, pass_at)
    return jnp.sum(flags, axis=(0, 1)) / jnp.maximum(jnp.sum(where, axis=(0, 1)), 1)


def _who_decides(judged: Advantages, where: jax.Array, soft_minimum, risk_coef) -> Metrics:
    """Of the soft minimum of the batch's scores, whatever the rule in use."""
    scores = judged.scores
    scored = jnp.any(where, axis=-1)
    minima = diagnostics.bottleneck(scores, where)
    spread, to_mean, to_min = diagnostics.between_mean_and_minimum(
        scores, soft_minimum(scores), where
    )
    opposite, both = diagnostics.conflict(scores, judged.live, where)
    pair = ~jnp.eye(where.shape[-1], dtype=bool).reshape(1, 1, *where.shape[-1:] * 2)
    distance = jnp.sum(to_mean + to_min)
    return {
        "audit/bottleneck": jnp.sum(minima, axis=(0, 1)) / jnp.maximum(jnp.sum(scored), 1),
        "audit/effective_channels": masked_mean(
            diagnostics.effective_channels(pointwise_weights(soft_minimum, scores)), scored
        ),
        "audit/conflict": masked_mean(opposite.astype(jnp.float32), both & pair),
        "audit/k_spread": risk_coef * masked_mean(spread, scored),
        "audit/position": jnp.sum(to_mean) / jnp.where(distance > 0, distance, 1.0),
    }
