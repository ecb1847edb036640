"""Samples completions with a key/value cache, given the model as three functions.

``B`` prompts, ``G`` completions per prompt, ``N = B * G`` completions, ``P`` prompt tokens, ``C``
completion tokens, ``V`` vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

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
        """``(params, tokens, age, step, prefix, prompt_mask, cache)`` to logits, cache."""

    @property
    def empty_cache(self) -> Callable[[int, int, int], Any]:
        """``(R, Q, C)`` to a cache."""


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


class Slots(NamedTuple):
    """What is being written: R rows of Q completions; the Q of a row share one prompt."""

    ids: jax.Array  # [R, Q] int32, b * G + g; N: the slot is empty
    age: jax.Array  # [R, Q] int32, tokens written so far; 0 in an empty slot
    logits: jax.Array  # [R, Q, V] float32, of the next token
    prefix: Any  # of the rows' prompts
    prompt_mask: jax.Array  # [R, P] bool
    cache: Any


class Written(NamedTuple):
    """What has been written of all N = B * G completions."""

    tokens: jax.Array  # [N, C] int32
    logprobs: jax.Array  # [N, C] float32
    lengths: jax.Array  # [N] int32
    ended: jax.Array  # [N] bool


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
    num_slots: int | None = None,
) -> Callable[..., Rollout]:
    """Builds ``sample(params, prompts, prompt_mask, keys, wanted=None) -> Rollout``, pure.

    Each prompt is read once. With ``num_slots``, so many completions are written at a time, and
    one that ends makes room for the next (continuous batching): no work is spent on completions
    that have ended, but for the last few. Without, all are written at once, those of a group
    sharing one copy of their prompt's cache, until the longest has ended: fewer steps, right where
    a step costs the same whatever the number of completions, as on an accelerator.

    Randomness comes from one key per completion and position, so a completion does not depend on
    the batch, the padding, the device or the slot it is in.

    Args:
      decoder: the model.
      group_size: G.
      max_tokens: C, the length limit.
      eos_id: the token, or tokens, that end a completion.
      pad_id: the token after the end.
      temperature: logits are divided by it; 0 takes the most likely token.
      top_k: see ``filter_logits``.
      top_p: see ``filter_logits``.
      num_slots: completions that are written at the same time; None: all.

    Returns:
      The function. Its ``keys`` are ``[B]`` typed PRNG keys; ``wanted``, ``[B, G]`` bool, leaves
      completions out. The logprobs it returns are those of the whole vocabulary at this
      temperature (at 1 when it is 0), before top-k and top-p: what the training step computes too.
    """
    ends = jnp.atleast_1d(jnp.asarray(eos_id, jnp.int32))

    def choose(slots: Slots, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Next tokens and their logprobs, ``[R, Q]``."""
        scaled = slots.logits / (temperature if temperature > 0 else 1.0)
        choice = filter_logits(scaled, top_k, top_p)
        if temperature > 0:
            tokens = draw(choice, _uniforms(keys[slots.ids], slots.age))
        else:
            tokens = jnp.argmax(choice, axis=-1).astype(jnp.int32)
        chosen = jnp.take_along_axis(scaled, tokens[..., None], axis=-1)[..., 0]
        return tokens, chosen - jax.nn.logsumexp(scaled, axis=-1)

    def sample(
        params: Any,
        prompts: jax.Array,
        prompt_mask: jax.Array,
        keys: jax.Array,
        wanted: jax.Array | None = None,
    ) -> Rollout:
        shape = (prompts.shape[0], group_size, max_tokens)
        num = shape[0] * group_size
        wanted = jnp.ones(shape[:2], bool) if wanted is None else wanted
        keys = _completion_keys(keys, group_size)
        first, prefix = decoder.prefill(params, prompts, prompt_mask)
        admit: Any = None
        if num_slots is None or num_slots >= num:
            slots = _all_at_once(first, prefix, prompt_mask, wanted)
        else:
            slots = _empty_slots(first, prefix, prompt_mask, num_slots, num)
            admit = _admission(first, prefix, prompt_mask, wanted)
        num_rows, num_columns = slots.ids.shape
        slots = slots._replace(cache=decoder.empty_cache(num_rows, num_columns, max_tokens))

        def extend(loop):
            slots, written, next_up, step = loop
            if admit is not None:
                slots, next_up = admit(slots, next_up)
            tokens, logprobs = choose(slots, keys)
            written = _put(written, slots, tokens, logprobs, jnp.isin(tokens, ends))
            logits, cache = decoder.decode(
                params, tokens, slots.age, step, slots.prefix, slots.prompt_mask, slots.cache
            )
            age = slots.age + 1
            over = jnp.isin(tokens, ends) | (age == max_tokens) | (slots.ids == num)
            slots = slots._replace(
                ids=jnp.where(over, num, slots.ids),
                age=jnp.where(over, 0, age),
                logits=logits,
                cache=cache,
            )
            return slots, written, next_up, step + 1

        def unfinished(loop):
            return jnp.any(loop[0].ids < num) | (admit is not None and loop[2] < jnp.sum(wanted))

        zero = jnp.zeros((), jnp.int32)
        nothing = Written(
            tokens=jnp.full((num, max_tokens), pad_id, jnp.int32),
            logprobs=jnp.zeros((num, max_tokens), jnp.float32),
            lengths=jnp.zeros((num,), jnp.int32),
            ended=jnp.zeros((num,), bool),
        )
        slots, written, _, step = jax.lax.while_loop(
            unfinished, extend, (slots, nothing, zero, zero)
        )
        return _rollout(prompts, prompt_mask, shape, written, wanted, step * slots.ids.size)

    return sample


