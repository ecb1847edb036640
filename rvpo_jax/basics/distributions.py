"""Tails and quantiles of Student's t and of the binomial, without SciPy.

SciPy would be a fifth of what rvpo-audit installs, and half a second of each start. All of it is
the regularised incomplete beta function.
"""

import functools
import math
from statistics import NormalDist


def _beta_cdf(x: float, rest: float, a: float, b: float) -> float:
    """I_x(a, b), with ``rest`` = 1 - x, which would lose its digits beside an x near 1."""
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on one side of the mean only
        return 1 - _beta_tail(rest, x, b, a)
    return _beta_tail(x, rest, a, b)


def _beta_tail(x: float, rest: float, a: float, b: float) -> float:
    """Continued fraction 8.17.22 of the NIST Digital Library of Functions, by Lentz's method."""
    c, d = 1.0, 1 / _not_0(1 - (a + b) * x / (a + 1))
    fraction = d
    # It takes about the square root of the larger parameter.
    for m in range(1, 200 + int(20 * math.sqrt(max(a, b)))):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_0(1 + term * d)
            c = _not_0(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front + a * math.log(x) + b * math.log(rest)) * fraction / a


def _not_0(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def t_tail(t: float, df: float) -> float:
    """Upper tail of Student's t distribution.

    Args:
      t: the quantile.
      df: degrees of freedom, > 0.

    Returns:
      The probability of a larger value; NaN for NaN.

    >>> round(t_tail(1.0, 1.0), 12)
    0.25
    """
    if math.isnan(t):
        return math.nan
    square = t / df * t
    if math.isinf(square):
        return float(t < 0)
    half = 0.5 * _beta_cdf(1 / (1 + square), square / (1 + square), df / 2, 0.5)
    return half if t >= 0 else 1 - half


@functools.cache
def t_quantile(p: float, df: float) -> float:
    """The value below which a share p of Student's t distribution lies.

    Args:
      p: in [0.5, 1).
      df: degrees of freedom, > 0.

    Returns:
      The quantile.

    >>> round(t_quantile(0.975, 10.0), 4)
    2.2281
    """
    front = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    # The tail is convex, and the normal quantile is the smaller one: Newton's steps only go up.
    t = NormalDist().inv_cdf(p)
    for _ in range(100):
        density = math.exp(front - (df + 1) / 2 * math.log1p(t / df * t))
        step = (t_tail(t, df) - (1 - p)) / density
        t += step
        if step <= 1e-12 * t:
            break
    return t


def binomial_tail(count: int, size: int, p: float) -> float:
    """The probability of at least so many successes.

    Args:
      count: successes.
      size: trials.
      p: probability of a success, in [0, 1].

    Returns:
      The upper tail, ``count`` included.

    >>> round(binomial_tail(2, 2, 0.5), 12)
    0.25
    """
    if count <= 0:
        return 1.0
    return 0.0 if count > size else _beta_cdf(p, 1 - p, count, size - count + 1)
