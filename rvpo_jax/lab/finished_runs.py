"""Finished runs and their evaluations, found in folders that others may have left.

A run is labelled by the size of its model and the rule that joined its rewards, as the rows of a
paper's table are.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.files import read_object
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.run.evaluation.results import EVAL
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.stored import stored_config

METRICS = "metrics.jsonl"
_NAMES = {
    "grpo": "GRPO",
    "gdpo": "GDPO",
    "gdpo_sum": "GDPO",
    "hard_min": "hard-min",
    "variance": "variance",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What ``rvpo eval --task`` found of one checkpoint.

    Attributes:
      task: name of the benchmark.
      step: of the checkpoint.
      measures: by name, ``rate``, ``low``, ``high`` (95 %, over prompts) and ``count``.
    """

    task: str
    step: int
    measures: dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run's folder, and the evaluations of its checkpoints.

    Attributes:
      folder: of the run.
      size: of its model, such as ``1.5B``.
      rule: that joined its rewards, such as ``RVPO k=1``.
      seed: of the run.
      steps: that its config asks for.
      rows: its metrics, one entry per step.
      evaluations: in the order of their steps.
    """

    folder: Path
    size: str
    rule: str
    seed: int
    steps: int
    rows: list[dict[str, Any]]
    evaluations: list[Evaluated]

    def of_task(self, task: str) -> list[Evaluated]:
        """The evaluations on one benchmark.

        Args:
          task: its name.

        Returns:
          In the order of their steps.
        """
        return [one for one in self.evaluations if one.task == task]

    def curve(self, channel: str) -> tuple[list[int], list[float]]:
        """Mean reward of the rollouts.

        Args:
          channel: its name.

        Returns:
          Steps and values; empty where the run has no such channel.
        """
        key = f"reward/{channel}/mean"
        found = [(row["step"], row[key]) for row in self.rows if row.get(key) is not None]
        return [step for step, _ in found], [value for _, value in found]


def find_runs(folders: Sequence[Path]) -> tuple[list[FinishedRun], list[str]]:
    """The runs in and below folders, each with the evaluations that lie in it or name it.

    Args:
      folders: of runs, of evaluations, or of many of both.

    Returns:
      The runs, in the order of their paths; and sentences on runs that are not finished or share a
      seed, and on evaluations that belong to none.

    Raises:
      Refusal: when a folder is not there or holds nothing, or a file in it cannot be read.
    """
    runs: dict[Path, FinishedRun] = {}
    evaluations: set[Path] = set()
    for folder in folders:
        metrics, evals = ({p.resolve() for p in folder.rglob(name)} for name in (METRICS, EVAL))
        if not metrics and not evals:
            raise Refusal(
                f"--runs takes folders of finished runs and evaluations, got {folder} with neither "
                f"{METRICS} nor {EVAL} in or below it.",
                "rvpo train --workdir DIR writes the one, rvpo eval --task NAME the other.",
            )
        runs |= {path.parent: _read_run(path.parent) for path in sorted(metrics)}
        evaluations |= evals
    orphans = []
    for path in sorted(evaluations):
        run, evaluated = _read_evaluation(path, runs)
        if run is None or evaluated is None:
            orphans.append(f"{path.parent}: left out, it is of no checkpoint of these runs.")
        else:
            run.evaluations.append(evaluated)
    for run in runs.values():
        run.evaluations.sort(key=lambda one: one.step)
    found = [runs[folder] for folder in sorted(runs)]
    return found, [*_doubts(found), *orphans]


def size_of(config: Config) -> str:
    """The size of a run's model, by its name.

    Args:
      config: of the run.

    Returns:
      Such as ``1.5B`` or ``135M``; the preset's name where that has none.

    >>> from rvpo_jax.config import ModelConfig
    >>> size_of(Config(model=ModelConfig(path="models/Qwen2.5-1.5B-Instruct"))), size_of(Config())
    ('1.5B', 'tiny')
    """
    model = config.model
    name = str(model.preset) if model.path is None else Path(str(model.path)).name
    found = re.findall(r"(\d+(?:\.\d+)?[BM])(?![A-Za-z])", name.upper())
    return found[-1] if found else name


def rule_of(config: Config) -> str:
    """How a run joined its rewards, in few words.

    Args:
      config: of the run.

    Returns:
      Such as ``GDPO``, ``RVPO k=1`` or, with a schedule, ``RVPO k=0.5-2``.

    >>> rule_of(Config())
    'RVPO k=1'
    """
    method, risk = str(config.advantage.method), config.risk
    if method != "rvpo":
        return _NAMES.get(method, method)
    if risk.kind == "constant":
        return f"RVPO k={config.advantage.risk_coef:g}"
    if risk.kind == "linear":
        return f"RVPO k={risk.start:g}-{risk.end:g}"
    return f"RVPO k {risk.kind}"


def _doubts(runs: Sequence[FinishedRun]) -> list[str]:
    """What a reader of the table must know of its runs."""
    told, seen = [], dict[tuple[str, str, int], Path]()
    for run in runs:
        done = run.rows[-1]["step"] + 1 if run.rows else 0
        if done < run.steps:
            told.append(f"{run.folder}: not finished, {done} of {run.steps} steps.")
        row = (run.size, run.rule, run.seed)
        if row in seen:
            told.append(f"{run.folder}: same model, rule and seed as {seen[row]}; both count.")
        seen.setdefault(row, run.folder)
    return told


def _read_run(folder: Path) -> FinishedRun:
    config = stored_config(folder)
    return FinishedRun(
        folder=folder,
        size=size_of(config),
        rule=rule_of(config),
        seed=config.seed,
        steps=config.steps,
        rows=read_metrics(folder),
        evaluations=[],
    )


def _read_evaluation(
    path: Path, runs: dict[Path, FinishedRun]
) -> tuple[FinishedRun | None, Evaluated | None]:
    """An evaluation and the run that it is of: the folder that it lies in, else the name it has."""
    report, problem = read_object(path)
    if report is None:
        raise Refusal(f"{path} cannot be read: {problem}.", "Evaluate again, or leave it out.")
    settings, measures = report.get("settings"), report.get("measures")
    if not isinstance(settings, dict) or not isinstance(measures, dict):
        return None, None
    step = settings.get("step")
    if not isinstance(step, int):  # not the checkpoint of a run
        return None, None
    around = [run for folder, run in runs.items() if folder in path.parents]
    named = [run for folder, run in runs.items() if folder.name == settings.get("run")]
    evaluated = Evaluated(task=str(report.get("task")), step=step, measures=measures)
    candidates = around or named
    return (candidates[0] if len(candidates) == 1 else None), evaluated
