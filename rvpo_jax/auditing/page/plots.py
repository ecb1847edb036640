"""The pictures of an audit: a report dict in, matplotlib figures out.

``M`` channels, ``W`` windows of steps. No pyplot, so that no figure outlives its page.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager, ft2font, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ...basics.palette import COLORS
from ...basics.residue import POSITIVE
from ...basics.text import escape_character, printable

# Background and ink of the cards of the page: a figure is readable on whatever it is put.
INKS = {False: ("#ffffff", "#1b2027", "#d9dee5"), True: ("#161b22", "#e6eaf0", "#343c47")}
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
_MAX_NAME = 26


def make_figures(report: Mapping[str, Any], *, dark: bool = False) -> dict[str, Figure]:
    """The plots of a report.

    Args:
      report: what ``audit.json`` holds.
      dark: light ink on a dark ground.

    Returns:
      Figures by name: ``pass_rates`` (lines with bands over steps; dots with intervals where the
      log has fewer than two windows of steps), ``weights`` (ribbon over steps, or bars),
      ``conditional`` (heat map of P(row met | column met)), ``compensation`` (mean score against
      advantage of the rule in use) and, over steps only, ``quiet`` (quiet failures of that rule).
    """
    with style.context(_style(dark)):
        figures = {
            "pass_rates": _pass_rates(report, dark),
            "weights": _weights(report),
            "conditional": _conditional(report, dark),
            "compensation": _compensation(report, dark),
        }
        if has_trajectory(report):
            figures["quiet"] = _quiet(report)
    return figures


def has_trajectory(report: Mapping[str, Any]) -> bool:
    """Whether there are two windows of steps to draw a line between.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      True for at least two windows.
    """
    return report["trajectory"] is not None and len(report["trajectory"]["step"]) > 1


def plot_label(name: object) -> str:
    """A name that the plots' font can draw, not too long.

    Args:
      name: anything, hostile or not.

    Returns:
      Printable text; characters without a glyph become escapes.
    """
    glyphs = _glyphs()
    text = "".join(c if ord(c) in glyphs else escape_character(c) for c in printable(name, keep=""))
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that matplotlib's own font has; a missing one would be a warning and a box."""
    return frozenset(ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _style(dark: bool) -> list[Any]:
    ground, ink, grid = INKS[dark]
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return [
        "default",
        dict.fromkeys(inks, ink)
        | {
            "figure.facecolor": ground,
            "axes.facecolor": ground,
            "savefig.facecolor": ground,
            "grid.color": grid,
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "text.usetex": False,
        },
    ]


def _figure(width: float = 7.2, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], float)


def _line(index: int) -> dict[str, Any]:
    """Color and dash of a channel: 24 differ."""
    dash = LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]
    return {"color": COLORS[index % len(COLORS)], "linestyle": dash}


def _legend(axes: Axes, count: int) -> None:
    columns = 1 if count <= 18 else 2
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns, fontsize=8)
    # A channel may be called "$\frac$": names are text, never mathematics, here and in ticks.
    for text in legend.get_texts():
        text.set_parse_math(False)


def _steps_axis(axes: Axes, steps: np.ndarray) -> None:
    axes.set(xlabel="step", xlim=(steps.min(), steps.max()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="%"))


def _pass_rates(report: Mapping[str, Any], dark: bool) -> Figure:
    if not has_trajectory(report):
        return _pass_rate_dots(report, dark)
    figure, axes = _figure(9.4, max(3.6, 0.19 * len(report["channels"]) + 1))
    trajectory = report["trajectory"]
    steps = np.asarray(trajectory["step"], float)
    ink = INKS[dark][1]
    lines = [
        (plot_label(channel["name"]), trajectory["pass_rate"][channel["name"]], _line(index))
        for index, channel in enumerate(report["channels"])
    ]
    lines.append(("all channels met", trajectory["joint"], {"color": ink, "lw": 2.4}))
    # Many bands on top of each other hide the lines.
    opacity = 0.16 if len(lines) <= 6 else 0.07
    for label, curve, look in lines:
        axes.plot(steps, _floats(curve["rate"]), label=label, **({"lw": 1.6} | look))
        low, high = _floats(curve["low"]), _floats(curve["high"])
        axes.fill_between(steps, low, high, color=look["color"], alpha=opacity, lw=0)
    axes.set(ylabel="completions that meet it", ylim=(-0.02, 1.02))
    _percent_axis(axes.yaxis)
    _steps_axis(axes, steps)
    axes.grid(axis="y")
    _legend(axes, len(lines))
    return figure


def _pass_rate_dots(report: Mapping[str, Any], dark: bool) -> Figure:
    rows = [(plot_label(c["name"]), c["pass_rate"]) for c in report["channels"]]
    rows.append(("all channels met", report["joint_pass_rate"]))
    figure, axes = _figure(7.2, 0.28 * len(rows) + 0.9)
    for place, (_, rate) in enumerate(rows):
        color = INKS[dark][1] if place == len(rows) - 1 else COLORS[place % len(COLORS)]
        value, low, high = _floats([rate["value"], rate["low"], rate["high"]])
        axes.plot([low, high], [place, place], color=color, lw=2.2, solid_capstyle="round")
        axes.plot([value], [place], marker="o", ms=6, color=color)
    axes.set(xlabel="completions that meet it, with 95 % interval", xlim=(-0.02, 1.02))
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _percent_axis(axes.xaxis)
    axes.grid(axis="x")
    return figure


