"""Aggregators: hand-worked values, exact bounds, the float64 oracle, gradients, masks, weights."""

import functools
import math

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from rvpo_jax.aggregators import (
    METHODS,
    level_softmin_aggregate,
    mean_aggregate,
    min_aggregate,
    softmin_aggregate,
    sum_aggregate,
    variance_penalized_aggregate,
)
from rvpo_jax.method.binding import bind
from rvpo_jax.method.rules import HINTS

INF = float("inf")
NAN = float("nan")
LN2 = math.log(2)


def compiled(function):
    """f(scores, weights=, where=), compiled once per shape: eager JAX compiles each operation."""
    fast = jax.jit(lambda scores, w, p: function(scores, weights=w, where=p))

    def call(scores, weights=None, where=None):
        return fast(scores, None if weights is None else np.float32(weights), where)

    return call


_softmin = jax.jit(
    lambda scores, k, w, p: softmin_aggregate(scores, risk_coef=k, weights=w, where=p)
)


def softmin(scores, k, weights=None, where=None):
    return _softmin(scores, k, None if weights is None else np.float32(weights), where)


@jax.jit
def softmin_gradient(scores, k, weights, where):
    return jax.grad(
        lambda z: softmin_aggregate(z, risk_coef=k, weights=weights, where=where).sum()
    )(scores)


# Every aggregator as f(scores, weights=, where=), with its oracle as f(row, weights, where).
FAMILY = {
    "softmin k=0": (
        functools.partial(softmin, k=0.0),
        lambda row, w=None, p=None: oracle.softmin(row, 0.0, w, p),
    ),
    "softmin k=0.01": (
        functools.partial(softmin, k=0.01),
        lambda row, w=None, p=None: oracle.softmin(row, 0.01, w, p),
    ),
    "softmin k=2": (
        functools.partial(softmin, k=2.0),
        lambda row, w=None, p=None: oracle.softmin(row, 2.0, w, p),
    ),
    "softmin k=inf": (
        functools.partial(softmin, k=INF),
        lambda row, w=None, p=None: oracle.softmin(row, INF, w, p),
    ),
    "mean": (compiled(mean_aggregate), oracle.mean),
    "sum": (compiled(sum_aggregate), oracle.total),
    "variance": (
        compiled(functools.partial(variance_penalized_aggregate, variance_coef=0.7)),
        lambda row, w=None, p=None: oracle.variance_penalized(row, 0.7, w, p),
    ),
    "min": (compiled(min_aggregate), lambda row, w=None, p=None: oracle.softmin(row, INF, w, p)),
}
LEVELS = np.float32([0.0, 0.1, 0.5, 0.9, 1.0])
every_aggregator = pytest.mark.parametrize("name", FAMILY)

rows = hnp.arrays(np.float32, 5, elements=st.floats(-8, 8, width=16))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Values worked by hand


@pytest.mark.parametrize(
    ("scores", "k", "expected"),
    [
        # exp(-z) = (1, 1/2), mean 3/4.
        pytest.param([0.0, LN2], 1.0, math.log(4 / 3), id="k=1"),
        # exp(-2z) = (1, 1/4), mean 5/8; -(1/2) log(5/8).
        pytest.param([0.0, LN2], 2.0, 0.5 * math.log(8 / 5), id="k=2"),
        # exp(-z) = (2, 1, 1/2), mean 7/6.
        pytest.param([-LN2, 0.0, LN2], 1.0, -math.log(7 / 6), id="three channels"),
        pytest.param([0.3, 0.3, 0.3], 5.0, 0.3, id="equal channels"),
        pytest.param([-1.7], 3.0, -1.7, id="one channel"),
        pytest.param([1.0, 2.0, 6.0], 0.0, 3.0, id="k=0 is the mean"),
        pytest.param([1.0, -2.0, 6.0], INF, -2.0, id="k=inf is the minimum"),
        # Far apart: the far channel vanishes, low + ln(2) / k.
        pytest.param([-50.0, 1000.0], 10.0, -50.0 + LN2 / 10, id="no overflow"),
        pytest.param([1e30, -1e30], 1e4, -1e30, id="extreme scores"),
    ],
)
def test_softmin_value_worked_by_hand(scores, k, expected):
    value = softmin(jnp.array(scores), k)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


