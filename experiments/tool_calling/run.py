"""Correctness and format against step for GRPO, GDPO and RVPO, on the embedded task.

python experiments/tool_calling/run.py [--smoke] [--check]

Finished runs are kept in runs/tool_calling and not trained again.
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


def reached(curve: np.ndarray, channel: str) -> float:
    """First step from which the mean over five steps is at 90 % of the range; else all steps."""
    low, high = config.RANGES[channel]
    smooth = np.convolve(curve, np.ones(5) / 5, mode="valid") if len(curve) >= 5 else curve
    there = np.flatnonzero(smooth >= low + config.REACHED * (high - low))
    return float(there[0] if len(there) else len(curve))


def rewards(run, channel: str) -> np.ndarray:
    """Mean reward of a channel's rollouts at every step."""
    return np.array([row[f"reward/toolrl_{channel}/mean"] for row in run.rows])


def outcomes(run) -> dict[str, float]:
    """What one run stands for."""
    found = {}
    for channel in config.RANGES:
        curve = rewards(run, channel)
        found[f"final {channel}"] = curve[-config.LATE :].mean()
        found[f"steps to 90 % {channel}"] = reached(curve, channel)
        found[f"held-out {channel} met"] = run.rates()[f"toolrl_{channel}"]
    return found


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every method with every seed."""
    settings = config.smoke_config() if smoke else config.get_config()
    runs = train_methods(settings, seeds, Path("runs/tool_calling") / ("smoke" if smoke else ""))
    values, tests = summarize(
        {method: [outcomes(run) for run in some] for method, some in runs.items()},
        config.REFERENCE,
    )
    curves = {
        method: {channel: [rewards(run, channel) for run in some] for channel in config.RANGES}
        for method, some in runs.items()
    }
    return Outcome(values=values, data={"curves": curves}, notes=tuple(tests))


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
