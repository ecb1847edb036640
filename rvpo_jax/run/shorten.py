"""Batches without the columns that no completion, and no prompt, reaches.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens.
"""

import dataclasses

import numpy as np

from rvpo_jax.run.parallel import processes
from rvpo_jax.types import Batch

SHORTEST = 16  # columns; below it there is little to save


def shorten(batch: Batch) -> Batch:
    """Cuts the completions at C, C / 2, C / 4, ..., where the longest of all processes allows it.

    Halves only, so that the step is compiled for few shapes: at most 1 + log2(C / 16). The loss is
    that of the whole batch: ``max_tokens`` keeps C.

    Args:
      batch: arrays on the host.

    Returns:
      The batch, C or fewer columns.

    >>> shape = (1, 2, 64)
    >>> tokens = np.zeros(shape, np.int32)
    >>> batch = Batch(
    ...     prompts=tokens[0], prompt_mask=tokens[0] == 0, completions=tokens,
    ...     completion_mask=np.arange(64) < np.array([[[3], [20]]]), old_logprobs=tokens,
    ...     rewards=tokens, where=tokens,
    ... )
    >>> shorten(batch).completions.shape, shorten(batch).max_tokens
    ((1, 2, 32), 64)
    """
    limit = batch.completions.shape[2]
    longest = processes.largest(np.sum(batch.completion_mask, axis=2).max(initial=0))
    width = halved(limit, max(longest, SHORTEST))
    columns = ("completions", "completion_mask", "old_logprobs", "ref_logprobs")
    cut = {
        name: getattr(batch, name)[..., :width]
        for name in columns
        if getattr(batch, name) is not None
    }
    return dataclasses.replace(batch, max_tokens=limit, **cut)


def prompt_width(limit: int, longest: int) -> int:
    """The width of a batch of prompts: P, P / 2 or P / 4.

    Not less, since sampler and step are compiled for every width.

    Args:
      limit: P, the width that holds every prompt of the run.
      longest: tokens of the batch's longest.

    Returns:
      Columns.

    >>> [prompt_width(64, longest) for longest in (64, 33, 32, 3)]
    [64, 64, 32, 16]
    """
    return halved(limit, max(longest, limit // 4))


def halved(limit: int, least: int) -> int:
    """The limit, halved as often as it stays a whole number of at least so many.

    Args:
      limit: to halve.
      least: that the result must not be below; at least 1.

    Returns:
      The least of limit, limit / 2, limit / 4, ... that will do.

    >>> halved(48, 5), halved(48, 12), halved(7, 1)
    (6, 12, 7)
    """
    while limit % 2 == 0 and limit // 2 >= least:
        limit //= 2
    return limit