# paper.md 1.8, point 2: what a constant channel (Z = 0) does to a score of +-1.5. The paper dossier
# prints three decimals.
@pytest.mark.parametrize(
    ("k", "positive", "negative"),
    [(0, 0.75, -0.75), (0.5, 0.613, -0.887), (1, 0.492, -1.008), (2, 0.322, -1.178)]
    + [(5, 0.139, -1.361)],
)
def test_a_dead_channel_damps_positive_and_amplifies_negative_scores(k, positive, negative):
    value = softmin(jnp.array([[1.5, 0.0], [-1.5, 0.0]]), k)
    np.testing.assert_allclose(value, [positive, negative], atol=5.1e-4)
    only_live = jnp.array([[True, False], [True, False]])
    alone = softmin(jnp.array([[1.5, 0.0], [-1.5, 0.0]]), k, where=only_live)
    np.testing.assert_array_equal(alone, np.float32([1.5, -1.5]))


@pytest.mark.parametrize(
    ("k", "z", "expected"),
    [(2, 1.0, 0.28), (2, 2.0, 0.34), (2, -1.0, -0.72), (2, -2.0, -1.66), (5, 1.0, 0.14)],
)
def test_a_dead_channel_caps_the_score_as_published(k, z, expected):
    value = float(softmin(jnp.array([z, 0.0]), k))
    assert value == pytest.approx(expected, abs=5.1e-3)
    # The cap: -(1/k) log((exp(-kz) + 1) / 2) < log(2) / k for every z.
    capped = float(softmin(jnp.array([100.0, 0.0]), k))
    assert capped == pytest.approx(LN2 / k, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "scores", "weights", "where", "expected"),
    [
        pytest.param(mean_aggregate, [1, 2, 6], None, None, 3.0, id="mean"),
        pytest.param(mean_aggregate, [1, 2, 6], [1, 3, 0], None, 1.75, id="mean, weights"),
        pytest.param(mean_aggregate, [1, 2, 6], None, [1, 0, 1], 3.5, id="mean, mask"),
        pytest.param(sum_aggregate, [1, 2, 6], None, None, 9.0, id="sum"),
        pytest.param(sum_aggregate, [1, 2, 6], [1, 3, 0.5], None, 10.0, id="sum, weights as is"),
        pytest.param(sum_aggregate, [1, 2, 6], [1, 3, 0.5], [0, 1, 1], 9.0, id="sum, mask"),
        pytest.param(min_aggregate, [1, 2, 6], [0, 3, 5], None, 2.0, id="min, weight 0"),
        pytest.param(min_aggregate, [1, 2, 6], None, [0, 0, 1], 6.0, id="min, mask"),
        # (0, 3): mean 1.5, population variance 2.25; (0, 3, 3): 2 and 2.
        pytest.param("variance", [0, 3], None, None, 1.5 - 0.5 * 2.25, id="variance"),
        pytest.param("variance", [0, 3], [1, 2], None, 2.0 - 0.5 * 2.0, id="variance, weights"),
        pytest.param("variance", [0, 9, 3], None, [1, 0, 1], 0.375, id="variance, mask"),
    ],
)
def test_other_aggregators_worked_by_hand(function, scores, weights, where, expected):
    if function == "variance":
        function = functools.partial(variance_penalized_aggregate, variance_coef=0.5)
    where = None if where is None else jnp.array(where, bool)
    value = function(jnp.array(scores, jnp.float32), weights=weights, where=where)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-6)


# Exact relations


@settings(max_examples=50)
@given(rows, st.sampled_from([1e-3, 0.5, 2.0, 20.0, 1e4]))
def test_softmin_lies_between_the_worst_channel_and_the_mean(scores, k):
    value = float(softmin(jnp.asarray(scores), k))
    upper = min(scores.mean(), scores.min() + math.log(scores.size) / k)
    # float32 of values up to 8: 8 * 2**-23 = 1e-6, a few of them.
    assert scores.min() - 3e-6 <= value <= upper + 3e-6


@settings(max_examples=30)
@given(rows)
def test_softmin_does_not_rise_with_k(scores):
    ks = [0.0, 1e-5, 1e-3, 0.1, 0.5, 1.0, 2.0, 5.0, 50.0, 1e4, INF]
    values = [float(softmin(jnp.asarray(scores), k)) for k in ks]
    assert np.all(np.diff(values) <= 3e-6)
    assert values[-1] == scores.min()


