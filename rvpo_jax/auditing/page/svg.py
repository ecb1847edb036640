"""A drawing as SVG: few kinds of elements, every text escaped, every number finite and rounded.

Colors are ``#rrggbb`` or ``INK``, which is dark on light and light on dark. What else depends on
the ground is a class, with its rules in ``audit.css`` and, for a picture alone, ``picture.py``.
"""

import math
from collections.abc import Iterable, Sequence

from markupsafe import escape

from ...basics.text import printable

WIDTH = 560.0  # pixels: so narrow that its texts can be read on a phone
SIZE = 14.0  # of the font, pixels
SMALL = 13.0  # of names, ticks and legends
INK = "currentColor"

Point = tuple[float, float]


def number(value: float, digits: int = 1) -> str:
    """A finite number, rounded, without needless zeros.

    Args:
      value: pixels or a share.
      digits: decimals.

    Returns:
      The text.

    Raises:
      ValueError: on NaN or infinity, which no picture may hold.

    >>> number(12.04), number(-0.01), number(0.125, 2)
    ('12', '0', '0.12')
    """
    if not math.isfinite(value):
        raise ValueError(f"a picture holds finite numbers only, got {value}")
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def element(tag: str, content: str = "", /, **attributes: str | float | None) -> str:
    """One element of SVG.

    Args:
      tag: its name.
      content: markup inside.
      **attributes: ``stroke_width`` stands for ``stroke-width``; those that are None are left out.

    Returns:
      Markup.

    >>> element("rect", width=2.0, fill_opacity=0.25, css='"')
    '<rect width="2" fill-opacity="0.25" class="&#34;"/>'
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is None:
            continue
        name = {"css": "class", "viewBox": "viewBox"}.get(name, name.replace("_", "-"))
        if not isinstance(value, str):
            value = number(value, 2 if name.endswith("opacity") else 1)
        parts.append(f'{name}="{escape(printable(value, keep=""))}"')
    opened = " ".join(parts)
    return f"<{opened}>{content}</{tag}>" if content else f"<{opened}/>"


class Drawing:
    """Elements in the order in which they are painted; (0, 0) is the top left corner.

    Args:
      height: pixels; the width is always the same.
    """

    def __init__(self, height: float) -> None:
        self.height = height
        self.elements: list[str] = []

    def add(self, tag: str, content: str = "", /, **attributes: str | float | None) -> None:
        """Paints one element.

        Args:
          tag: its name.
          content: markup inside.
          **attributes: see ``element``.
        """
        self.elements.append(element(tag, content, **attributes))

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = SIZE,
        anchor: str | None = None,
        turn: float = 0.0,
        bold: bool = False,
        fill: str | None = None,
        css: str | None = None,
    ) -> None:
        """Paints one line of text.

        Args:
          at: where its middle line starts, or what else ``anchor`` says.
          text: hostile or not; what cannot be seen is written out.
          size: of the font, pixels.
          anchor: None (start), "middle" or "end".
          turn: degrees clockwise, around ``at``.
          bold: in bold.
          fill: color; None: ink, or that of the class.
          css: a class.
        """
        (x, y), ems = at, 0.35  # from the middle of a digit down to the line it stands on
        angle = math.radians(turn)
        x, y = x - ems * size * math.sin(angle), y + ems * size * math.cos(angle)
        self.add(
            "text",
            str(escape(printable(text, keep=""))),
            x=x,
            y=y,
            font_size=size,
            text_anchor=anchor,
            transform=f"rotate({number(turn)} {number(x)} {number(y)})" if turn else None,
            font_weight="600" if bold else None,
            fill=fill,
            css=css,
        )

    def line(
        self,
        points: Iterable[Point],
        color: str,
        width: float = 1.6,
        *,
        dash: str | None = None,
        opacity: float | None = None,
        cap: str | None = None,
    ) -> None:
        """Paints a line with a gap wherever a point is unknown.

        Args:
          points: pixels; a point with NaN is unknown. One between two gaps becomes a dot.
          color: of the line.
          width: pixels.
          dash: lengths of dashes and gaps; None: drawn through.
          opacity: from 0 to 1; None: 1.
          cap: "round" for round ends.
        """
        for run in _runs(points):
            if len(run) == 1:
                x, y = run[0]
                self.add("circle", cx=x, cy=y, r=width, fill=color, fill_opacity=opacity)
                continue
            self.add(
                "polyline",
                points=_listed(run),
                fill="none",
                stroke=color,
                stroke_width=width,
                stroke_dasharray=dash,
                stroke_opacity=opacity,
                stroke_linecap=cap,
                stroke_linejoin="round",
            )

    def band(
        self, lower: Sequence[Point], upper: Sequence[Point], color: str, opacity: float
    ) -> None:
        """Paints what lies between two lines, with a gap where either is unknown.

        Args:
          lower: pixels; a point with NaN is unknown.
          upper: as many points.
          color: of the surface.
          opacity: from 0 to 1.
        """
        both = [(*a, *b) for a, b in zip(lower, upper, strict=True)]
        for run in _runs(both):
            if len(run) > 1:
                back = [(c, d) for _, _, c, d in run[::-1]]
                self.area([*((a, b) for a, b, _, _ in run), *back], color, opacity)

    def area(self, outline: Iterable[Point], color: str, opacity: float) -> None:
        """Paints a surface.

        Args:
          outline: its corners, pixels.
          color: of the surface.
          opacity: from 0 to 1.
        """
        self.add("polygon", points=_listed(outline), fill=color, fill_opacity=opacity)


def _runs(points: Iterable[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """The stretches in which every number is known."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _listed(points: Iterable[tuple[float, ...]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
