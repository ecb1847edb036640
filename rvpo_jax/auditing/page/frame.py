"""A plot: two scales, their axes, and marks in units of the data."""

import dataclasses
import math
from collections.abc import Sequence

from .legend import Key
from .lettering import text_width
from .scales import Scale, Ticks, round_ticks, written
from .svg import INK, SIZE, SMALL, WIDTH, Drawing

RIGHT = WIDTH - 22.0  # where a plot ends: the last label of its axis reaches beyond it
_GAP = 7.0  # between an axis and its labels


@dataclasses.dataclass(frozen=True)
class Frame:
    """A plot in a drawing. Marks are given in units of the data; what is unknown is not drawn."""

    drawing: Drawing
    x: Scale  # from left to right
    y: Scale  # from bottom to top

    def line(self, xs: Sequence[float], ys: Sequence[float], key: Key) -> None:
        """Paints a line with a gap wherever a value is NaN.

        Args:
          xs: ascending.
          ys: as many.
          key: how it looks.
        """
        points = zip(map(self.x, xs), map(self.y, ys), strict=True)
        self.drawing.line(points, key.color, key.width, dash=key.dash, opacity=key.opacity)

    def band(
        self,
        xs: Sequence[float],
        low: Sequence[float],
        high: Sequence[float],
        color: str,
        opacity: float,
    ) -> None:
        """Paints what lies between two curves, with a gap where either is NaN.

        Args:
          xs: ascending.
          low: as many values of one curve.
          high: and of the other.
          color: of the surface.
          opacity: from 0 to 1.
        """
        lower, upper = ([(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)]
                        for ys in (low, high))  # fmt: skip
        self.drawing.band(lower, upper, color, opacity)

    def interval(
        self, place: float, ends: Sequence[float], color: str, width: float, dot: float = 0.0
    ) -> None:
        """Paints a level interval and a dot for its estimate.

        Args:
          place: on the y axis.
          ends: the estimate, low and high, on the x axis; NaN where unknown.
          color: of both.
          width: of the bar, pixels.
          dot: radius, pixels.
        """
        value, low, high = ends
        if math.isfinite(self.x(low)) and math.isfinite(self.x(high)):
            line = [(self.x(end), self.y(place)) for end in (low, high)]
            self.drawing.line(line, color, width, cap="round")
        self.dot(value, place, color, dot)

    def dot(self, x: float, y: float, color: str, radius: float) -> None:
        """Paints a dot; none where a number is NaN.

        Args:
          x: on the x axis.
          y: on the y axis.
          color: of the dot.
          radius: pixels.
        """
        if math.isfinite(at := self.x(x)) and math.isfinite(level := self.y(y)):
            self.drawing.add("circle", cx=at, cy=level, r=radius, fill=color)

    def x_axis(
        self, ticks: Ticks, title: Sequence[str] = (), *, grid: bool = False, tight: bool = False
    ) -> None:
        """Paints the axis below the plot.

        Args:
          ticks: values and labels.
          title: lines of text.
          grid: a line through the plot at every tick.
          tight: the outer labels end where the plot ends.
        """
        (left, right), bottom = (self.x.start, self.x.end), self.y.start
        for value, label in ticks:
            at = self.x(value)
            if grid:
                self.drawing.add("line", x1=at, x2=at, y1=bottom, y2=self.y.end, css="grid")
            half = text_width(label, SMALL) / 2
            at = min(max(at, left + half), right - half) if tight else at
            self.drawing.text((at, bottom + _GAP + 8), label, size=SMALL, anchor="middle")
        self.drawing.add("line", x1=left, x2=right, y1=bottom, y2=bottom, stroke=INK)
        for index, text in enumerate(title):
            half = text_width(text, SIZE) / 2
            at = max(min((left + right) / 2, WIDTH - half - 4), half + 4)
            below = bottom + 36 + 17 * index
            self.drawing.text((at, below), text, anchor="middle")

    def y_axis(
        self, ticks: Ticks, title: str = "", *, grid: bool = False, labels: bool = True
    ) -> None:
        """Paints the axis to the left of the plot.

        Args:
          ticks: values and labels; a label may have several lines.
          title: turned by 90 degrees.
          grid: a line through the plot at every tick.
          labels: write the labels.
        """
        left, (bottom, top) = self.x.start, (self.y.start, self.y.end)
        for value, label in ticks:
            level, lines = self.y(value), label.split("\n") if labels else []
            if grid:
                self.drawing.add("line", x1=left, x2=self.x.end, y1=level, y2=level, css="grid")
            for index, text in enumerate(lines):
                shift = 16 * (index - (len(lines) - 1) / 2)
                place = (left - _GAP, level + shift)
                self.drawing.text(place, text, size=SMALL, anchor="end")
        self.drawing.add("line", x1=left, x2=left, y1=bottom, y2=top, stroke=INK)
        if title:
            half = text_width(title, SIZE) / 2
            level = max(min((bottom + top) / 2, self.drawing.height - half - 4), half + 4)
            self.drawing.text((11, level), title, anchor="middle", turn=-90)


def left_of(ticks: Ticks, *, title: bool = False) -> float:
    """Where a frame starts, so that there is room for the labels of its y axis.

    Args:
      ticks: values and labels.
      title: there is one to the left of the labels.

    Returns:
      Pixels.
    """
    lines = [line for _, label in ticks for line in label.split("\n")]
    widest = max((text_width(line, SMALL) for line in lines), default=0.0)
    return widest + _GAP + (24 if title else 4)


def fitting(low: float, high: float, width: float, most: int = 8, *, whole: bool = False) -> Ticks:
    """Round ticks whose labels do not touch on an axis below a plot.

    Args:
      low: left end.
      high: right end.
      width: of the axis, pixels.
      most: so many intervals at most.
      whole: integers only.

    Returns:
      Values and labels.
    """
    ticks: Ticks = []
    for count in range(most, 0, -1):
        ticks = written(round_ticks(low, high, count, whole=whole))
        if sum(text_width(label, SMALL) + 10 for _, label in ticks) <= width:
            break
    return ticks


def over_steps(
    drawing: Drawing,
    steps: Sequence[float],
    shares: tuple[float, float],
    title: str,
    *,
    bottom: float,
    right: float = RIGHT,
) -> Frame:
    """A frame for shares over steps, with its axes.

    Args:
      drawing: to paint in.
      steps: ascending.
      shares: limits of the y axis.
      title: of the y axis.
      bottom: of the plot, pixels.
      right: of the plot, pixels.

    Returns:
      The frame.
    """
    ticks = written(round_ticks(*shares), percent=True)
    left = left_of(ticks, title=True)
    frame = Frame(drawing, Scale(steps[0], steps[-1], left, right), Scale(*shares, bottom, 14.0))
    frame.y_axis(ticks, title, grid=True)
    frame.x_axis(fitting(steps[0], steps[-1], right - left, whole=True), ["step"])
    return frame
