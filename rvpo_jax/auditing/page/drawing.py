"""What the pictures of an audit share: look, names, axes."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ...basics.palette import COLORS
from ...basics.text import escape_character, printable

WIDTH = 5.6  # inches of 100 pixels
# Background and ink of the cards of the page: a figure is readable on whatever it is put.
INKS = {False: ("#ffffff", "#1b2027", "#d9dee5"), True: ("#161b22", "#e6eaf0", "#343c47")}
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
_MAX_NAME = 26
MANY = 12  # channels: more do not fit one plot line by line


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


def look(dark: bool) -> list[Any]:
    """What ``matplotlib.style.context`` takes for light or dark figures."""
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
            "font.size": 10,
            "text.usetex": False,
        },
    ]


def new_figure(height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure with one plot, so narrow that its texts can be read on a phone.

    Args:
      height: inches.

    Returns:
      The figure and its axes.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def floats(values: Sequence[float | None]) -> np.ndarray:
    """An array with NaN where a number is unknown."""
    return np.array([math.nan if value is None else value for value in values], float)


def line(index: int) -> dict[str, Any]:
    """Color and dash of a channel: 24 differ."""
    dash = LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]
    return {"color": COLORS[index % len(COLORS)], "linestyle": dash}


def legend(axes: Axes) -> None:
    """The names below the plot, in two columns."""
    below = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9, columnspacing=1.2
    )
    # A channel may be called "$\frac$": names are text, never mathematics, here and in ticks.
    for text in below.get_texts():
        text.set_parse_math(False)


def steps_axis(axes: Axes, steps: np.ndarray) -> None:
    """Whole steps, from the first to the last."""
    axes.set(xlabel="step", xlim=(steps.min(), steps.max()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def percent_axis(axis: Any) -> None:
    """Shares as on the rest of the page: ``12 %``."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
