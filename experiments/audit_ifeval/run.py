"""Audits real answers to IFEval as if they were the completions of one group.

python experiments/audit_ifeval/run.py ANSWERS.jsonl.gz [--out FOLDER]

ANSWERS holds one answer a line: ``key`` (the prompt's number), ``model``, ``response``,
``instruction_id_list`` and ``strict`` (one verdict per instruction). Each kind of instruction
(length, format, keywords, ...) becomes a channel; a prompt has one to three of them and the others
stay empty. The answers of several models to a prompt are its group.
"""

import argparse
import gzip
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

import rvpo_jax
from rvpo_jax.auditing import show_audit


def to_table(lines) -> pa.Table:
    """One row per answer, one column per kind of instruction; 1 where all of a kind are met."""
    rows = [json.loads(line) for line in lines]
    kinds = sorted({name.split(":")[0] for row in rows for name in row["instruction_id_list"]})
    columns: dict[str, list] = {"prompt_id": [], "model": [], "completion": []}
    columns |= {kind: [] for kind in kinds}
    for row in rows:
        columns["prompt_id"].append(row["key"])
        columns["model"].append(row["model"])
        columns["completion"].append(row["response"])
        names = [name.split(":")[0] for name in row["instruction_id_list"]]
        for kind in kinds:
            verdicts = [met for name, met in zip(names, row["strict"], strict=True) if name == kind]
            columns[kind].append(float(all(verdicts)) if verdicts else None)
    return pa.table(columns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("answers", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/audit_ifeval"))
    args = parser.parse_args()
    opener = gzip.open if args.answers.suffix == ".gz" else open
    with opener(args.answers, "rt", encoding="utf-8") as lines:
        table = to_table(lines)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "answers.parquet"
    pq.write_table(table, path)
    kinds = [
        name for name in table.column_names if name not in ("prompt_id", "model", "completion")
    ]
    marks = dict.fromkeys(kinds, 1.0)
    result = rvpo_jax.audit(path, rewards=tuple(kinds), group="prompt_id", pass_at=marks)
    show_audit(result.report, Console())
    for saved in result.save(args.out):
        print(f"wrote {saved}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
