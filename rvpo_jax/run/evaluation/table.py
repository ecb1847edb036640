"""An evaluation on the terminal."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.intervals import percent
from rvpo_jax.basics.text import printable
from rvpo_jax.run.evaluation.grading import Report, seed_spread
from rvpo_jax.run.evaluation.items import Measure, Section

SHOWN_TOGETHER = 4  # measures, where several models stand in one table


def show(report: Report, console: Console) -> None:
    """Prints the tables of an evaluation and what a reader must know about them.

    The numbers come last: that is what stands above the prompt.

    Args:
      report: of the evaluation.
      console: where to print.
    """
    for section in report.sections:
        heading(section.title, console)
        console.print(_section(section))
    heading(
        f"{report.task}: {report.answered_by}, {report.num_answers} answers to "
        f"{report.num_items} prompts, 95 % intervals over prompts",
        console,
    )
    console.print(_measures(report))
    for note in report.notes:
        say(f"- {note}", console)


def show_together(reports: Sequence[Report], console: Console) -> None:
    """Prints several evaluations of one task, a row each.

    Args:
      reports: with the same measures.
      console: where to print.
    """
    heading(f"{reports[0].task}: {len(reports)} models", console)
    table = new_table()
    table.add_column("answers of", overflow="fold")
    names = [measure.name for measure in reports[0].measures][:SHOWN_TOGETHER]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for report in reports:
        values = {measure.name: percent(measure.rate.rate, digits=1) for measure in report.measures}
        cells = [values.get(name, "") for name in names]
        table.add_row(Text(printable(report.answered_by, keep="")), *cells)
    console.print(table)


def _measures(report: Report) -> Table:
    table, several = new_table(), len(report.seeds) > 1
    table.add_column("measure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    if several:
        table.add_column(f"sd, {len(report.seeds)} seeds", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("how", style="dim")
    for measure in report.measures:
        spread = seed_spread(report, measure.name)
        middle = [_spread_text(spread)] if several else []
        count = f"{measure.rate.count:,}"
        table.add_row(measure.name, _value_text(measure), *middle, count, Text(measure.note))
    return table


def _value_text(measure: Measure) -> str:
    rate = measure.rate
    if math.isnan(rate.rate):
        return "not scored"
    if math.isnan(rate.low):
        return percent(rate.rate, digits=1)
    return percent(rate.rate, rate.low, rate.high, digits=1)


def _spread_text(spread: float) -> str:
    return "" if math.isnan(spread) else percent(spread, digits=1)


def _section(section: Section) -> Table:
    table = new_table()
    for number, name in enumerate(section.header):
        is_count = any(isinstance(row[number], int) for row in section.rows)
        table.add_column(name, justify="right" if is_count else "left", no_wrap=number == 0)
    for row in section.rows:
        table.add_row(*(f"{c:,}" if isinstance(c, int) else Text(printable(c)) for c in row))
    return table


def new_table() -> Table:
    """A table of an evaluation, without columns yet.

    Returns:
      The table.
    """
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def heading(text: str, console: Console) -> None:
    """Prints the line above a table.

    Args:
      text: any; it may hold what others wrote.
      console: where to print.
    """
    console.print(printable(text, keep=""), style="bold", markup=False, highlight=False)


def say(text: str, console: Console) -> None:
    """Prints a sentence as it is, without markup.

    Args:
      text: any; it may hold what others wrote.
      console: where to print.
    """
    console.print(printable(text), markup=False, highlight=False)