@every_aggregator
def test_aggregates_do_not_depend_on_the_order_of_channels(name):
    function, _ = FAMILY[name]
    scores, weights, order = normal(20, 5), [1.0, 0.0, 2.0, 0.5, 3.0], [3, 0, 4, 1, 2]
    expected = function(jnp.asarray(scores), weights=weights)
    value = function(jnp.asarray(scores[:, order]), weights=[weights[m] for m in order])
    np.testing.assert_allclose(value, expected, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "sum"])
def test_a_constant_added_to_every_channel_is_added_to_the_aggregate(name):
    function, _ = FAMILY[name]
    scores = normal(20, 5)
    value = function(jnp.asarray(scores + 3.0))
    np.testing.assert_allclose(value, function(jnp.asarray(scores)) + 3.0, atol=3e-6)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "sum"])
def test_equal_channels_give_their_common_value(name):
    function, _ = FAMILY[name]
    scores = jnp.tile(jnp.array([[0.1], [-2.7], [0.0]]), (1, 7))
    np.testing.assert_allclose(function(scores), [0.1, -2.7, 0.0], rtol=1e-6, atol=1e-7)


def test_limits_of_the_risk_coefficient_are_exact():
    scores = jnp.asarray(normal(20, 5))
    mean, low = FAMILY["mean"][0](scores), np.asarray(scores).min(-1)
    np.testing.assert_array_equal(softmin(scores, 0.0), mean)
    np.testing.assert_array_equal(softmin(scores, INF), low)
    np.testing.assert_array_equal(FAMILY["min"][0](scores), low)


def test_half_k_variance_penalty_matches_the_soft_minimum_to_second_order():
    # softmin = mean - (k/2) var + (k^2/6) kappa_3 - (k^3/24) kappa_4 + ...
    scores = normal(20, 5).astype(np.float64)
    third = np.mean((scores - scores.mean(-1, keepdims=True)) ** 3, -1)
    k = 0.05
    softmin = softmin_aggregate(jnp.asarray(scores, jnp.float32), risk_coef=k)
    explicit = variance_penalized_aggregate(jnp.asarray(scores, jnp.float32), variance_coef=k / 2)
    # |kappa_4| < 15 leaves 8e-5; a sample variance would be off by (k/2) var / (M - 1) > 5e-4.
    np.testing.assert_allclose(softmin - explicit, k**2 / 6 * third, atol=8e-5)


def test_the_variance_penalty_grows_where_the_soft_minimum_saturates():
    scores = jnp.array([0.0, 100.0])
    assert float(softmin_aggregate(scores, risk_coef=1.0)) == pytest.approx(LN2)
    # 50 - 0.5 * 2500
    assert float(variance_penalized_aggregate(scores, variance_coef=0.5)) == pytest.approx(-1200)


# Accuracy


@pytest.mark.parametrize("num_channels", [1, 2, 5, 17, 64])
def test_softmin_keeps_float32_accuracy_at_every_risk_coef(num_channels):
    scores = normal(20, num_channels)
    for k in [1e-30, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0, 100.0, 1e3, 1e4]:
        expected = [oracle.softmin(row, k) for row in scores]
        value = softmin(jnp.asarray(scores), k)
        np.testing.assert_allclose(value, expected, atol=3e-6, err_msg=f"k = {k}")


@pytest.mark.parametrize("k", [0.1, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9, 1e-20])
def test_softmin_stays_accurate_when_the_worst_channel_weighs_almost_nothing(k, tiny):
    # The sum is tiny + exp(-k * gap): relative to the lowest score it is 1 - 1 + tiny, which
    # float32 cannot hold.
    scores, weights = np.float32([[-3.0, 3.0], [0.0, 0.5], [3.0, -3.0]]), [tiny, 1.0]
    expected = [oracle.softmin(row, k, weights) for row in scores]
    np.testing.assert_allclose(softmin(scores, k, weights), expected, atol=3e-6)
    gradient = softmin_gradient(scores, k, np.float32(weights), None)
    expected = [oracle.softmin_gradient(row, k, weights) for row in scores]
    np.testing.assert_allclose(gradient, expected, atol=2e-6)


