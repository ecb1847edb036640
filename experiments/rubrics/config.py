"""Eight kinds of prompt with 5 to 17 rubric items each, items of five axes, a noisy judge."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax import AdvantageConfig, Channel
from rvpo_jax.lab.worlds import World, with_judge
from rvpo_jax.method.aggregators import variance_penalized_aggregate

# The axes of HealthBench, easy to hard by the paper's table, and the items of each at most.
AXES = {
    "communication": 3,
    "instruction following": 3,
    "accuracy": 4,
    "context awareness": 3,
    "completeness": 4,
}
# Slots of an axis that an item of it asks for, give or take one.
NEEDS = (2, 3, 4, 5, 6)
AXIS_OF = np.repeat(np.arange(len(AXES)), list(AXES.values()))  # [M]
# Items of the eight kinds of prompt; RaR-Medicine has 5 to 17, 9.6 on average.
NUM_ITEMS = (5, 7, 8, 9, 10, 10, 11, 17)
NUM_SLOTS = 24


def rubric_rewards(
    settings: Mapping[str, jax.Array], choices: jax.Array, contexts: jax.Array
) -> jax.Array:
    """1 where a completion spends the slots on the item's axis that the item asks for, else 0.

    Args:
      settings: ``needs`` ``[N, M]``, slots; ``axis`` ``[M, A]`` one-hot, axis of each item.
      choices: ``[B, G, S, A]`` one-hot; the last choice serves no axis.
      contexts: ``[B]`` int32.

    Returns:
      ``[B, G, M]`` float32, 0 or 1.
    """
    counts = jnp.sum(choices, axis=2)
    spent = jnp.einsum("bga,ma->bgm", counts, settings["axis"], precision="highest")
    return (spent >= settings["needs"][contexts][:, None] - 0.5).astype(jnp.float32)


def rubric_world(flip: float, num_tables: int) -> World:
    """Prompts of eight kinds; each axis has an item in every kind.

    Args:
      flip: probability that the judge's verdict on an item is the wrong one.
      num_tables: 8: each kind of prompt has a policy of its own; 1: one policy answers all.

    Returns:
      A world whose policy is uniform at step 0.
    """
    rng = np.random.default_rng(0)
    num_items = len(AXIS_OF)
    present = np.zeros((len(NUM_ITEMS), num_items), bool)
    for row, number in zip(present, NUM_ITEMS, strict=True):
        one_each = [rng.choice(np.flatnonzero(AXIS_OF == axis)) for axis in range(len(AXES))]
        row[one_each] = True
        row[rng.choice(np.flatnonzero(~row), number - len(AXES), replace=False)] = True
    needs = np.asarray(NEEDS)[AXIS_OF] + rng.integers(-1, 2, present.shape)
    world = World(
        channels=tuple(Channel(name=f"{list(AXES)[axis]} {i}") for i, axis in enumerate(AXIS_OF)),
        reward_fn=rubric_rewards,
        num_slots=NUM_SLOTS,
        logits=jnp.zeros((num_tables, 1, len(AXES) + 1)),
        settings={
            "needs": jnp.asarray(needs, jnp.float32),
            "axis": jnp.asarray(np.eye(len(AXES) + 1)[AXIS_OF], jnp.float32),
        },
        present=jnp.asarray(present),
    )
    return with_judge(world, flip=flip)


def variance_of_k(scores: jax.Array, *, risk_coef: Any, where: jax.Array) -> jax.Array:
    """Mean minus k/2 times the variance: the soft minimum of this k to second order."""
    return variance_penalized_aggregate(scores, variance_coef=risk_coef / 2, where=where)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule and its k at the first and at the last step."""

    config: AdvantageConfig
    risk: tuple[float, float] = (0.0, 0.0)


RULES = {
    "GRPO": Rule(config=AdvantageConfig(method="grpo", whiten="none")),
    "GDPO (mean)": Rule(config=AdvantageConfig(method="gdpo")),
    "GDPO (sum)": Rule(config=AdvantageConfig(method="gdpo_sum")),
    "RVPO k: 0.5 -> 2": Rule(config=AdvantageConfig(), risk=(0.5, 2.0)),
    "RVPO k=5": Rule(config=AdvantageConfig(), risk=(5.0, 5.0)),
    "hard-min": Rule(config=AdvantageConfig(method="hard_min")),
    "variance beta: 0.25 -> 1": Rule(config=AdvantageConfig(method=variance_of_k), risk=(0.5, 2.0)),
}
REFERENCE = "GDPO (mean)"
SMOKE_RULES = ("GDPO (mean)", "RVPO k: 0.5 -> 2")
MAIN = "10 % wrong"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Worlds that train in one program, and how fast."""

    worlds: dict[str, World]
    learning_rate: float


SETTINGS = (
    # A table sees two of sixteen groups: the step is eight times as long.
    Setting(
        worlds={
            MAIN: rubric_world(0.1, num_tables=8),
            "0 % wrong": rubric_world(0.0, num_tables=8),
            "20 % wrong": rubric_world(0.2, num_tables=8),
        },
        learning_rate=0.4,
    ),
    Setting(worlds={"one policy": rubric_world(0.1, num_tables=1)}, learning_rate=0.05),
)
SMOKE_SETTING = Setting(worlds={MAIN: rubric_world(0.1, num_tables=8)}, learning_rate=0.4)
SEEDS = range(16)
SMOKE_SEEDS = range(2)
OPTIONS = {
    "steps": 400,
    "num_groups": 16,
    "group_size": 16,
    "record_every": 10,
}
SMOKE_OPTIONS = {**OPTIONS, "steps": 4, "num_groups": 8, "record_every": 1}
# HealthBench by axis, 7B, and score of the best and final checkpoint by size.
PAPER_AXES = {
    "GDPO (mean)": (0.470, 0.325, 0.300, 0.183, 0.111),
    "RVPO k: 0.5 -> 2": (0.451, 0.301, 0.333, 0.212, 0.152),
}
PAPER_SCORES = {
    "GDPO (mean)": {"3B": (0.192, 0.117), "7B": (0.198, 0.026), "14B": (0.215, 0.000)},
    "RVPO k: 0.5 -> 2": {"3B": (0.189, 0.147), "7B": (0.230, 0.204), "14B": (0.261, 0.236)},
}
