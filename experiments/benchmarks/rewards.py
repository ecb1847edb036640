"""Completions per second and core of each rule-based reward.

    python experiments/benchmarks/rewards.py [--responses FILE] [--seconds 1]

Texts: answers to the embedded task, and with --responses the rows of a JSONL file (may be .gz) with
the columns response, instruction_id_list and kwargs, which rewards of any text then read too. Time
is this process's CPU time; no text is judged twice.
"""

import argparse
import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rvpo_jax.data.tool_task import ToolTask, demonstrate
from rvpo_jax.rewards import REWARDS

NUM_TEXTS = 512
# What rewards of any text ask of a row, beside what the rows have.
ASKED = {
    "answer": "#### 18",
    "max_words": 300,
    "json_schema": {"type": "object"},
    "regex": r"\d+",
    "id": "simple_1",
    "function": [{"name": "f"}],
}
OF_ANY_TEXT = ("length", "repetition", "no_personal_data", "secret_kept", "json_schema", "regex")


def embedded() -> tuple[list[str], list[dict[str, Any]]]:
    """Careless answers to the embedded task, and its rows."""
    task, rng = ToolTask("train", NUM_TEXTS), random.Random(0)
    rows = [task[i] for i in range(NUM_TEXTS)]
    return [demonstrate(row, rng, 0.4) for row in rows], [row | ASKED for row in rows]


def responses(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The first answers of a file, and what they answer."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as lines:
        rows = [json.loads(line) for _, line in zip(range(NUM_TEXTS), lines, strict=False)]
    return [row["response"] for row in rows], [row | ASKED | {"secret": "amber"} for row in rows]


def per_second(name: str, texts: list[str], rows: list[dict[str, Any]], seconds: float) -> float:
    """Completions that a reward judges in a second of CPU time."""
    reward, done = REWARDS[name], 0
    if name == "bfcl":  # its ground truth is a list of calls
        rows = [row | {"ground_truth": [{"f": {}}]} for row in rows]
    reward(texts, rows)
    spent = 0.0
    while spent < seconds:
        done += 1
        new = [text + " " * done for text in texts]  # some rewards remember what they have judged
        start = time.process_time()
        reward(new, rows)
        spent += time.process_time() - start
    return done * len(texts) / spent


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    texts = {"embedded task": embedded()}
    of_file = (*OF_ANY_TEXT, *(name for name in REWARDS if name.startswith("instructions")))
    if args.responses:
        texts["file"] = responses(args.responses)
    table = Table("reward", "texts", "characters", "completions/s", title="one core, CPU time")
    for name in REWARDS:
        source = "file" if args.responses and name in of_file else "embedded task"
        if source == "embedded task" and name.startswith("instructions"):
            continue
        some, rows = texts[source]
        rate = per_second(name, some, rows, args.seconds)
        length = sum(map(len, some)) / len(some)
        table.add_row(name, source, f"{length:.0f}", f"{rate:,.0f}")
    Console(width=90).print(table)


if __name__ == "__main__":
    main()
