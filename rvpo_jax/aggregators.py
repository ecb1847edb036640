"""The importable path of the aggregators, which live in ``rvpo_jax.method.aggregators``."""

from rvpo_jax.method.aggregators import (
    AGGREGATORS,
    level_softmin_aggregate,
    make_aggregator,
    mean_aggregate,
    min_aggregate,
    softmin_aggregate,
    sum_aggregate,
    variance_penalized_aggregate,
)

__all__ = [
    "AGGREGATORS",
    "level_softmin_aggregate",
    "make_aggregator",
    "mean_aggregate",
    "min_aggregate",
    "softmin_aggregate",
    "sum_aggregate",
    "variance_penalized_aggregate",
]
