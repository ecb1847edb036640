"""Does the verdict of when_it_helps lean on steps, conventions, the optimiser or the seeds?

python experiments/robustness/run.py [--smoke] [--check]
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot
from trainer import train_seeds

from rvpo_jax.basics.intervals import holm
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.evidence import interval, paired, share
from rvpo_jax.lab.experiment import Outcome, run_experiment

COLUMNS = ("worst met", "joint")
# As in when_it_helps: Holm-corrected over the cells of a kind, and not a tiny difference.
SIGNIFICANT, SMALLEST = 0.05, 0.05


def measure(seeds, smoke: bool) -> Outcome:
    """Outcome against steps, then conventions in one world, then how many seeds keep an arm."""
    at = config.SMOKE_AT if smoke else config.AT
    step_values, ends = against_steps(seeds[: config.STEPS_SEEDS], at, smoke)
    values = step_values | conventions(seeds, smoke) | balanced(seeds, smoke)
    return Outcome(values=values, data={"ends": ends, "at": at})


def against_steps(seeds, at, smoke: bool):
    """By number of steps: cells clearly better and worse than the reference; and each cell."""
    options = {**config.STEPS_OPTIONS, "steps": at[-1]}
    cells = config.CELLS[2:4] if smoke else config.CELLS

    def keep(cell, name, history):
        return {steps: config.ended(cell, _until(history, steps, options)) for steps in at}

    _, kept = config.survey(cells, config.STEPS_RULES, seeds, keep=keep, **options)
    values = {}
    for steps in at:
        for kind in ("budget", "trade"):
            names = [cell.name for cell in cells if cell.kind == kind]
            if names:
                values |= _counts(kept, names, kind, steps)
    return values, kept


def _until(history, steps: int, options):
    """The history as it would be had the training ended there."""
    points = steps // options["record_every"]
    return jax.tree.map(
        lambda x: x[:, :points], dataclasses.replace(history, logits=history.logits[:, None])
    )


def _counts(kept, names, kind: str, steps: int) -> dict:
    values = {}
    for rule in config.STEPS_RULES:
        ends = [kept[f"{name}/{rule}"][steps] for name in names]
        reference = [kept[f"{name}/{config.REFERENCE}"][steps] for name in names]
        for column in COLUMNS:
            mean = np.mean([end[column] for end in ends], axis=0)
            values[f"{kind}, {steps} steps, {rule}/{column}"] = interval(mean)
            if rule == config.REFERENCE:
                continue
            some = [
                paired(end[column], other[column])
                for end, other in zip(ends, reference, strict=True)
            ]
            gain = np.array([one["ours"] for one in some])
            clear = np.array(holm([one["p"] for one in some])) < SIGNIFICANT
            clear &= np.abs(gain) > SMALLEST
            for word, of_kind in (("better", gain > 0), ("worse", gain < 0)):
                number = int(np.sum(clear & of_kind))
                values[f"{kind}, {steps} steps, {rule}: cells {word}/{column}"] = {"ours": number}
    return values


def conventions(seeds, smoke: bool) -> dict:
    """RVPO minus GDPO in the budget base under each convention."""
    steps = config.SMOKE_STEPS if smoke else config.CONVENTION_STEPS
    some = dict(list(config.CONVENTIONS.items())[:2]) if smoke else config.CONVENTIONS
    values = {}
    for name, (fields, trainer) in some.items():
        ends = {}
        for rule, k in ((config.REFERENCE, 0.0), (config.OURS, 1.0)):
            found = train_seeds(
                config.BUDGET_BASE,
                AdvantageConfig(risk_coef=k, **fields),
                seeds,
                trainer,
                steps=steps,
                every=config.EVERY,
            )
            for end in (200, steps) if steps > 200 else (steps,):
                ends[rule, end] = _end(found, end // config.EVERY)
        for end in sorted({end for _, end in ends}):
            for column in COLUMNS:
                ours, other = (ends[rule, end][column] for rule in (config.OURS, config.REFERENCE))
                key = f"{name}, {end} steps"
                values[f"{key}, GDPO/{column}"] = interval(other)
                values[f"{key}, RVPO minus GDPO/{column}"] = paired(ours, other)
    return values


def _end(found, points: int) -> dict[str, np.ndarray]:
    last = max(points // 4, 1)
    pass_rate = found["pass_rate"][:, points - last : points].mean(1)
    return {
        "worst met": pass_rate.min(-1),
        "joint": found["joint"][:, points - last : points].mean(1),
    }


def balanced(seeds, smoke: bool) -> dict:
    """Of how many seeds the policy ends with the arm that fails nothing, under each trainer."""
    steps = config.SMOKE_STEPS if smoke else config.BALANCED_STEPS
    values = {}
    for world_name, world in config.BALANCED.items():
        for trainer_name, trainer in config.BALANCED_TRAINERS.items():
            for k in (0.0, *config.BALANCED_RULES):
                found = train_seeds(
                    world,
                    AdvantageConfig(risk_coef=k),
                    seeds,
                    trainer,
                    steps=steps,
                    every=config.EVERY,
                )
                kept = _end(found, steps // config.EVERY)["joint"] > config.KEPT
                rule = f"RVPO k={k:g}" if k else config.REFERENCE
                row = f"{world_name}, {trainer_name}, {rule}"
                values[f"{row}: seeds/joint"] = share(int(kept.sum()), len(kept))
    return values


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
