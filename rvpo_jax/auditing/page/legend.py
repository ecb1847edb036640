"""How a series looks, and the names of the series beside their looks."""

import dataclasses
import math
from collections.abc import Sequence

from ...basics.palette import COLORS
from .svg import SMALL, WIDTH, Drawing

_ROW = 20.0  # height of a line, pixels
_DASHES = (None, "7 3", "2 2.5")


@dataclasses.dataclass(frozen=True)
class Key:
    """How a series looks, and its line in the legend.

    Attributes:
      label: printable text.
      color: of line, surface or marker.
      kind: "line", "area" or a marker: "dot", "cross", "triangle".
      width: of a line, pixels.
      dash: lengths of dashes and gaps.
      opacity: from 0 to 1.
    """

    label: str
    color: str
    kind: str = "line"
    width: float = 1.6
    dash: str | None = None
    opacity: float = 1.0


def channel_key(index: int, label: str) -> Key:
    """Color and dash of a channel: 24 differ.

    Args:
      index: its place.
      label: its name in a plot.

    Returns:
      How its line looks.
    """
    dash = _DASHES[index // len(COLORS) % len(_DASHES)]
    return Key(label, COLORS[index % len(COLORS)], dash=dash)


def legend_height(keys: Sequence[Key], columns: int = 2) -> float:
    """Height of a legend.

    Args:
      keys: of the series.
      columns: as many names beside each other.

    Returns:
      Pixels.
    """
    return _ROW * -(-len(keys) // columns)


def legend(
    drawing: Drawing, keys: Sequence[Key], top: float, columns: int = 2, left: float = 40.0
) -> None:
    """Paints the names of the series, row by row.

    Args:
      drawing: to paint in.
      keys: of the series.
      top: pixels.
      columns: as many names beside each other.
      left: pixels.
    """
    step = (WIDTH - left) / columns
    for index, key in enumerate(keys):
        x, y = left + step * (index % columns), top + _ROW * (index // columns + 0.5)
        if key.kind == "line":
            line = [(x, y), (x + 24, y)]
            drawing.line(line, key.color, key.width, dash=key.dash, opacity=key.opacity)
        elif key.kind == "area":
            box = {"x": x, "y": y - 6, "width": 24.0, "height": 12.0}
            drawing.add("rect", **box, fill=key.color, fill_opacity=key.opacity)
        else:
            marker(drawing, (x + 12, y), key)
        drawing.text((x + 32, y), key.label, size=SMALL)


def marker(drawing: Drawing, at: tuple[float, float], key: Key) -> None:
    """Paints a dot, a cross or a triangle; nothing where the place is unknown.

    Args:
      drawing: to paint in.
      at: its middle, pixels.
      key: kind, color and opacity.
    """
    if not all(map(math.isfinite, at)):
        return
    (x, y), color, opacity = at, key.color, key.opacity
    if key.kind == "cross":
        for slope in (-2.6, 2.6):
            ends = [(x - 2.6, y - slope), (x + 2.6, y + slope)]
            drawing.line(ends, color, 1.2, opacity=opacity)
    elif key.kind == "triangle":
        corners = ((x - 3.2, y + 2.6), (x + 3.2, y + 2.6), (x, y - 3.4))
        drawing.area(corners, color, opacity)
    else:
        drawing.add("circle", cx=x, cy=y, r=2.8, fill=color, fill_opacity=opacity)
