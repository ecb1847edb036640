"""A finished picture: inside a page, in a notebook, in a file."""

import dataclasses
from pathlib import Path

from ...basics.files import write_text
from ...basics.refusals import Refusal
from ...basics.text import printable
from .svg import WIDTH, Drawing, element, number

# What audit.css says of the classes in a drawing, for a picture that stands alone: as on light
# paper, on a ground of its own, so that it can be read on whatever it is put.
_RULES = {
    "": "color:#1b2027;fill:#1b2027;font-family:system-ui,sans-serif",
    " .ground": "fill:#ffffff",
    " .grid": "stroke:#d9dee5",
    " .behind": "fill:#535d6b",
    " .focus-1": "fill:#a84400",
    " .focus-2": "fill:#005f96",
    " .focus-3": "fill:#94487a",
}
_STYLE = "".join(f".rvpo-picture{part}{{{rules}}}" for part, rules in _RULES.items())


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows and ``save`` writes.

    Attributes:
      width: pixels.
      height: pixels.
      alt: what it shows, in words.
      elements: what is painted, as SVG.
    """

    width: float
    height: float
    alt: str
    elements: str = dataclasses.field(repr=False)

    def inline(self) -> str:
        """The picture as a part of the audit's page, whose style gives it its colors.

        Returns:
          An ``svg`` element.
        """
        return self._svg(self.elements)

    def save(self, path: str | Path) -> Path:
        """Writes the picture as a whole or not at all.

        Args:
          path: a file that ends in ``.svg``, in a folder that exists.

        Returns:
          The path.

        Raises:
          Refusal: on another ending.
          WriteError: when it could not be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise Refusal(
                f"path must end in .svg, got {printable(path, keep='')}.",
                "Name a file such as picture.svg; a browser prints it as PDF.",
            )
        write_text(path, f"{self._repr_svg_()}\n")
        return path

    def _repr_svg_(self) -> str:
        style = element("style", _STYLE)
        ground = element("rect", width=self.width, height=self.height, css="ground")
        return self._svg(style + ground + self.elements, xmlns="http://www.w3.org/2000/svg")

    def _svg(self, content: str, **attributes: str) -> str:
        return element(
            "svg",
            content,
            **attributes,
            width=self.width,
            height=self.height,
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            role="img",
            aria_label=self.alt,
            css="rvpo-picture",
        )


def finish(drawing: Drawing, alt: str) -> Picture:
    """What was drawn, with its description.

    Args:
      drawing: complete.
      alt: what it shows, in words.

    Returns:
      The picture.
    """
    return Picture(WIDTH, drawing.height, printable(alt, keep=""), "".join(drawing.elements))