@every_aggregator
def test_aggregates_equal_the_oracle_with_weights_and_ragged_channels(name):
    function, slow = FAMILY[name]
    scores = normal(20, 5, seed=4)
    where = np.random.default_rng(3).random((20, 5)) < 0.6
    where[0] = False
    weights = [2.0, 1.0, 0.0, 0.25, 7.0]
    for w in (None, weights):
        value = function(jnp.asarray(scores), weights=w, where=jnp.asarray(where))
        expected = [slow(row, w, p) for row, p in zip(scores, where, strict=True)]
        np.testing.assert_allclose(value, expected, atol=1e-5)


# Gradients


@pytest.mark.parametrize("k", [0.0, 1e-6, 0.3, 1.0, 2.0, 10.0, 1e4, INF])
@pytest.mark.parametrize("weights", [None, (1.0, 4.0, 0.0, 0.5, 2.0)], ids=["equal", "weighted"])
def test_softmin_gradient_is_the_softmax_of_minus_k_z(k, weights):
    scores = normal(20, 5, seed=1)
    where = np.random.default_rng(2).random((20, 5)) < 0.8
    w = None if weights is None else np.float32(weights)
    gradient = softmin_gradient(scores, k, w, where)
    expected = [
        oracle.softmin_gradient(row, k, weights, p) for row, p in zip(scores, where, strict=True)
    ]
    np.testing.assert_allclose(gradient, expected, atol=2e-6)


@pytest.mark.parametrize("k", [0.0, 1e-6, 1.0, 1e4, INF])
def test_softmin_gradient_is_finite_and_sums_to_1_through_masked_garbage_and_ties(k):
    scores = jnp.array(
        [
            [NAN, 1.0, 2.0, INF],  # garbage outside the mask
            [-INF, 1.0, 1.0, NAN],  # a tie beside garbage
            [0.5, 0.5, 0.5, 0.5],  # all equal
            [0.0, 0.0, 1e4, -1e4],  # far apart
            [NAN, NAN, INF, -INF],  # no channel at all
        ]
    )
    where = jnp.array([[0, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], bool)

    def total(scores, k):
        return softmin_aggregate(scores, risk_coef=k, where=where).sum()

    value, gradient = jax.value_and_grad(total)(scores, k)
    traced = jax.jit(jax.value_and_grad(total))(scores, jnp.float32(k))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(-1), [1, 1, 1, 1, 0], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(gradient)[~np.asarray(where)], 0.0)
    np.testing.assert_allclose(gradient[1, 1:3], [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(gradient[2], [0.25] * 4, rtol=1e-6)
    chex.assert_trees_all_close(traced, (value, gradient), atol=1e-6)


@every_aggregator
def test_garbage_outside_the_mask_reaches_neither_value_nor_gradient(name):
    function, _ = FAMILY[name]
    where = jnp.array([[True, False, True, False], [False, False, False, False]])
    garbage = jnp.array([[1.0, NAN, -2.0, INF], [NAN, INF, -INF, NAN]])
    clean = jnp.where(where, garbage, 0.0)
    actual = jax.value_and_grad(lambda z: function(z, where=where).sum())(garbage)
    expected = jax.value_and_grad(lambda z: function(z, where=where).sum())(clean)
    chex.assert_tree_all_finite(actual)
    chex.assert_trees_all_equal(actual, expected)


@every_aggregator
@pytest.mark.parametrize("weights", [None, [1.0, 2.0]], ids=["equal", "weighted"])
def test_a_row_without_channels_gives_0_with_gradient_0(name, weights):
    function, _ = FAMILY[name]
    where = jnp.zeros((3, 2), bool)
    value, pullback = jax.vjp(
        lambda z: function(z, weights=weights, where=where), jnp.asarray(normal(3, 2))
    )
    assert value.tolist() == [0.0, 0.0, 0.0]
    assert not np.any(pullback(jnp.ones(3))[0])


def test_equal_minima_share_the_gradient_of_the_minimum():
    scores = jnp.array([[1.0, -2.0, -2.0], [0.0, 0.0, 0.0], [3.0, 2.0, 1.0]])
    gradient = jax.grad(lambda z: min_aggregate(z).sum())(scores)
    np.testing.assert_allclose(gradient, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]])


def test_variance_gradient_worked_by_hand():
    # d/dz_m (mean - beta var) = 1/M - (2 beta / M) (z_m - mean); z = (0, 2), beta = 0.5.
    gradient = jax.grad(lambda z: variance_penalized_aggregate(z, variance_coef=0.5))(
        jnp.array([0.0, 2.0])
    )
    np.testing.assert_allclose(gradient, [0.5 + 0.5, 0.5 - 0.5], atol=1e-7)


