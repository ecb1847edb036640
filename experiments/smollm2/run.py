"""SmolLM2 learns six instructions of different difficulty: GRPO, GDPO, RVPO and two level rules.

python experiments/smollm2/run.py [--smoke] [--check] [--seeds N ...]

A finished run is recorded beside this file, in recorded/, and not trained again.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot
from records import read_record, record_of, write_record

from rvpo_jax import Config
from rvpo_jax.lab.evidence import summarize
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.language_runs import run_name, train_methods


def outcomes(record: dict[str, Any]) -> dict[str, float]:
    """Mean pass rates in the rollouts of the last steps, and in those of the first."""
    found = {}
    for when, steps in (("end", slice(-config.LATE, None)), ("start", slice(config.EARLY))):
        for name, curve in record["curves"].items():
            found[f"{when} {name}"] = float(np.mean(curve[steps]))
    return found


def train(rule: str, seed: int, settings: Config, folder: Path) -> Path:
    """Trains one rule with one seed; returns the folder of the run."""
    train_methods(settings, (seed,), folder, {rule: config.RULES[rule]})
    return folder / run_name(rule, seed)


def record(rule: str, seed: int, smoke: bool) -> dict[str, Any]:
    """The record of a run, which is trained if it has none."""
    if smoke:
        return record_of(train(rule, seed, config.smoke_config(), Path("runs/smollm2/smoke")))
    name = run_name(rule, seed)
    found = read_record(name)
    if found is not None:
        print(f"{name}: recorded at {found['commit']}; remove its file to train it again")
        return found
    if not (config.FOLDER / "config.json").is_file():
        sys.exit(f"{config.FOLDER} is not there: python {HERE / 'make_folder.py'} makes it.")
    return write_record(train(rule, seed, config.get_config(), Path("runs/smollm2")))


def measure(seeds, smoke: bool) -> Outcome:
    """Every rule with every seed, seed by seed."""
    rules = config.SMOKE_RULES if smoke else tuple(config.RULES)
    order = [(rule, seed) for seed in seeds for rule in rules]
    runs = {pair: record(*pair, smoke) for pair in order}
    found = {rule: [outcomes(runs[rule, seed]) for seed in seeds] for rule in rules}
    values, tests = summarize(found, config.REFERENCE)
    curves = {
        rule: {
            name: [runs[rule, seed]["curves"][name] for seed in seeds]
            for name in (*config.CHANNELS, "all")
        }
        for rule in rules
    }
    return Outcome(values=values, data={"curves": curves}, notes=tuple(tests))


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
