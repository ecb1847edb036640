"""Attention of completions to one shared copy of their prompt, and to themselves.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``T``
tokens of either, ``H`` query heads, ``K`` key/value heads, ``h`` head size, ``L`` layers.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rvpo_jax.method.packing import ROW, Rows
from rvpo_jax.models.splash import splash_attention

MASKED = -1e30  # finite: a padding query, which sees no key, stays a number
# Longer prompts attend in steps of so many queries, a few queries at a time: bounded memory, and
# weights that stay in a CPU's cache (32 was the fastest of 32, 64, 128 and 512 there).
KEY_STEP, QUERY_CHUNK = 512, 32
# Decoding reads the cache in blocks of so many columns, only those that a live completion sees.
CACHE_BLOCK = 64


class KeyValues(NamedTuple):
    """Keys and values of one layer, or of all with a leading ``L``."""

    k: jax.Array  # [..., T, K, h] as projected, [..., K, T, h] where heads come first
    v: jax.Array


def heads_first(keys: KeyValues) -> KeyValues:
    """As products with queries and weights read them, so that decoding need not copy its cache.

    Args:
      keys: keys and values, ``[..., T, K, h]``.

    Returns:
      ``[..., K, T, h]``.
    """
    return jax.tree.map(lambda x: jnp.swapaxes(x, -3, -2), keys)


class Positions(NamedTuple):
    """What the layers need to know of the tokens' places."""

    prompt_mask: jax.Array  # [B, P] bool
    prompt: jax.Array  # [B, 1, P] int32
    completion: jax.Array  # [B, G, T] int32, or packed [R, 1, ROW]
    age: Any = None  # [B, G] int32, tokens of the completion before this one
    step: Any = None  # scalar int32, calls before this one on the cache
    rows: Rows | None = None  # of packed completions


def join(prompt: jax.Array, completion: jax.Array, num_lead: int) -> jax.Array:
    """The tokens of prompts and completions on one axis, for all that treats tokens alike.

    Args:
      prompt: ``[B, 1, P, ...]``.
      completion: ``[B, G, C, ...]``, or packed ``[R, 1, ROW, ...]``.
      num_lead: B: each prompt with its completions; 1: all prompts, then all rows.

    Returns:
      ``[num_lead, 1, T, ...]``.
    """
    parts = [x.reshape(num_lead, 1, -1, *x.shape[3:]) for x in (prompt, completion)]
    return jnp.concatenate(parts, axis=2)


def divide(x: jax.Array, at: Positions) -> tuple[jax.Array, jax.Array]:
    """Undoes ``join``.

    Args:
      x: ``[num_lead, 1, T, ...]``.
      at: positions, for the shapes of the parts.

    Returns:
      ``[B, 1, P, ...]`` and ``[B, G, C, ...]``, or packed ``[R, 1, ROW, ...]``.
    """
    num = at.prompt.size // x.shape[0]
    prompt = x[:, :, :num].reshape(*at.prompt.shape, *x.shape[3:])
    return prompt, x[:, :, num:].reshape(*at.completion.shape, *x.shape[3:])


