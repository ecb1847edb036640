"""RVPO's ablation of k: HealthBench of the 7B model, best and final, by risk coefficient.

rvpo figure paper_risk_ablation --runs DIR ...

Numbers of the paper, arXiv 2605.05750, by way of a reading note. A schedule with an "aggressive
start" ends at 0 there; what it is, is not known.
"""

import sys
from pathlib import Path

from rvpo_jax.lab.finished_runs import FinishedRun
from rvpo_jax.lab.panels import Panel
from rvpo_jax.lab.paper import PaperTable, best_and_final, draw_paper, rows_of, score_panel

SIZE = "7B"
# Best and final score; GDPO is k = 0, hard-min is k = infinity.
PAPER = {
    (SIZE, "GDPO"): (0.198, 0.026),
    (SIZE, "RVPO k=0.5-2"): (0.230, 0.204),
    (SIZE, "RVPO k=5"): (0.241, 0.095),
    (SIZE, "hard-min"): (None, 0.0),
}


def build(runs: list[FinishedRun]) -> tuple[list[PaperTable], list[Panel]]:
    """One table, and a panel per size of model."""
    rows = rows_of(PAPER, runs)
    sizes = dict.fromkeys(size for size, _ in rows)
    return [best_and_final(runs, rows, PAPER)], [score_panel(runs, size, PAPER) for size in sizes]


if __name__ == "__main__":
    sys.exit(draw_paper(Path(__file__).parent.name, __doc__, build))
