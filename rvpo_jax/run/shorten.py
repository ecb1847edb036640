"""Batches without the columns that no completion reaches.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens.
"""

import dataclasses

import numpy as np

from rvpo_jax.types import Batch

SHORTEST = 16  # columns; below it there is little to save


def shorten(batch: Batch) -> Batch:
    """Cuts the completions at C, C / 2, C / 4, ..., where the longest of the batch allows it.

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
    longest = int(np.sum(batch.completion_mask, axis=2).max(initial=0))
    width = limit
    while width // 2 >= max(longest, SHORTEST) and width % 2 == 0:
        width //= 2
    columns = ("completions", "completion_mask", "old_logprobs", "ref_logprobs")
    cut = {
        name: getattr(batch, name)[..., :width]
        for name in columns
        if getattr(batch, name) is not None
    }
    return dataclasses.replace(batch, max_tokens=limit, **cut)
