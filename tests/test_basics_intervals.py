"""Wilson's interval against SciPy, Holm's correction by hand, shares as text."""

import math

import numpy as np
import pytest
from scipy import stats

from rvpo_jax.basics import intervals


@pytest.mark.parametrize("size", [1, 2, 10, 97, 4096])
def test_the_interval_of_a_rate_is_scipys_for_every_count(size):
    for count in {0, 1, size // 3, size // 2, size - 1, size}:
        ours = intervals.wilson(np.arange(size) < count)
        theirs = stats.binomtest(count, size).proportion_ci(method="wilson")
        assert ours.rate == count / size
        assert ours.low == pytest.approx(theirs.low, abs=1e-9)
        assert ours.high == pytest.approx(theirs.high, abs=1e-9)
        assert ours.count == size


def test_nothing_is_known_of_the_rate_of_nothing():
    empty = intervals.wilson(np.zeros(0, bool))
    assert math.isnan(empty.rate)
    assert (empty.low, empty.high, empty.count) == (0.0, 1.0, 0)


@pytest.mark.parametrize("size", [0.5, 3, 1e9])
def test_a_share_of_none_and_of_all_is_its_own_bound(size):
    low, high = intervals.wilson_interval(0.0, size, 1.96)
    assert low == 0.0 < high <= 1.0
    # An interval of a share is that of the other share, mirrored.
    assert intervals.wilson_interval(1.0, size, 1.96) == pytest.approx((1 - high, 1.0))


def test_more_trials_narrow_the_interval_around_the_same_share():
    widths = [np.ptp(intervals.wilson_interval(0.3, size, 1.96)) for size in (10, 100, 1000)]
    assert widths[0] > widths[1] > widths[2]


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls():
    # Sorted .01, .02, .04: times 3, 2, 1 is .03, .04, .04.
    assert intervals.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # Sorted .01, .03, .035: .03, .06 and .035, which is raised to .06.
    assert intervals.holm([0.035, 0.03, 0.01]) == pytest.approx([0.06, 0.06, 0.03])
    assert intervals.holm([0.9, 0.8]) == [1.0, 1.0]
    assert intervals.holm([]) == []


def test_a_test_that_was_not_made_does_not_count():
    found = intervals.holm([0.01, math.nan, 0.04])
    assert math.isnan(found[1])
    assert [found[0], found[2]] == intervals.holm([0.01, 0.04])


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        pytest.param((0.5,), {}, "50%", id="share"),
        pytest.param((-0.034,), {"digits": 1}, "-3.4%", id="change"),
        pytest.param((0.5, 0.41, 0.6), {"unit": " %"}, "50 % [41, 60]", id="interval"),
        pytest.param((0.5, None, None), {}, "50%", id="no interval"),
        pytest.param((0.0, 0.0, 0.0449), {"digits": 1}, "0.0% [0.0, 4.5]", id="zero is a bound"),
    ],
)
def test_a_share_reads_as_percent(arguments, options, text):
    assert intervals.percent(*arguments, **options) == text


def test_a_rate_of_nothing_does_not_apply():
    nothing = {"rate": math.nan, "low": 0.0, "high": 1.0, "count": 0}
    assert intervals.rate_text(nothing) == "not applicable"
