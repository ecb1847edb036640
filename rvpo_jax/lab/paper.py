"""A paper's tables and curves, filled from finished runs: theirs beside ours, or *not run*."""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.files import write_text
from rvpo_jax.basics.intervals import percent
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.lab.evidence import write_json
from rvpo_jax.lab.experiment import provenance
from rvpo_jax.lab.finished_runs import Evaluated, FinishedRun, find_runs
from rvpo_jax.lab.panels import Curve, Panel, draw_panels

NOT_RUN = "not run"
UNKNOWN = "not known"  # of the paper
HEALTHBENCH = "healthbench"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table as it is printed and written.

    Attributes:
      title: above it.
      header: of the columns.
      rows: of texts.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """The table for a README.

        Returns:
          Its lines.
        """
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        table = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        return f"**{_cell(self.title)}**\n\n{table}\n"


Scores = Mapping[tuple[str, str], tuple[float | None, float | None]]
"""Best and final score that the paper reports, by size and rule."""
Build = Callable[[list[FinishedRun]], tuple[list[PaperTable], list[Panel]]]


def draw_paper(name: str, doc: str | None, build: Build, argv: Sequence[str] | None = None) -> int:
    """Fills a figure of the paper: results.json, tables.md, figure.png and what is printed.

    Args:
      name: of the figure; ``runs/NAME`` is written to.
      doc: description for ``--help``.
      build: the runs to tables and panels.
      argv: arguments; None: those of the process.

    Returns:
      The exit code: 2 where the folders cannot be used, else 0.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--runs", nargs="*", type=Path, default=[], metavar="DIR")
    args, started = parser.parse_args(argv), time.perf_counter()
    try:
        runs, notes = find_runs([folder.expanduser() for folder in args.runs])
    except Refusal as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    tables, panels = build(runs)
    out = Path("runs") / name
    found = [
        {"folder": str(run.folder), "size": run.size, "rule": run.rule, "seed": run.seed}
        for run in runs
    ]
    content = {
        "experiment": name,
        "recorded": provenance(time.perf_counter() - started),
        "runs": found,
        "tables": [dataclasses.asdict(table) for table in tables],
        "data": {"panels": [dataclasses.asdict(panel) for panel in panels]},
        "notes": notes,
    }
    write_json(out / "results.json", content)
    write_text(out / "tables.md", "\n".join(table.markdown() for table in tables))
    draw_panels(panels, out / "figure.png")
    console = Console()
    for table in tables:
        console.print(_rich(table))
    told = [f"{len(runs)} run(s) found."] if runs else ["No runs: give their folders with --runs."]
    for line in (*told, *notes, f"wrote {out}: results.json, tables.md, figure.png"):
        console.print(printable(line), markup=False, highlight=False)
    return 0


def rows_of(paper: Iterable[tuple[str, str]], runs: Iterable[FinishedRun]) -> list[tuple[str, str]]:
    """The rows of a table: those of the paper, then what else was run.

    Args:
      paper: size and rule of each of its rows.
      runs: that were found.

    Returns:
      Size and rule.
    """
    rows = list(paper)
    rows += sorted({(run.size, run.rule) for run in runs} - set(rows))
    return rows


def runs_of(runs: Iterable[FinishedRun], size: str, rule: str) -> list[FinishedRun]:
    """The runs of one row, a seed each.

    Args:
      runs: that were found.
      size: of the model.
      rule: that joined the rewards.

    Returns:
      Those runs.
    """
    return [run for run in runs if (run.size, run.rule) == (size, rule)]


def final(evaluations: Sequence[Evaluated]) -> Evaluated | None:
    """The newest of the evaluated checkpoints.

    Args:
      evaluations: of one run and task, by step.

    Returns:
      It, or None where there is none.
    """
    return evaluations[-1] if evaluations else None


def best(evaluations: Sequence[Evaluated], measure: str = "score") -> Evaluated | None:
    """The evaluated checkpoint with the highest value.

    Args:
      evaluations: of one run and task, by step.
      measure: what is compared.

    Returns:
      It, the first of equals, or None where nothing was measured.
    """
    scored = [one for one in evaluations if value_of(one, measure) is not None]
    return max(scored, key=lambda one: value_of(one, measure) or 0.0, default=None)


def value_of(evaluation: Evaluated | None, measure: str) -> float | None:
    """A measured rate.

    Args:
      evaluation: where; None: nowhere.
      measure: its name.

    Returns:
      The rate, or None where it was not measured.
    """
    found = evaluation.measures.get(measure) if evaluation else None
    rate = found.get("rate") if isinstance(found, dict) else None
    return rate if isinstance(rate, int | float) else None


def ours(chosen: Sequence[Evaluated | None], measure: str) -> str:
    """What our runs of a row give, one evaluation each.

    Args:
      chosen: an evaluation of each run; None where there is none.
      measure: its name.

    Returns:
      Of one run the value with its interval over prompts; of several mean and sample standard
      deviation over runs; else *not run*.
    """
    there = [one for one in chosen if one is not None and value_of(one, measure) is not None]
    values = [value_of(one, measure) or 0.0 for one in there]
    if not values:
        return NOT_RUN
    if len(values) == 1:
        rate = there[0].measures[measure]
        return percent(values[0], rate.get("low"), rate.get("high"), digits=1)
    deviation = 100 * statistics.stdev(values)
    return f"{100 * statistics.mean(values):.1f}% ± {deviation:.1f} ({len(values)} runs)"


def steps_text(runs: Sequence[FinishedRun], chosen: Sequence[Evaluated | None]) -> str:
    """Which checkpoints a cell is of.

    Args:
      runs: of a row.
      chosen: an evaluation of each; None where there is none.

    Returns:
      Such as ``step 80 of 100``; empty where nothing was evaluated.
    """
    pairs = zip(runs, chosen, strict=True)
    told = [f"{one.step} of {run.steps}" for run, one in pairs if one is not None]
    return f"step {', '.join(dict.fromkeys(told))}" if told else ""


def best_and_final(
    runs: Sequence[FinishedRun], rows: Iterable[tuple[str, str]], paper: Scores
) -> PaperTable:
    """HealthBench's score at the best and at the last checkpoint that were evaluated.

    Args:
      runs: that were found.
      rows: size and rule of each.
      paper: its best and final score, by row.

    Returns:
      The table.
    """
    lines = []
    for row in rows:
        mine, theirs = runs_of(runs, *row), paper.get(row, (None, None))
        cells = []
        for value, choose in zip(theirs, (best, final), strict=True):
            chosen = [choose(run.of_task(HEALTHBENCH)) for run in mine]
            told = UNKNOWN if value is None else percent(value, digits=1)
            cells += [told, ours(chosen, "score"), steps_text(mine, chosen)]
        lines.append((*row, *cells))
    return PaperTable(
        title="HealthBench, best and final of the evaluated checkpoints",
        header=(
            *("model", "rule", "best: paper", "ours", "checkpoint"),
            *("final: paper", "ours", "checkpoint"),
        ),
        rows=lines,
    )


def score_panel(runs: Iterable[FinishedRun], size: str, paper: Scores) -> Panel:
    """HealthBench's score over the steps.

    Args:
      runs: that were found.
      size: of the models in this panel.
      paper: its best and final score, by row.

    Returns:
      The panel, with the paper's scores as lines.
    """
    curves, levels = [], []
    for run in runs:
        found = [(one.step, value_of(one, "score")) for one in run.of_task(HEALTHBENCH)]
        points = [(step, value) for step, value in found if value is not None]
        if run.size == size and points:
            steps, values = map(list, zip(*points, strict=True))
            curves.append(Curve(rule=run.rule, steps=steps, values=values))
    for (model, rule), scores in paper.items():
        pairs = zip(scores, (True, False), strict=True)
        levels += [(rule, v, is_best) for v, is_best in pairs if v is not None and model == size]
    return Panel(title=size, ylabel="HealthBench score", curves=curves, levels=levels)


def _cell(text: str) -> str:
    """Text that others may have written, as a cell of a Markdown table."""
    return printable(text, keep="").replace("|", "\\|")


def _rich(table: PaperTable) -> Table:
    drawn = Table(title=Text(printable(table.title, keep="")), title_justify="left")
    for number, name in enumerate(table.header):
        drawn.add_column(Text(name), no_wrap=number < 2)
    for row in table.rows:
        drawn.add_row(*(Text(printable(text, keep="")) for text in row))
    return drawn
