"""Which channels each method gives up on the embedded task.

python experiments/constraint_neglect/run.py [--smoke] [--check] [--start leaky] [--task terseness]
    [--rules seven]

A finished run is recorded beside this file, in recorded/, and not trained again.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import summarize
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.language_runs import train_methods
from rvpo_jax.run.evaluate import ALL_MET


def outcomes(run) -> dict[str, float]:
    """What one run stands for: held-out pass rates at its end."""
    rates = run.rates()
    worst = min(rate for name, rate in rates.items() if name != ALL_MET)
    kept = float(rates["privacy"] >= config.KEPT)
    return {**rates, "worst channel": worst, "privacy kept": kept}


def curves(run) -> dict[str, list[float]]:
    """Pass rates of the rollouts at every step."""
    channels = [name for name in run.rates() if name != ALL_MET]
    found = {name: [row[f"reward/{name}/pass_rate"] for row in run.rows] for name in channels}
    return {**found, ALL_MET: [row["reward/joint_pass_rate"] for row in run.rows]}


def measure(seeds, smoke: bool, start: str, task: str, rules: str) -> Outcome:
    """Trains every rule with every seed; runs are shared between three rules and seven."""
    settings = (config.smoke_config if smoke else config.get_config)(start, task)
    folder = Path("runs/constraint_neglect") / f"{start}_{task}" / ("smoke" if smoke else "")
    recorded = None if smoke else HERE / "recorded" / f"{start}_{task}"
    runs = train_methods(settings, seeds, folder, config.RULES[rules], recorded)
    found = {method: [outcomes(run) for run in some] for method, some in runs.items()}
    values, tests = summarize(found, config.REFERENCE)
    data = {
        "start": next(iter(runs.values()))[0].rates(0),
        "finals": found,
        "curves": {method: [curves(run) for run in some] for method, some in runs.items()},
    }
    return Outcome(values=values, data=data, notes=tuple(tests))


if __name__ == "__main__":
    sys.exit(
        run_experiment(
            HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS, options=config.OPTIONS
        )
    )
