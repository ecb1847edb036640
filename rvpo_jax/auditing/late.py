"""What is lost near the end of a log, which the first and the last third do not tell apart.

A collapse in the last few of many steps leaves the last third of them much as it was, and one step
down looks to a trend test like a series that wanders far. ``K`` groups.
"""

from typing import Any

import numpy as np

from .estimates import difference, proportion

LATE_DROP = 0.3  # of completions; steps that merely wander seldom lose as many
TAIL = 10  # the last of so many parts of the windows is held against the first two thirds
LEAST_WINDOWS = 20  # two windows or more in the tail


def late_fall(met: np.ndarray, scored: np.ndarray, window: np.ndarray) -> dict[str, Any] | None:
    """Whether a channel is met far less often at the very end than in the first two thirds.

    Args:
      met: ``[K]`` completions of a group that meet the channel.
      scored: ``[K]`` completions of a group that it scores.
      window: ``[K]`` int, the window of a group's step, dense from 0.

    Returns:
      ``before`` and ``after``, estimates of the two pass rates; None where they are not clearly
      apart, by ``LATE_DROP`` or more, or there are too few windows.

    >>> window = np.repeat(np.arange(20), 4)
    >>> met = np.where(window < 18, 8, 1)
    >>> late_fall(met, np.full(80, 8), window)["after"]["value"]
    0.125
    >>> late_fall(met[::-1], np.full(80, 8), window) is None
    True
    """
    size = int(window.max()) + 1
    if size < LEAST_WINDOWS:
        return None
    parts = (window < size - size // 3, window >= size - size // TAIL)
    every = np.arange(len(window))
    before, after = (proportion(met * part, scored * part, every) for part in parts)
    change = difference(before, after)
    if change.value <= -LATE_DROP and change.high < 0:
        return {"before": before.plain(), "after": after.plain()}
    return None
