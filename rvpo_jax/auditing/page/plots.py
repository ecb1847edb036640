"""The pictures of the sections of an audit: a report dict in, matplotlib figures out.

``M`` channels, ``W`` windows of steps. No pyplot, so that no figure outlives its page.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...basics.palette import COLORS
from ...basics.residue import POSITIVE
from .drawing import (
    INKS,
    MANY,
    WIDTH,
    floats,
    has_trajectory,
    legend,
    line,
    look,
    new_figure,
    percent_axis,
    plot_label,
    steps_axis,
)
from .overview import BEHIND, FOCUS_COLORS, draw_dots, draw_overview

_COLUMNS = 3  # of small plots
_DRAWN = 7  # of many channels: so many are told apart


def make_figures(report: Mapping[str, Any], *, dark: bool = False) -> dict[str, Figure]:
    """The plots of a report.

    Args:
      report: what ``audit.json`` holds.
      dark: light ink on a dark ground.

    Returns:
      Figures by name: ``overview`` (the channels in focus, for the first screen), ``pass_rates``
      (lines with bands over steps, a small plot each where there are many channels; dots with
      intervals where the log has fewer than two windows of steps), ``weights`` (ribbon over
      steps, or bars), ``conditional`` (heat map of P(row met | column met); of many channels the
      pairs in which it differs most from P(row met)), ``compensation`` (mean score against
      advantage of the rule in use) and, over steps only, ``quiet`` (quiet failures of that rule).
    """
    with style.context(look(dark)):
        figures = {
            "overview": draw_overview(report, dark),
            "pass_rates": _pass_rates(report, dark),
            "weights": _weights(report),
            "conditional": _conditional(report, dark),
            "compensation": _compensation(report, dark),
        }
        if has_trajectory(report):
            figures["quiet"] = _quiet(report)
    return figures


def _pass_rates(report: Mapping[str, Any], dark: bool) -> Figure:
    if not has_trajectory(report):
        return draw_dots(report, dark)
    if len(report["channels"]) > MANY:
        return _small_pass_rates(report, dark)
    figure, axes = new_figure(3.6 + 0.09 * len(report["channels"]))
    trajectory = report["trajectory"]
    steps = floats(trajectory["step"])
    ink = INKS[dark][1]
    lines = [
        (plot_label(channel["name"]), trajectory["pass_rate"][channel["name"]], line(index))
        for index, channel in enumerate(report["channels"])
    ]
    lines.append(("all channels met", trajectory["joint"], {"color": ink, "lw": 2.4}))
    # Many bands on top of each other hide the lines.
    opacity = 0.16 if len(lines) <= 6 else 0.07
    for label, curve, how in lines:
        axes.plot(steps, floats(curve["rate"]), label=label, **({"lw": 1.6} | how))
        low, high = floats(curve["low"]), floats(curve["high"])
        axes.fill_between(steps, low, high, color=how["color"], alpha=opacity, lw=0)
    axes.set(ylabel="completions that meet it", ylim=(-0.02, 1.02))
    percent_axis(axes.yaxis)
    steps_axis(axes, steps)
    axes.grid(axis="y")
    legend(axes)
    return figure


def _small_pass_rates(report: Mapping[str, Any], dark: bool) -> Figure:
    """A small plot for each channel: those in focus first and in color, then the lowest ends."""
    curves = report["trajectory"]["pass_rate"]
    steps = floats(report["trajectory"]["step"])
    focus = [entry["channel"] for entry in report["focus"]]
    ends = {name: floats(curve["rate"])[-1] for name, curve in curves.items()}
    names = focus + sorted((n for n in curves if n not in focus), key=lambda name: ends[name])
    height = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.82 * height + 0.4), layout="constrained")
    grid = figure.subplots(height, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for axes, name in zip(grid, names, strict=False):
        color = FOCUS_COLORS[focus.index(name)] if name in focus else BEHIND
        curve = curves[name]
        low, high = floats(curve["low"]), floats(curve["high"])
        axes.fill_between(steps, low, high, color=color, alpha=0.3, lw=0)
        axes.plot(steps, floats(curve["rate"]), color=color, lw=1.8)
        axes.set(ylim=(0, 1.02), yticks=(0, 1))
        axes.set_title(plot_label(name)[:22], fontsize=9, loc="left", pad=2, parse_math=False)
        percent_axis(axes.yaxis)
        steps_axis(axes, steps)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_xlabel("")
        axes.grid(axis="y")
    for axes in list(grid)[len(names) :]:
        axes.set_visible(False)
    return figure


def _weights(report: Mapping[str, Any]) -> Figure:
    if not has_trajectory(report):
        return _weight_bars(report)
    names = [channel["name"] for channel in report["channels"]]
    trajectory = report["trajectory"]
    steps = floats(trajectory["step"])
    shares = {name: np.nan_to_num(floats(trajectory["weight"][name])) for name in names}
    shown = names
    if len(names) > MANY:
        shown = sorted(names, key=lambda name: -shares[name].mean())[:_DRAWN]
    figure, axes = new_figure(3.6 + 0.09 * len(shown))
    base = np.zeros(len(steps))
    for index, name in enumerate(shown):
        axes.fill_between(
            steps,
            base,
            base + shares[name],
            color=COLORS[index % len(COLORS)],
            alpha=(0.9, 0.6, 0.35)[index // len(COLORS) % 3],
            lw=0,
            label=plot_label(name),
        )
        base = base + shares[name]
    if len(shown) < len(names):
        rest = np.sum([shares[name] for name in names if name not in shown], axis=0)
        label = f"{len(names) - len(shown)} others"
        axes.fill_between(steps, base, base + rest, color=BEHIND, alpha=0.4, lw=0, label=label)
        base = base + rest
    axes.set(ylabel="share of the soft minimum's weight", ylim=(0, max(1.0, float(base.max()))))
    percent_axis(axes.yaxis)
    steps_axis(axes, steps)
    legend(axes)
    return figure


def _weight_bars(report: Mapping[str, Any]) -> Figure:
    rows = report["bottleneck"]["channels"]
    figure, axes = new_figure(0.42 * max(len(rows), 1) + 1.4)
    place = np.arange(len(rows))
    for key, shift, method in (("weight", -0.19, "rvpo"), ("weight_grpo", 0.19, "grpo")):
        rule = next(rule for rule in report["rules"] if rule["method"] == method)
        shares = np.nan_to_num(floats([row[key] for row in rows]))
        bars = axes.barh(place + shift, shares, height=0.36, color=rule.get("color"))
        bars.set_label(plot_label(rule["label"]))
    axes.set_yticks(place, [plot_label(row["channel"]) for row in rows], parse_math=False)
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.set(xlabel="share of the weight", xlim=(0, 1))
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    above = axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, fontsize=9)
    for text in above.get_texts():
        text.set_parse_math(False)
    return figure


def _conditional(report: Mapping[str, Any], dark: bool) -> Figure:
    names = [plot_label(channel["name"]) for channel in report["channels"]]
    size = len(names)
    matrix = np.array([floats(row) for row in report["conditional"]]).reshape(size, size)
    if size > MANY:
        return _conditional_pairs(report, matrix, names, dark)
    figure, axes = new_figure(0.36 * size + 2.2)
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(size, size):
        value = matrix[row, column]
        known = math.isfinite(value)
        ink = _ink_on(list(image.to_rgba(value))) if known else INKS[dark][1]
        text = f"{100 * value:.0f}" if known else "–"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(size), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(size), names, parse_math=False)
    axes.set(xlabel="… among completions that meet this", ylabel="% that meet this …")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _conditional_pairs(
    report: Mapping[str, Any], matrix: np.ndarray, names: Sequence[str], dark: bool
) -> Figure:
    """The pairs in which meeting one channel goes most with failing the other."""
    rates = floats([channel["pass_rate"]["value"] for channel in report["channels"]])
    change = np.nan_to_num(matrix - rates[:, None])
    worst = np.argsort(change, axis=None, kind="stable")[:MANY]
    pairs = [divmod(int(place), len(names)) for place in worst]
    figure, axes = new_figure(0.5 * len(pairs) + 1.0)
    for place, (row, column) in enumerate(pairs):
        axes.plot([rates[row], matrix[row, column]], [place] * 2, color=BEHIND, lw=1.6)
        axes.plot([rates[row]], [place], "o", ms=6, color=BEHIND)
        axes.plot([matrix[row, column]], [place], "o", ms=7, color=FOCUS_COLORS[0])
    labels = [f"{names[row]}\nif {names[column]} is met" for row, column in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set(xlabel="pass rate: of all (grey), and if the other is met", xlim=(-0.02, 1.02))
    percent_axis(axes.xaxis)
    axes.grid(axis="x")
    return figure


def _ink_on(color: Sequence[float]) -> str:
    """Black or white, whichever stands out more from this color (WCAG luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _compensation(report: Mapping[str, Any], dark: bool) -> Figure:
    figure, axes = new_figure(4.2)
    points = report["scatter"]
    x, y, failed = floats(points["x"]), floats(points["y"]), np.array(points["failed"], bool)
    paid = failed & (y > POSITIVE)
    _, ink, grid = INKS[dark]
    axes.axhline(0, color=ink, lw=0.8)
    axes.axvline(0, color=grid, lw=0.8)
    for chosen, marker, color, opacity, label in (
        (~failed, "o", COLORS[5], 0.45, "meets them all"),
        (failed & ~paid, "x", COLORS[7], 0.8, "fails one, pushed down"),
        (paid, "^", COLORS[4], 0.85, "fails one and is reinforced"),
    ):
        how: dict[str, Any] = {
            "ls": "",
            "marker": marker,
            "ms": 4.5,
            "color": color,
            "alpha": opacity,
        }
        axes.plot(x[chosen], y[chosen], label=f"{label} ({chosen.sum()})", **how)
    axes.set_xlabel(plot_label(points["x_label"]), parse_math=False)
    axes.set_ylabel(plot_label(points["y_label"]), parse_math=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure


def _quiet(report: Mapping[str, Any]) -> Figure:
    trajectory = report["trajectory"]
    steps = floats(trajectory["step"])
    constraints = [c["name"] for c in report["channels"] if c["kind"] == "constraint"]
    names = constraints or [channel["name"] for channel in report["channels"]]
    rates = {name: trajectory["quiet"][name].get(report["rule_in_use"]) for name in names}
    curves = {name: floats(rates[name] or [None] * len(steps)) for name in names}
    if len(names) > MANY:
        names = sorted(names, key=lambda name: -np.nan_to_num(curves[name]).mean())[:_DRAWN]
    figure, axes = new_figure(3.2 + 0.09 * len(names))
    for index, name in enumerate(names):
        axes.plot(steps, curves[name], lw=1.8, label=plot_label(name), **line(index))
    axes.set(ylabel="quiet failures, of completions")
    axes.set_ylim(bottom=0)
    percent_axis(axes.yaxis)
    steps_axis(axes, steps)
    axes.grid(axis="y")
    legend(axes)
    if len(names) < len(curves):
        axes.set_title(f"the largest of {len(curves)} channels", fontsize=9, loc="left")
    return figure
