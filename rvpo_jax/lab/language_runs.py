"""Trainings of the language model for an experiment: a folder per method and seed, kept.

An experiment whose trainings take hours also keeps records: a small file a run, committed beside
it, from which table and picture are made without the run. A run that is recorded is not trained
again: remove its file to train it with today's code.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Config
from rvpo_jax.run.metrics import read_metrics, read_rows
from rvpo_jax.run.workdir import differing_fields, read_config
from rvpo_jax.train import train

METHODS: Mapping[str, AdvantageConfig] = {
    # As GRPO is defined: the sum of raw rewards, standardised in its group, nothing after it.
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=1": AdvantageConfig(method="rvpo", risk_coef=1.0),
}


@dataclasses.dataclass(frozen=True)
class LanguageRun:
    """What a finished training left in its folder, or in its record."""

    rows: list[dict[str, Any]]
    """metrics.jsonl, one entry per step; of a record the rewards and the time of a step."""
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
    recorded: Path | None = None,
) -> dict[str, list[LanguageRun]]:
    """Trains every method with every seed; the methods share start, prompts and keys of a seed.

    A run that is finished is not trained again, which is printed; one that was stopped goes on.

    Args:
      config: of the runs; its ``advantage`` and ``seed`` are replaced.
      seeds: of the runs.
      folder: where each run gets a folder, ``run_name``.
      methods: how each computes its advantages.
      recorded: a folder of records; a run that has one there is read, any other leaves one.

    Returns:
      The runs of each method, in the order of the seeds.

    Raises:
      ValueError: if a record is of a run with another config.
    """
    runs: dict[str, list[LanguageRun]] = {name: [] for name in methods}
    for seed in seeds:  # seed by seed, so that a sweep cut short is balanced
        for name, advantage in methods.items():
            run = dataclasses.replace(config, advantage=advantage, seed=seed)
            record = recorded and recorded / f"{run_name(name, seed)}.json"
            found = read_record(record, run) if record else None
            if found is None:
                found = _trained(run, Path(folder) / run_name(name, seed), record)
            runs[name].append(found)
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


def read_record(path: Path, config: Config) -> LanguageRun | None:
    """The run of a record.

    Args:
      path: its file.
      config: that it must have been made with; where its rows came from does not matter.

    Returns:
      The run, or None where there is no file.

    Raises:
      ValueError: if it was made with another config, naming the fields.
    """
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    stored, steps = record["config"], record["config"]["steps"]
    differing = [f"steps: {steps} -> {config.steps}"] * (steps != config.steps)
    for line in differing_fields(stored, config.to_dict()):
        differing += [line] * (not line.startswith("data.source:"))
    if differing:
        raise Refusal(
            f"a record must be of a run with this config, got {path} with {'; '.join(differing)}.",
            "Remove it to train the run again, or go back to its config.",
        )
    commit = (record["header"]["git_commit"] or "no commit")[:7]
    print(f"{path.stem}: recorded at {commit}; remove its file to train it")
    columns = record["metrics"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return LanguageRun(rows=rows, evals=record["evals"])


def write_record(workdir: Path, path: Path) -> None:
    """Keeps what tables and pictures need of a finished training: kilobytes.

    Args:
      workdir: of the run.
      path: of the record.
    """
    rows = read_metrics(workdir)
    names = ["step", *sorted(filter(_is_kept, rows[0]))]
    record = {
        "header": _header(workdir),
        "config": read_config(workdir / "config.json"),
        "metrics": {name: [_short(row[name]) for row in rows] for name in names},
        "evals": read_rows(workdir / "evals.jsonl"),
        "audit": _audit_sentences(workdir),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_json(record) + "\n")


def _header(workdir: Path) -> dict[str, Any]:
    """Commit, versions and devices with which the run began, which need not be today's."""
    first, _, _ = (workdir / "metrics.jsonl").read_text(encoding="utf-8").partition("\n")
    return json.loads(first)["header"]


def _is_kept(name: str) -> bool:
    rewards = name.startswith("reward/") and name.endswith(("/mean", "pass_rate"))
    return rewards or name == "time/step_s"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _audit_sentences(workdir: Path) -> Any:
    path = workdir / "audit.json"
    return json.loads(path.read_text(encoding="utf-8"))["sentences"] if path.is_file() else None


def _trained(config: Config, workdir: Path, record: Path | None) -> LanguageRun:
    if _is_finished(workdir, config.steps):
        print(f"{workdir}: finished before and kept; remove it to train it with this code")
    start = time.perf_counter()
    train(config, workdir, Console(quiet=True))
    # The programs of a run are of no use to the next, and Linux allows a process 65,530 memory
    # mappings, 450 of them to a run that is kept.
    jax.clear_caches()
    seconds = time.perf_counter() - start
    print(f"{workdir}: {config.steps} steps, {seconds:.0f} s", flush=True)
    if record:
        write_record(workdir, record)
    return LanguageRun(rows=read_metrics(workdir), evals=read_rows(workdir / "evals.jsonl"))


def _is_finished(workdir: Path, steps: int) -> bool:
    path = workdir / "evals.jsonl"
    return path.is_file() and any(row["step"] == steps for row in read_metrics(path))
