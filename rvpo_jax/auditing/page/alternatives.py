"""Alternative texts of the pictures of an audit."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...basics.text import printable
from .contents import MANY, has_trajectory
from .forms import number, percent
from .overview import overview_kind


def alternative_texts(report: Mapping[str, Any]) -> dict[str, str]:
    """What the pictures of a report show, in words.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      Texts by name of the figure.
    """
    channels = [channel["name"] for channel in report["channels"]]
    short = [printable(name, keep="")[:60] for name in channels]
    rates = [channel["pass_rate"]["value"] for channel in report["channels"]]
    weights = [row["weight"] for row in report["bottleneck"]["channels"]]
    trajectory, points = report["trajectory"], report["scatter"]
    paid = sum(f and y > 0 for f, y in zip(points["failed"], points["y"], strict=True))

    def listing(values: Sequence[Any]) -> str:
        return ", ".join(f"{n} {percent(v)}" for n, v in zip(short, values, strict=True))

    texts = {
        "pass_rates": f"Dots with intervals: pass rate by channel. {listing(rates)}.",
        "weights": f"Bars: share of the soft minimum's weight by channel. {listing(weights)}.",
        "conditional": _conditional(len(short)),
        "compensation": f"Scatter of {len(points['x'])} completions, mean score against advantage "
        f"under the rule in use; {paid} of {sum(points['failed'])} failing ones lie above 0.",
    }
    if has_trajectory(report):
        first, last = (number(trajectory["step"][at], "g") for at in (0, -1))
        span = f"from step {first} to {last}"
        curves = [trajectory["pass_rate"][name]["rate"] for name in channels]
        ends = [
            f"{n} {percent(c[0])} to {percent(c[-1])}" for n, c in zip(short, curves, strict=True)
        ]
        texts["pass_rates"] = f"Lines with bands: pass rate by channel {span}. {', '.join(ends)}."
        texts["weights"] = (
            f"Ribbon: share of the soft minimum's weight by channel {span}. "
            f"At the end: {listing([trajectory['weight'][name][-1] for name in channels])}."
        )
        texts["quiet"] = f"Lines: quiet failures by channel under the rule in use, {span}."
    return texts | {"overview": _overview(report, texts["pass_rates"])}


def _conditional(num_channels: int) -> str:
    below = "The numbers are in the table below it."
    if num_channels > MANY:
        return (
            f"Dots: the {MANY} pairs of channels in which meeting one goes most with failing the "
            f"other. {below}"
        )
    return (
        f"Heat map of {num_channels} by {num_channels} channels: pass rate of the row among "
        f"completions that meet the column. {below}"
    )


def _overview(report: Mapping[str, Any], pass_rates: str) -> str:
    if overview_kind(report) != "gaps":
        drawn = [printable(entry["channel"], keep="")[:60] for entry in report["focus"]]
        return f"{pass_rates} Drawn out: {', '.join(drawn) or 'none'}."
    channel = report["focus"][0]["channel"]
    gaps = [
        f"{row['rule']} {number(row['gap']['value'], '+.2f')}"
        for row in report["quiet_failures"]
        if row["channel"] == channel
    ]
    name = printable(channel, keep="")[:60]
    lead = f"Dots with intervals: failure gap of {name} by rule; above 0 failing is paid."
    return f"{lead} {'; '.join(gaps)}."
