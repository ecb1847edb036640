"""What a run that goes on should find in its folder, and what is missing there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.gaps import absent, spans
from rvpo_jax.config import Config
from rvpo_jax.run.json_lines import read_rows
from rvpo_jax.run.rollout_log import FOLDER, written_steps


def log_history(meta: Mapping[str, Any] | None, config: Config, first: int) -> list[dict[str, int]]:
    """Which files got an entry every how many steps, since which step.

    The settings of the log may differ between a run and its continuation, so the settings of now
    do not tell what an earlier process should have written. The history belongs into the meta of
    each checkpoint, under ``log_history``.

    Args:
      meta: Of the restored checkpoint; None: the run starts.
      config: The run.
      first: Step that it goes on at.

    Returns:
      One entry per stretch of the run, the last one for this process: the first step it holds
      for, under ``from``, and each file's steps between two entries, 0 for none.

    >>> log_history(None, Config(), 0)[0]["metrics.jsonl"]
    1
    """
    now = {"from": first, **_periods(config.to_dict())}
    if meta is None:
        return [now]
    # Before there was a history: as if the settings of the checkpoint had always been the same.
    past = meta.get("log_history") or [{"from": 0, **_periods(meta.get("config", {}))}]
    past = [entry for entry in past if entry["from"] < first]
    return past if past and {**past[-1], "from": first} == now else [*past, now]


def missing_records(workdir: Path, history: Sequence[Mapping[str, int]], first: int) -> list[str]:
    """What the files of a run lack of the steps before the one that it goes on at.

    Args:
      workdir: Folder of the run.
      history: See ``log_history``.
      first: Step that the run goes on at.

    Returns:
      One sentence per file that lacks something.
    """
    sentences = []
    for name in ("metrics.jsonl", "samples.jsonl", "evals.jsonl", FOLDER):
        expected = _expected(name, history, first)
        missing = absent(_present(workdir, name), expected)
        if missing:
            sentences.append(
                f"{name} lacks {len(missing)} of the {len(expected)} steps that it should have "
                f"before {first}: {spans(missing, expected)}."
            )
    return sentences


def _periods(config: Mapping[str, Any]) -> dict[str, int]:
    """Steps between the entries of each file; a setting that an old run lacks counts as none."""
    log, evaluation = config.get("log", {}), config.get("eval", {})
    return {
        "metrics.jsonl": log.get("every", 0),
        "samples.jsonl": log.get("samples_every", 0) if log.get("num_samples", 0) else 0,
        "evals.jsonl": evaluation.get("every", 0),
        FOLDER: int(log.get("rollouts", "none") != "none"),
    }


def _expected(name: str, history: Sequence[Mapping[str, int]], first: int) -> list[int]:
    ends = [*(entry["from"] for entry in history[1:]), first]
    steps = [
        step
        for entry, end in zip(history, ends, strict=True)
        if entry[name]
        for step in range(entry["from"], min(end, first))
        if step % entry[name] == 0
    ]
    # The policy that a run starts with is always evaluated.
    return sorted({0, *steps}) if name == "evals.jsonl" and first > 0 else steps


def _present(workdir: Path, name: str) -> set[int]:
    if name == FOLDER:
        return written_steps(workdir)
    return {row["step"] for row in read_rows(workdir / name)}