def _weights(report: Mapping[str, Any]) -> Figure:
    if not has_trajectory(report):
        return _weight_bars(report)
    names = [channel["name"] for channel in report["channels"]]
    figure, axes = _figure(9.4, max(3.2, 0.19 * len(names) + 0.8))
    trajectory = report["trajectory"]
    steps = np.asarray(trajectory["step"], float)
    shares = np.nan_to_num(np.array([_floats(trajectory["weight"][name]) for name in names]))
    base = np.zeros(len(steps))
    for index, (name, share) in enumerate(zip(names, shares, strict=True)):
        axes.fill_between(
            steps,
            base,
            base + share,
            color=COLORS[index % len(COLORS)],
            alpha=(0.9, 0.6, 0.35)[index // len(COLORS) % 3],
            lw=0,
            label=plot_label(name),
        )
        base = base + share
    axes.set(ylabel="share of the soft minimum's weight", ylim=(0, max(1.0, float(base.max()))))
    _percent_axis(axes.yaxis)
    _steps_axis(axes, steps)
    _legend(axes, len(names))
    return figure


def _weight_bars(report: Mapping[str, Any]) -> Figure:
    rows = report["bottleneck"]["channels"]
    figure, axes = _figure(7.2, 0.42 * max(len(rows), 1) + 1.1)
    place = np.arange(len(rows))
    for key, shift, method in (("weight", -0.19, "rvpo"), ("weight_grpo", 0.19, "grpo")):
        rule = next(rule for rule in report["rules"] if rule["method"] == method)
        shares = np.nan_to_num(_floats([row[key] for row in rows]))
        bars = axes.barh(place + shift, shares, height=0.36, color=rule.get("color"))
        bars.set_label(plot_label(rule["label"]))
    axes.set_yticks(place, [plot_label(row["channel"]) for row in rows], parse_math=False)
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.set(xlabel="share of the weight", xlim=(0, 1))
    _percent_axis(axes.xaxis)
    axes.grid(axis="x")
    _legend(axes, 2)
    return figure


def _conditional(report: Mapping[str, Any], dark: bool) -> Figure:
    names = [plot_label(channel["name"]) for channel in report["channels"]]
    size = len(names)
    figure, axes = _figure(0.42 * size + 3.2, 0.36 * size + 2.2)
    matrix = np.array([_floats(row) for row in report["conditional"]]).reshape(size, size)
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(size, size):
        value = matrix[row, column]
        known = math.isfinite(value)
        ink = _ink_on(list(image.to_rgba(value))) if known else INKS[dark][1]
        text = f"{100 * value:.0f}" if known else "–"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(size), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(size), names, parse_math=False)
    axes.set(xlabel="… among completions that meet this", ylabel="% that meet this …")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _ink_on(color: Sequence[float]) -> str:
    """Black or white, whichever stands out more from this color (WCAG luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _compensation(report: Mapping[str, Any], dark: bool) -> Figure:
    figure, axes = _figure(6.4, 4.0)
    points = report["scatter"]
    x, y, failed = _floats(points["x"]), _floats(points["y"]), np.array(points["failed"], bool)
    paid = failed & (y > POSITIVE)
    _, ink, grid = INKS[dark]
    axes.axhline(0, color=ink, lw=0.8)
    axes.axvline(0, color=grid, lw=0.8)
    for chosen, marker, color, opacity, label in (
        (~failed, "o", COLORS[5], 0.45, "meets them all"),
        (failed & ~paid, "x", COLORS[7], 0.8, "fails one, pushed down"),
        (paid, "^", COLORS[4], 0.85, "fails one and is reinforced"),
    ):
        look: dict[str, Any] = {
            "ls": "",
            "marker": marker,
            "ms": 4.5,
            "color": color,
            "alpha": opacity,
        }
        axes.plot(x[chosen], y[chosen], label=f"{label} ({chosen.sum()})", **look)
    axes.set_xlabel(plot_label(points["x_label"]), parse_math=False)
    axes.set_ylabel(plot_label(points["y_label"]), parse_math=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)
    return figure


def _quiet(report: Mapping[str, Any]) -> Figure:
    figure, axes = _figure(9.4, max(3.0, 0.19 * len(report["channels"]) + 0.8))
    trajectory = report["trajectory"]
    steps = np.asarray(trajectory["step"], float)
    constraints = [c["name"] for c in report["channels"] if c["kind"] == "constraint"]
    for index, channel in enumerate(report["channels"]):
        if not constraints or channel["name"] in constraints:
            rates = trajectory["quiet"][channel["name"]].get(report["rule_in_use"], [])
            rates = _floats(rates) if rates else np.full(len(steps), math.nan)
            axes.plot(steps, rates, lw=1.6, label=plot_label(channel["name"]), **_line(index))
    axes.set(ylabel="quiet failures, share of completions")
    axes.set_ylim(bottom=0)
    _percent_axis(axes.yaxis)
    _steps_axis(axes, steps)
    axes.grid(axis="y")
    _legend(axes, len(constraints) or len(report["channels"]))
    return figure