def attend_all(
    q: jax.Array, own: KeyValues, at: Positions, kind: str, by_shard: Any = None
) -> jax.Array:
    """Attention of prompts to themselves, of completions to their prompt and themselves.

    Args:
      q: queries of all tokens, ``[num_lead, 1, T, H, h]``.
      own: their keys and values, ``[num_lead, 1, T, K, h]``.
      at: where the tokens are.
      kind: streams: the completions share one copy of their prompt's keys (CPU); repeat: each has
        its own, for one call of a fused kernel (GPU); splash: one sequence (TPU), or
        splash_interpret. Packed rows are always streams.
      by_shard: of the model's ``Placement``, for the kernel; None: one device.

    Returns:
      ``[num_lead, 1, T, H, h]``.
    """
    if kind.startswith("splash") and at.rows is None:
        kernel = functools.partial(
            splash_attention,
            group_size=at.completion.shape[1],
            interpret=kind == "splash_interpret",
        )
        kernel = kernel if by_shard is None else by_shard(kernel)
        return kernel(q[:, 0], own.k[:, 0], own.v[:, 0], at.prompt_mask)[:, None]
    q_prompt, q_completion = divide(q, at)
    k, v = divide(own.k, at), divide(own.v, at)
    of_prompt, of_completion = KeyValues(k[0], v[0]), KeyValues(k[1], v[1])
    prompt = attend_prompt(q_prompt, of_prompt, at.prompt_mask)
    prefix = KeyValues(k[0][:, 0], v[0][:, 0])
    if at.rows is not None:
        completion = attend_rows(q_completion, of_completion, at.rows, prefix, at.prompt_mask)
    elif kind == "repeat":
        completion = attend_repeated(q_completion, of_completion, prefix, at.prompt_mask)
    else:
        causal = _causal(q_completion.shape[2])[None, None]
        keys, prefix = heads_first(of_completion), heads_first(prefix)
        completion = attend(q_completion, keys, causal, prefix, at.prompt_mask)
    return join(prompt, completion, q.shape[0])


def _causal(length: int) -> jax.Array:
    places = jnp.arange(length)
    return places[:, None] >= places[None, :]


