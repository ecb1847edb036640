"""The heat map of an audit, of few channels; of many the pairs that stand out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .contents import MANY, floats
from .lettering import plot_label, text_width
from .overview import BEHIND, FOCUS_COLORS, share_rows
from .svg import SIZE, SMALL, WIDTH, Drawing

# Matplotlib's cividis at 0, 0.1, ..., 1, straight lines between: readable for the color-blind.
_CIVIDIS = (
    *("#00224e", "#083370", "#35456c", "#4f576c", "#666970", "#7d7c78"),
    *("#948e77", "#aea371", "#c8b866", "#e5cf52", "#fee838"),
)
_CELL = 36.0  # height, pixels
_CRISP = {"shape_rendering": "crispEdges"}  # no seams between cells


def draw_conditional(report: Mapping[str, Any]) -> Drawing:
    """P(row met | column met) of all pairs of channels, or where it differs most from P(row met).

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The drawing.
    """
    names = [plot_label(channel["name"]) for channel in report["channels"]]
    matrix = np.array([floats(row) for row in report["conditional"]]).reshape(len(names), -1)
    return _pairs(report, matrix) if len(names) > MANY else _heat_map(matrix, names)


def _heat_map(matrix: np.ndarray, names: Sequence[str]) -> Drawing:
    widest = max((text_width(name, SMALL) for name in names), default=0.0)
    left, top, slope = widest + 36, 10.0, math.sqrt(0.5)
    bottom, width = top + _CELL * len(names), (WIDTH - 10 - left) / max(len(names), 1)
    drawing = Drawing(max(bottom + slope * (widest + SMALL) + 36, 170.0))
    for (row, column), value in np.ndenumerate(matrix):
        box = {"x": left + column * width, "y": top + row * _CELL}
        middle = (left + (column + 0.5) * width, top + (row + 0.5) * _CELL)
        text, ink = "–", None
        if math.isfinite(value):
            color = heat_color(float(value))
            drawing.add("rect", **box, width=width, height=_CELL, fill=color, **_CRISP)
            text, ink = f"{100 * value:.0f}", ink_on(color)
        drawing.text(middle, text, size=SMALL, anchor="middle", fill=ink)
    for place, name in enumerate(names):
        level = top + (place + 0.5) * _CELL
        drawing.text((left - 8, level), name, size=SMALL, anchor="end")
        below = (left + (place + 0.5) * width + 4, bottom + 12)
        drawing.text(below, name, size=SMALL, anchor="end", turn=-45)
    title, middle_x = "… among completions that meet this", (left + WIDTH - 10) / 2
    middle_x = min(middle_x, WIDTH - text_width(title, SIZE) / 2 - 4)
    drawing.text((middle_x, drawing.height - 14), title, anchor="middle")
    title = "% that meet this …"
    level = max((top + bottom) / 2, text_width(title, SIZE) / 2 + 4)
    drawing.text((11, level), title, anchor="middle", turn=-90)
    return drawing


def heat_color(share: float) -> str:
    """The color of a share.

    Args:
      share: from 0 (dark) to 1 (light).

    Returns:
      ``#rrggbb``.
    """
    last = len(_CIVIDIS) - 1
    place = min(max(share, 0.0), 1.0) * last
    lower = min(int(place), last - 1)
    a, b = (_channels(color) for color in _CIVIDIS[lower : lower + 2])
    mixed = [round(x + (place - lower) * (y - x)) for x, y in zip(a, b, strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def ink_on(color: str) -> str:
    """Black or white, whichever stands out more (WCAG luminance).

    Args:
      color: ``#rrggbb``, of the ground.

    Returns:
      ``#000000`` or ``#ffffff``.
    """
    shares = [value / 255 for value in _channels(color)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#ffffff"


def _channels(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def _pairs(report: Mapping[str, Any], matrix: np.ndarray) -> Drawing:
    """The pairs in which meeting one channel goes most with failing the other."""
    names = [plot_label(channel["name"], 12.0) for channel in report["channels"]]
    rates = floats([channel["pass_rate"]["value"] for channel in report["channels"]])
    change = np.nan_to_num(matrix - np.array(rates)[:, None])
    worst = np.argsort(change, axis=None, kind="stable")[:MANY]
    pairs = [divmod(int(place), len(names)) for place in worst]
    labels = [f"{names[row]}\nif {names[column]} is met" for row, column in pairs]
    frame = share_rows(labels, 46.0, "pass rate: of all (grey), and if the other is met")
    for place, (row, column) in enumerate(pairs):
        given = float(matrix[row, column])
        frame.interval(place, [math.nan, rates[row], given], BEHIND, 1.6)
        frame.dot(rates[row], place, BEHIND, 3.5)
        frame.dot(given, place, FOCUS_COLORS[0], 4.0)
    return frame.drawing
