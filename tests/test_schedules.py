"""The risk coefficient over the steps: values by hand, clamping, tracing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.config import RiskScheduleConfig
from rvpo_jax.method.schedules import make_risk_schedule


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Steps 0, 25, 50, 75, 100, 1000 of a run of 100 steps with risk_coef 3.
        pytest.param(dict(), [3, 3, 3, 3, 3, 3], id="constant is risk_coef"),
        pytest.param(
            dict(kind="linear"), [0.5, 0.875, 1.25, 1.625, 2, 2], id="linear, the paper's values"
        ),
        pytest.param(
            dict(kind="linear", start=4.0, end=0.0), [4, 3, 2, 1, 0, 0], id="linear, downwards"
        ),
        pytest.param(
            dict(kind="linear", start=0.0, end=2.0, horizon=50),
            [0, 1, 2, 2, 2, 2],
            id="linear, own horizon",
        ),
        pytest.param(
            # end + (start - end) (1 + cos(pi t)) / 2
            dict(kind="cosine"),
            [0.5, 2 - 0.75 * (1 + math.sqrt(0.5)), 1.25, 2 - 0.75 * (1 - math.sqrt(0.5)), 2, 2],
            id="cosine",
        ),
        pytest.param(
            dict(kind="cosine", start=1.0, end=0.0, horizon=50),
            [1, 0.5, 0, 0, 0, 0],
            id="cosine, own horizon",
        ),
        pytest.param(
            dict(kind="piecewise", points=((25, 1.0), (75, 2.0), (100, 0.0))),
            [1, 1, 1.5, 2, 0, 0],
            id="piecewise is held at both ends",
        ),
        pytest.param(dict(kind="piecewise", points=((7, 1.5),)), [1.5] * 6, id="one point"),
    ],
)
def test_values_worked_by_hand(fields, expected):
    schedule = make_risk_schedule(RiskScheduleConfig(**fields), 3.0, steps=100)
    values = [schedule(step) for step in (0, 25, 50, 75, 100, 1000)]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert all(value.dtype == jnp.float32 and value.shape == () for value in values)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "piecewise"])
def test_a_traced_step_gives_the_same_value(kind):
    config = RiskScheduleConfig(kind=kind, points=((0, 0.5), (10, 2.0)))
    schedule = make_risk_schedule(config, 1.0, steps=20)
    compiled = jax.jit(schedule)
    for step in (0, 3, 20):
        assert float(compiled(jnp.int32(step))) == pytest.approx(float(schedule(step)), abs=1e-6)


def test_a_constant_schedule_may_be_the_hard_minimum():
    schedule = make_risk_schedule(RiskScheduleConfig(), float("inf"), steps=10)
    assert float(schedule(3)) == math.inf


def test_a_horizon_longer_than_the_run_is_not_reached():
    schedule = make_risk_schedule(RiskScheduleConfig(kind="linear", horizon=200), 1.0, steps=100)
    assert float(schedule(100)) == pytest.approx(1.25)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_rising_schedule_never_falls(kind):
    schedule = make_risk_schedule(RiskScheduleConfig(kind=kind), 1.0, steps=50)
    values = np.asarray(jax.vmap(schedule)(jnp.arange(80)))
    assert np.all(np.diff(values) >= 0)
    assert (values[0], values[-1]) == (0.5, 2.0)
