"""Intervals and tests for completions that come in groups. ``N`` completions, ``K`` clusters.

The completions of one prompt resemble each other, so prompts, not completions, count as
independent: all standard errors are cluster-robust, with the prompt as the cluster.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from ..basics import intervals
from ..basics.distributions import binomial_tail, t_quantile, t_tail
from ..basics.intervals import CONFIDENCE, wilson_interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float
    n: int  # independent clusters behind it
    se: float = math.nan

    def plain(self) -> dict[str, Any]:
        """What JSON holds of it: ``value``, ``low``, ``high`` (None for NaN) and ``n``."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {k: v if math.isfinite(v) else None for k, v in numbers.items()} | {"n": self.n}


def from_plain(plain: Mapping[str, Any]) -> Estimate:
    """The estimate that a report holds, without its standard error.

    Args:
      plain: see ``Estimate.plain``.

    Returns:
      The estimate.
    """
    numbers = {
        key: math.nan if plain[key] is None else plain[key] for key in ("value", "low", "high")
    }
    return Estimate(**numbers, n=plain["n"])


NOTHING = Estimate(value=math.nan, low=math.nan, high=math.nan, n=0)


def _ratio(
    numerator: np.ndarray, denominator: np.ndarray, cluster: np.ndarray
) -> tuple[float, float, int]:
    """Ratio of two totals, its linearised cluster-robust standard error, and K."""
    num = np.bincount(cluster, numerator)
    den = np.bincount(cluster, denominator)
    used = den > 0
    num, den = num[used], den[used]
    if not len(den):
        return math.nan, math.nan, 0
    total, k = den.sum(), len(den)
    value = num.sum() / total
    if k < 2:
        return float(value), math.nan, k
    residual = num - value * den
    return float(value), float(np.sqrt(k / (k - 1) * np.sum(residual**2)) / total), k


def proportion(passed: np.ndarray, counted: np.ndarray, cluster: np.ndarray) -> Estimate:
    """A share with its Wilson interval at the effective number of completions.

    The effective number is p (1 - p) / se^2 with the cluster-robust standard error: the number of
    independent completions that would be as informative. Where that error is 0 or cannot be had,
    it is the number of clusters (of completions, for a single cluster).

    Args:
      passed: ``[N]`` 0 or 1 (or a share), only where counted; or sums of these.
      counted: ``[N]`` 0 or 1, the completions that the share is taken over; or sums of these.
      cluster: ``[N]`` int >= 0, the prompt.

    Returns:
      The estimate.

    >>> alone = proportion(np.array([1.0, 1, 1, 0]), np.ones(4), np.zeros(4, int))
    >>> round(alone.low, 3), round(alone.high, 3)  # Wilson, 3 of 4
    (0.301, 0.954)
    """
    passed, counted = np.asarray(passed, float), np.asarray(counted, float)
    value, se, k = _ratio(passed, counted, cluster)
    if k == 0:
        return NOTHING
    total = float(counted.sum())
    if k == 1:
        size = total
    elif se > 0:
        size = min(value * (1 - value) / se**2, total)
    else:
        size = float(k)
    low, high = wilson_interval(value, size, _quantile(k))
    return Estimate(value=value, low=low, high=high, n=k, se=se)


def mean(values: np.ndarray, counted: np.ndarray, cluster: np.ndarray) -> Estimate:
    """A mean with its t interval, cluster-robust.

    Args:
      values: ``[N]`` float, only where counted.
      counted: ``[N]`` weights >= 0; usually 0 or 1.
      cluster: ``[N]`` int >= 0.

    Returns:
      The estimate; no interval from fewer than two clusters.
    """
    counted = np.asarray(counted, float)
    value, se, k = _ratio(np.where(counted > 0, values, 0.0) * counted, counted, cluster)
    if k == 0:
        return NOTHING
    half = _quantile(k) * se
    return Estimate(value=value, low=value - half, high=value + half, n=k, se=se)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """b - a of two independent estimates.

    The interval is put together from the two intervals (MOVER; for Wilson intervals this is
    Newcombe's), so it keeps their asymmetry near 0 and 1.

    Args:
      a: before, or the first log.
      b: after, or the second log.

    Returns:
      The estimate; n is the smaller of the two.

    Source:
      Newcombe 1998, Statistics in Medicine 17, method 10; Zou and Donner 2008 for any estimate.

    >>> a = Estimate(value=0.5, low=0.4, high=0.6, n=9)
    >>> b = Estimate(value=0.8, low=0.7, high=0.9, n=9)
    >>> d = difference(a, b)
    >>> round(d.value, 2), round(d.low, 3), round(d.high, 3)
    (0.3, 0.159, 0.441)
    """
    value = b.value - a.value
    return Estimate(
        value=value,
        low=value - math.hypot(b.value - b.low, a.high - a.value),
        high=value + math.hypot(b.high - b.value, a.value - a.low),
        n=min(a.n, b.n),
        se=math.hypot(_standard_error(a), _standard_error(b)),
    )


