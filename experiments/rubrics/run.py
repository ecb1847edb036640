"""Ragged rubrics: best and final score by rule and axis under a judge that errs.

python experiments/rubrics/run.py [--smoke] [--check]
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import against, interval
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.training import train_many

COLUMNS = ("score best", "score final", "kept", "worst axis", "all met")
OTHER_COLUMNS = ("score best", "score final", "kept", "worst axis")
TESTED = OTHER_COLUMNS


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every rule in every world."""
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    names = config.SMOKE_RULES if smoke else tuple(config.RULES)
    settings = (config.SMOKE_SETTING,) if smoke else config.SETTINGS
    jobs = [(setting, name) for setting in settings for name in names]
    with ThreadPoolExecutor(max_workers=2) as pool:  # compiling uses one core
        histories = list(pool.map(lambda job: train(*job, seeds, options), jobs))
    values, curves, ends, axes, served = {}, {}, {}, {}, {}
    for (setting, name), history in zip(jobs, histories, strict=True):
        for i, (kind, world) in enumerate(setting.worlds.items()):
            met = pass_rates(world, history.policy[i])
            columns, by_axis = summary(world, met, history.joint_pass[i])
            ends.setdefault(kind, {})[name] = {**columns, **by_axis}
            shown = COLUMNS if kind == config.MAIN else OTHER_COLUMNS
            values |= {f"{kind}: {name}/{key}": interval(columns[key]) for key in shown}
            if kind == config.MAIN:
                axes |= {f"axes: {name}/{axis}": interval(x) for axis, x in by_axis.items()}
                curves[name] = scores(world, met).mean(0)
                for axis, first in first_alignment(history.alignment[i]).items():
                    served[f"first steps: {name}/{axis}"] = interval(first)
    notes = [line for kind, found in ends.items() for line in compare(kind, found)]
    data = {
        "curves": curves,
        "worlds": tuple(ends),
        "axes": tuple(config.AXES),
        "paper_axes": config.PAPER_AXES,
        "paper_scores": config.PAPER_SCORES,
        **options,
    }
    return Outcome(values=values | axes | served, data=data, notes=tuple(notes))


def train(setting, name: str, seeds, options):
    """One rule in all worlds of a setting, in one program."""
    rule, worlds = config.RULES[name], list(setting.worlds.values())
    k = np.tile(np.linspace(*rule.risk, options["steps"]), (len(worlds), 1))
    rate = setting.learning_rate
    return train_many(worlds, rule.config, seeds, risk_coefs=k, learning_rate=rate, **options)


def pass_rates(world, policy: np.ndarray) -> np.ndarray:
    """Exact probability that each item is met, ``[..., N, M]`` of policies ``[..., N, 1, A]``."""
    probs = np.asarray(policy, np.float64)[..., 0, :][..., config.AXIS_OF]
    needs = np.asarray(world.settings["needs"])
    return stats.binom.sf(needs - 1, world.num_slots, probs)


def scores(world, met: np.ndarray) -> np.ndarray:
    """Share of a prompt's items that are met, mean over the kinds of prompt, ``[...]``."""
    present = np.asarray(world.present)
    return ((met * present).sum(-1) / present.sum(-1)).mean(-1)


def axis_scores(world, met: np.ndarray) -> np.ndarray:
    """The same of the items of each axis, ``[..., axes]``."""
    present = np.asarray(world.present)
    columns = []
    for axis in range(len(config.AXES)):
        of_axis = present & (axis == config.AXIS_OF)
        columns.append(((met * of_axis).sum(-1) / of_axis.sum(-1)).mean(-1))
    return np.stack(columns, -1)


def summary(world, met: np.ndarray, joint: np.ndarray):
    """Outcomes by seed; ``met`` is ``[seeds, T, N, M]``, a checkpoint per recorded point."""
    score = scores(world, met)
    by_axis = axis_scores(world, met[:, -1])
    columns = {
        "score best": score.max(1),
        "score final": score[:, -1],
        "kept": score[:, -1] / score.max(1),
        "worst axis": by_axis.min(-1),
        "all met": joint[:, -5:].mean(1),
    }
    return columns, dict(zip(config.AXES, by_axis.T, strict=True))


def first_alignment(alignment: np.ndarray) -> dict[str, np.ndarray]:
    """By axis, mean over its items of the first point of ``[seeds, T, M]`` correlations."""
    first = alignment[:, 0]
    return {axis: first[:, config.AXIS_OF == a].mean(-1) for a, axis in enumerate(config.AXES)}


def compare(kind: str, found: dict) -> list[str]:
    """Paired tests of every rule against GDPO, corrected for the number of rules."""
    return [
        f"{kind}, {column}, {line}"
        for column in TESTED + (tuple(config.AXES) if kind == config.MAIN else ())
        for line in against(config.REFERENCE, {name: one[column] for name, one in found.items()})
    ]


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
