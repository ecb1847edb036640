"""Shares and what is sure about them: Wilson's interval, Holm's correction, percent as text."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of completions with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    count: int
    """Completions that it is a share of."""


def wilson(passed: np.ndarray) -> Rate:
    """Share of True with its 95 % Wilson interval.

    Args:
      passed: ``[N]`` bool, independent trials.

    Returns:
      The rate; NaN with the interval [0, 1] where there are none.

    >>> wilson(np.array([True] * 8 + [False] * 2))
    Rate(rate=0.8, low=0.490, high=0.943, count=10)
    """
    if passed.size == 0:
        return Rate(rate=math.nan, low=0.0, high=1.0, count=0)
    rate = float(passed.mean())
    low, high = wilson_interval(rate, passed.size, NormalDist().inv_cdf((1 + CONFIDENCE) / 2))
    return Rate(rate=rate, low=low, high=high, count=passed.size)


def wilson_interval(rate: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share; the size may be fractional.

    Args:
      rate: the observed share.
      size: number of independent trials, > 0.
      z: quantile, 1.96 for 95 %.

    Returns:
      low, high; exactly 0 and 1 beside a share of 0 and 1.

    >>> low, high = wilson_interval(0.8, 10, 1.96)
    >>> round(low, 3), round(high, 3)
    (0.490, 0.943)
    """
    size = max(size, 1e-9)
    center = (rate + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(rate * (1 - rate) / size + (z / (2 * size)) ** 2)
    low = 0.0 if rate <= 0 else max(center - half, 0.0)
    high = 1.0 if rate >= 1 else min(center + half, 1.0)
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for having made several tests (Holm's step-down procedure).

    Args:
      p_values: of the tests made together; NaN is a test that could not be made.

    Returns:
      The adjusted values in the same order; NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    made = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(sorted(made, key=lambda index: p_values[index])):
        largest = max(largest, min((len(made) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return adjusted


def percent(
    share: float,
    low: float | None = None,
    high: float | None = None,
    *,
    digits: int = 0,
    unit: str = "%",
) -> str:
    """A share in percent, with its interval where there is one.

    Args:
      share: 0 to 1, or negative for a change.
      low: lower end of its interval.
      high: upper end of its interval.
      digits: after the point.
      unit: written behind the share.

    Returns:
      The cell of a table, or a part of a sentence.

    >>> percent(0.8), percent(0.8, 0.49, 0.943, digits=1), percent(0.12, 0.09, 0.151, unit=" %")
    ('80%', '80.0% [49.0, 94.3]', '12 % [9, 15]')
    """
    text = f"{100 * share:.{digits}f}{unit}"
    if low is None or high is None:
        return text
    return f"{text} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def rate_text(rate: Mapping[str, Any]) -> str:
    """A rate and its interval, in percent.

    Args:
      rate: the fields of a ``Rate``.

    Returns:
      The cell of a table.

    >>> rate_text({"rate": 0.8, "low": 0.49, "high": 0.943, "count": 10})
    '80.0% [49.0, 94.3]'
    """
    if not rate["count"]:
        return "not applicable"
    return percent(rate["rate"], rate["low"], rate["high"], digits=1)
