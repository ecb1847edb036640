"""What is kept of a training that takes half an hour: curves, evaluations, samples, the audit.

A file a run in recorded/, a few kilobytes; table, picture and README are made of them. A run that
is recorded is not trained again: remove its file to train it with today's code.

    python experiments/smollm2/records.py RUN_FOLDER ...    records runs that were made elsewhere
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.lab.experiment import provenance
from rvpo_jax.run.metrics import read_metrics, read_rows

RECORDED = Path(__file__).parent / "recorded"
NUM_SAMPLES = 3


def record_of(workdir: Path) -> dict[str, Any]:
    """The record of a finished training.

    Args:
      workdir: its folder.

    Returns:
      JSON values. ``curves`` are pass rates by channel, one per step, ``all`` among them.
    """
    rows = read_metrics(workdir)
    ends = [read_rollouts(workdir, step) for step in (rows[0]["step"], rows[-1]["step"])]
    names = [name for name in ends[0][0] if f"reward/{name}/pass_rate" in rows[0]]
    keys = {name: f"reward/{name}/pass_rate" for name in names} | {"all": "reward/joint_pass_rate"}
    header = json.loads((workdir / "metrics.jsonl").read_text().partition("\n")[0])["header"]
    return {
        "run": workdir.name,
        "commit": header["git_commit"][:7],
        "versions": header["versions"],
        "device": provenance(0.0)["device"],
        "seconds_per_step": round(sum(row["time/step_s"] for row in rows) / len(rows), 1),
        "curves": {name: [round(row[key], 4) for row in rows] for name, key in keys.items()},
        "evals": read_rows(workdir / "evals.jsonl"),
        "samples": [
            [{key: row[key] for key in ("step", "prompt", "completion", *names)} for row in some]
            for some in ends
        ],
        "audit": json.loads((workdir / "audit.json").read_text())["sentences"],
    }


def read_rollouts(workdir: Path, step: int) -> list[dict[str, Any]]:
    """The first completion of each of the first prompts of a step: chosen by place, not by looks.

    Args:
      workdir: of the run.
      step: rollout batches before.

    Returns:
      A row each.
    """
    rows = pq.read_table(workdir / "rollouts" / f"{step:08d}.parquet").to_pylist()
    firsts = {row["group"]: row for row in reversed(rows)}
    return [firsts[group] for group in sorted(firsts)[:NUM_SAMPLES]]


def read_record(name: str) -> dict[str, Any] | None:
    """The record of a run, or None where there is none.

    Args:
      name: of its folder.

    Returns:
      See ``record_of``.
    """
    path = RECORDED / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def write_record(workdir: Path) -> dict[str, Any]:
    """Records a finished training.

    Args:
      workdir: its folder, whose name is the record's.

    Returns:
      See ``record_of``.
    """
    record = record_of(workdir)
    RECORDED.mkdir(exist_ok=True)
    write_text(RECORDED / f"{workdir.name}.json", to_json(record, indent=1) + "\n")
    return record


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_record(Path(argument))
