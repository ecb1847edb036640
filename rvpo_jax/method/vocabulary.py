"""Logprobs and entropies over a large vocabulary, whose logits never exist all at once.

``T`` tokens, ``D`` width, ``V`` vocabulary.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.method.losses import token_logprobs

CHUNK_LOGITS = 2**26  # logits that exist at once: 256 MiB in float32


def vocabulary_logprobs(
    hidden: jax.Array,
    table: jax.Array,
    tokens: jax.Array,
    *,
    temperature: float = 1.0,
    num_shards: int = 1,
    chunk: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``token_logprobs`` of ``hidden @ table.T / temperature``, in chunks of tokens.

    Logits are computed chunk by chunk and again in the backward pass, so that memory grows with the
    chunk and not with ``T``. Products are in the type of ``hidden``, everything after them, and the
    sum of the table's gradient over chunks, in float32. Tokens are cut along ``T`` only: leading
    axes stay where they are on a mesh.

    Args:
      hidden: ``[..., T, D]``, the last hidden states; entry t predicts token t.
      table: ``[V, D]``, the unembedding.
      tokens: ``[..., T]`` int32.
      temperature: logits are divided by it.
      num_shards: devices that the leading axes are split over, on a mesh.
      chunk: tokens of ``T`` at once; None: as many as give each shard ``CHUNK_LOGITS`` logits.

    Returns:
      Logprobs and entropies, ``[..., T]`` float32, in nats.

    >>> logprobs, entropy = vocabulary_logprobs(
    ...     jnp.zeros((3, 2)), jnp.ones((4, 2)), jnp.zeros(3, int), chunk=2
    ... )
    >>> logprobs.round(3).tolist(), entropy.round(3).tolist()
    ([-1.386, -1.386, -1.386], [1.386, 1.386, 1.386])
    """
    length = tokens.shape[-1]
    if chunk is None:
        most = CHUNK_LOGITS * num_shards  # each chunk reads and writes the table's gradient
        chunk = max(1, most * length // max(tokens.size * table.shape[0], 1))
    if chunk >= length:
        return token_logprobs(_logits(hidden, table.astype(hidden.dtype), temperature), tokens)
    return _chunked(hidden, table, tokens, temperature, chunk)


def _logits(hidden: jax.Array, table: jax.Array, temperature: float) -> jax.Array:
    logits = jnp.einsum("...td,vd->...tv", hidden, table, preferred_element_type=jnp.float32)
    return logits / temperature


def _cut(x: jax.Array, axis: int, chunk: int) -> jax.Array:
    """Chunks of an axis on a leading one; the last is filled with zeros."""
    axis %= x.ndim
    num = -(-x.shape[axis] // chunk)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, num * chunk - x.shape[axis])
    x = jnp.pad(x, padding)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], num, chunk, *x.shape[axis + 1 :]), axis, 0)


def _joined(chunks: jax.Array, axis: int, length: int) -> jax.Array:
    axis %= chunks.ndim - 1
    x = jnp.moveaxis(chunks, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, length, axis=axis)


def _is_token(tokens: jax.Array, vocab_size: int) -> jax.Array:
    # A comparison, not a gather: the vocabulary may be sharded.
    ids = jnp.arange(vocab_size).reshape((1,) * tokens.ndim + (vocab_size,))
    return tokens[..., None] == ids


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _chunked(
    hidden: jax.Array, table: jax.Array, tokens: jax.Array, temperature: float, chunk: int
) -> tuple[jax.Array, jax.Array]:
    return _forward(hidden, table, tokens, temperature, chunk)[0]


def _forward(
    hidden: jax.Array, table: jax.Array, tokens: jax.Array, temperature: float, chunk: int
) -> tuple[Any, Any]:
    cast = table.astype(hidden.dtype)

    def one(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = _logits(part[0], cast, temperature)
        total = jax.nn.logsumexp(logits, axis=-1)
        chosen = jnp.sum(logits, axis=-1, where=_is_token(part[1], table.shape[0]))
        mean = jnp.sum(jnp.exp(logits - total[..., None]) * logits, axis=-1)
        return chosen - total, total - mean, total

    parts = jax.lax.map(one, (_cut(hidden, -2, chunk), _cut(tokens, -1, chunk)))
    logprobs, entropy, total = (_joined(part, -1, tokens.shape[-1]) for part in parts)
    return (logprobs, entropy), (hidden, table, tokens, entropy, total)


def _backward(
    temperature: float, chunk: int, residuals: tuple, cotangents: tuple
) -> tuple[jax.Array, jax.Array, None]:
    hidden, table, tokens, entropy, total = residuals
    cast = table.astype(hidden.dtype)
    by_token = [_cut(x, -1, chunk) for x in (tokens, entropy, total, *cotangents)]

    def one(table_grad: jax.Array, part: tuple) -> tuple[jax.Array, jax.Array]:
        states, ids, entropies, totals, logprob_grad, entropy_grad = part
        log_probs = _logits(states, cast, temperature) - totals[..., None]
        probs = jnp.exp(log_probs)
        grad = logprob_grad[..., None] * (_is_token(ids, table.shape[0]) - probs)
        grad -= entropy_grad[..., None] * probs * (log_probs + entropies[..., None])
        grad = (grad / temperature).astype(hidden.dtype)
        table_grad += jnp.einsum(
            "...tv,...td->vd", grad, states, preferred_element_type=jnp.float32
        )
        return table_grad, jnp.einsum("...tv,vd->...td", grad, cast)

    zeros = jnp.zeros(table.shape, jnp.float32)
    table_grad, parts = jax.lax.scan(one, zeros, (_cut(hidden, -2, chunk), *by_token))
    hidden_grad = _joined(parts, -2, tokens.shape[-1]).astype(hidden.dtype)
    return hidden_grad, table_grad.astype(table.dtype), None


_chunked.defvjp(_forward, _backward)