def test_gradients_of_two_rows_of_a_batch_do_not_mix():
    _, pullback = jax.vjp(lambda z: softmin(z, 2.0), jnp.asarray(normal(20, 5)))
    (gradient,) = pullback(jnp.asarray(np.eye(20, dtype=np.float32)[2]))
    assert np.all(gradient[2] > 0)
    assert not np.any(np.delete(np.asarray(gradient), 2, axis=0))


# Masks and weights


@every_aggregator
def test_a_masked_channel_is_a_removed_channel(name):
    function, _ = FAMILY[name]
    scores = normal(20, 5)
    keep = [0, 2, 3]
    where = jnp.tile(jnp.array([[True, False, True, True, False]]), (20, 1))
    masked = function(jnp.asarray(scores), weights=[1.0, 9.0, 2.0, 3.0, 9.0], where=where)
    removed = function(jnp.asarray(scores[:, keep]), weights=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(masked, removed, atol=1e-6)


@every_aggregator
def test_a_channel_of_weight_0_is_a_removed_channel_even_with_garbage_in_it(name):
    function, _ = FAMILY[name]
    scores = normal(20, 3)
    with_garbage = np.concatenate([np.full((20, 1), np.nan, np.float32), scores], axis=1)
    value, pullback = jax.vjp(
        lambda z: function(z, weights=[0.0, 1.0, 1.0, 1.0]), jnp.asarray(with_garbage)
    )
    np.testing.assert_allclose(value, function(jnp.asarray(scores)), atol=1e-6)
    (gradient,) = pullback(jnp.ones(20))
    assert not np.any(gradient[:, 0])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "sum"])
def test_only_the_ratios_of_weights_matter(name):
    function, _ = FAMILY[name]
    scores = jnp.asarray(normal(20, 3))
    np.testing.assert_allclose(function(scores, weights=[7.0] * 3), function(scores), atol=1e-6)
    np.testing.assert_allclose(
        function(scores, weights=[1.0, 2.0, 3.0]),
        function(scores, weights=[0.01, 0.02, 0.03]),
        atol=2e-6,
    )


@every_aggregator
def test_integer_weights_repeat_channels(name):
    function, _ = FAMILY[name]
    scores = normal(20, 3)
    repeated = scores[:, [0, 1, 1, 2, 2, 2]]
    np.testing.assert_allclose(
        function(jnp.asarray(scores), weights=[1.0, 2.0, 3.0]),
        function(jnp.asarray(repeated)),
        atol=3e-6,
    )


def test_weights_inside_the_soft_minimum_leave_its_limits_alone():
    # Outside weights (exp(-k w z)) would give min_m(w_m z_m) at k = inf; inside they do not count.
    scores, weights = jnp.array([0.5, 2.0]), [10.0, 1.0]
    assert float(softmin_aggregate(scores, risk_coef=INF, weights=weights)) == 0.5
    # k = 0: (10 * 0.5 + 2) / 11
    value = softmin_aggregate(scores, risk_coef=0.0, weights=weights)
    np.testing.assert_allclose(value, 7 / 11, rtol=1e-6)


def test_weighted_softmin_worked_by_hand():
    # w = (1/4, 3/4), k = 1, exp(-z) = (1, 1/2): 1/4 + 3/8 = 5/8.
    value = softmin_aggregate(jnp.array([0.0, LN2]), risk_coef=1.0, weights=[1.0, 3.0])
    np.testing.assert_allclose(value, math.log(8 / 5), rtol=1e-6)


def test_a_mask_may_be_shared_by_all_rows_by_broadcasting():
    scores = jnp.asarray(normal(4, 3, 2))
    shared = softmin(scores, 1.0, where=jnp.array([[[True, False]]]))
    np.testing.assert_array_equal(shared, scores[..., 0])


@pytest.mark.parametrize("risk_coef", [-1, -0.5, NAN])
def test_a_negative_risk_coef_is_refused(risk_coef):
    with pytest.raises(ValueError, match="risk_coef must be >= 0, got"):
        softmin_aggregate(jnp.zeros(2), risk_coef=risk_coef)


# The soft minimum that sees levels


def level_softmin(scores, levels, level_coef, k, **fields):
    return level_softmin_aggregate(
        jnp.asarray(scores), levels=levels, level_coef=level_coef, risk_coef=k, **fields
    )


