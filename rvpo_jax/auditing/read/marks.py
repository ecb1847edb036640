"""From which value on a channel counts as met: guessed from its values where nobody declared it."""

import dataclasses

import numpy as np

PAIR_SHARE = 0.95  # two values that make up so much of a channel are its verdicts
TAIL = 0.005  # at either end; further out than the width of all between is an outlier


@dataclasses.dataclass(frozen=True)
class Guess:
    """A pass mark, and what was left out in guessing it."""

    mark: float
    low: float  # of the usual values
    high: float
    outliers: np.ndarray  # [K] the others


def guess_mark(values: np.ndarray, limits: tuple[float, float] | None = None) -> Guess:
    """The mark that the usual values of a channel suggest.

    The larger of two values; a constant itself if it is positive, for 0 and less count as failed;
    else the middle of the usual range. A few values far out, such as -1 for a verdict that could
    not be had, do not move it. Where the range is known, its middle takes the place of the
    constant and of the middle of the usual one.

    Args:
      values: ``[n]`` float32, finite; at least one.
      limits: the smallest and the largest value that there can be, where that is known.

    Returns:
      The guess.

    >>> guess_mark(np.float32([0] * 60 + [1] * 40 + [-1])).mark
    1.0
    >>> guess = guess_mark(np.float32([*np.linspace(0, 1, 300), 1000]))
    >>> round(guess.mark, 3), guess.outliers.tolist()
    (0.5, [1000.0])
    >>> guess_mark(np.float32([30, 40, 45]), (0, 100)).mark
    50.0
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1 and limits is not None:
        return _middle(limits, values[:0])
    if len(distinct) == 1:
        constant = float(distinct[0])
        mark = constant if constant > 0 else 1.0 if constant == 0 else 0.0
        return Guess(mark, constant, constant, values[:0])
    most = np.argsort(counts, kind="stable")[-2:]  # of equally frequent ones the larger
    if counts[most].sum() >= PAIR_SHARE * len(values):
        low, high = float(distinct[most].min()), float(distinct[most].max())
        if limits is None or limits[0] < high <= limits[1]:
            return Guess(high, low, high, values[(values < low) | (values > high)])
    if limits is not None:
        return _middle(limits, values[:0])
    low = float(np.quantile(values, TAIL, method="higher"))
    high = float(np.quantile(values, 1 - TAIL, method="lower"))
    inside = values
    if high > low:
        inside = values[(values >= 2 * low - high) & (values <= 2 * high - low)]
    low, high = float(inside.min()), float(inside.max())
    mark = float(np.float32((low + high) / 2))
    return Guess(mark, low, high, values[(values < low) | (values > high)])


def _middle(limits: tuple[float, float], outliers: np.ndarray) -> Guess:
    low, high = limits
    return Guess(float(np.float32((low + high) / 2)), low, high, outliers)