def draw(logits: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Tokens with the probabilities of the logits, from two random numbers each.

    The first chooses among blocks of about sqrt(V) tokens, the second within the block. Noise on
    every logit would give the same distribution, and take longer than a step of a small model.

    Args:
      logits: ``[..., V]`` float32, -inf for tokens that are ruled out.
      uniforms: ``[..., 2]`` in [0, 1).

    Returns:
      ``[...]`` int32.

    >>> draw(jnp.log(jnp.array([[0.5, 0.0, 0.5]] * 2)), jnp.array([[0.0, 0.4], [0.9, 0.4]]))
    Array([0, 2], dtype=int32)
    """
    vocab_size = logits.shape[-1]
    width = math.isqrt(vocab_size - 1) + 1
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, -vocab_size % width)]
    blocks = jnp.pad(weights, padding).reshape(*logits.shape[:-1], -1, width)
    block = _invert(jnp.sum(blocks, axis=-1), uniforms[..., 0])
    chosen = jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :]
    return (block * width + _invert(chosen, uniforms[..., 1])).astype(jnp.int32)


def _invert(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """The first of the weights ``[..., W]`` at which their sum so far exceeds that share of all."""
    # Where a weight is 0, rounding may still move the sum: such a place is never chosen.
    sums = jnp.where(weights > 0, jnp.cumsum(weights, axis=-1), 0.0)
    share = uniform[..., None] * jnp.max(sums, axis=-1, keepdims=True)
    return jnp.argmax(sums > share, axis=-1)


def _uniforms(keys: jax.Array, age: jax.Array) -> jax.Array:
    """Random numbers ``[R, Q, 2]``, of one key per completion and position."""

    def one(key: jax.Array, age: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, age), (2,))

    return jax.vmap(jax.vmap(one))(keys, age)


def _completion_keys(keys: jax.Array, group_size: int) -> jax.Array:
    """``[N]`` keys from ``[B]``."""
    members = jnp.arange(group_size)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))
    return fold(keys, members).reshape(-1)


def _all_at_once(first: Any, prefix: Any, prompt_mask: Any, wanted: jax.Array) -> Slots:
    """Every completion in the row of its prompt; the cache is still missing."""
    ids = jnp.arange(wanted.size, dtype=jnp.int32).reshape(wanted.shape)
    return Slots(
        ids=jnp.where(wanted, ids, wanted.size),
        age=jnp.zeros(wanted.shape, jnp.int32),
        logits=jnp.broadcast_to(first[:, None], (*wanted.shape, first.shape[-1])),
        prefix=prefix,
        prompt_mask=prompt_mask,
        cache=None,
    )


def _empty_slots(first: Any, prefix: Any, prompt_mask: Any, num_slots: int, num: int) -> Slots:
    """``num_slots`` rows of one completion each, all empty; the cache is still missing."""
    return Slots(
        ids=jnp.full((num_slots, 1), num, jnp.int32),
        age=jnp.zeros((num_slots, 1), jnp.int32),
        logits=jnp.zeros((num_slots, 1, first.shape[-1]), first.dtype),
        prefix=jax.tree.map(
            lambda x: jnp.zeros((x.shape[0], num_slots, *x.shape[2:]), x.dtype), prefix
        ),
        # An empty slot sees its whole prompt of zeros: nothing in it is NaN.
        prompt_mask=jnp.ones((num_slots, prompt_mask.shape[1]), bool),
        cache=None,
    )


def _admission(
    first: jax.Array, prefix: Any, prompt_mask: jax.Array, wanted: jax.Array
) -> Callable[[Slots, jax.Array], tuple[Slots, jax.Array]]:
    """Fills empty slots with the next completions that are wanted, in their order."""
    num, group_size = wanted.size, wanted.shape[1]
    queue = jnp.argsort(~wanted.reshape(-1), stable=True).astype(jnp.int32)

    def waiting(loop):
        slots, next_up = loop
        return (next_up < jnp.sum(wanted)) & jnp.any(slots.ids == num)

    def fill(loop):
        slots, next_up = loop
        row, new = jnp.argmax(slots.ids[:, 0] == num), queue[next_up]
        prompt = new // group_size

        def place(rows: jax.Array, source: jax.Array, axis: int) -> jax.Array:
            one = jax.lax.dynamic_index_in_dim(source, prompt, axis)
            return jax.lax.dynamic_update_slice_in_dim(rows, one, row, axis)

        slots = slots._replace(
            ids=slots.ids.at[row, 0].set(new),
            logits=slots.logits.at[row, 0].set(first[prompt]),
            prefix=jax.tree.map(lambda rows, x: place(rows, x, 1), slots.prefix, prefix),
            prompt_mask=place(slots.prompt_mask, prompt_mask, 0),
        )
        return slots, next_up + 1

    return lambda slots, next_up: jax.lax.while_loop(waiting, fill, (slots, next_up))


def _put(
    written: Written, slots: Slots, tokens: jax.Array, logprobs: jax.Array, ended: jax.Array
) -> Written:
    """The tokens of one step in their places; those of empty slots are dropped."""
    ids, age = slots.ids.reshape(-1), slots.age.reshape(-1)

    def put(array: jax.Array, at: Any, values: jax.Array) -> jax.Array:
        return array.at[at].set(values.reshape(-1), mode="drop")

    return Written(
        tokens=put(written.tokens, (ids, age), tokens),
        logprobs=put(written.logprobs, (ids, age), logprobs),
        lengths=put(written.lengths, ids, age + 1),
        ended=put(written.ended, ids, ended),
    )


def _rollout(
    prompts: jax.Array,
    prompt_mask: jax.Array,
    shape: tuple[int, int, int],
    written: Written,
    wanted: jax.Array,
    computed: jax.Array,
) -> Rollout:
    num_prompts, group_size, max_tokens = shape
    mask = jnp.arange(max_tokens)[None] < written.lengths[:, None]
    return Rollout(
        prompts=prompts,
        prompt_mask=prompt_mask,
        completions=written.tokens.reshape(shape),
        completion_mask=mask.reshape(shape),
        logprobs=written.logprobs.reshape(shape),
        truncated=wanted & ~written.ended.reshape(shape[:2]),
        computed=jnp.full((num_prompts,), computed / num_prompts, jnp.float32),
    )


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
