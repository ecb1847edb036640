"""Completions of different lengths in rows of tokens, so that padding is not computed.

The completions of a prompt are laid one after another and cut into rows; a row belongs to one
prompt, a completion may go on in the next row.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens, ``R`` rows of ``ROW`` tokens.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

ROW = 32  # tokens of a row


class Rows(NamedTuple):
    """Where the tokens of completions lie."""

    prompt: jax.Array  # [R] int32, b of each row
    source: jax.Array  # [R, ROW] int32, place in [B, G, C], flat; B * G * C in an empty place
    place: jax.Array  # [B, G, C] int32, place in [R, ROW], flat; R * ROW where there is no token


def num_rows(completion_mask: jax.Array) -> jax.Array:
    """Rows that the completions of each prompt fill.

    Args:
      completion_mask: ``[B, G, C]`` bool, True on the first tokens of each.

    Returns:
      ``[B]`` int32.

    >>> num_rows(jnp.arange(48)[None, None] < jnp.array([[[20], [13]], [[48], [0]]])).tolist()
    [2, 2]
    """
    return -(-jnp.sum(completion_mask, axis=(1, 2), dtype=jnp.int32) // ROW)


def pack_rows(completion_mask: jax.Array, capacity: int) -> Rows:
    """Lays the completions of all prompts into rows.

    Args:
      completion_mask: ``[B, G, C]`` bool, True on the first tokens of each.
      capacity: R, at least the sum of ``num_rows``; tokens beyond it have no place.

    Returns:
      The rows.

    >>> rows = pack_rows(jnp.arange(3)[None, None] < jnp.array([[[2], [3]]]), capacity=1)
    >>> rows.place.tolist(), rows.source[0, :6].tolist()
    ([[[0, 1, 32], [2, 3, 4]]], [0, 1, 3, 4, 5, 6])
    """
    size, nowhere = completion_mask.size, capacity * ROW
    lengths = jnp.sum(completion_mask, axis=2, dtype=jnp.int32)
    filled = num_rows(completion_mask)
    first_row = jnp.cumsum(filled) - filled
    start = first_row[:, None] * ROW + jnp.cumsum(lengths, axis=1) - lengths
    place = start[..., None] + jnp.arange(completion_mask.shape[2], dtype=jnp.int32)[None, None]
    place = jnp.where(completion_mask & (place < nowhere), place, nowhere)
    source = jnp.full((nowhere,), size, jnp.int32)
    source = source.at[place.reshape(-1)].set(jnp.arange(size, dtype=jnp.int32), mode="drop")
    prompt = jnp.searchsorted(jnp.cumsum(filled), jnp.arange(capacity), side="right")
    return Rows(
        prompt=jnp.minimum(prompt, completion_mask.shape[0] - 1).astype(jnp.int32),
        source=source.reshape(capacity, ROW),
        place=place,
    )


def fill_microbatches(sizes: jax.Array, capacity: int, max_prompts: int) -> jax.Array:
    """Puts prompts into microbatches, in their order: a new one where the next does not fit.

    Args:
      sizes: ``[B]`` int32, rows of each prompt, each at most ``capacity``.
      capacity: rows of a microbatch.
      max_prompts: prompts of a microbatch.

    Returns:
      ``[B]`` int32, the microbatch of each prompt.

    >>> fill_microbatches(jnp.array([2, 2, 1, 4, 1]), capacity=5, max_prompts=2).tolist()
    [0, 0, 1, 1, 2]
    """

    def put(fill: tuple, size: jax.Array) -> tuple[tuple, jax.Array]:
        index, rows, prompts = fill
        new = (rows + size > capacity) | (prompts == max_prompts)
        index = jnp.where(new, index + 1, index)
        rows, prompts = jnp.where(new, 0, rows) + size, jnp.where(new, 0, prompts) + 1
        return (index, rows, prompts), index

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.scan(put, (zero, zero, zero), sizes)[1]
