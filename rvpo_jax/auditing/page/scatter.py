"""Mean score against advantage: which completions that fail something are reinforced."""

from collections.abc import Mapping
from typing import Any

from ...basics.palette import COLORS
from ...basics.residue import POSITIVE
from .contents import floats
from .frame import RIGHT, Frame, fitting, left_of
from .legend import Key, legend, legend_height, marker
from .lettering import plot_label
from .scales import Scale, limits, round_ticks, written
from .svg import INK, Drawing

_HEIGHT = 300.0  # of the plot, pixels
_TITLE = 40.0  # ems of an axis' title at most


def draw_compensation(report: Mapping[str, Any]) -> Drawing:
    """A marker for each completion of the report's sample.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The drawing.
    """
    points = report["scatter"]
    x, y, failed = floats(points["x"]), floats(points["y"]), points["failed"]
    paid = [fails and level > POSITIVE for fails, level in zip(failed, y, strict=True)]
    pushed = [fails and not up for fails, up in zip(failed, paid, strict=True)]
    series = [
        ([not fails for fails in failed], "dot", COLORS[5], 0.45, "meets them all"),
        (pushed, "cross", COLORS[7], 0.8, "fails one, pushed down"),
        (paid, "triangle", COLORS[4], 0.85, "fails one and is reinforced"),
    ]
    keys = [
        Key(f"{label} ({sum(chosen)})", color, kind, opacity=opacity)
        for chosen, kind, color, opacity, label in series
    ]
    frame = _frame(x, y, points, top=legend_height(keys) + 14)
    legend(frame.drawing, keys, 4, left=frame.x.start)
    for (chosen, *_), key in zip(series, keys, strict=True):
        for at, level, shown in zip(x, y, chosen, strict=True):
            if shown:
                marker(frame.drawing, (frame.x(at), frame.y(level)), key)
    return frame.drawing


def _frame(x: list[float], y: list[float], points: Mapping[str, Any], top: float) -> Frame:
    across, up = limits(x), limits(y)
    ticks = written(round_ticks(*up))
    drawing, left, bottom = Drawing(top + _HEIGHT + 50), left_of(ticks, title=True), top + _HEIGHT
    frame = Frame(drawing, Scale(*across, left, RIGHT), Scale(*up, bottom, top))
    x_label, y_label = (plot_label(points[key], _TITLE) for key in ("x_label", "y_label"))
    frame.y_axis(ticks, y_label)
    frame.x_axis(fitting(*across, RIGHT - left), [x_label])
    if up[0] < 0 < up[1]:
        drawing.line([(left, frame.y(0.0)), (RIGHT, frame.y(0.0))], INK, 0.8)
    if across[0] < 0 < across[1]:
        middle = frame.x(0.0)
        drawing.add("line", x1=middle, x2=middle, y1=bottom, y2=top, css="grid")
    return frame
