"""RVPO's rubric tasks: HealthBench over the steps, its table and axes, and GPQA-Diamond.

rvpo figure paper_rubrics --runs DIR ...

Numbers of the paper, arXiv 2605.05750, by way of a reading note; its 14B best values are also in
the abstract.
"""

import sys
from pathlib import Path

from rvpo_jax.lab.finished_runs import FinishedRun
from rvpo_jax.lab.panels import Panel
from rvpo_jax.lab.paper import (
    UNKNOWN,
    PaperTable,
    best,
    best_and_final,
    draw_paper,
    final,
    ours,
    rows_of,
    runs_of,
    score_panel,
    steps_text,
)

RVPO = "RVPO k=0.5-2"
RULES = ("GRPO", "GDPO", RVPO)
SIZES = ("3B", "7B", "14B")
# Best and final score.
PAPER = {
    ("3B", "GDPO"): (0.192, 0.117),
    ("3B", RVPO): (0.189, 0.147),
    ("7B", "GDPO"): (0.198, 0.026),
    ("7B", RVPO): (0.230, 0.204),
    ("14B", "GDPO"): (0.215, 0.000),
    ("14B", RVPO): (0.261, 0.236),
}
# In percent. They fit the best checkpoint: the final score of GDPO is a tenth of them.
AXES = {
    "communication_quality": {"GDPO": 47.0, RVPO: 45.1},
    "instruction_following": {"GDPO": 32.5, RVPO: 30.1},
    "accuracy": {"GDPO": 30.0, RVPO: 33.3},
    "context_awareness": {"GDPO": 18.3, RVPO: 21.2},
    "completeness": {"GDPO": 11.1, RVPO: 15.2},
}


def axes(runs: list[FinishedRun], rows: list[tuple[str, str]]) -> PaperTable:
    """HealthBench by axis, at the best checkpoint."""
    lines = []
    for size, rule in rows:
        mine = runs_of(runs, size, rule)
        chosen = [best(run.of_task("healthbench")) for run in mine]
        cells = []
        for axis, paper in AXES.items():
            theirs = f"{paper[rule]:.1f}%" if size == "7B" and rule in paper else UNKNOWN
            cells.append(f"{theirs} / {ours(chosen, f'axis:{axis}')}")
        lines.append((size, rule, *cells, steps_text(mine, chosen)))
    return PaperTable(
        title="HealthBench by axis, best checkpoint: paper / ours",
        header=("model", "rule", *(axis.replace("_", " ") for axis in AXES), "checkpoint"),
        rows=lines,
    )


def gpqa(runs: list[FinishedRun], rows: list[tuple[str, str]]) -> PaperTable:
    """Accuracy of the final checkpoint; 198 questions resolve about 6.5 points."""
    lines = []
    for row in rows:
        mine = runs_of(runs, *row)
        chosen = [final(run.of_task("gpqa_diamond")) for run in mine]
        lines.append((*row, UNKNOWN, ours(chosen, "accuracy"), steps_text(mine, chosen)))
    return PaperTable(
        title="GPQA-Diamond; the paper says that all methods lie within the interval",
        header=("model", "rule", "paper", "ours", "checkpoint"),
        rows=lines,
    )


def build(runs: list[FinishedRun]) -> tuple[list[PaperTable], list[Panel]]:
    """Tables, and a panel per size of model."""
    rows = rows_of([(size, rule) for size in SIZES for rule in RULES], runs)
    sizes = dict.fromkeys(size for size, _ in rows)
    tables = [best_and_final(runs, rows, PAPER), axes(runs, rows), gpqa(runs, rows)]
    return tables, [score_panel(runs, size, PAPER) for size in sizes]


if __name__ == "__main__":
    sys.exit(draw_paper(Path(__file__).parent.name, __doc__, build))
