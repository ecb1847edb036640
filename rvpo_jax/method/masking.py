"""Masked reductions and completion masks. ``...`` stands for any leading axes."""

import jax
import jax.numpy as jnp


def completion_mask(completions: jax.Array, eos_id: int, num_written: jax.Array) -> jax.Array:
    """Marks the tokens that the policy wrote, up to and including the first EOS.

    Args:
      completions: ``[..., C]`` int32.
      eos_id: the token that ends a completion.
      num_written: ``[...]`` int32. Tokens sampled before the sampler stopped; later ones are
        padding even when no EOS came.

    Returns:
      ``[..., C]`` bool.

    >>> completion_mask(jnp.array([5, 1, 5, 1]), 1, jnp.array(4)).tolist()
    [True, True, False, False]
    """
    is_eos = (completions == eos_id).astype(jnp.int32)
    # Counting the EOS *before* each position keeps the first one; argmax would read
    # "EOS first" and "no EOS" as the same 0.
    eos_before = jnp.cumsum(is_eos, axis=-1) - is_eos
    position = jnp.arange(completions.shape[-1]).reshape((1,) * num_written.ndim + (-1,))
    return (eos_before == 0) & (position < num_written[..., None])


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