def attend_repeated(
    q: jax.Array, own: KeyValues, prefix: KeyValues, prompt_mask: jax.Array
) -> jax.Array:
    """``attend`` with the prompt's keys and values repeated for each completion: one fused call.

    Args:
      q: queries, ``[B, G, C, H, h]``.
      own: keys and values, ``[B, G, C, K, h]``.
      prefix: of the prompts, ``[B, P, K, h]``.
      prompt_mask: ``[B, P]`` bool.

    Returns:
      ``[B, G, C, H, h]``.
    """
    shape, length = q.shape, q.shape[2]

    def merged(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    def repeated(before: jax.Array, mine: jax.Array) -> jax.Array:
        before = jnp.broadcast_to(before[:, None], (*shape[:2], *before.shape[1:]))
        return merged(jnp.concatenate([before, mine], axis=2))

    before = jnp.broadcast_to(
        prompt_mask[:, None], (*prompt_mask.shape[:1], length, prompt_mask.shape[1])
    )
    causal = jnp.broadcast_to(_causal(length)[None], (shape[0], length, length))
    mask = jnp.repeat(jnp.concatenate([before, causal], axis=2), shape[1], axis=0)[:, None]
    on_gpu = jax.default_backend() == "gpu" and q.dtype != jnp.float32
    out = jax.nn.dot_product_attention(
        merged(q),
        repeated(prefix.k, own.k),
        repeated(prefix.v, own.v),
        mask=mask,
        implementation="cudnn" if on_gpu else None,
    )
    return out.reshape(shape)


def attend(
    q: jax.Array, own: KeyValues, own_mask: jax.Array, prefix: KeyValues | None, prefix_mask: Any
) -> jax.Array:
    """Attention to one's own segment and to a prefix that a group shares.

    Args:
      q: queries, ``[B, G, T, H, h]``.
      own: keys and values of the segment, ``[B, G, K, S, h]``.
      own_mask: ``[B or 1, G or 1, T, S]`` bool, which of them a query sees.
      prefix: keys and values of the prompts, ``[B, K, P, h]``, or None.
      prefix_mask: ``[B, P]`` bool.

    Returns:
      ``[B, G, T, H, h]``.
    """
    num_kv, size = own.k.shape[2], own.k.shape[4]
    grouped = q.reshape(*q.shape[:-2], num_kv, q.shape[-2] // num_kv, size) * size**-0.5
    logits = jnp.einsum("bgtkrh,bgksh->bgkrts", grouped, own.k).astype(jnp.float32)
    logits = jnp.where(own_mask[:, :, None, None], logits, MASKED)
    if prefix is not None:
        before = jnp.einsum("bgtkrh,bkph->bgkrtp", grouped, prefix.k).astype(jnp.float32)
        before = jnp.where(prefix_mask[:, None, None, None, None, :], before, MASKED)
        logits = jnp.concatenate([before, logits], axis=-1)
    weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    num_prefix = 0 if prefix is None else prefix.k.shape[2]
    out = jnp.einsum("bgkrts,bgksh->bgkrth", weights[..., num_prefix:], own.v)
    if prefix is not None:
        out += jnp.einsum("bgkrtp,bkph->bgkrth", weights[..., :num_prefix], prefix.v)
    return jnp.moveaxis(out, 4, 2).reshape(q.shape)


def attend_prompt(q: jax.Array, own: KeyValues, prompt_mask: jax.Array) -> jax.Array:
    """Causal attention of a left-padded prompt to itself, in chunks of queries when it is long.

    Args:
      q: queries, ``[B, 1, P, H, h]``.
      own: keys and values, ``[B, 1, P, K, h]``.
      prompt_mask: ``[B, P]`` bool.

    Returns:
      ``[B, 1, P, H, h]``.
    """
    length = q.shape[2]
    if length <= KEY_STEP:
        return attend(q, heads_first(own), _visible(jnp.arange(length), prompt_mask), None, None)
    out = []
    for start in range(0, length, KEY_STEP):
        # Keys only up to the end of these queries: about half the work.
        end = min(start + KEY_STEP, length)
        keys = heads_first(jax.tree.map(lambda x, end=end: x[:, :, :end], own))
        out.append(_attend_chunks(q[:, :, start:end], start, keys, prompt_mask[:, :end]))
    return jnp.concatenate(out, axis=2)


def _attend_chunks(q: jax.Array, start: int, keys: KeyValues, mask: jax.Array) -> jax.Array:
    """``[B, 1, T, H, h]`` queries, the first at position ``start``, a few rows at a time."""
    length, size = q.shape[2], QUERY_CHUNK
    num = -(-length // size)
    padded = jnp.pad(q, [(0, 0), (0, 0), (0, num * size - length), (0, 0), (0, 0)])
    chunks = jnp.moveaxis(padded.reshape(*q.shape[:2], num, size, *q.shape[3:]), 2, 0)
    rows = start + jnp.arange(num * size).reshape(num, size)

    @jax.checkpoint  # the weights of all chunks never exist at once, in the backward pass neither
    def attend_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        return attend(chunk[0], keys, _visible(chunk[1], mask), None, None)

    out = jnp.moveaxis(jax.lax.map(attend_chunk, (chunks, rows)), 0, 2)
    return out.reshape(*q.shape[:2], num * size, *q.shape[3:])[:, :, :length]


def _visible(rows: jax.Array, prompt_mask: jax.Array) -> jax.Array:
    """``[B, 1, T, P]``: which prompt tokens the queries at positions ``rows`` may see."""
    causal = rows[:, None] >= jnp.arange(prompt_mask.shape[1])[None, :]
    return (causal[None] & prompt_mask[:, None, :])[:, None]


def attend_rows(
    q: jax.Array, own: KeyValues, rows: Rows, prefix: KeyValues, prompt_mask: jax.Array
) -> jax.Array:
    """Attention of packed completions, ``[R, 1, ROW, H, h]``, to their prompt and themselves.

    A row sees as many rows before it as a completion can be long; what belongs to other completions
    is masked.

    Args:
      q: queries of R rows, ``[R, 1, ROW, H, h]``.
      own: their keys and values, ``[R, 1, ROW, K, h]``.
      rows: where the tokens come from.
      prefix: keys and values of the prompts, ``[B, P, K, h]``.
      prompt_mask: ``[B, P]`` bool.

    Returns:
      ``[R, 1, ROW, H, h]``.
    """
    num_back = -(-(rows.place.shape[2] - 1) // ROW)

    def window(x: jax.Array, fill: Any) -> jax.Array:
        padding = [(num_back, 0)] + [(0, 0)] * (x.ndim - 1)
        padded = jnp.pad(x, padding, constant_values=fill)
        parts = [padded[back : back + x.shape[0]] for back in range(num_back + 1)]
        return jnp.concatenate(parts, axis=1)

    owner = rows.source // rows.place.shape[2]  # the completion that a token belongs to
    order = jnp.arange((num_back + 1) * ROW)
    causal = order[None, :] <= order[-ROW:, None]
    seen = causal[None] & (window(owner, -1)[:, None, :] == owner[:, :, None])
    keys = heads_first(jax.tree.map(lambda x: window(x[:, 0], 0)[:, None], own))
    prefix = heads_first(jax.tree.map(lambda x: x[rows.prompt], prefix))
    return attend(q, keys, seen[:, None], prefix, prompt_mask[rows.prompt])


def attend_recent(
    q: jax.Array, layer: jax.Array, cache: KeyValues, at: Positions, prefix: KeyValues
) -> jax.Array:
    """Attention of one token of each completion to the prompt and to the completion so far.

    The cache is a ring: all completions write the same column in a step, and one of ``age`` sees
    that column and the ``age`` before it. Of a long ring only the blocks are read that the oldest
    completion needs, joined by a running softmax.

    Args:
      q: queries, ``[B, G, 1, H, h]``.
      layer: scalar int32, which of the cache's layers.
      cache: keys and values of all layers, ``[L, B, G, K, C', h]``, this step's written.
      at: ages, step and the prompts' mask.
      prefix: keys and values of the prompts, ``[B, K, P, h]``.

    Returns:
      ``[B, G, 1, H, h]``.
    """
    ring = cache.k.shape[4]
    column = at.step % ring
    size = CACHE_BLOCK if ring > 2 * CACHE_BLOCK else ring

    def block(start: jax.Array) -> tuple[KeyValues, jax.Array]:
        where, shape = (
            (layer, 0, 0, 0, start, 0),
            (1, *cache.k.shape[1:4], size, cache.k.shape[5]),
        )
        keys = jax.tree.map(lambda x: jax.lax.dynamic_slice(x, where, shape)[0], cache)
        back = (column - start - jnp.arange(size)) % ring  # steps since each was written
        return keys, back[None, None] <= at.age[..., None]

    if size == ring:
        keys, seen = block(jnp.zeros_like(column))
        return attend(q, keys, seen[:, :, None], prefix, at.prompt_mask)
    num_kv, width = cache.k.shape[3], cache.k.shape[5]
    grouped = q[:, :, 0].reshape(*q.shape[:2], num_kv, -1, width) * width**-0.5
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

    def join(softmax: tuple, logits: jax.Array, values: Callable[[jax.Array], jax.Array]) -> tuple:
        old_top, total, out = softmax
        top = jnp.maximum(old_top, jnp.max(logits, axis=-1, keepdims=True))
        weights, shrink = jnp.exp(logits - top), jnp.exp(old_top - top)
        total = total * shrink + jnp.sum(weights, axis=-1, keepdims=True)
        return top, total, out * shrink + values(weights.astype(q.dtype))

    def join_block(index: jax.Array, softmax: tuple) -> tuple:
        keys, seen = block((column // size - index) % (ring // size) * size)
        logits = product("bgkrh,bgksh->bgkrs", grouped, keys.k)
        logits = jnp.where(seen[:, :, None, None], logits, MASKED)
        return join(softmax, logits, lambda w: product("bgkrs,bgksh->bgkrh", w, keys.v))

    logits = product("bgkrh,bkph->bgkrp", grouped, prefix.k)
    logits = jnp.where(at.prompt_mask[:, None, None, None], logits, MASKED)
    nothing = jnp.zeros(logits.shape[:-1], jnp.float32)[..., None]
    empty = (nothing + MASKED, nothing, jnp.zeros(grouped.shape, jnp.float32))
    softmax = join(empty, logits, lambda w: product("bgkrp,bkph->bgkrh", w, prefix.v))
    num_blocks = column // size - (column - jnp.max(at.age)) // size + 1
    bound = jnp.minimum(num_blocks, ring // size)
    _, total, out = jax.lax.fori_loop(0, bound, join_block, softmax)
    return (out / total).astype(q.dtype).reshape(q.shape)
