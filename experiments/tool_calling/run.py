"""Correctness and format against step for GRPO, GDPO and RVPO, on the embedded task.

python experiments/tool_calling/run.py [--smoke] [--check]

Finished runs are kept in runs/tool_calling and not trained again.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config  # noqa: E402
from plot import plot  # noqa: E402

from rvpo_jax.figures.evidence import interval, paired, value_text  # noqa: E402
from rvpo_jax.figures.experiment import Outcome, run_experiment  # noqa: E402
from rvpo_jax.metrics import read_metrics  # noqa: E402
from rvpo_jax.train import train  # noqa: E402

RANGES = {"format": (0.0, 1.0), "correctness": (-3.0, 3.0)}


def run_one(method: str, seed: int, smoke: bool) -> dict[str, np.ndarray]:
    """Trains one method with one seed; mean reward per step and held-out pass rates."""
    settings = config.smoke_config() if smoke else config.get_config()
    settings = dataclasses.replace(settings, advantage=config.METHODS[method], seed=seed)
    name = f"{method.replace(' ', '_').replace('=', '')}-{seed}"
    workdir = Path("runs/tool_calling") / ("smoke" if smoke else "") / name
    train(settings, workdir, Console(quiet=True))
    rows = read_metrics(workdir)
    held_out = read_metrics(workdir / "evals.jsonl")[-1]["rates"]
    curves = {
        channel: np.array([row[f"reward/toolrl_{channel}/mean"] for row in rows])
        for channel in RANGES
    }
    rates = {channel: held_out[f"toolrl_{channel}"]["rate"] for channel in RANGES}
    return curves | {"held_out": np.array([rates[channel] for channel in RANGES])}


def reached(curve: np.ndarray, channel: str) -> float:
    """First step from which the mean over five steps is at 90 % of the range; else all steps."""
    low, high = RANGES[channel]
    smooth = np.convolve(curve, np.ones(5) / 5, mode="valid") if len(curve) >= 5 else curve
    there = np.flatnonzero(smooth >= low + config.REACHED * (high - low))
    return float(there[0] if len(there) else len(curve))


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every method with every seed; seed by seed, so that a sweep cut short is balanced."""
    runs: dict[str, list[dict]] = {method: [] for method in config.METHODS}
    for seed in seeds:
        for method, done in runs.items():
            done.append(run_one(method, seed, smoke))
            ends = {channel: done[-1][channel][-config.LATE :].mean() for channel in RANGES}
            print(f"{method:<9} seed {seed}: {ends}", flush=True)
    values, quantities = {}, {}
    for method, done in runs.items():
        for place, channel in enumerate(RANGES):
            curves = [run[channel] for run in done]
            quantities[method, f"final {channel}"] = [c[-config.LATE :].mean() for c in curves]
            quantities[method, f"steps to 90 % {channel}"] = [reached(c, channel) for c in curves]
            quantities[method, f"held-out {channel} met"] = [run["held_out"][place] for run in done]
    for (method, quantity), entries in quantities.items():
        values[f"{method}/{quantity}"] = interval(entries)
    notes = []
    for (method, quantity), entries in quantities.items():
        if method == "RVPO k=1":
            for other in ("GRPO", "GDPO"):
                difference = paired(entries, quantities[other, quantity])
                notes.append(f"{quantity}, RVPO k=1 minus {other}: {value_text(difference)}")
    curves = {m: {c: [run[c] for run in done] for c in RANGES} for m, done in runs.items()}
    return Outcome(values=values, data={"curves": curves}, notes=tuple(notes))


if __name__ == "__main__":
    sys.exit(
        run_experiment(
            HERE,
            doc=__doc__,
            measure=measure,
            plot=plot,
            seeds=config.SEEDS,
            smoke_seeds=config.SMOKE_SEEDS,
        )
    )
