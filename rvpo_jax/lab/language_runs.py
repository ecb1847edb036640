"""Trainings of the language model for an experiment: a folder per method and seed, kept."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rvpo_jax.config import AdvantageConfig, Config
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.train import train

METHODS: Mapping[str, AdvantageConfig] = {
    # As GRPO is defined: the sum of raw rewards, standardised in its group, nothing after it.
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=1": AdvantageConfig(method="rvpo", risk_coef=1.0),
}


@dataclasses.dataclass(frozen=True)
class LanguageRun:
    """What a finished training left in its folder."""

    rows: list[dict[str, Any]]
    """metrics.jsonl, one entry per step."""
    evals: list[dict[str, Any]]
    """evals.jsonl, start first, end last."""

    def rates(self, place: int = -1) -> dict[str, float]:
        """Held-out pass rates of the channels, and of all of them met together.

        Args:
          place: which evaluation; the last by default.

        Returns:
          Rate by name.
        """
        return {name: entry["rate"] for name, entry in self.evals[place]["rates"].items()}


def train_methods(
    config: Config,
    seeds: Sequence[int],
    folder: str | Path,
    methods: Mapping[str, AdvantageConfig] = METHODS,
) -> dict[str, list[LanguageRun]]:
    """Trains every method with every seed; the methods share start, prompts and keys of a seed.

    A run that is finished is not trained again, which is printed; one that was stopped goes on.

    Args:
      config: of the runs; its ``advantage`` and ``seed`` are replaced.
      seeds: of the runs.
      folder: where each run gets a folder, ``run_name``.
      methods: how each computes its advantages.

    Returns:
      The runs of each method, in the order of the seeds.
    """
    runs: dict[str, list[LanguageRun]] = {name: [] for name in methods}
    for seed in seeds:  # seed by seed, so that a sweep cut short is balanced
        for name, advantage in methods.items():
            workdir = Path(folder) / run_name(name, seed)
            run = dataclasses.replace(config, advantage=advantage, seed=seed)
            if _is_finished(workdir, config.steps):
                print(f"{workdir}: finished before and kept; remove it to train it with this code")
            start = time.perf_counter()
            train(run, workdir, Console(quiet=True))
            evals = read_metrics(workdir / "evals.jsonl")
            runs[name].append(LanguageRun(rows=read_metrics(workdir), evals=evals))
            seconds = time.perf_counter() - start
            print(f"{workdir}: {config.steps} steps, {seconds:.0f} s", flush=True)
    return runs


def run_name(method: str, seed: int) -> str:
    """The folder of a run.

    Args:
      method: name of the method.
      seed: of the run.

    Returns:
      The name.

    >>> run_name("RVPO k=1", 0)
    'RVPO_k1-0'
    """
    return f"{method.replace(' ', '_').replace('=', '')}-{seed}"


def _is_finished(workdir: Path, steps: int) -> bool:
    path = workdir / "evals.jsonl"
    return path.is_file() and any(row["step"] == steps for row in read_metrics(path))
