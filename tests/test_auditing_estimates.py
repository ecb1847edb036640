"""Intervals and tests: against scipy, by hand, and by counting how often they hold."""

import math

import numpy as np
import pytest
from scipy import stats

from rvpo_jax.auditing import estimates
from rvpo_jax.auditing.estimates import Estimate
from rvpo_jax.basics.intervals import wilson_interval


@pytest.mark.parametrize(("passed", "size"), [(0, 10), (3, 10), (10, 10), (999, 1000)])
def test_wilson_is_that_of_scipy(passed, size):
    expected = stats.binomtest(passed, size).proportion_ci(method="wilson")
    low, high = wilson_interval(passed / size, size, stats.norm.ppf(0.975))
    np.testing.assert_allclose((low, high), (expected.low, expected.high), atol=1e-12)


def test_copies_of_a_completion_within_its_prompt_are_no_new_information():
    rng = np.random.default_rng(0)
    passed, prompt = (rng.random(50) < 0.7) * 1.0, np.arange(50)
    once = estimates.proportion(passed, np.ones(50), prompt)
    eight = estimates.proportion(passed.repeat(8), np.ones(400), prompt.repeat(8))
    assert (once.value, once.n) == (eight.value, eight.n)
    np.testing.assert_allclose((once.low, once.high), (eight.low, eight.high))


def test_a_proportion_of_independent_completions_is_nearly_wilsons():
    rng = np.random.default_rng(1)
    passed = (rng.random(2000) < 0.3) * 1.0
    ours = estimates.proportion(passed, np.ones(2000), np.arange(2000))
    low, high = wilson_interval(passed.mean(), 2000, 1.96)
    # Differs by the factor n / (n - 1) in the variance and by t against normal quantiles.
    np.testing.assert_allclose((ours.low, ours.high), (low, high), atol=2e-4)


def test_what_is_not_counted_changes_nothing():
    passed, prompt = np.array([1.0, 0, 1, 1]), np.array([0, 0, 1, 1])
    counted = np.array([1, 1, 1, 0])
    full = estimates.proportion(passed * counted, counted, prompt)
    kept = estimates.proportion(passed[:3], np.ones(3), prompt[:3])
    assert full == kept
    values = estimates.mean(np.where(counted, passed, np.nan), counted, prompt)
    assert values == estimates.mean(passed[:3], np.ones(3), prompt[:3])


def test_mean_worked_by_hand():
    # Three clusters with means 1, 2, 6: mean 3, sample variance 7, se sqrt(7/3), t(2) 4.3027.
    estimate = estimates.mean(np.array([1.0, 2, 6]), np.ones(3), np.arange(3))
    half = 4.302652729911275 * math.sqrt(7 / 3)
    np.testing.assert_allclose(
        (estimate.value, estimate.low, estimate.high), (3, 3 - half, 3 + half), rtol=1e-9
    )


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_an_interval_covers_the_truth_although_completions_of_a_prompt_resemble_each_other(rate):
    rng = np.random.default_rng(2)
    prompt, covered = np.repeat(np.arange(60), 8), 0
    for _ in range(400):
        # Each prompt has its own rate, beta-distributed around the true one.
        own = rng.beta(2 * rate, 2 * (1 - rate), 60)
        passed = (rng.random(480) < own[prompt]) * 1.0
        estimate = estimates.proportion(passed, np.ones(480), prompt)
        covered += estimate.low <= rate <= estimate.high
    # 95 %; the standard error of 400 repetitions is 1.1 points. Without clusters: about 70 %.
    assert 0.92 <= covered / 400 <= 0.99


def test_no_variation_is_no_certainty():
    always = estimates.proportion(np.ones(80), np.ones(80), np.repeat(np.arange(10), 8))
    assert always.value == always.high == 1.0
    assert always.low == pytest.approx(wilson_interval(1.0, 10, stats.t.ppf(0.975, 9))[0])


def test_nothing_counted_says_nothing():
    empty = estimates.proportion(np.zeros(3), np.zeros(3), np.arange(3))
    assert empty.plain() == {"value": None, "low": None, "high": None, "n": 0}


def test_difference_is_antisymmetric_and_keeps_the_asymmetry_of_rates():
    a = estimates.proportion(np.ones(30), np.ones(30), np.arange(30))
    b = estimates.proportion((np.arange(30) % 3 == 0) * 1.0, np.ones(30), np.arange(30))
    ab, ba = estimates.difference(a, b), estimates.difference(b, a)
    np.testing.assert_allclose((ab.value, ab.low, ab.high), (-ba.value, -ba.high, -ba.low))
    assert -1 <= ab.low < ab.value < ab.high < 0


def test_p_values_are_uniform_where_nothing_is_wrong():
    rng = np.random.default_rng(3)
    p_values = [
        estimates.p_above(estimates.mean(rng.normal(size=12), np.ones(12), np.arange(12)))
        for _ in range(500)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("value", "p"), [(0.5, 0.5**6), (-0.5, 1.0)])
def test_clusters_that_do_not_differ_are_tested_by_their_sign(value, p):
    estimate = estimates.mean(np.full(6, value), np.ones(6), np.arange(6))
    assert estimates.p_above(estimate) == p


def test_fewer_than_three_clusters_are_never_tested():
    assert math.isnan(estimates.p_above(Estimate(value=9, low=8, high=10, n=2, se=0.1)))
    assert math.isnan(estimates.share_above(np.ones(2), 0.2))


def test_a_share_above_a_limit_is_a_binomial_test_where_shares_are_0_or_1():
    shares = np.array([1.0] * 6 + [0.0] * 4)
    expected = stats.binomtest(6, 10, 0.2, alternative="greater").pvalue
    assert estimates.share_above(shares, 0.2) == pytest.approx(expected)


def test_holm_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03 times 3, 2, 1 = 0.03, 0.04, 0.03; made monotone: 0.03, 0.04, 0.04.
    assert estimates.holm({"a": 0.02, "b": 0.03, "c": 0.01}) == pytest.approx(
        {"a": 0.04, "b": 0.04, "c": 0.03}
    )
