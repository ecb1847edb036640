"""Rules that adapt to what earlier steps showed: a moving ideal, growing weights.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Channel
from rvpo_jax.method.aggregators import sum_then_standardize
from rvpo_jax.method.channels import row
from rvpo_jax.method.masking import plain_weights
from rvpo_jax.method.published.scalar import standardized, tchebycheff_distance
from rvpo_jax.method.rules import Method, Option, Rule, RuleOutput
from rvpo_jax.method.standardize import deviations


def no_ideal(num_channels: int) -> dict[str, jax.Array]:
    """The memory before the first step: any reward is better.

    Args:
      num_channels: M.

    Returns:
      ``best`` ``[M]``, the smallest float32.
    """
    return {"best": jnp.full(num_channels, jnp.finfo(jnp.float32).min)}


def tchebycheff_running(
    scores: jax.Array,
    rule_state: dict[str, jax.Array],
    *,
    rewards: jax.Array,
    scored: jax.Array,
    smoothing: Any,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> RuleOutput:
    """Tchebycheff with the best reward of each channel so far as its ideal.

    S standardises -max_m w_m (z_m - R_m) in the group, z the largest reward of all steps, this one
    included; ``smoothing`` as in ``tchebycheff``. Per response: the authors' code takes it per
    token, where a token without reward adds the ideal itself. Whitening: none.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rule_state: ``best`` ``[M]``, the best rewards so far.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      smoothing: scalar >= 0, in reward units; 0: the largest distance.
      weights: ``[M]`` float >= 0, made to sum to 1; None: equal.
      ddof: of the standard deviation.
      eps: added to it.

    Returns:
      The aggregate and the best rewards.

    Source:
      CTWA, arXiv:2602.06869, ideal "running", Apache-2.0.
    """
    lowest = jnp.finfo(jnp.float32).min
    best = jnp.max(jnp.where(scored, rewards, lowest), axis=(0, 1))
    ideal = jnp.maximum(rule_state["best"], best)
    distance = tchebycheff_distance(ideal.reshape(1, 1, -1), rewards, scored, weights, smoothing)
    return RuleOutput(aggregate=standardized(-distance, scored, ddof, eps), state={"best": ideal})


def no_progress(num_channels: int) -> dict[str, jax.Array]:
    """The memory before the first step.

    Args:
      num_channels: M.

    Returns:
      ``trend`` ``[M]``, the smoothed covariances; ``log_weights`` ``[M]``; ``seen`` ``[M]``, 1
      where a channel has been scored.
    """
    zeros = jnp.zeros(num_channels)
    return {"trend": zeros, "log_weights": zeros, "seen": zeros}


def ctwa(
    scores: jax.Array,
    rule_state: dict[str, jax.Array],
    *,
    rewards: jax.Array,
    shifted: jax.Array,
    lowest: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    rate: Any,
    smoothing: Any,
    least_trend: Any,
    saturated_at: Any,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> RuleOutput:
    """CTWA on the policy's own samples: a channel that the update does not move weighs more.

    S standardises sum_m w_m exp(u_m) R_m in the group. Then c_m = mean over groups of
    Cov(R_m, S), population covariance, rewards in units of their range; trend_m <- (1 - smoothing)
    trend_m + smoothing c_m, the first time c_m itself; and u_m grows by rate times what the trend
    lacks of ``least_trend``, unless the channel's mean is at ``saturated_at`` of its range. Weights
    never fall. On the policy's own samples the ratio is 1 and nothing is clipped, so the authors'
    statistic of completion weights is this one. Their targets differ by channel (0.1 for the first,
    0.05 for the others). Whitening: none.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rule_state: as ``no_progress`` has it.
      rewards: ``[B, G, M]`` float32, raw.
      shifted: rewards less ``lowest``.
      lowest: ``[B, 1, M]``, the smallest reward of a group.
      scored: ``[B, G, M]`` bool.
      channels: M channels, for their ranges.
      rate: scalar >= 0, of the weights' logarithm per step.
      smoothing: scalar in (0, 1], share of the new statistic.
      least_trend: scalar, the covariance aimed for, range units times scores.
      saturated_at: scalar, level from which a channel's weight stays.
      weights: ``[M]`` float >= 0 at the start; None: 1 each.
      ddof: of the standard deviation.
      eps: added to it.

    Returns:
      The aggregate and what was learnt.

    Source:
      arXiv:2602.06869, and github.com/yining610/ctwa, Apache-2.0.
    """
    plain = plain_weights(weights, scores.shape[-1])[0, 0]
    used = jnp.exp(rule_state["log_weights"]) * plain
    total = sum_then_standardize(
        scores, shifted=shifted, lowest=lowest, scored=scored, weights=used, ddof=ddof, eps=eps
    )
    low, high = row(channels, "low"), row(channels, "high")
    count = jnp.sum(scored, axis=(0, 1))
    level = jnp.sum((rewards - low) / (high - low), axis=(0, 1), where=scored) / jnp.maximum(
        count, 1
    )
    covariance = _covariance(shifted / (high - low), total, scored)
    smoothed = (1.0 - smoothing) * rule_state["trend"] + smoothing * covariance
    new = jnp.where(rule_state["seen"] > 0, smoothed, covariance)
    trend = jnp.where(count > 0, new, rule_state["trend"])
    lacking = jnp.where((count > 0) & (level < saturated_at), least_trend - trend, 0.0)
    state = {
        "trend": trend,
        "log_weights": rule_state["log_weights"] + rate * jnp.maximum(lacking, 0.0),
        "seen": jnp.maximum(rule_state["seen"], count > 0),
    }
    return RuleOutput(aggregate=total, state=state)


def _covariance(values: jax.Array, total: jax.Array, scored: jax.Array) -> jax.Array:
    """``[M]``: population covariance of each channel with the total, mean over groups."""
    deviation, _, _ = deviations(values, scored, 0)
    products = jnp.sum(deviation * total[..., None], axis=1)  # a mean of 0 times any mean is 0
    in_group = jnp.sum(scored, axis=1)
    groups = jnp.maximum(jnp.sum(in_group > 0, axis=0), 1)
    return jnp.sum(products / jnp.maximum(in_group, 1), axis=0) / groups


METHODS: dict[str, Method] = {
    "tchebycheff_running": Method(
        rule=Rule(no_ideal, tchebycheff_running),
        label="Tchebycheff, running ideal",
        color="#BCBD22",
        reads=("ddof", "eps"),
        options={"smoothing": Option(0.0, Bound(ge=0), "mu, in reward units; 0: the largest")},
        whitened=False,
    ),
    "ctwa": Method(
        rule=Rule(no_progress, ctwa),
        label="CTWA",
        color="#661100",
        reads=("ddof", "eps"),
        needs="ranges",
        options={
            "rate": Option(0.02, Bound(ge=0), "of the weights' logarithm, per step"),
            "smoothing": Option(0.1, Bound(gt=0, le=1), "share of the new statistic"),
            "least_trend": Option(0.05, Bound(), "covariance aimed for"),
            "saturated_at": Option(0.95, Bound(), "level from which a weight stays"),
        },
        whitened=False,
    ),
}