@pytest.mark.parametrize(
    ("k", "scores", "expected"),
    [
        # Levels (0, ln 2) at c = 1: weights in proportion 1 to 1/2, that is 2/3 and 1/3.
        pytest.param(0.0, [3.0, 0.0], 2.0, id="k=0: weighted mean"),
        # exp(-z) = (1, 1/2): 2/3 + 1/6 = 5/6.
        pytest.param(1.0, [0.0, LN2], math.log(6 / 5), id="k=1"),
        # exp(-2z) = (1, 1/4): 2/3 + 1/12 = 3/4.
        pytest.param(2.0, [0.0, LN2], 0.5 * math.log(4 / 3), id="k=2"),
        pytest.param(INF, [1.0, 0.5], 0.5, id="k=inf: the minimum, whatever the level"),
    ],
)
def test_level_softmin_value_worked_by_hand(k, scores, expected):
    levels = jnp.array([0.0, LN2])
    value = level_softmin_aggregate(jnp.array(scores), levels=levels, level_coef=1.0, risk_coef=k)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("level_coef", [0.5, 10.0, 60.0])
@pytest.mark.parametrize("k", [0.0, 0.01, 1.0, 5.0, INF])
def test_level_softmin_equals_the_oracle_with_weights_and_masks(k, level_coef):
    scores, weights = normal(12, 5), (1.0, 0.0, 2.0, 0.5, 3.0)
    where = normal(12, 5, seed=3) > -0.5
    where[0] = False  # nothing to aggregate
    fields = dict(weights=weights, where=jnp.asarray(where))
    value = level_softmin(scores, LEVELS, level_coef, k, **fields)
    expected = [
        oracle.level_softmin(row, k, LEVELS, level_coef, weights, there)
        for row, there in zip(scores, where, strict=True)
    ]
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("k", [0.0, 0.3, 1.0, 5.0, INF])
def test_level_softmin_without_a_coefficient_is_the_soft_minimum(k):
    scores, levels = normal(6, 4), np.abs(normal(6, 4, seed=1))
    where = jnp.asarray(normal(6, 4, seed=2) > -1)
    fields = dict(weights=(1.0, 2.0, 0.0, 3.0), where=where)
    value = level_softmin(scores, levels, 0.0, k, **fields)
    np.testing.assert_array_equal(value, softmin_aggregate(scores, risk_coef=k, **fields))


@pytest.mark.parametrize("k", [0.2, 1.0, 4.0])
def test_level_softmin_is_that_of_scores_and_levels_less_what_a_group_has_in_common(k):
    scores, levels, c = normal(6, 4), np.abs(normal(1, 4, seed=1)), 2.0
    joined = softmin_aggregate(scores + c / k * levels, risk_coef=k)
    common = softmin_aggregate(c / k * levels, risk_coef=k)
    np.testing.assert_allclose(level_softmin(scores, levels, c, k), joined - common, atol=1e-5)


def test_level_softmin_looks_at_differences_of_levels_only():
    scores, levels = normal(6, 4), np.abs(normal(1, 4, seed=1))
    value = level_softmin(scores, levels, 5.0, 1.0)
    np.testing.assert_allclose(level_softmin(scores, levels + 3.0, 5.0, 1.0), value, atol=1e-5)


def test_the_gradient_of_level_softmin_is_who_decides():
    scores, levels = np.float32([0.5, -1.0, 2.0]), np.float32([0.1, 0.9, 0.3])
    gradient = jax.grad(lambda z: level_softmin(z, levels, 4.0, 2.0))(jnp.asarray(scores))
    weight = np.exp(-4.0 * levels.astype(float) - 2.0 * scores.astype(float))
    np.testing.assert_allclose(gradient, weight / weight.sum(), rtol=1e-5)


