"""The seam between a run and a network: all that training and sampling know of a model.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``V``
vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Placement(NamedTuple):
    """Where the arrays of a model lie on a mesh.

    Attributes:
      activations: keeps an array with prompts on its first axis split by prompts.
      table: an embedding ``[V, D]``, split over D, to one that each data shard has whole: looking
        up tokens in a split one would gather the tokens of all prompts.
      shapes: a tree of parameters' shapes to the same with their shardings.
      by_shard: a function of queries, keys, values ``[B, S, heads, h]`` and a mask ``[B, P]`` to
        one that each device runs on its prompts and heads: the compiler cannot split a kernel.
      num_shards: parts that the prompts are split into.
    """

    activations: Callable[[jax.Array], jax.Array]
    table: Callable[[jax.Array], jax.Array]
    shapes: Callable[[Any], Any]
    by_shard: Callable[[Callable[..., jax.Array]], Callable[..., jax.Array]]
    num_shards: int


class Model(NamedTuple):
    """A policy's network as pure functions. ``models.build_model`` makes ours.

    Attributes:
      logits: ``(params, prompts [B, P], prompt_mask [B, P], completions [B, G, C])`` to
        ``[B, G, C, V]`` float32; entry c predicts completion token c. Prompts are left-padded.
      prefill: ``(params, prompts, prompt_mask)`` to logits ``[B, V]`` of the first completion token
        and a prefix, whatever ``decode`` needs of the prompts: arrays with the prompts on axis 1.
      decode: ``(params, tokens [R, Q], age [R, Q], step, prefix, prompt_mask, cache)`` to logits
        ``[R, Q, V]`` of the next token and the cache with these tokens in it. The Q completions of
        a row share a prompt; ``age`` of a completion's tokens came before, one in each of the calls
        just before this one, the ``step``-th on this cache: a completion may begin at any step, in
        the place of one that has ended.
      empty_cache: ``(R, Q, C)`` to a cache that remembers the last C calls of ``decode``.
      logprobs: ``(params, batch, temperature, capacity)`` to the logprobs and entropies of
        ``batch.completions``, ``[B, G, C]`` float32, without ever holding logits ``[B, G, C, V]``;
        with a capacity, packed into so many rows (``method.packing``). None: from ``logits``.
      init: typed PRNG key to random parameters, a tree of float32 arrays.
      load: name or path of a start to parameters with the shapes of ``init``.
      name: short name for messages.
      adapters: typed PRNG key to what is trained beside the parameters of ``init`` and ``load``,
        which then stay as they are; the functions above take both in one tree
        (``method.frozen.join``). None: the parameters are trained.
      kv_heads: key/value heads, which the tensor shards of a mesh must divide. None: not said.
    """

    logits: Callable[..., jax.Array]
    prefill: Callable[..., tuple[jax.Array, Any]]
    decode: Callable[..., tuple[jax.Array, Any]]
    empty_cache: Callable[[int, int, int], Any]
    init: Callable[[jax.Array], Any]
    load: Callable[[Any], Any]
    name: str
    logprobs: Callable[..., tuple[jax.Array, jax.Array]] | None = None
    adapters: Callable[[jax.Array], Any] | None = None
    kv_heads: int | None = None
