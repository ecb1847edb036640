"""Tails and quantiles against SciPy's, and where they are known exactly."""

import math

import numpy as np
import pytest
from scipy import stats

from rvpo_jax.basics.distributions import binomial_tail, t_quantile, t_tail

DF = (1, 2, 3, 10, 29, 100, 4095, 62_500)


@pytest.mark.parametrize("df", DF)
def test_the_tail_of_t_is_scipys(df):
    for t in (0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 20.0, 100.0):
        assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-290)
        assert t_tail(-t, df) == pytest.approx(stats.t.sf(-t, df), rel=1e-9)


def test_the_tail_of_t_where_it_is_known():
    # With one degree of freedom it is 1/2 - arctan(t) / pi; far out 1 / (pi t).
    for t in (0.0, 1e-8, 0.3, 1.0, 50.0):
        assert t_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-12)
    assert t_tail(1e100, 1) == pytest.approx(1 / (math.pi * 1e100), rel=1e-12, abs=0)
    assert (t_tail(math.inf, 5), t_tail(-math.inf, 5)) == (0.0, 1.0)
    assert math.isnan(t_tail(math.nan, 5))


@pytest.mark.parametrize("df", DF)
def test_the_quantile_of_t_is_scipys(df):
    for p in (0.5, 0.6, 0.9, 0.975, 0.9995):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [1, 3, 10, 100, 4096, 62_500])
@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_the_tail_of_the_binomial_is_scipys(size, p):
    around = size * p + np.array([-6, -3, -1, 0, 1, 3, 6]) * math.sqrt(size * p * (1 - p))
    for count in {-1, 0, 1, size, size + 1, *around.astype(int).tolist()}:
        expected = stats.binom.sf(count - 1, size, p)
        assert binomial_tail(count, size, p) == pytest.approx(expected, rel=1e-8, abs=1e-290)
