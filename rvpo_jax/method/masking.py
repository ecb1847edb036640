"""Masked reductions. ``...`` stands for any leading axes."""

import jax
import jax.numpy as jnp


def masked_mean(values: jax.Array, where: jax.Array, axis: int | None = None) -> jax.Array:
    """Mean of the entries where ``where`` holds; 0 where there is none.

    Args:
      values: any shape, float. Masked entries may be NaN or infinite.
      where: bool, the shape of ``values``.
      axis: reduced axis; None reduces all.

    Returns:
      ``values`` without ``axis``.

    >>> float(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
    2.0
    """
    total = jnp.sum(values, axis=axis, where=where)
    count = jnp.sum(where, axis=axis)
    return total / jnp.maximum(count, 1)


def plain_weights(weights: jax.Array | None, num_channels: int) -> jax.Array:
    """Channel weights as they are, for a sum.

    Args:
      weights: ``[M]`` float >= 0, or None for 1 each.
      num_channels: M.

    Returns:
      ``[1, 1, M]`` float32.

    >>> plain_weights(None, 2).tolist()
    [[[1.0, 1.0]]]
    """
    if weights is None:
        return jnp.ones((1, 1, num_channels))
    return jnp.asarray(weights, jnp.float32).reshape(1, 1, -1)


def normalized_weights(weights: jax.Array | None, where: jax.Array) -> jax.Array:
    """Channel weights that sum to 1 over the channels that exist.

    An absent channel leaves the sum *and* the 1/M factor; filling in a score of 0 instead would
    add a fake dead channel.

    Args:
      weights: ``[M]`` float >= 0, or None for equal weights.
      where: ``[..., M]`` bool, channels that exist.

    Returns:
      ``[..., M]`` float32; all 0 in a row without channels.

    >>> normalized_weights(None, jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    raw = where.astype(jnp.float32)
    if weights is not None:
        weights = jnp.asarray(weights, jnp.float32)
        raw = raw * weights.reshape((1,) * (where.ndim - 1) + (-1,))
    total = jnp.sum(raw, axis=-1, keepdims=True)
    return raw / jnp.where(total > 0, total, 1.0)
