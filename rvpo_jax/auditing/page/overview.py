"""The picture of the first screen: the channels in focus drawn out, the others behind them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...basics.palette import COLORS
from .drawing import (
    INKS,
    floats,
    has_trajectory,
    new_figure,
    percent_axis,
    plot_label,
    steps_axis,
)

HEIGHT = 3.3
BEHIND = "#8b95a3"  # stands out from both grounds, and not from the lines in focus
FOCUS_COLORS = (COLORS[4], COLORS[0], COLORS[3])
_NAMED = 6  # so many channels have room for their names beside the lines
_APART = 0.075  # between two names, as a share of the height
_MAX_DOTS = 10


def draw_overview(report: Mapping[str, Any], dark: bool) -> Figure:
    """Pass rates over steps; without steps the failure gap of the first channel by rule.

    Args:
      report: what ``audit.json`` holds.
      dark: light ink on a dark ground.

    Returns:
      The figure.
    """
    kind = overview_kind(report)
    if kind == "steps":
        return _over_steps(report, dark)
    return _gaps(report, dark) if kind == "gaps" else draw_dots(report, dark, _MAX_DOTS)


def overview_kind(report: Mapping[str, Any]) -> str:
    """What the first picture shows: ``steps``, ``gaps`` or ``rates``.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      One of the three.
    """
    if has_trajectory(report):
        return "steps"
    return "gaps" if _gap_rows(report) else "rates"


def _over_steps(report: Mapping[str, Any], dark: bool) -> Figure:
    figure, axes = new_figure(HEIGHT)
    trajectory, ink = report["trajectory"], INKS[dark][1]
    steps = floats(trajectory["step"])
    focus = [entry["channel"] for entry in report["focus"]]
    names = [channel["name"] for channel in report["channels"]]
    others = [name for name in names if name not in focus]
    ends = []
    for name in others:
        rates = floats(trajectory["pass_rate"][name]["rate"])
        axes.plot(steps, rates, color=BEHIND, lw=1.0, alpha=0.9 if len(names) <= _NAMED else 0.5)
        if len(names) <= _NAMED:
            ends.append((rates[-1], plot_label(name), BEHIND))
    joint = floats(trajectory["joint"]["rate"])
    axes.plot(steps, joint, color=ink, lw=1.4, ls=(0, (4, 2)))
    ends.append((joint[-1], "all channels met", ink))
    for name, color in zip(focus, FOCUS_COLORS, strict=False):
        curve = trajectory["pass_rate"][name]
        rates = floats(curve["rate"])
        axes.fill_between(
            steps, floats(curve["low"]), floats(curve["high"]), color=color, alpha=0.18, lw=0
        )
        axes.plot(steps, rates, color=color, lw=2.8)
        ends.append((rates[-1], plot_label(name), color))
    if len(names) > _NAMED:
        axes.plot([], [], color=BEHIND, lw=1.0, label=f"{len(others)} other channels")
        axes.legend(loc="lower left", fontsize=9)
    axes.set(ylabel="completions that meet it", ylim=(-0.02, 1.02))
    percent_axis(axes.yaxis)
    steps_axis(axes, steps)
    axes.grid(axis="y")
    _name_ends(axes, steps[-1], ends)
    return figure


def _name_ends(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the ends of their lines, moved apart where they would lie on each other."""
    known = sorted(end for end in ends if math.isfinite(end[0]))
    places = [value for value, _, _ in known]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + _APART)
    over = max(places[-1] - 1.0, 0.0) if places else 0.0
    for index in reversed(range(len(places))):
        ceiling = places[index + 1] - _APART if index + 1 < len(places) else 1.0
        places[index] = min(places[index], ceiling) if over else places[index]
    for place, (_, name, color) in zip(places, known, strict=True):
        axes.annotate(
            name,
            (x, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=9,
            fontweight="bold" if color in FOCUS_COLORS else "normal",
            annotation_clip=False,
            parse_math=False,
        )


def _gap_rows(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    first = [entry["channel"] for entry in report["focus"]][:1]
    return [
        row
        for row in report["quiet_failures"]
        if row["channel"] in first and row["gap"]["value"] is not None
    ]


def _gaps(report: Mapping[str, Any], dark: bool) -> Figure:
    rows = _gap_rows(report)
    labels = {rule["name"]: rule["label"] for rule in report["rules"]}
    figure, axes = new_figure(HEIGHT)
    axes.axvline(0, color=INKS[dark][1], lw=1.2)
    for place, row in enumerate(rows):
        value, low, high = floats([row["gap"][key] for key in ("value", "low", "high")])
        color = FOCUS_COLORS[0] if value > 0 else FOCUS_COLORS[1]
        axes.plot([low, high], [place, place], color=color, lw=2.6, solid_capstyle="round")
        axes.plot([value], [place], marker="o", ms=8, color=color)
    marks = {report["rule_in_use"]: "\nin use"}
    names = [plot_label(labels[row["rule"]]) + marks.get(row["rule"], "") for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    name = plot_label(rows[0]["channel"])
    label = f"failure gap of {name}: right of 0, failing is paid"
    axes.set_xlabel(label, parse_math=False)
    axes.grid(axis="x")
    return figure


def draw_dots(report: Mapping[str, Any], dark: bool, limit: int | None = None) -> Figure:
    """Pass rates with intervals, a row for each channel.

    Args:
      report: what ``audit.json`` holds.
      dark: light ink on a dark ground.
      limit: at most so many channels, those that are met least; None: all.

    Returns:
      The figure.
    """
    rows = [(plot_label(c["name"]), c["pass_rate"]) for c in report["channels"]]
    if limit is not None and len(rows) > limit:
        known = [row for row in rows if row[1]["value"] is not None]
        rows = sorted(known, key=lambda row: row[1]["value"])[:limit]
    rows.append(("all channels met", report["joint_pass_rate"]))
    figure, axes = new_figure(0.28 * len(rows) + 0.9)
    for place, (_, rate) in enumerate(rows):
        color = INKS[dark][1] if place == len(rows) - 1 else COLORS[place % len(COLORS)]
        value, low, high = floats([rate["value"], rate["low"], rate["high"]])
        axes.plot([low, high], [place, place], color=color, lw=2.2, solid_capstyle="round")
        axes.plot([value], [place], marker="o", ms=6, color=color)
    axes.set(xlabel="completions that meet it, with 95 % interval", xlim=(-0.02, 1.02))
    axes.set_yticks(np.arange(len(rows)), [label for label, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    return figure
