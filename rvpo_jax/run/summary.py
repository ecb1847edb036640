"""The table and the picture at the end of a run. ``M`` reward channels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.files import replacing
from rvpo_jax.basics.intervals import rate_text
from rvpo_jax.basics.palette import COLORS
from rvpo_jax.basics.text import printable


def rate_table(start: Mapping[str, Any], end: Mapping[str, Any], channels: Sequence[str]) -> Table:
    """Pass rates on held-out prompts, start to end, worst channel marked.

    Args:
      start: an evaluation row: ``{"step": int, "rates": {name: {rate, low, high, count}}}``.
      end: a later one.
      channels: names of the M channels; further names in ``rates`` follow below a line.

    Returns:
      A rich table.
    """
    table = Table(
        title=f"Held-out prompts, pass rate with 95 % interval (n = {_count(end)})",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("channel")
    for row in (start, end):
        table.add_column(f"step {row['step']}", justify="right")
    table.add_column("change", justify="right")
    applicable = [name for name in channels if end["rates"][name]["count"]]
    worst = min(applicable, key=lambda name: end["rates"][name]["rate"], default=None)
    for name, rate in end["rates"].items():
        if name not in channels:
            table.add_section()
        before = start["rates"][name]
        label = printable(name, keep="") + ("  <- worst" if name == worst else "")
        change = "" if not rate["count"] else f"{rate['rate'] - before['rate']:+.1%}"
        table.add_row(Text(label), rate_text(before), rate_text(rate), change)
    return table


def _count(row: Mapping[str, Any]) -> int:
    return max(rate["count"] for rate in row["rates"].values())


def plot_run(
    metrics: Sequence[Mapping[str, Any]], channels: Sequence[str], path: Path, title: str
) -> None:
    """Pass rate of every channel, and of all at once, over the steps of a run.

    Args:
      metrics: rows of ``metrics.jsonl``.
      channels: names of the M channels.
      path: PNG file to write, replaced as a whole.
      title: printed above.
    """
    from matplotlib.figure import Figure

    steps = np.array([row["step"] for row in metrics])
    window = max(len(steps) // 25, 1)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(channels):
        rates = np.array([_value(row, f"reward/{name}/pass_rate") for row in metrics])
        axes.plot(steps, _smooth(rates, window), color=COLORS[index % len(COLORS)], label=name)
    joint = np.array([_value(row, "reward/joint_pass_rate") for row in metrics])
    axes.plot(steps, _smooth(joint, window), color="black", lw=2.5, label="all channels met")
    axes.set(xlabel="step", ylabel="pass rate of sampled completions", ylim=(-0.02, 1.02))
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    note = f"mean over {window} steps" if window > 1 else None
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title=note)
    with replacing(path) as part:
        figure.savefig(part, dpi=120)


def _value(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return float("nan") if value is None else float(value)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over a centred window that shrinks at both ends."""
    half = window // 2
    return np.array(
        [np.nanmean(values[max(i - half, 0) : i + half + 1]) for i in range(len(values))]
    )
