"""The seam between a run and a network: all that training and sampling know of a model.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``V``
vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Model(NamedTuple):
    """A policy's network as pure functions. ``models.build_model`` makes ours.

    Attributes:
      logits: ``(params, prompts [B, P], prompt_mask [B, P], completions [B, G, C])`` to
        ``[B, G, C, V]`` float32; entry c predicts completion token c. Prompts are left-padded.
      prefill: ``(params, prompts, prompt_mask)`` to logits ``[B, V]`` of the first completion token
        and a prefix, whatever ``decode`` needs of the prompts.
      decode: ``(params, tokens [B, G], slot, prefix, prompt_mask, cache)`` to logits ``[B, G, V]``
        of the next token and the cache with the tokens at ``slot`` in it.
      empty_cache: ``(B, G, C)`` to a cache with room for C tokens of each completion.
      init: typed PRNG key to random parameters, a tree of float32 arrays.
      load: name or path of a start to parameters with the shapes of ``init``.
      name: short name for messages.
    """

    logits: Callable[..., jax.Array]
    prefill: Callable[..., tuple[jax.Array, Any]]
    decode: Callable[..., tuple[jax.Array, Any]]
    empty_cache: Callable[[int, int, int], Any]
    init: Callable[[jax.Array], Any]
    load: Callable[[Any], Any]
    name: str
