"""Sixteen slots for ten channels that ask for 26: rules, two kinds of policy, seeds."""

import jax
import jax.numpy as jnp

from rvpo_jax import AdvantageConfig
from rvpo_jax.lab.worlds import World, budget_bandit
from rvpo_jax.method.aggregators import softmin_aggregate


def raw_softmin(scores: jax.Array, *, rewards: jax.Array) -> jax.Array:
    """Soft minimum (k = 5) of the raw rewards; standardised afterwards, in its group."""
    del scores
    return softmin_aggregate(rewards, risk_coef=5.0)


def level_softmin_3(scores: jax.Array, *, levels: jax.Array) -> jax.Array:
    """Soft minimum (k = 1) of the score plus 3 times the group's mean level of the channel."""
    return softmin_aggregate(scores + 3.0 * levels, risk_coef=1.0)


def level_softmin_6(scores: jax.Array, *, levels: jax.Array) -> jax.Array:
    """The same with 6 times the level."""
    return softmin_aggregate(scores + 6.0 * levels, risk_coef=1.0)


def level_weights_2(scores: jax.Array, *, levels: jax.Array) -> jax.Array:
    """Mean of the scores, weighted towards channels of low level: softmax(-2 m)."""
    return jnp.sum(jax.nn.softmax(-2.0 * levels, axis=-1) * scores, axis=-1)


def level_weights_5(scores: jax.Array, *, levels: jax.Array) -> jax.Array:
    """The same with softmax(-5 m)."""
    return jnp.sum(jax.nn.softmax(-5.0 * levels, axis=-1) * scores, axis=-1)


RULES = {
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=0.5": AdvantageConfig(risk_coef=0.5),
    "RVPO k=1": AdvantageConfig(risk_coef=1.0),
    "RVPO k=2": AdvantageConfig(risk_coef=2.0),
    "RVPO k=5": AdvantageConfig(risk_coef=5.0),
    "hard-min": AdvantageConfig(method="hard_min"),
    "variance beta=0.5": AdvantageConfig(method="variance", variance_coef=0.5),
    "raw soft-min k=5": AdvantageConfig(method=raw_softmin, whiten="group"),
    "level soft-min 3": AdvantageConfig(method=level_softmin_3),
    "level soft-min 6": AdvantageConfig(method=level_softmin_6),
    "level weights 2": AdvantageConfig(method=level_weights_2),
    "level weights 5": AdvantageConfig(method=level_weights_5),
}
SMOKE_RULES = ("GDPO", "level soft-min 3")
# All slots draw from one row of logits, so that counts stay uncertain; or each has its own row, and
# the policy can become certain.
WORLDS: dict[str, World] = {
    "shared": budget_bandit(rows=1),
    "own rows": budget_bandit(rows=16),
}
SMOKE_WORLDS = ("shared",)
# A row of its own sees one slot of sixteen: the step is sixteen times as long.
LEARNING_RATES = {"shared": 0.05, "own rows": 0.8}
SEEDS = range(24)
SMOKE_SEEDS = range(2)
OPTIONS = {"steps": 400, "num_groups": 16, "group_size": 16, "record_every": 10}
SMOKE_OPTIONS = {"steps": 4, "num_groups": 2, "group_size": 16, "record_every": 1}
# Outcomes are averaged over the last quarter of the steps.
LAST_FRAC = 0.25
