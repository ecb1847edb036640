"""GD2PO: completions whose channels disagree are dropped."""

from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.method.aggregators import sum_aggregate
from rvpo_jax.method.rules import Method, Option, RuleOutput

DIFFERS = 1e-8  # a score counts as above or below 0 from here on


def gd2po_hard(
    scores: jax.Array, *, where: jax.Array, weights: jax.Array | None = None
) -> RuleOutput:
    """GD2PO-hard: a completion with a score above and one below 0 is dropped.

    The others have the sum of their scores times the share of their group that is kept. With many
    channels almost all are dropped. Whitening: token-weighted, over what is kept.

    Args:
      scores: ``[B, G, M]``.
      where: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.

    Returns:
      The sums and what is kept.

    Source:
      arXiv:2606.16771, in the order of its code, github.com/Qwen-Applications/GD2PO, Apache-2.0.
    """
    return _kept_sums(scores, ~_conflict(scores), where, weights)


def gd2po_snr(
    scores: jax.Array, *, where: jax.Array, least_ratio: Any, weights: jax.Array | None = None
) -> RuleOutput:
    """GD2PO-SNR: a completion in conflict is dropped where its scores nearly cancel.

    The ratio is the absolute sum of the scores over the sum of their absolute values. The code's
    default threshold is 0.2, its README and all its launch scripts have 0.8, which is ours too.

    Args:
      scores: ``[B, G, M]``.
      where: ``[B, G, M]`` bool.
      least_ratio: scalar in [0, 1], from which a completion in conflict stays.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.

    Returns:
      The sums and what is kept.

    Source:
      See ``gd2po_hard``.
    """
    size = jnp.sum(jnp.abs(scores), axis=-1)
    ratio = jnp.abs(jnp.sum(scores, axis=-1)) / (size + DIFFERS)
    keep = ~(_conflict(scores) & (ratio < least_ratio))
    return _kept_sums(scores, keep, where, weights)


def _conflict(scores: jax.Array) -> jax.Array:
    return jnp.any(scores > DIFFERS, axis=-1) & jnp.any(scores < -DIFFERS, axis=-1)


def _kept_sums(
    scores: jax.Array, keep: jax.Array, where: jax.Array, weights: jax.Array | None
) -> RuleOutput:
    there = jnp.any(where, axis=-1)
    count = jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1)
    share = jnp.sum(keep & there, axis=1, keepdims=True) / count
    total = sum_aggregate(scores, weights=weights, where=where)
    return RuleOutput(aggregate=share * total, keep=keep)


METHODS: dict[str, Method] = {
    "gd2po_hard": Method(rule=gd2po_hard, label="GD2PO-hard", color="#999933"),
    "gd2po_snr": Method(
        rule=gd2po_snr,
        label="GD2PO-SNR",
        color="#DDCC77",
        options={"least_ratio": Option(0.8, Bound(ge=0, le=1), "from which a conflict stays")},
    ),
}
