"""CVaR over channels: the mean of the worst share of a completion's scores."""

from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.method.aggregators import prepare
from rvpo_jax.method.rules import Method, Option


def cvar_aggregate(
    scores: jax.Array, *, tail: Any, weights: Any = None, where: jax.Array | None = None
) -> jax.Array:
    """Mean of the worst share ``tail`` of the channels: conditional value at risk.

    1 is the mean, towards 0 the minimum. Where the tail ends within a channel, that channel counts
    in part: with three channels and 0.5, the worst counts 2/3 and the second worst 1/3. Piecewise
    linear; nothing overflows; unlike a soft minimum it does not listen to the other channels at
    all. Conventions: GDPO's scores and whitening.

    Args:
      scores: ``[..., M]`` float. Standardised channels.
      tail: scalar in (0, 1], share of the weights; may be traced.
      weights: ``[M]`` float >= 0, made to sum to 1; None: equal.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    Source:
      Rockafellar and Uryasev 2000; over reward channels ours: published rules take it over
      completions or prompts.

    >>> float(cvar_aggregate(jnp.array([0.0, 3.0, -3.0]), tail=0.5).round(4))
    -2.0
    """
    scores, share, mask = prepare(scores, weights, where)
    order = jnp.argsort(jnp.where(mask, scores, jnp.inf), axis=-1)
    ordered = jnp.take_along_axis(share, order, axis=-1)
    before = jnp.cumsum(ordered, axis=-1) - ordered
    counted = jnp.clip(tail - before, 0.0, ordered) / tail
    return jnp.sum(counted * jnp.take_along_axis(scores, order, axis=-1), axis=-1)


METHODS: dict[str, Method] = {
    "cvar": Method(
        rule=cvar_aggregate,
        label="CVaR over channels",
        color="#AA4499",
        pointwise=True,
        options={"tail": Option(0.5, Bound(gt=0, le=1), "share of the channels that counts")},
    ),
}
