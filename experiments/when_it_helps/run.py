"""When does a soft minimum of scores beat the mean? Thousands of small trainings, as a map.

python experiments/when_it_helps/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot
from survey import first_steps, survey

from rvpo_jax.basics.intervals import holm
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.evidence import interval, paired
from rvpo_jax.lab.experiment import Outcome, run_experiment

COLUMNS = ("worst met", "worst level", "joint", "mean", "quiet", "quiet easy", "quiet hard", "drop")
# Those whose differences to the reference are tested; the sign that is better.
TESTED = {"worst met": 1, "joint": 1, "quiet": -1}
SIGNIFICANT = 0.05
# A smaller difference does not count, however certain.
SMALLEST = 0.05


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every cell under every rule; differences to GDPO, paired by seed."""
    cells = config.SMOKE_CELLS if smoke else config.CELLS
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    paths = {**config.RISK, **config.SCHEDULES}
    rules = {"GRPO": config.GRPO, **{name: AdvantageConfig() for name in paths}}
    found, kept = survey(
        cells,
        rules,
        seeds,
        risk_paths=paths,
        keep=first_steps,
        only=lambda cell, name: name not in config.SCHEDULES or cell.axis == "base",
        **options,
    )
    values = {
        f"{cell.kind} base, {name}/{column}": interval(end[column])
        for cell in cells
        if cell.axis == "base"
        for name, end in found[cell.name].items()
        for column in COLUMNS
    }
    differences = _differences(found)
    for key, value in differences.items():
        cell, name, column = key.split("/")
        if name == "RVPO k=1":
            values[f"{cell}, RVPO k=1 minus GDPO/{column}"] = value
    counts, notes = _count(cells, differences)
    data = {"differences": differences, "first_steps": kept, "ends": found, **options}
    return Outcome(values={**values, **counts}, data=data, notes=tuple(notes))


def _differences(found) -> dict:
    """By ``cell/rule/column``: difference to the reference, with interval and p-value."""
    return {
        f"{cell}/{name}/{column}": paired(end[column], ends[config.REFERENCE][column])
        for cell, ends in found.items()
        for name, end in ends.items()
        if name != config.REFERENCE
        for column in TESTED
    }


def _count(cells, differences) -> tuple[dict, list[str]]:
    """In how many cells each rule is better and worse than the reference, Holm-corrected."""
    counts, notes = {}, []
    for kind in config.KINDS:
        names = {cell.name for cell in cells if cell.kind == kind}
        if not names:
            continue
        for rule in ("GRPO", *config.RISK):
            for column, sign in TESTED.items():
                some = [
                    value
                    for key, value in differences.items()
                    if key.split("/")[0] in names and key.split("/")[1:] == [rule, column]
                ]
                if not some:
                    continue
                gain = sign * np.array([value["ours"] for value in some])
                clear = np.array(holm([value["p"] for value in some])) < SIGNIFICANT
                clear &= np.abs(gain) > SMALLEST
                better, worse = int(np.sum(clear & (gain > 0))), int(np.sum(clear & (gain < 0)))
                notes.append(
                    f"{kind}, {rule}, {column}: better than {config.REFERENCE} in {better}, "
                    f"worse in {worse} of {len(some)} cells"
                )
                counts[f"{kind} cells, {rule}/{column} better"] = {"ours": better}
                counts[f"{kind} cells, {rule}/{column} worse"] = {"ours": worse}
    return counts, notes


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
