"""Masked reductions: hand-worked cases, and what must not be looked at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.method import masking


def test_masked_mean_over_an_axis_and_over_everything():
    values = jnp.array([[1.0, 2.0, 6.0], [3.0, 8.0, 100.0]])
    where = jnp.array([[True, True, False], [True, False, False]])
    # Columns: (1 + 3) / 2, 2 / 1, none. Rows: (1 + 2) / 2, 3 / 1. All: (1 + 2 + 3) / 3.
    assert masking.masked_mean(values, where, axis=0).tolist() == [2.0, 2.0, 0.0]
    assert masking.masked_mean(values, where, axis=1).tolist() == [1.5, 3.0]
    assert float(masking.masked_mean(values, where)) == 2.0


def test_masked_mean_and_its_gradient_do_not_see_masked_nan_and_infinity():
    values = jnp.array([1.0, jnp.nan, 3.0, jnp.inf, -jnp.inf])
    where = jnp.array([True, False, True, False, False])
    value, gradient = jax.value_and_grad(masking.masked_mean)(values, where)
    assert float(value) == 2.0
    assert gradient.tolist() == [0.5, 0.0, 0.5, 0.0, 0.0]


def test_masked_mean_of_nothing_is_0_with_gradient_0():
    value, gradient = jax.value_and_grad(masking.masked_mean)(jnp.ones(3), jnp.zeros(3, bool))
    assert float(value) == 0.0
    assert gradient.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "where", "expected"),
    [
        pytest.param(None, [1, 1, 1, 1], [0.25, 0.25, 0.25, 0.25], id="equal"),
        pytest.param(None, [1, 0, 1, 0], [0.5, 0, 0.5, 0], id="absent leaves the 1/M too"),
        pytest.param([1, 3, 4, 8], [1, 1, 1, 0], [0.125, 0.375, 0.5, 0], id="ratios, renormalised"),
        pytest.param([0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 0], id="weight 0"),
        pytest.param([0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0], id="only weight 0 is left"),
        pytest.param(None, [0, 0, 0, 0], [0, 0, 0, 0], id="no channel"),
    ],
)
def test_normalized_weights_sum_to_1_over_the_channels_that_exist(weights, where, expected):
    weights = None if weights is None else jnp.array(weights)
    where = jnp.array([where, [1, 1, 1, 1]], bool)
    share = masking.normalized_weights(weights, where)
    np.testing.assert_array_equal(share[0], np.float32(expected))
    np.testing.assert_allclose(share[1].sum(), 1.0, rtol=1e-6)