def weighted_sum(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum of independent estimates, with a MOVER interval as in ``difference``.

    Args:
      parts: their values are known.
      weights: one >= 0 for each.

    Returns:
      The estimate, without an interval where one of the parts has none; n is the smallest of
      theirs.

    >>> part = Estimate(value=0.5, low=0.2, high=0.9, n=9)
    >>> whole = weighted_sum([part, part], [0.5, 0.5])
    >>> round(whole.value, 2), round(whole.low, 3), round(whole.high, 3)
    (0.5, 0.288, 0.783)
    """
    pairs = list(zip(weights, parts, strict=True))
    value = sum(w * part.value for w, part in pairs)
    down = math.hypot(*(w * (part.value - part.low) for w, part in pairs))
    up = math.hypot(*(w * (part.high - part.value) for w, part in pairs))
    n = min((part.n for part in parts), default=0)
    return Estimate(value=value, low=value - down, high=value + up, n=n)


def p_above(estimate: Estimate, threshold: float = 0.0) -> float:
    """One-sided p-value of "the true value is at most the threshold", by a t test over clusters.

    Args:
      estimate: with a standard error.
      threshold: the largest value that is still fine.

    Returns:
      The p-value; NaN where there are fewer than three clusters. Where the clusters do not differ
      at all, the sign decides with p = 1 or 2^-n, that of n equal signs.
    """
    if estimate.n < 3 or not math.isfinite(estimate.value):
        return math.nan
    if not estimate.se > 0:
        return 0.5**estimate.n if estimate.value > threshold else 1.0
    return t_tail((estimate.value - threshold) / estimate.se, estimate.n - 1)


def share_above(shares: np.ndarray, threshold: float) -> float:
    """One-sided p-value of "the mean share is at most the threshold".

    The variance is the largest that values in [0, 1] with this mean can have, so the test stays
    below its level for any distribution of the clusters that is not tiny.

    Args:
      shares: ``[K]`` in [0, 1], one per cluster.
      threshold: in (0, 1).

    Returns:
      The p-value, from the binomial distribution: the shares' total, rounded down, of K.
    """
    if len(shares) < 3:
        return math.nan
    total = math.floor(float(np.sum(shares)) + 1e-9)
    return binomial_tail(total, len(shares), threshold)


def holm(p_values: dict[Any, float]) -> dict[Any, float]:
    """P-values adjusted for looking at all of them (Holm); NaN stays NaN and is not counted.

    Args:
      p_values: by any key.

    Returns:
      Adjusted p-values by the same keys.

    >>> holm({"a": 0.01, "b": 0.5, "c": float("nan")})
    {'a': 0.02, 'b': 0.5, 'c': nan}
    """
    return dict(zip(p_values, intervals.holm(list(p_values.values())), strict=True))


def _standard_error(estimate: Estimate) -> float:
    """That of an estimate; without one (no variation seen), from the width of its interval."""
    if estimate.se > 0:
        return estimate.se
    return (estimate.high - estimate.low) / (2 * _quantile(estimate.n))


def _quantile(num_clusters: int) -> float:
    """Of the t distribution over clusters; normal where there is one, whose trials then count."""
    if num_clusters < 2:
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return t_quantile((1 + CONFIDENCE) / 2, num_clusters - 1)
