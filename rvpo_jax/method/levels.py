"""Soft minima that also see levels: how well a group does in a channel already.

``M`` reward channels; ``Z`` the scores; ``m`` the levels, group means on the scale of the ranges.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Channel
from rvpo_jax.method.aggregators import (
    check_not_negative,
    check_risk_coef,
    prepare,
    softmin_of_shares,
)
from rvpo_jax.method.channels import row
from rvpo_jax.method.rules import Method, Option
from rvpo_jax.method.standardize import deviations


def level_softmin_aggregate(
    scores: jax.Array,
    *,
    levels: jax.Array,
    level_coef: Any,
    risk_coef: Any,
    weights: Any = None,
    where: jax.Array | None = None,
) -> jax.Array:
    """Soft minimum in which channels of a low level weigh more.

    With m the levels and c = ``level_coef``, it is the soft minimum with the weights
    w_m exp(-c m_m) / sum_l w_l exp(-c m_l). For 0 < k < inf that is::

        softmin(Z + (c / k) * m) - softmin((c / k) * m)

    The second term is the same for all completions of a group. It is taken off because whitening
    over a batch would otherwise raise every completion of a prompt whose channels are high. c = 0
    is ``softmin_aggregate``; k = 0 is the mean with these weights; k = inf is the minimum, which
    ignores levels. A soft minimum of scores alone protects what is already easy: a rare failure
    has a very negative score, and a rare success none that it looks at.

    Args:
      scores: ``[..., M]`` float. Standardised channels.
      levels: ``[..., M]`` or what broadcasts to it, float in [0, 1]: mean of the channel in its
        group, on the scale of its range.
      level_coef: scalar c >= 0, 1/level, may be traced. Above 80 a channel far above the lowest
        may weigh 0 in float32 and then counts as absent.
      risk_coef: scalar k >= 0, 1/score, may be traced.
      weights: ``[M]`` float >= 0, relative importance; None: equal.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    Raises:
      ValueError: if a coefficient is a plain number below 0.

    Source:
      Ours (not in the paper); derivation and limits in experiments/level_aware.

    >>> half = jnp.log(2.0)  # the second channel is as easy as can be and weighs half as much
    >>> scores, levels = jnp.array([1.0, -0.5]), jnp.array([0.0, 1.0])
    >>> kwargs = dict(levels=levels, level_coef=half, risk_coef=0.0)
    >>> float(level_softmin_aggregate(scores, **kwargs))
    0.5
    """
    check_risk_coef(risk_coef)
    check_not_negative("level_coef", level_coef, _NEGATIVE_LEVEL)
    scores, share, mask = prepare(scores, weights, where)
    levels = jnp.broadcast_to(jnp.asarray(levels, jnp.float32), scores.shape)
    low = jnp.min(jnp.where(mask, levels, jnp.inf), axis=-1, keepdims=True)
    # Relative to the lowest level, whose weight stays; masked before the arithmetic.
    above = jnp.where(mask, levels - low, 0.0)
    share = share * jnp.exp(-jnp.asarray(level_coef, jnp.float32) * above)
    total = jnp.sum(share, axis=-1, keepdims=True)
    share = share / jnp.where(total > 0, total, 1.0)
    return softmin_of_shares(scores, share, mask & (share > 0), risk_coef)


_NEGATIVE_LEVEL = "0 ignores levels; a negative value would serve what is already easy."


def utility_softmin(
    scores: jax.Array,
    *,
    shifted: jax.Array,
    scored: jax.Array,
    levels: jax.Array,
    channels: Sequence[Channel],
    where: jax.Array,
    risk_coef: Any,
    trust: Any,
    weights: Any = None,
    ddof: int = 1,
) -> jax.Array:
    """Soft minimum in which a channel weighs by its spread and by what it lacks.

    With s_m the group's standard deviation of channel m in units of its range and c = ``trust``,
    the weights are w_m s_m exp(-c m_m), made to sum to 1. For small k that is, but for a positive
    factor, sum_m w_m exp(-c m_m) (R_m - mean_m): the gradient of sum_m w_m (1 - exp(-c m_m)) / c, a
    concave utility of levels. Without s_m (``level_softmin_aggregate``) a channel that hardly moves
    pulls as hard as one that moves much, and one that cannot be met takes all weight; with it, what
    does not vary has weight 0, continuously. c = 0 is a soft minimum around the sum of rewards in
    units of their ranges. c is trust in rare successes: large where they can be verified, 0 where a
    judge can be fooled.

    Args:
      scores: ``[B, G, M]`` float. Standardised channels.
      shifted: ``[B, G, M]`` float32, rewards less the smallest of their group.
      scored: ``[B, G, M]`` bool.
      levels: ``[B, 1, M]`` float, 0 to 1.
      channels: M channels, for their ranges.
      where: ``[B, G, M]`` bool, channels that count.
      risk_coef: scalar k >= 0, 1/score.
      trust: scalar c >= 0, 1/level.
      weights: ``[M]`` float >= 0, relative importance; None: equal.
      ddof: of the standard deviation.

    Returns:
      ``[B, G]`` float32; 0 in a group in which nothing varies.

    Source:
      Ours (not in the paper).
    """
    scores, share, mask = prepare(scores, weights, where)
    _, std, _ = deviations(shifted, scored, ddof)
    std = std / (row(channels, "high") - row(channels, "low"))
    counted = mask & (std > 0)
    low = jnp.min(jnp.where(counted, levels, jnp.inf), axis=-1, keepdims=True)
    above = jnp.where(counted, levels - low, 0.0)
    pull = jnp.where(counted, share * std * jnp.exp(-trust * above), 0.0)
    total = jnp.sum(pull, axis=-1, keepdims=True)
    share = pull / jnp.where(total > 0, total, 1.0)
    return softmin_of_shares(scores, share, share > 0, risk_coef)


METHODS: dict[str, Method] = {
    "rvpo_level": Method(
        rule=level_softmin_aggregate,
        label="soft minimum by level",
        color="#E69F00",
        reads=("risk_coef", "level_coef", "levels"),
        pointwise=True,
    ),
    "rvpo_utility": Method(
        rule=utility_softmin,
        label="soft minimum by spread and level",
        color="#CC3311",
        reads=("risk_coef", "levels", "ddof"),
        needs="ranges",
        pointwise=True,
        options={"trust": Option(5.0, Bound(ge=0), "c: weight falls by exp(-c) over a range")},
    ),
}
