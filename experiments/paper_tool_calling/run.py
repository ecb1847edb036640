"""RVPO's tool calling: curves of both rewards and the BFCL-v3 table, filled from finished runs.

rvpo figure paper_tool_calling --runs DIR ...
"""

import sys
from pathlib import Path

from rvpo_jax.lab.finished_runs import FinishedRun
from rvpo_jax.lab.panels import Curve, Panel
from rvpo_jax.lab.paper import (
    NOT_RUN,
    UNKNOWN,
    PaperTable,
    draw_paper,
    final,
    ours,
    rows_of,
    runs_of,
    steps_text,
)

RULES = ("GRPO", "GDPO", "RVPO k=1")
SIZES = ("1.5B", "3B")
# BFCL-v3, arXiv 2605.05750 by way of a reading note. Which average it is, is not known.
PAPER = {
    ("1.5B", "GDPO"): "71.9%",
    ("1.5B", "RVPO k=1"): "71.9%",
    ("3B", "GDPO"): "80.7%",
    ("3B", "RVPO k=1"): "80.4%",
}
# Live and Non-Live AST, mean and sample standard deviation over seeds: an independent replication
# by the authors of DARA, arXiv 2610.00574, with 100 steps.
REPLICATION = {
    ("1.5B", "GRPO"): "65.0 ± 0.8, 78.5 ± 0.3 (5 runs)",
    ("1.5B", "GDPO"): "66.9 ± 2.7, 79.5 ± 2.3 (5 runs)",
    ("1.5B", "RVPO k=1"): "68.5 ± 1.9, 79.1 ± 1.3 (3 runs)",
}
CHANNELS = {"toolrl_correctness": "correctness, -3 to 3", "toolrl_format": "format, 0 or 1"}
REACHED = 0.8  # of the format: what the replication counts steps to
LATE = 10


def evaluations(run: FinishedRun):
    """Of BFCL, asked with the prompts of the training data, or else as its authors ask."""
    return run.of_task("bfcl_v3_toolrl") or run.of_task("bfcl_v3")


def bfcl(runs: list[FinishedRun], rows: list[tuple[str, str]]) -> PaperTable:
    """The paper's table, the replication's, and ours."""
    lines = []
    for row in rows:
        mine = runs_of(runs, *row)
        chosen = [final(evaluations(run)) for run in mine]
        found = [ours(chosen, name) for name in ("live_ast", "non_live_ast", "ast", "overall")]
        told = (PAPER.get(row, UNKNOWN), REPLICATION.get(row, NOT_RUN))
        lines.append((*row, *told, *found, steps_text(mine, chosen)))
    return PaperTable(
        title="BFCL-v3, single turn, Python categories",
        header=(
            *("model", "rule", "paper (average not known)", "replication: Live, Non-Live AST"),
            *("ours: Live AST", "Non-Live AST", "AST", "with irrelevance", "checkpoint"),
        ),
        rows=lines,
    )


def learning(runs: list[FinishedRun], rows: list[tuple[str, str]]) -> PaperTable:
    """How soon the format is learnt, and where both rewards end; one number per run."""
    lines = []
    for row in rows:
        curves = [[run.curve(name) for name in CHANNELS] for run in runs_of(runs, *row)]
        curves = [pair for pair in curves if all(values for _, values in pair)]
        reached, ends = [], []
        for correctness, form in curves:
            first = next((s for s, v in zip(*form, strict=True) if v >= REACHED), "never")
            reached.append(str(first))
            late = [sum(v[-LATE:]) / len(v[-LATE:]) for v in (correctness[1], form[1])]
            ends.append("{:.2f}, {:.2f}".format(*late))
        told = [", ".join(reached), "; ".join(ends)] if curves else [NOT_RUN, NOT_RUN]
        lines.append((*row, *told))
    return PaperTable(
        title=f"Training: rewards of the rollouts, one number per run, ends over {LATE} steps",
        header=("model", "rule", f"format reaches {REACHED} at step", "end: correctness, format"),
        rows=lines,
    )


def build(runs: list[FinishedRun]) -> tuple[list[PaperTable], list[Panel]]:
    """Tables and panels; the paper's own curves are not available as numbers."""
    rows = rows_of([(size, rule) for size in SIZES for rule in RULES], runs)
    panels = [
        Panel(
            title=f"{size}: {name}",
            ylabel=f"mean {label}",
            curves=[
                Curve(rule=run.rule, steps=run.curve(name)[0], values=run.curve(name)[1])
                for run in runs
                if run.size == size and run.curve(name)[0]
            ],
        )
        for size in dict.fromkeys(size for size, _ in rows)
        for name, label in CHANNELS.items()
    ]
    return [bfcl(runs, rows), learning(runs, rows)], panels


if __name__ == "__main__":
    sys.exit(draw_paper(Path(__file__).parent.name, __doc__, build))
