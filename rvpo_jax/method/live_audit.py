"""What the average hides in one rollout batch: the audit's quantities, live.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method import diagnostics
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.masking import masked_mean

USED = "used"
COUNTERFACTUAL: tuple[str, ...] = ("grpo", "gdpo", "rvpo", "hard_min")
Monitor = Callable[
    [jax.Array, jax.Array, jax.Array, jax.Array | int], tuple[jax.Array, dict[str, jax.Array]]
]


def make_monitor(
    config: AdvantageConfig,
    channels: Sequence[Channel],
    risk_schedule: Callable[[jax.Array], jax.Array] | None = None,
) -> Monitor:
    """Builds ``monitor(rewards, where, lengths, step) -> (advantages, metrics)``.

    The advantages are those of the run's own rule, as the train step computes them. The metrics
    say what the run's rule and, on the same rewards, the sum (grpo), the mean (gdpo), the soft
    minimum (rvpo) and the minimum (hard_min) do with failures.

    Args:
      config: the run's rule.
      channels: M channels.
      risk_schedule: ``step -> k``; None: ``config.risk_coef``.

    Returns:
      The monitor. Its arguments are ``[B, G, M]`` float32, ``[B, G, M]`` bool, ``[B, G]`` lengths
      in tokens and the step; ``advantages`` are ``[B, G]``; ``metrics`` are float32, ``[M]`` under
      ``audit/quiet_failures/RULE``, ``audit/failure_gap`` and ``audit/bottleneck``, else scalar.
    """
    pass_at = jnp.array([channel.pass_at for channel in channels], jnp.float32)
    constraints = jnp.array([channel.kind == "constraint" for channel in channels])
    # Where no constraint is declared, every failure counts.
    judged = constraints | ~jnp.any(constraints)

    def monitor(rewards, where, lengths, step):
        risk_coef = config.risk_coef if risk_schedule is None else risk_schedule(step)

        def under(rule):
            return compute_advantages(
                rewards, where, rule, channels=channels, risk_coef=risk_coef, lengths=lengths
            )

        rules = {USED: under(config)}
        for method in COUNTERFACTUAL:
            # GRPO's sum is standardised in its group already; the others over the batch.
            rules[method] = under(
                dataclasses.replace(config, method=method, whiten="batch")
                if method != "grpo"
                else dataclasses.replace(config, method=method, whiten="none")
            )
        used = rules[USED].advantages
        metrics = {}
        for name, out in rules.items():
            quiet = diagnostics.quiet_failures(out.advantages, rewards, where, pass_at)
            metrics[f"audit/quiet_failures/{name}"] = _share(quiet, where)
        gap, defined = diagnostics.failure_gap(used, rewards, where, pass_at)
        metrics["audit/failure_gap"] = masked_mean(gap, defined, axis=0)
        failed = jnp.any(
            where & judged.reshape(1, 1, -1) & (rewards < pass_at.reshape(1, 1, -1)), axis=-1
        )
        metrics["audit/compensation"] = masked_mean(
            (used > diagnostics.POSITIVE).astype(jnp.float32), failed
        )
        return used, metrics | _who_decides(rules["rvpo"], where, risk_coef)

    return jax.jit(monitor)


def _share(flags: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.sum(flags, axis=(0, 1)) / jnp.maximum(jnp.sum(where, axis=(0, 1)), 1)


def _who_decides(soft, where: jax.Array, risk_coef) -> dict[str, jax.Array]:
    scored = jnp.any(where, axis=-1)
    minima = diagnostics.bottleneck(soft.scores, where)
    spread, to_mean, to_min = diagnostics.between_mean_and_minimum(
        soft.scores, soft.aggregate, where
    )
    opposite, both = diagnostics.conflict(soft.scores, soft.live, where)
    pair = ~jnp.eye(where.shape[-1], dtype=bool).reshape(1, 1, *where.shape[-1:] * 2)
    distance = jnp.sum(to_mean + to_min)
    return {
        "audit/bottleneck": jnp.sum(minima, axis=(0, 1)) / jnp.maximum(jnp.sum(scored), 1),
        "audit/effective_channels": masked_mean(
            diagnostics.effective_channels(soft.weights), scored
        ),
        "audit/conflict": masked_mean(opposite.astype(jnp.float32), both & pair),
        "audit/k_spread": risk_coef * masked_mean(spread, scored),
        "audit/position": jnp.sum(to_mean) / jnp.where(distance > 0, distance, 1.0),
    }
