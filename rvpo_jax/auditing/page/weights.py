"""Who decides: each channel's share of the soft minimum's weight, over steps or in all."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...basics.palette import COLORS
from .contents import MANY, floats, has_trajectory
from .curves import DRAWN, steps_drawing
from .legend import Key, legend, legend_height
from .lettering import plot_label
from .overview import BEHIND, share_rows
from .svg import Drawing

_ROW = 42.0  # height of two bars and their gap, pixels
_BAR = 15.0


def draw_weights(report: Mapping[str, Any]) -> Drawing:
    """A ribbon over steps, or bars.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The drawing.
    """
    if not has_trajectory(report):
        return _bars(report)
    names = [channel["name"] for channel in report["channels"]]
    steps = floats(report["trajectory"]["step"])
    weights = report["trajectory"]["weight"]
    shares = {name: np.nan_to_num(floats(weights[name])) for name in names}
    shown = names
    if len(names) > MANY:
        shown = sorted(names, key=lambda name: -shares[name].mean())[:DRAWN]
    layers = [(_surface(index, plot_label(name)), shares[name]) for index, name in enumerate(shown)]
    if len(shown) < len(names):
        rest = sum((shares[name] for name in names if name not in shown), np.zeros(len(steps)))
        layers.append((Key(f"{len(names) - len(shown)} others", BEHIND, "area", opacity=0.4), rest))
    total = sum((share for _, share in layers), np.zeros(len(steps)))
    top = max(1.0, float(total.max()))
    keys = [key for key, _ in layers]
    frame = steps_drawing(steps, (0.0, top), "share of the soft minimum's weight", keys)
    base = np.zeros(len(steps))
    for key, share in layers:
        lower, upper = base.tolist(), (base + share).tolist()
        frame.band(steps, lower, upper, key.color, key.opacity)
        base = base + share
    return frame.drawing


def _surface(index: int, label: str) -> Key:
    opacity = (0.9, 0.6, 0.35)[index // len(COLORS) % 3]
    return Key(label, COLORS[index % len(COLORS)], "area", opacity=opacity)


def _bars(report: Mapping[str, Any]) -> Drawing:
    rows = report["bottleneck"]["channels"]
    series = []
    for place, (column, method) in enumerate((("weight", "rvpo"), ("weight_grpo", "grpo"))):
        rule = next(rule for rule in report["rules"] if rule["method"] == method)
        look = Key(plot_label(rule["label"]), rule.get("color") or COLORS[place], "area")
        series.append((look, floats([row[column] for row in rows])))
    keys = [key for key, _ in series]
    names = [plot_label(row["channel"]) for row in rows]
    top = 14 + legend_height(keys)
    # Of many channels each has so little that nothing could be told apart up to 100 %.
    largest = max((value for _, values in series for value in values if value > 0), default=1.0)
    shares = (0.0, 1.0 if len(rows) <= MANY else min(1.05 * largest, 1.0))
    frame = share_rows(names, _ROW, "share of the weight", shares=shares, top=top)
    legend(frame.drawing, keys, 4)
    for place, values in enumerate(zip(*(values for _, values in series), strict=True)):
        for key, value, shift in zip(keys, values, (-_BAR, 0.0), strict=True):
            if value > 0:
                start, end, level = frame.x(0.0), frame.x(value), frame.y(place) + shift
                box = {"x": start, "y": level, "width": end - start, "height": _BAR}
                frame.drawing.add("rect", **box, fill=key.color)
    return frame.drawing
