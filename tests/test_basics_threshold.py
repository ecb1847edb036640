"""From which k on a soft minimum refuses what breaks few channels."""

import numpy as np
import pytest

from rvpo_jax import AdvantageConfig, compute_advantages
from rvpo_jax.aggregators import risk_coef_threshold


def aggregate_of_exploit(num_channels, num_broken, group_size, k):
    """The first completion alone fails D channels, and alone meets all the others."""
    rewards = np.zeros((1, group_size, num_channels))
    rewards[:, 1:, :num_broken] = 1.0
    rewards[:, 0, num_broken:] = 1.0
    config = AdvantageConfig(risk_coef=k, eps=0.0, whiten="none")
    return float(compute_advantages(rewards, config=config).aggregate[0, 0])


@pytest.mark.parametrize("sizes", [(10, 1, 16), (2, 1, 4), (6, 2, 8), (5, 4, 32)])
def test_above_the_threshold_an_exploit_that_wins_all_else_is_refused(sizes):
    k = risk_coef_threshold(*sizes)
    assert aggregate_of_exploit(*sizes, 1.01 * k) < 0
    assert aggregate_of_exploit(*sizes, 0.0) == pytest.approx(
        (sizes[0] - 2 * sizes[1]) / sizes[0] * (sizes[2] - 1) / np.sqrt(sizes[2]), rel=1e-5
    )


def test_the_threshold_is_tight_where_much_is_won():
    # With D / M of 1/50 and large groups what is won elsewhere hardly counts at the threshold.
    k = risk_coef_threshold(50, 1, 256)
    assert (
        aggregate_of_exploit(50, 1, 256, 0.9 * k) > 0 > aggregate_of_exploit(50, 1, 256, 1.01 * k)
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((10, 0, 16), r"num_broken must lie in \[1, num_channels = 10\], got 0"),
        ((10, 11, 16), "got 11"),
        ((10, 1, 1), "group_size must be >= 2, got 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        risk_coef_threshold(*sizes)
