"""An audit on the terminal. Text from a log is shown escaped."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..basics.intervals import percent
from ..basics.text import printable
from .phrases import worst_first

STYLES = {
    "problem": "bold red",
    "watch": "yellow",
    "ok": "green",
    "no_alarm": "bold green",
    "unclear": "cyan",
}


def show_audit(report: Mapping[str, Any], console: Console) -> None:
    """Prints the verdict, the sentences and one table per channel and rule.

    Args:
      report: of an audit.
      console: where to print.
    """
    console.print(_first_screen(report))
    console.print(_channel_table(report))
    console.print(_gap_table(report))
    if report["slices"]:
        console.print(_slice_table(report))
    if report["comparison"] is not None:
        console.print(_comparison_table(report["comparison"]))
    for note in report["notes"]:
        console.print(Text(f"note: {printable(note['text'])}", style="dim"), soft_wrap=True)


def _first_screen(report: Mapping[str, Any]) -> Panel:
    verdict = report["verdict"]
    headline = Text(printable(verdict["headline"]), style=STYLES[verdict["level"]])
    lines = [headline.append(f" {printable(verdict['certainty'])}", style="dim")]
    for sentence in worst_first(report["sentences"]):
        line = Text(f"\n{sentence['topic']}: ", style=STYLES[sentence["level"]])
        line.append(printable(sentence["text"]), style="default")
        lines.append(line)
    title = f"{verdict['level'].upper().replace('_', ' ')}: {printable(report['title'])}"
    return Panel(Group(*lines), title=Text(title), title_align="left", box=box.ROUNDED)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        # Names may be long: they fold. Numbers stay whole.
        justify: Any = "right" if index else "left"
        width = None if index else 14
        table.add_column(
            Text(name), justify=justify, overflow="fold", no_wrap=index > 0, min_width=width
        )
    return table


def _channel_table(report: Mapping[str, Any]) -> Table:
    columns = ("mark", "pass rate", "weight", "varies", "all meet", "all fail")
    title = (
        "Channels (! constraint, ? pass mark assumed), and the groups in which they vary, all "
        "completions meet them, all fail them"
    )
    table = _table(title, "channel", *columns)
    decides = {row["channel"]: row["weight"] for row in report["bottleneck"]["channels"]}
    dead = {row["channel"]: row for row in report["dead"]}
    for channel in report["channels"]:
        name, row = channel["name"], dead[channel["name"]]
        shares = (_share(row[kind], row["groups"]) for kind in ("live", "dead_pass", "dead_fail"))
        mark = f"{channel['pass_at']:g}{'?' if channel['assumed_pass'] else ''}"
        label = printable(name) + (" !" if channel["kind"] == "constraint" else "")
        cells = (
            label,
            mark,
            _rate(channel["pass_rate"]),
            percent(decides[name], unit=" %"),
            *shares,
        )
        table.add_row(*map(Text, cells))
    return table


def _gap_table(report: Mapping[str, Any]) -> Table:
    rules = report["rules"]
    used = report["rule_in_use"]
    marked = [_short(rule) + "*" * (rule["name"] == used) for rule in rules]
    title = (
        "Failure gap: advantage of those that fail a channel less that of those that meet it, in "
        "groups with both; above 0 failing is paid (* rule in use)"
    )
    table = _table(title, "channel", "failures", "groups", *marked)
    for channel in report["channels"]:
        name = channel["name"]
        rows = {row["rule"]: row for row in report["quiet_failures"] if row["channel"] == name}
        gaps = (_signed(rows[rule["name"]]["gap"]["value"]) for rule in rules)
        counts = (f"{rows[used]['failures']:,}", f"{rows[used]['groups']:,}")
        table.add_row(*map(Text, (printable(name), *counts, *gaps)))
    return table


def _slice_table(report: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(row["slice"] for row in report["slices"]))
    title = f"Slices of {printable(report['sliced_by'])}: pass rate, and failure gap (rule in use)"
    table = _table(title, "channel", *map(printable, names))
    for channel in report["channels"]:
        rows = [row for row in report["slices"] if row["channel"] == channel["name"]]
        cells = (
            "-"
            if row["pass_rate"]["value"] is None
            else f"{percent(row['pass_rate']['value'], unit=' %')} {_signed(row['gap']['value'])}"
            for row in rows
        )
        table.add_row(*map(Text, (printable(channel["name"]), *cells)))
    return table


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _short(rule: Mapping[str, Any]) -> str:
    """The head of a column: "k=1", else the shorter of label (without brackets) and name.

    Numbers stand below the name: a wide head would take the room of other columns' numbers.
    """
    if rule["method"] is None or rule["risk_coef"] is not None:
        name = rule["name"].removeprefix("rvpo:")
    else:
        name = min(rule["label"].partition(" (")[0], rule["name"], key=len)
    return name.replace(":", "\n").replace(",", "\n")


def _comparison_table(comparison: Mapping[str, Any]) -> Table:
    columns = ("a, %", "b, %", "b - a, points", "b is")
    title = f"{comparison['headline']}\na: {comparison['a']}\nb: {comparison['b']}"
    table = _table(printable(title), "quantity", *columns)
    for row in comparison["rows"]:
        change = row["difference"]
        difference = "-"
        if change["low"] is not None:
            value, low, high = (100 * change[key] for key in ("value", "low", "high"))
            difference = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
        label = (
            f"{row['quantity']}: {printable(row['channel'])}" if row["channel"] else row["quantity"]
        )
        sides = (_rate(row[side], unit="") for side in ("a", "b"))
        cells = (label, *sides, difference, _READING[row["reading"]])
        table.add_row(*map(Text, cells))
    return table


_READING = {
    "b is better": "better",
    "b is worse": "worse",
    "no clear difference": "~",
    "unknown": "?",
}


def _rate(estimate: Mapping[str, Any], unit: str = " %") -> str:
    if estimate["value"] is None:
        return "-"
    return percent(estimate["value"], estimate["low"], estimate["high"], unit=unit)


def _share(count: int, total: int) -> str:
    return percent(count / total, unit=" %") if total else "-"