def test_the_lowest_level_decides_alone_for_a_large_coefficient():
    scores, levels = normal(6, 3), jnp.array([0.7, 0.2, 0.5])
    value = level_softmin(scores, levels, 1e6, 1.0)
    np.testing.assert_array_equal(value, scores[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("k", [0.0, 1.0, INF])
def test_a_masked_channels_level_and_score_reach_nothing(k):
    scores, levels = normal(6, 3), np.float32([0.7, 0.2, 0.5])
    where = jnp.array([True, False, True])
    spoilt = scores.copy()
    spoilt[:, 1] = NAN
    for level in (NAN, INF, -INF, 0.0):
        given = levels.copy()
        given[1] = level
        value, gradient = jax.value_and_grad(
            lambda z, given=given: level_softmin(z, given, 9.0, k, where=where).sum()
        )(jnp.asarray(spoilt))
        left = level_softmin(scores[:, [0, 2]], levels[[0, 2]], 9.0, k).sum()
        np.testing.assert_allclose(value, left, rtol=1e-6)
        assert np.isfinite(gradient).all()
        assert not np.any(gradient[:, 1])


@pytest.mark.parametrize("level_coef", [-1, -0.5, NAN])
def test_a_negative_level_coef_is_refused(level_coef):
    with pytest.raises(ValueError, match="level_coef must be >= 0, got"):
        level_softmin(jnp.zeros(2), jnp.zeros(2), level_coef, 1.0)


# Names, functions and what they ask for


def bound(rule, **given_all):
    """The function behind a name, or a user's, with what it names."""
    function = METHODS[rule].rule if isinstance(rule, str) else rule
    return bind(function, given_all, what="aggregator", hints=HINTS)


def available():
    return dict(
        where=jnp.ones((1, 2, 3), bool),
        weights=None,
        risk_coef=2.0,
        variance_coef=0.5,
        level_coef=3.0,
        levels=None,
        rewards=jnp.zeros((1, 2, 3)),
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("rvpo", lambda row: oracle.softmin(row, 2.0)),
        ("variance", lambda row: oracle.variance_penalized(row, 0.5)),
        ("hard_min", lambda row: oracle.softmin(row, INF)),
        ("gdpo", oracle.mean),
        ("gdpo_sum", oracle.total),
        ("rvpo_level", lambda row: oracle.level_softmin(row, 2.0, LEVELS[:3], 3.0)),
    ],
)
def test_each_name_stands_for_its_aggregator(method, expected):
    scores = normal(1, 2, 3)
    given_all = available() | {"levels": jnp.asarray(LEVELS[:3]).reshape(1, 1, 3)}
    function = bound(method, **given_all)
    np.testing.assert_allclose(
        function(jnp.asarray(scores)), [[expected(row) for row in scores[0]]], atol=3e-6
    )


def test_a_function_is_given_what_it_names_and_nothing_else():
    seen = {}

    def own(scores, where, *, risk_coef, weights):
        seen.update(where=where, risk_coef=risk_coef, weights=weights)
        return scores[..., 0]

    given_all = available()
    bound(own, **given_all)(jnp.zeros((1, 2, 3)))
    assert seen["where"] is given_all["where"]
    assert seen["risk_coef"] == 2.0
    assert seen["weights"] is None


def test_a_function_of_the_scores_alone_is_given_the_scores_alone():
    function = bound(lambda z: z[..., 1], **available())
    assert float(function(jnp.array([[[1.0, 5.0]]]))[0, 0]) == 5.0


def test_a_function_with_keywords_is_given_everything_there_is():
    seen = {}

    def own(scores, **rest):
        seen.update(rest)
        return scores[..., 0]

    bound(own, **available())(jnp.zeros((1, 2, 3)))
    assert set(seen) == {"where", "risk_coef", "variance_coef", "level_coef", "rewards"}


def test_a_parameter_of_the_users_own_keeps_its_default():
    def own(scores, power=2.0):
        return scores[..., 0] ** power

    function = bound(own, **available())
    assert float(function(jnp.array([[[3.0]]]))[0, 0]) == 9.0


def test_an_argument_bound_with_partial_stays_bound():
    # partial(softmin_aggregate, risk_coef=INF) says "k = inf", whatever the config holds.
    fixed = functools.partial(softmin_aggregate, risk_coef=INF)
    function = bound(fixed, **available())
    scores = jnp.asarray(normal(1, 2, 3))
    np.testing.assert_array_equal(function(scores), min_aggregate(scores))


@pytest.mark.parametrize("name", ["temperature", "levels"])
def test_asking_for_what_is_not_there_is_refused_by_name(name):
    namespace = {}
    exec(f"def own(scores, {name}):\n    return scores[..., 0]", namespace)
    with pytest.raises(ValueError, match=rf"aggregator own asks for {name}, .*not avail") as info:
        bound(namespace["own"], **available())
    assert "It may name: where, weights, risk_coef" in str(info.value)
    assert ("levels need channels=" in str(info.value)) == (name == "levels")
