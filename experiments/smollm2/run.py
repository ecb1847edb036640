"""SmolLM2 learns six instructions of different difficulty: GRPO, GDPO, RVPO and two level rules.

python experiments/smollm2/run.py [--smoke] [--check]

Finished runs are kept in runs/smollm2 and not trained again.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import summarize
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.language_runs import train_methods


def curve(run, name: str) -> np.ndarray:
    """Pass rate of a channel, or of all of them together, in the rollouts of each step."""
    key = "reward/joint_pass_rate" if name == "all" else f"reward/{name}/pass_rate"
    return np.array([row[key] for row in run.rows])


def outcomes(run) -> dict[str, float]:
    """Mean pass rates of the last steps, and those of the first."""
    names = (*config.CHANNELS, "all")
    late = {f"end {name}": float(curve(run, name)[-config.LATE :].mean()) for name in names}
    early = {f"start {name}": float(curve(run, name)[: config.EARLY].mean()) for name in names}
    return late | early


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every rule with every seed."""
    if not smoke and not (config.FOLDER / "config.json").is_file():
        sys.exit(f"{config.FOLDER} is not there: python {HERE / 'make_folder.py'} makes it.")
    settings = config.smoke_config() if smoke else config.get_config()
    folder = Path("runs/smollm2") / ("smoke" if smoke else "")
    runs = train_methods(settings, seeds, folder, config.RULES)
    values, tests = summarize(
        {rule: [outcomes(run) for run in some] for rule, some in runs.items()}, config.REFERENCE
    )
    curves = {
        rule: {name: [curve(run, name) for run in some] for name in (*config.CHANNELS, "all")}
        for rule, some in runs.items()
    }
    return Outcome(values=values, data={"curves": curves}, notes=tuple(tests))


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
