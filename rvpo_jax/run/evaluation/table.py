"""An evaluation on the terminal."""

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.intervals import percent
from rvpo_jax.basics.text import printable
from rvpo_jax.run.evaluation.grading import Report, seed_spread
from rvpo_jax.run.evaluation.items import Measure, Section


def show(report: Report, console: Console) -> None:
    """Prints the tables of an evaluation and what a reader must know about them.

    Args:
      report: of the evaluation.
      console: where to print.
    """
    console.print(_table(report))
    for section in report.sections:
        console.print(_section(section))
    for note in report.notes:
        console.print(f"- {printable(note)}", markup=False, highlight=False)


def _table(report: Report) -> Table:
    table = new_table(
        f"{report.task}: {report.answered_by}, {report.num_answers} answers to "
        f"{report.num_items} prompts, 95 % intervals over prompts"
    )
    several = len(report.seeds) > 1
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    if several:
        table.add_column(f"sd of {len(report.seeds)} seeds", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("how", style="dim")
    for measure in report.measures:
        spread = seed_spread(report, measure.name)
        middle = [_spread_text(measure, spread)] if several else []
        count = f"{measure.rate.count:,}"
        table.add_row(measure.name, _value_text(measure), *middle, count, Text(measure.note))
    return table


def _value_text(measure: Measure) -> str:
    rate = measure.rate
    if math.isnan(rate.rate):
        return "not scored"
    return percent(rate.rate, rate.low, rate.high, digits=1)


def _spread_text(measure: Measure, spread: float) -> str:
    return "" if math.isnan(spread) else percent(spread, digits=1)


def _section(section: Section) -> Table:
    table = new_table(section.title)
    for number, name in enumerate(section.header):
        is_count = any(isinstance(row[number], int) for row in section.rows)
        table.add_column(name, justify="right" if is_count else "left")
    for row in section.rows:
        table.add_row(*(f"{c:,}" if isinstance(c, int) else Text(printable(c)) for c in row))
    return table


def new_table(title: str) -> Table:
    """A table of an evaluation, without columns yet.

    Args:
      title: above it.

    Returns:
      The table.
    """
    return Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD)
