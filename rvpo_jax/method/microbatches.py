"""Sums over the microbatches of a minibatch: by number of prompts, or by number of tokens.

``B`` prompts of a minibatch on one device.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import LossConfig
from rvpo_jax.method.packing import ROW, fill_microbatches, num_rows


def sum_over_microbatches(
    function: Callable[[Any], Any], work: dict[str, Any], config: LossConfig
) -> Any:
    """The sum of ``function(microbatch)`` over all microbatches; one at a time is computed.

    Args:
      function: a microbatch of ``work`` to a tree of sums.
      work: ``batch`` and further arrays with a leading B; ``keep`` among them.
      config: ``microbatch_size`` and ``microbatch_tokens``.

    Returns:
      The tree.
    """
    if config.microbatch_tokens is None:
        num = num_microbatches(work["keep"].shape[0], config.microbatch_size)
        parts = split(work, num)
        first = jax.tree.map(lambda x: x[0], parts)
        if num == 1:  # not wrapped in a loop, which takes longer to compile
            return function(first)
        total = _zeros(function, first)
        return jax.lax.scan(lambda old, part: (_add(old, function(part)), None), total, parts)[0]
    take, num = _by_tokens(work, config)

    def more(loop: tuple) -> tuple:
        return loop[0] + 1, _add(loop[1], function(take(loop[0])[0]))

    start = (jnp.zeros((), jnp.int32), _zeros(lambda i: function(take(i)[0]), 0))
    return jax.lax.while_loop(lambda loop: loop[0] < num, more, start)[1]


def map_over_microbatches(
    function: Callable[[Any], jax.Array], work: dict[str, Any], config: LossConfig
) -> jax.Array:
    """``function`` of all prompts, one microbatch at a time.

    Args:
      function: a microbatch of ``work`` to an array with one entry per prompt.
      work: see ``sum_over_microbatches``.
      config: see ``sum_over_microbatches``.

    Returns:
      The array with a leading B.
    """
    if config.microbatch_tokens is None:
        num = num_microbatches(work["keep"].shape[0], config.microbatch_size)
        parts = jax.lax.map(function, split(work, num))
        return jnp.swapaxes(parts, 0, 1).reshape(-1, *parts.shape[2:])
    take, num = _by_tokens(work, config)

    def more(loop: tuple) -> tuple:
        part, members = take(loop[0])
        return loop[0] + 1, loop[1].at[members].set(function(part), mode="drop")

    shape = jax.eval_shape(lambda: function(take(0)[0]))
    out = jnp.zeros((work["keep"].shape[0], *shape.shape[1:]), shape.dtype)
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda loop: loop[0] < num, more, (zero, out))[1]


def computed_positions(work: dict[str, Any], config: LossConfig) -> jax.Array:
    """Token positions of completions that ``sum_over_microbatches`` computes, padding included.

    Args:
      work: see ``sum_over_microbatches``.
      config: see ``sum_over_microbatches``.

    Returns:
      Scalar float32.
    """
    if config.microbatch_tokens is None:
        return jnp.float32(work["batch"].completion_mask.size)
    capacity = config.microbatch_tokens // ROW * ROW
    return jnp.float32(capacity) * _by_tokens(work, config)[1]


def _by_tokens(work: dict[str, Any], config: LossConfig) -> tuple[Callable[[Any], tuple], Any]:
    """A function of the number of a microbatch, which returns it and its prompts; how many."""
    size = work["keep"].shape[0]
    max_prompts = min(config.microbatch_size or size, size)
    capacity = (config.microbatch_tokens or 0) // ROW
    sizes = num_rows(work["batch"].completion_mask)
    microbatch = fill_microbatches(sizes, capacity, max_prompts)

    def take(index: Any) -> tuple[dict[str, Any], jax.Array]:
        (members,) = jnp.nonzero(microbatch == index, size=max_prompts, fill_value=size)
        there = members < size
        part = jax.tree.map(lambda x: jnp.take(x, members, axis=0, mode="clip"), work)
        mask = part["batch"].completion_mask & there[:, None, None]
        part["batch"] = dataclasses.replace(part["batch"], completion_mask=mask)
        return part | {"keep": part["keep"] & there[:, None]}, members

    return take, microbatch[-1] + 1


def _zeros(function: Callable[..., Any], *args: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *args))


def _add(total: Any, new: Any) -> Any:
    return jax.tree.map(jnp.add, total, new)


def split(tree: Any, parts: int) -> Any:
    """``[B, ...]`` to ``[parts, B / parts, ...]``, part i holding every parts-th entry from i.

    Args:
      tree: arrays with a leading B.
      parts: divides B.

    Returns:
      The tree.

    >>> split(jnp.arange(4), 2).tolist()
    [[0, 2], [1, 3]]
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), tree
    )


def num_microbatches(num_prompts: int, microbatch_size: int | None) -> int:
    """Microbatches of a device's minibatch; a small one is not split.

    Args:
      num_prompts: prompts of one minibatch on one device.
      microbatch_size: at most so many at once; None: all.

    Returns:
      Their number.

    Raises:
      ValueError: if the parts would not be equal.

    >>> num_microbatches(16, 4), num_microbatches(2, 4)
    (4, 1)
    """
    if microbatch_size is None or num_prompts <= microbatch_size:
        return 1
    if num_prompts % microbatch_size:
        raise Refusal(
            f"loss.microbatch_size = {microbatch_size} must divide the {num_prompts} prompts of a "
            "minibatch on one device.",
            "Change it, or rollout.num_prompts.",
        )
    return num_prompts // microbatch_size
