"""All named rules, and the worlds that they are compared in."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from trusting import TRUSTING

from rvpo_jax.aggregators import risk_coef_threshold, softmin_aggregate
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.experiment import module_of
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.rules import Method, method_of

HERE = Path(__file__).parent
level_aware = module_of(HERE.parent / "level_aware", "config")
exploits = module_of(HERE.parent / "exploitable_judges", "config")
the_map, survey = level_aware.the_map, level_aware.survey

# Needs constraints, which these worlds do not have.
LEFT_OUT = ("gated",)


def config_of(name: str, **fields: Any) -> AdvantageConfig:
    """A rule with the whitening of its source; completions have one length here."""
    whiten = "batch" if METHODS[name].whitened else "none"
    return AdvantageConfig(method=name, whiten=whiten, **fields)


SAFE = 1.2  # times the threshold


def softmin_at_threshold(scores: jax.Array, *, where: jax.Array) -> jax.Array:
    """RVPO whose k is a little above what refuses an exploit that breaks one channel."""
    width, group_size = scores.shape[-1], scores.shape[1]
    existing = jnp.max(jnp.sum(where, axis=-1))
    threshold = risk_coef_threshold(width, 1, group_size) * jnp.log(existing) / math.log(width)
    return softmin_aggregate(scores, risk_coef=SAFE * threshold, where=where)


AT_THRESHOLD = Method(rule=softmin_at_threshold, label="rvpo, k = 1.2 k*", pointwise=True)
RULES = {
    **{name: config_of(name) for name in METHODS if name not in LEFT_OUT},
    "rvpo, k = 0.5": config_of("rvpo", risk_coef=0.5),
    "rvpo, k = 5": config_of("rvpo", risk_coef=5.0),
    "rvpo, k = 1.2 k*": AdvantageConfig(method=AT_THRESHOLD),
    "rvpo_utility, c = 0": config_of("rvpo_utility", options={"trust": 0.0}),
    "rvpo_utility, c from data": AdvantageConfig(method=TRUSTING),
}


def needs_of(name: str) -> str:
    """What a rule must know of the channels."""
    return method_of(RULES[name].method, METHODS).needs


SMOKE_RULES = ("gdpo", "lagrangian")
AIM = {"targets": "all", "multipliers": "all but the first"}


def aimed(cell: Any, needs: str) -> Any:
    """The cell with targets for a rule that needs them: the marks from which a channel is met.

    Rules with multipliers raise the first, easiest channel and constrain the others.
    """
    if needs not in AIM:
        return cell
    world = cell.world
    marks = [float(mark) for mark in (world.pass_at if world.pass_at is not None else ())]
    channels = tuple(
        dataclasses.replace(channel, target=marks[m] if marks else channel.pass_at)
        if m or needs == "targets"
        else channel
        for m, channel in enumerate(world.channels)
    )
    return dataclasses.replace(cell, world=dataclasses.replace(world, channels=channels))


# The map's pairs and bases, its judges, and the worlds that level_aware judged on; no other group
# sizes and numbers of channels, which are further programs for each rule.
AXES = ("pair", "base", "noise", "flip", "binary")
CELLS = [cell for cell in the_map.CELLS if cell.axis in AXES] + level_aware.HELD_OUT
HOPELESS = level_aware.HOPELESS[:1]
SMOKE_CELLS = level_aware.SMOKE_CELLS[:1]
DESIGNS = [
    design for design in exploits.drawn_designs(seed=exploits.DESIGN_SEED + 1) if design.broken
]
DESIGNS = [design for design in DESIGNS if design.group_size == 16][:24]
SEEDS = range(200, 206)
SMOKE_SEEDS = range(2)
OPTIONS = {**the_map.OPTIONS, "steps": 1000, "record_every": 20}
SMOKE_OPTIONS = the_map.SMOKE_OPTIONS
EXPLOIT_OPTIONS = {"steps": 1000, "record_every": 20}
# Outcomes and the sign that is better.
COLUMNS = {"worst met": 1, "joint": 1, "quiet": -1, "mean": 1}
