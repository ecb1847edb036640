"""The test of a trend in a series that wanders."""

import numpy as np
import pytest

from rvpo_jax.auditing.autocorrelation import (
    NOISES,
    RHOS,
    _cosines,
    _spectra,
    contrast_error,
    trend_test,
)


def autoregression(rng, size, correlation, count):
    series = np.empty((count, size))
    series[:, 0] = rng.normal(size=count)
    for time in range(1, size):
        innovation = rng.normal(size=count) * np.sqrt(1 - correlation**2)
        series[:, time] = correlation * series[:, time - 1] + innovation
    return series


def test_the_cosines_are_orthonormal_and_leave_the_mean_out():
    cosines = _cosines(24)
    np.testing.assert_allclose(cosines @ cosines.T, np.eye(23), atol=1e-12)
    np.testing.assert_allclose(cosines.sum(1), 0, atol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_spectra_are_the_variances_of_the_cosines(correlation):
    # A long series, where the cosines are uncorrelated.
    series = autoregression(np.random.default_rng(0), 400, correlation, 4000)
    seen = np.var(series @ _cosines(400).T, axis=0)
    told = _spectra(400)[RHOS.index(correlation) + len(RHOS) * NOISES.index(0.0)]
    np.testing.assert_allclose(seen[4:] / told[4:], 1, atol=0.35)
    assert np.mean(seen[4:] / told[4:]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("size", [12, 30, 60])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_trend_is_seen_in_a_series_without_one_at_most_at_the_level(size, correlation):
    series = autoregression(np.random.default_rng(size), size, correlation, 1000)
    p_values = np.array([trend_test(row).p_fall for row in series])
    assert np.mean(p_values < 0.01) <= 0.017  # 0.01 and two standard errors


def test_a_fall_is_seen_and_mirrored_is_a_rise():
    rng = np.random.default_rng(0)
    series = 0.8 - np.linspace(0, 0.3, 60) + 0.03 * rng.normal(size=60)
    fit, mirrored = trend_test(series), trend_test(-series)
    assert fit.p_fall < 1e-4 and fit.p_rise == pytest.approx(1 - fit.p_fall)
    assert mirrored.p_rise == pytest.approx(fit.p_fall)
    moved = trend_test(10 * series + 3)  # in another unit
    assert moved.p_fall == pytest.approx(fit.p_fall)


def test_a_constant_series_has_no_trend():
    assert trend_test(np.full(10, 0.4)).p_fall == 1.0


def test_the_error_of_a_contrast_is_that_of_white_noise_where_the_noise_is_white():
    series = np.random.default_rng(1).normal(size=(300, 60))
    weights = np.repeat([-1 / 20, 0.0, 1 / 20], 20)
    errors = [contrast_error(trend_test(row), weights) for row in series]
    truth = np.std(series @ weights)  # sqrt(2 / 20)
    assert truth <= np.median(errors) <= 2 * truth  # the least favourable of the likely processes
