"""The look that the figures share: white page with a margin, one colour and mark per rule.

Readable in print, for colour-blind readers, and on a dark page: the background is in the file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from rvpo_jax.basics.files import replacing
from rvpo_jax.basics.palette import COLORS
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.method.methods import METHODS

BLUE, ORANGE, GREEN, PINK, RED, SKY, OLIVE, GREY = COLORS
BLACK = "#000000"
MAX_BYTES = 150_000

# A rule has the same colour in every figure; the mark and the line tell it apart without colour.
# By the first words of its name: "RVPO k=2" is an RVPO. A named method has the colour of its
# record, a rule that only experiments have its own.
_RULES = {
    "GRPO": (METHODS["grpo"].color, "s", "-"),
    "GDPO": (METHODS["gdpo"].color, "o", "-"),
    "RVPO": (METHODS["rvpo"].color, "D", "-"),
    "hard-min": (METHODS["hard_min"].color, "v", "--"),
    "variance": (METHODS["variance"].color, "^", "--"),
    "raw soft-min": (GREY, "P", ":"),
    "level soft-min": (METHODS["rvpo_level"].color, "*", "-."),
    "level weights": (SKY, "X", "-."),
    "utility c=0": (METHODS["rvpo_utility"].color, "p", ":"),
    "utility": (METHODS["rvpo_utility"].color, "h", "-."),
}


def rule_style(name: str) -> dict[str, Any]:
    """Colour, mark and line of a rule, as keyword arguments of ``Axes.plot``.

    Args:
      name: of a rule, such as ``GDPO`` or ``RVPO k=2``; an unknown one is black.

    Returns:
      ``color``, ``marker`` and ``linestyle``.

    >>> rule_style("RVPO k=2")["marker"]
    'D'
    """
    for start, (color, marker, line) in _RULES.items():
        if name.startswith(start):
            return {"color": color, "marker": marker, "linestyle": line}
    return {"color": "black", "marker": ".", "linestyle": "-"}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size.

    Args:
      width: inches; 11 fills a page of text.
      height: inches.

    Returns:
      A white figure that lays itself out.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.03)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def title(axes: Axes, text: str) -> None:
    """What a panel shows, above it on the left, with a light grid.

    Args:
      axes: the panel.
      text: the title.
    """
    axes.set_title(text, loc="left", fontsize=11)
    axes.grid(alpha=0.25)


def smoothed(values: npt.ArrayLike, half: int = 4) -> np.ndarray:
    """A curve whose points are means over their neighbours.

    Args:
      values: ``[T]``.
      half: neighbours on each side; fewer at the ends.

    Returns:
      ``[T]`` float64.

    >>> smoothed([0.0, 3.0, 0.0], half=1).tolist()
    [1.5, 1.0, 1.5]
    """
    values = np.asarray(values, np.float64)
    return np.array([values[max(i - half, 0) : i + half + 1].mean() for i in range(len(values))])


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a PNG as a whole, small enough to be committed.

    Args:
      figure: the figure.
      path: file to write.

    Raises:
      ValueError: if it is larger than 150 kB.
    """
    path = Path(path)
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
        with Image.open(part) as image:
            # A palette: line drawings have few colours, and the file is a third of the size.
            reduced = image.convert("RGB").quantize(
                256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
            )
            reduced.save(part, optimize=True)
        size = part.stat().st_size
        if size > MAX_BYTES:
            raise Refusal(
                f"a committed picture must be <= {MAX_BYTES} bytes, {path} has {size}.",
                "Draw fewer points, or a smaller figure.",
            )
