"""Every named rule in every world: regret, and the true score where judges can be fooled.

python experiments/rules/run.py [--smoke] [--check]
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax import compute_advantages
from rvpo_jax.config import Channel
from rvpo_jax.lab.evidence import interval
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.training import train_rules


def measure(seeds, smoke: bool) -> Outcome:
    """Regret by rule and outcome, mean over the cells, and level sets."""
    names = config.SMOKE_RULES if smoke else tuple(config.RULES)
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    cells = config.SMOKE_CELLS if smoke else config.CELLS
    ends = surveyed(cells, names, seeds, options)
    values = regrets(ends, names)
    if not smoke:
        hopeless = surveyed(config.HOPELESS, names, seeds, options)
        for name in names:
            [cell] = hopeless.values()
            values[f"{name}/mean, hopeless"] = interval(cell[name]["mean"])
        values |= under_exploits(names, seeds)
    return Outcome(values=values, data={"levels": level_sets(names)})


# Compiled programs of so many rules are kept: those of all take more mappings than Linux allows.
AT_ONCE = 6


def by_needs(names) -> Iterator[tuple[str, dict]]:
    """The rules, some at a time, with what they must know of the channels."""
    groups: dict[str, list] = {}
    for name in names:
        groups.setdefault(config.needs_of(name), []).append(name)
    for needs, group in groups.items():
        for first in range(0, len(group), AT_ONCE):
            yield needs, {name: config.RULES[name] for name in group[first : first + AT_ONCE]}
            jax.clear_caches()


def surveyed(cells, names, seeds, options):
    """Ends by cell, rule and outcome, ``[seeds]``."""
    ends = {cell.name: {} for cell in cells}
    for needs, some in by_needs(names):
        found, _ = config.survey(
            [config.aimed(cell, needs) for cell in cells], some, seeds, **options
        )
        for cell, by_rule in found.items():
            ends[cell] |= by_rule
    return ends


def regrets(ends, names) -> dict:
    """By rule and outcome: how far it is behind the best rule of a cell, mean over the cells."""
    values = {}
    for column, sign in config.COLUMNS.items():
        best = {
            cell: max(sign * by_rule[name][column].mean() for name in names)
            for cell, by_rule in ends.items()
        }
        for name in names:
            behind = [best[cell] - sign * by_rule[name][column] for cell, by_rule in ends.items()]
            values[f"{name}/{column}"] = interval(np.mean(behind, axis=0))
            far = np.array([one.mean() for one in behind]) > 0.25
            values[f"{name}/{column}, far behind"] = {"ours": int(far.sum())}
    return values


def under_exploits(names, seeds) -> dict:
    """The final true score where judges can be fooled, mean over designs."""
    designs, options = config.DESIGNS, config.EXPLOIT_OPTIONS
    there = np.array([np.asarray(config.exploits.world_of(one).present) for one in designs])
    values = {}
    for needs, some in by_needs(names):
        worlds = [_world(design, needs) for design in designs]
        histories = train_rules(
            worlds,
            some,
            seeds,
            learning_rate=config.exploits.LEARNING_RATE,
            num_groups=config.exploits.COMPLETIONS // 16,
            group_size=16,
            **options,
        )
        for name, history in histories.items():
            final = history.channel_mean[:, :, -1]  # [designs, seeds, M]
            score = (final * there[:, None]).sum(-1) / there.sum(-1)[:, None]
            values[f"{name}/true score, exploits"] = interval(score.mean(0))
    return values


def _world(design, needs: str):
    """Targets: the first, easy item is raised and the others constrained to be met by 9 of 10."""
    world = config.exploits.world_of(design)
    if needs not in config.AIM:
        return world
    channels = tuple(
        Channel(name=channel.name, target=0.9) if m or needs == "targets" else channel
        for m, channel in enumerate(world.channels)
    )
    return dataclasses.replace(world, channels=channels)


GRID = np.linspace(0.0, 1.0, 41)


def level_sets(names) -> dict:
    """By rule, ``[41, 41]``: the aggregate of one completion by its two rewards.

    The other 15 of its group and three further groups are drawn once: the first channel is met
    more often than the second.
    """
    rng = np.random.default_rng(0)
    rewards = np.clip(rng.normal((0.7, 0.3), 0.25, (4, 16, 2)), 0, 1)
    points = jnp.asarray(np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2))
    found = {}
    for name in names:
        needs = config.needs_of(name)
        channels = [
            Channel(name=channel, target=0.8 if needs in config.AIM and wanted else None)
            for channel, wanted in (("a", needs == "targets"), ("b", True))
        ]

        def one(point, rule=config.RULES[name], channels=channels):
            whole = jnp.asarray(rewards, jnp.float32).at[0, 0].set(point)
            return compute_advantages(
                whole, config=rule, channels=channels, with_weights=False
            ).aggregate[0, 0]

        values = jax.jit(jax.vmap(one))(points)
        found[name] = np.asarray(values).reshape(len(GRID), -1)
    return found


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
