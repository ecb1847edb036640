"""Rules that join the raw rewards into one number and standardise that, as GRPO does.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Channel
from rvpo_jax.method.aggregators import prepare
from rvpo_jax.method.channels import row
from rvpo_jax.method.masking import plain_weights
from rvpo_jax.method.rules import Method, Option
from rvpo_jax.method.standardize import standardize


def standardized(values: jax.Array, scored: jax.Array, ddof: int, eps: float) -> jax.Array:
    """GRPO on one number per completion.

    Args:
      values: ``[B, G]`` float32.
      scored: ``[B, G, M]`` bool; a completion without any channel is left out.
      ddof: 1 sample, 0 population standard deviation.
      eps: added to the standard deviation, in the unit of the values.

    Returns:
      ``[B, G]`` float32; 0 in a group of equal values.
    """
    there = jnp.any(scored, axis=-1, keepdims=True)
    return standardize(values[..., None], there, ddof=ddof, eps=eps)[0][..., 0]


def soft_and(
    scores: jax.Array,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """Soft AND: the sum over channels of log sigmoid(R - target), standardised in the group.

    A reward far above its target adds nothing; one far below counts as it is. Rewards are in
    log-odds, as a Bradley-Terry model gives them. The target is a quantile of the reference
    policy's rewards (the paper: 0.85). Whitening: none.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, each with a target.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.
      ddof: of the standard deviation.
      eps: added to it.

    Returns:
      ``[B, G]`` float32.

    Source:
      Wang et al. 2024, log-sigmoid-centred rewards, arXiv:2402.00742.
    """
    parts = jax.nn.log_sigmoid(rewards - row(channels, "target"))
    parts = plain_weights(weights, parts.shape[-1]) * parts
    return standardized(jnp.sum(parts, axis=-1, where=scored), scored, ddof, eps)


def tchebycheff(
    scores: jax.Array,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    smoothing: Any,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """Smooth Tchebycheff: the largest distance to the ideal, softly, standardised in the group.

    With z the ideal, here the upper end of each range, and mu = ``smoothing``::

        S = -mu * log sum_m exp(w_m (z_m - R_m) / mu)

    mu = 0 is -max_m w_m (z_m - R_m). On scores, with z = 0, w = 1 and mu = 1/k, it is RVPO's soft
    minimum less log(M) / k. Whitening: none.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, for the upper ends of their ranges.
      smoothing: scalar mu >= 0, in reward units; may be traced.
      weights: ``[M]`` float >= 0, made to sum to 1; None: equal.
      ddof: of the standard deviation.
      eps: added to it.

    Returns:
      ``[B, G]`` float32.

    Source:
      STOMP, arXiv:2604.13175 (there offline); per response, not per token. The default mu is ours.
    """
    distance = tchebycheff_distance(row(channels, "high"), rewards, scored, weights, smoothing)
    return standardized(-distance, scored, ddof, eps)


def tchebycheff_distance(
    ideal: jax.Array, rewards: jax.Array, scored: jax.Array, weights: Any, smoothing: Any
) -> jax.Array:
    """How far a completion is from the ideal in its worst channel, softly for ``smoothing`` > 0.

    Args:
      ideal: ``[1, 1, M]`` float32, in reward units.
      rewards: ``[B, G, M]`` float32.
      scored: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0 or None.
      smoothing: scalar >= 0.

    Returns:
      ``[B, G]`` float32; 0 in a completion without channels.
    """
    rewards, share, there = prepare(rewards, weights, scored)
    gap = jnp.where(there, share * (ideal - rewards), -jnp.inf)
    largest = jnp.max(gap, axis=-1, keepdims=True)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    mu = jnp.where(smoothing > 0, smoothing, 1.0)
    total = jnp.sum(jnp.exp((gap - largest) / mu), axis=-1, where=there)
    soft = largest[..., 0] + mu * jnp.log(jnp.maximum(total, 1.0))  # the largest itself adds 1
    return jnp.where(smoothing > 0, soft, largest[..., 0])


METHODS: dict[str, Method] = {
    "soft_and": Method(
        rule=soft_and,
        label="soft AND",
        color="#8C564B",
        reads=("ddof", "eps"),
        needs="targets",
        whitened=False,
    ),
    "tchebycheff": Method(
        rule=tchebycheff,
        label="smooth Tchebycheff",
        color="#7F7F00",
        reads=("ddof", "eps"),
        needs="ranges",
        options={"smoothing": Option(0.1, Bound(ge=0), "mu, in reward units; 0: the largest")},
        whitened=False,
    ),
}
