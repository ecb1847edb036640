"""Samples completions with a key/value cache, given the model as three functions.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``V``
vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from rvpo_jax.types import Rollout


class Decoder(Protocol):
    """All that the sampler knows of a model; a ``models.Model`` is one."""

    @property
    def prefill(self) -> Callable[..., tuple[jax.Array, Any]]:
        """``(params, prompts, prompt_mask)`` to logits ``[B, V]`` and a prefix."""

    @property
    def decode(self) -> Callable[..., tuple[jax.Array, Any]]:
        """``(params, tokens, slot, prefix, prompt_mask, cache)`` to logits, cache."""

    @property
    def empty_cache(self) -> Callable[[int, int, int], Any]:
        """``(B, G, C)`` to a cache."""


def filter_logits(logits: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
    """Rules out all but the most likely tokens.

    Args:
      logits: ``[..., V]`` float32.
      top_k: how many tokens stay; 0: all.
      top_p: the smallest set of tokens whose probabilities add up to at least this stays.

    Returns:
      ``[..., V]`` float32, -inf where ruled out; ties with the last token that stays stay too.

    >>> filter_logits(jnp.log(jnp.array([0.5, 0.3, 0.2])), top_p=0.7).tolist()
    [-0.69, -1.20, -inf]
    """
    if 0 < top_k < logits.shape[-1]:
        threshold = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits >= threshold, logits, -jnp.inf)
    if top_p < 1.0:
        descending = -jnp.sort(-logits, axis=-1)
        probs = jax.nn.softmax(descending, axis=-1)
        # A token stays while the probability *before* it is below top_p: the first always does.
        stays = jnp.cumsum(probs, axis=-1) - probs < top_p
        threshold = jnp.min(jnp.where(stays, descending, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits >= threshold, logits, -jnp.inf)
    return logits


def make_sampler(
    decoder: Decoder,
    *,
    group_size: int,
    max_tokens: int,
    eos_id: int | Sequence[int],
    pad_id: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Callable[[Any, jax.Array, jax.Array, jax.Array], Rollout]:
    """Builds ``sample(params, prompts, prompt_mask, keys) -> Rollout``, pure and jittable.

    Each prompt is read once and its cache shared by its G completions; the loop ends when all
    completions have. Randomness comes from one key per prompt, so a prompt's completions do not
    depend on the batch, the padding or the device it is in.

    Args:
      decoder: the model.
      group_size: G.
      max_tokens: C, the length limit.
      eos_id: the token, or tokens, that end a completion.
      pad_id: the token after the end.
      temperature: logits are divided by it; 0 takes the most likely token.
      top_k: see ``filter_logits``.
      top_p: see ``filter_logits``.

    Returns:
      The function. Its ``keys`` are ``[B]`` typed PRNG keys. The logprobs it returns are those of
      the whole vocabulary at this temperature (at 1 when it is 0), before top-k and top-p: what
      the training step computes too.
    """

    ends = jnp.atleast_1d(jnp.asarray(eos_id, jnp.int32))

    def pick(logits: jax.Array, keys: jax.Array, slot: jax.Array) -> tuple[jax.Array, jax.Array]:
        scaled = logits / (temperature if temperature > 0 else 1.0)
        choice = filter_logits(scaled, top_k, top_p)
        if temperature > 0:
            noise = jax.vmap(
                lambda key: jax.random.gumbel(jax.random.fold_in(key, slot), logits.shape[1:])
            )(keys)
            choice = choice + noise
        tokens = jnp.argmax(choice, axis=-1).astype(jnp.int32)
        logprobs = jax.nn.log_softmax(scaled, axis=-1)
        return tokens, jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]

    def sample(params: Any, prompts: jax.Array, prompt_mask: jax.Array, keys: jax.Array) -> Rollout:
        num_prompts = prompts.shape[0]
        shape = (num_prompts, group_size, max_tokens)
        first, prefix = decoder.prefill(params, prompts, prompt_mask)
        logits = jnp.broadcast_to(first[:, None], (num_prompts, group_size, first.shape[-1]))

        def unfinished(loop):
            return (loop["slot"] < max_tokens) & ~jnp.all(loop["done"])

        def extend(loop):
            slot, done = loop["slot"], loop["done"]
            tokens, logprobs = pick(loop["logits"], keys, slot)
            tokens = jnp.where(done, pad_id, tokens)

            def put(array, column):
                return jax.lax.dynamic_update_index_in_dim(array, column, slot, axis=2)

            logits, cache = decoder.decode(params, tokens, slot, prefix, prompt_mask, loop["cache"])
            return {
                "slot": slot + 1,
                "done": done | jnp.isin(tokens, ends),
                "logits": logits,
                "cache": cache,
                "completions": put(loop["completions"], tokens),
                "mask": put(loop["mask"], ~done),
                "logprobs": put(loop["logprobs"], jnp.where(done, 0.0, logprobs)),
            }

        end = jax.lax.while_loop(
            unfinished,
            extend,
            {
                "slot": jnp.zeros((), jnp.int32),
                "done": jnp.zeros(shape[:2], bool),
                "logits": logits,
                "cache": decoder.empty_cache(*shape),
                "completions": jnp.full(shape, pad_id, jnp.int32),
                "mask": jnp.zeros(shape, bool),
                "logprobs": jnp.zeros(shape, jnp.float32),
            },
        )
        return Rollout(
            prompts=prompts,
            prompt_mask=prompt_mask,
            completions=end["completions"],
            completion_mask=end["mask"],
            logprobs=end["logprobs"],
            truncated=~end["done"],
        )

    return sample


def prompt_keys(key: jax.Array, step: Any, num_prompts: int) -> jax.Array:
    """One key per prompt of a step.

    Args:
      key: the run's typed key.
      step: scalar int, the step.
      num_prompts: B, over all devices.

    Returns:
      ``[B]`` typed keys.
    """
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(jnp.arange(num_prompts))
