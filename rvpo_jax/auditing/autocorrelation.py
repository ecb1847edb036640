"""A trend test for autocorrelated series. ``T`` values at equal distances in time.

The steps of a training depend on each other: a pass rate that goes nowhere still wanders. Here the
residual around a straight line is taken for a first-order autoregression (correlation from step to
step at most ``RHOS[-1]``) plus independent noise. The first cosine of the series, which carries its
trend, is compared with what such a process would put there, and of all processes that are about as
likely as the likeliest the least favourable counts.
"""

import dataclasses
import functools

import numpy as np

from ..basics.distributions import t_tail

# Correlation of neighbours, and noise beside the autoregression, as multiples of its variance.
RHOS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
NOISES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 1e9)
LIKELY = 1.0  # below the best log likelihood


@dataclasses.dataclass(frozen=True)
class TrendTest:
    """Whether a series falls or rises by more than it wanders."""

    p_fall: float  # one-sided
    p_rise: float
    deviations: np.ndarray  # [T - 1] standard deviations of the cosines


def trend_test(series: np.ndarray) -> TrendTest:
    """Tests whether a series has a trend.

    Args:
      series: ``[T]``, at least four values.

    Returns:
      P-values of "it does not fall" and "it does not rise", and the process behind them.

    Source:
      Cosine weights as in Mueller and Watson 2008, Econometrica 76; the likelihood is Whittle's.

    >>> noise = np.random.default_rng(0).normal(size=60)
    >>> trend_test(noise - np.arange(60) / 10).p_fall < 1e-3, trend_test(noise).p_fall < 0.05
    (True, False)
    """
    size = len(series)
    centered = series - series.mean()
    if np.ptp(series) == 0:
        return TrendTest(1.0, 1.0, np.zeros(size - 1))
    cosines, shapes = _cosines(size), _spectra(size)
    time = np.arange(size) - (size - 1) / 2
    residual = cosines @ (centered - (time @ centered) / (time @ time) * time)
    # The first cosine is the trend's; the others tell how the series wanders.
    scale = np.mean(residual[1:] ** 2 / shapes[:, 1:], axis=1)
    scale = np.maximum(scale, np.finfo(float).tiny)
    likelihood = -0.5 * (np.log(shapes[:, 1:]).sum(1) + (size - 2) * np.log(scale))
    likely = likelihood >= likelihood.max() - LIKELY
    spectra = (shapes * scale[:, None])[likely]
    worst = spectra[np.argmax(spectra[:, 0])]
    first = float(cosines[0] @ centered) / float(np.sqrt(worst[0]))  # positive where it falls
    p_fall, p_rise = (t_tail(sign * first, size - 2) for sign in (1, -1))
    return TrendTest(p_fall, p_rise, np.sqrt(worst))


def contrast_error(test: TrendTest, weights: np.ndarray) -> float:
    """Standard error of a weighted sum of the series.

    Args:
      test: of the series.
      weights: ``[T]`` with sum 0.

    Returns:
      The standard error.
    """
    return float(np.linalg.norm((_cosines(len(weights)) @ weights) * test.deviations))


@functools.cache
def _cosines(size: int) -> np.ndarray:
    """``[T - 1, T]`` orthonormal cosines, all of mean 0, the slowest first."""
    time = (np.arange(size) + 0.5) / size
    return np.sqrt(2 / size) * np.cos(np.pi * np.arange(1, size)[:, None] * time)


@functools.cache
def _spectra(size: int) -> np.ndarray:
    """``[S, T - 1]`` variances of the cosines under each process, up to a scale."""
    angle = np.pi * np.arange(1, size) / size
    rho = np.array(RHOS)[:, None]
    autoregression = (1 - rho**2) / (1 - 2 * rho * np.cos(angle) + rho**2)
    noise = np.array(NOISES)[:, None, None]
    return ((autoregression + noise) / (1 + noise)).reshape(-1, size - 1)
