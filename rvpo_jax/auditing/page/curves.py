"""Lines over steps: pass rates and quiet failures of the channels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .contents import MANY, floats, has_trajectory
from .frame import Frame, fitting, over_steps
from .legend import Key, channel_key, legend, legend_height
from .lettering import plot_label
from .overview import BEHIND, SHARES, draw_dots, focus_looks
from .scales import Scale
from .svg import INK, SMALL, WIDTH, Drawing

BOTTOM = 272.0  # of a plot over steps, pixels
DRAWN = 7  # of many channels: so many are told apart
_KEYS = BOTTOM + 52.0  # top of the legend
_COLUMNS = 3  # of small plots
_CELL = 82.0  # height of a small plot with its name
_MIN_SHARE = 0.01  # an axis of shares ends there at least


def steps_drawing(
    steps: Sequence[float],
    shares: tuple[float, float],
    title: str,
    keys: Sequence[Key],
    note: str = "",
) -> Frame:
    """A frame over steps in a drawing of its own, with a legend below.

    Args:
      steps: ascending.
      shares: limits of the y axis.
      title: of the y axis.
      keys: of the legend.
      note: a line below the legend.

    Returns:
      The frame.
    """
    end = _KEYS + legend_height(keys)
    drawing = Drawing(end + (22 if note else 6))
    legend(drawing, keys, _KEYS)
    if note:
        drawing.text((40.0, end + 10), note, size=SMALL)
    return over_steps(drawing, steps, shares, title, bottom=BOTTOM)


def draw_pass_rates(report: Mapping[str, Any]) -> Drawing:
    """Pass rates of all channels: over steps, or as dots.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The drawing.
    """
    if not has_trajectory(report):
        return draw_dots(report)
    if len(report["channels"]) > MANY:
        return _small_plots(report)
    trajectory, steps = report["trajectory"], floats(report["trajectory"]["step"])
    names = [channel["name"] for channel in report["channels"]]
    keys = [channel_key(index, plot_label(name)) for index, name in enumerate(names)]
    keys.append(Key("all channels met", INK, width=2.4))
    curves = [*(trajectory["pass_rate"][name] for name in names), trajectory["joint"]]
    frame = steps_drawing(steps, SHARES, "completions that meet it", keys)
    # Many bands on top of each other hide the lines.
    opacity = 0.16 if len(keys) <= 6 else 0.07
    for key, curve in zip(keys, curves, strict=True):
        frame.band(steps, floats(curve["low"]), floats(curve["high"]), key.color, opacity)
    for key, curve in zip(keys, curves, strict=True):
        frame.line(steps, floats(curve["rate"]), key)
    return frame.drawing


def _small_plots(report: Mapping[str, Any]) -> Drawing:
    """A small plot for each channel: those in focus first and in color, then the lowest ends."""
    curves = report["trajectory"]["pass_rate"]
    steps = floats(report["trajectory"]["step"])
    focus = focus_looks(report)
    ends = {name: floats(curve["rate"])[-1] for name, curve in curves.items()}
    rest = (name for name in curves if name not in focus)
    names = [*focus, *sorted(rest, key=lambda name: (math.isnan(ends[name]), ends[name]))]
    rows = -(-len(names) // _COLUMNS)
    drawing, left, gap = Drawing(_CELL * rows + 34), 48.0, 14.0
    width = (WIDTH - 8 - left) / _COLUMNS
    for place, name in enumerate(names):
        row, column = divmod(place, _COLUMNS)
        start, top = left + column * width, _CELL * row + 22
        x = Scale(steps[0], steps[-1], start, start + width - gap)
        frame = Frame(drawing, x, Scale(0.0, 1.02, top + _CELL - 26, top))
        frame.y_axis([(0.0, "0 %"), (1.0, "100 %")], grid=True, labels=column == 0)
        lowest = place + _COLUMNS >= len(names)
        ticks = fitting(steps[0], steps[-1], width - gap, 4, whole=True)
        frame.x_axis(ticks if lowest else [], tight=True)
        color, _ = focus.get(name, (BEHIND, ""))
        curve = curves[name]
        frame.band(steps, floats(curve["low"]), floats(curve["high"]), color, 0.3)
        frame.line(steps, floats(curve["rate"]), Key("", color, width=1.8))
        drawing.text((start, top - 11), plot_label(name, (width - gap) / SMALL), size=SMALL)
    return drawing


def draw_quiet(report: Mapping[str, Any]) -> Drawing:
    """Quiet failures of the constraints, or of all channels, over the steps.

    Args:
      report: what ``audit.json`` holds, with two windows of steps at least.

    Returns:
      The drawing.
    """
    trajectory = report["trajectory"]
    steps = floats(trajectory["step"])
    constraints = [c["name"] for c in report["channels"] if c["kind"] == "constraint"]
    names = constraints or [channel["name"] for channel in report["channels"]]
    rates = {name: trajectory["quiet"][name].get(report["rule_in_use"]) for name in names}
    curves = {name: floats(rates[name] or [None] * len(steps)) for name in names}
    known = {
        name: [rate for rate in curve if math.isfinite(rate)] for name, curve in curves.items()
    }
    if len(names) > MANY:
        names = sorted(names, key=lambda name: -sum(known[name]) / len(steps))[:DRAWN]
    highest = max((rate for name in names for rate in known[name]), default=0.0)
    keys = [channel_key(index, plot_label(name)) for index, name in enumerate(names)]
    note = f"the largest of {len(curves)} channels" if len(names) < len(curves) else ""
    limits = (0.0, max(1.05 * highest, _MIN_SHARE))
    frame = steps_drawing(steps, limits, "quiet failures, of completions", keys, note)
    for key, name in zip(keys, names, strict=True):
        frame.line(steps, curves[name], key)
    return frame.drawing
