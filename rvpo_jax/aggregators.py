"""The importable path of the aggregators, which live in ``rvpo_jax.method.aggregators``."""

from rvpo_jax.basics.threshold import risk_coef_threshold
from rvpo_jax.method.aggregators import (
    mean_aggregate,
    min_aggregate,
    softmin_aggregate,
    sum_aggregate,
    variance_penalized_aggregate,
)
from rvpo_jax.method.levels import level_softmin_aggregate
from rvpo_jax.method.methods import METHODS

__all__ = [
    "METHODS",
    "level_softmin_aggregate",
    "mean_aggregate",
    "min_aggregate",
    "risk_coef_threshold",
    "softmin_aggregate",
    "sum_aggregate",
    "variance_penalized_aggregate",
]
