"""How risk-averse: fixed k, schedules of k, the explicit variance penalty; three small worlds."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax import AdvantageConfig
from rvpo_jax.lab.worlds import BUDGET_NEEDS, World, budget_bandit, conflict_bandit
from rvpo_jax.method.aggregators import variance_penalized_aggregate


def variance_of_k(scores: jax.Array, *, risk_coef: Any, where: jax.Array) -> jax.Array:
    """Mean minus k/2 times the variance: the soft minimum of this k to second order."""
    return variance_penalized_aggregate(scores, variance_coef=risk_coef / 2, where=where)


# k at the first and at the last step; in between a straight line.
RISKS = {
    "k=0 (GDPO)": (0.0, 0.0),
    "k=0.5": (0.5, 0.5),
    "k=1": (1.0, 1.0),
    "k=2": (2.0, 2.0),
    "k=5": (5.0, 5.0),
    "k=10": (10.0, 10.0),
    "k=inf (hard-min)": (math.inf, math.inf),
    "k: 0.5 -> 2": (0.5, 2.0),
    "k: 2 -> 0.5": (2.0, 0.5),
    "k: 10 -> 0.5": (10.0, 0.5),
}
VARIANCES = {
    "beta=0.25": (0.5, 0.5),
    "beta=0.5": (1.0, 1.0),
    "beta=1": (2.0, 2.0),
    "beta=2.5": (5.0, 5.0),
    "beta=5": (10.0, 10.0),
}
FAMILIES = {
    "soft minimum": (AdvantageConfig(), RISKS),
    "variance": (AdvantageConfig(method=variance_of_k), VARIANCES),
}
REFERENCE = "k=0 (GDPO)"
SMOKE_RULES = ("k=0 (GDPO)", "k: 0.5 -> 2", "beta=1")
# HealthBench score of the 7B model at its best and at its last checkpoint; hard-min's and the
# "aggressive start"'s best are not known, nor which k the latter had.
PAPER = {
    "k=0 (GDPO)": (0.198, 0.026),
    "k: 0.5 -> 2": (0.230, 0.204),
    "k=5": (0.241, 0.095),
    "k=inf (hard-min)": (None, 0.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A world and how fast it is trained."""

    world: World
    learning_rate: float
    columns: tuple[str, ...]
    """What is reported of it."""


def budget() -> World:
    """The budget world; a channel counts as met from its first slot on."""
    pass_at = 1 / jnp.asarray(BUDGET_NEEDS, jnp.float32)
    return dataclasses.replace(budget_bandit(), pass_at=pass_at)


# Of the columns that run.py measures: "best" of the windows, "final" window, "kept" = final / best.
LEVELS = ("worst best", "worst final", "worst kept", "mean best", "mean final", "joint")
SETTINGS = {
    # 0.2: at 0.45 every k > 0 keeps the balanced arm (conflict_bandit), and nothing is to be seen.
    "conflict": Setting(
        world=conflict_bandit(0.2),
        learning_rate=0.3,
        columns=("worst final", "mean final", "joint"),
    ),
    "budget": Setting(world=budget(), learning_rate=0.05, columns=(*LEVELS, "switch")),
    "budget, fast": Setting(
        world=budget(), learning_rate=0.8, columns=(*LEVELS, "switch", "turns")
    ),
}
SMOKE_SETTINGS = ("budget",)
SEEDS = range(24)
SMOKE_SEEDS = range(2)
OPTIONS = {"steps": 400, "num_groups": 16, "group_size": 16}
SMOKE_OPTIONS = {"steps": 20, "num_groups": 2, "group_size": 16}
# Steps of a checkpoint: best and final are the best and the last of these windows.
WINDOW = 20
SMOKE_WINDOW = 5
# Another channel is the bottleneck once it is lower by so much.
MARGIN = 0.02


def schedule(ends: tuple[float, float], steps: int) -> np.ndarray:
    """``[steps]`` values of k on a straight line."""
    first, last = ends
    return np.full(steps, first) if first == last else np.linspace(first, last, steps)
