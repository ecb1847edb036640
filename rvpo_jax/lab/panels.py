"""Curves of runs in panels, a colour per rule, with the values that a paper reports as lines."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.palette import COLORS
from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

MARKS = "XP*hp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One run.

    Attributes:
      rule: that joined its rewards.
      steps: where it was measured.
      values: what was measured there.
    """

    rule: str
    steps: list[int]
    values: list[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """What one panel shows.

    Attributes:
      title: above it.
      ylabel: of the values.
      curves: of the runs.
      levels: rule, value, and True where it is a best one, False where it is a final one: what the
        paper reports.
    """

    title: str
    ylabel: str
    curves: list[Curve]
    levels: list[tuple[str, float, bool]] = dataclasses.field(default_factory=list)


def draw_panels(panels: Sequence[Panel], path: Path, columns: int = 2) -> None:
    """Draws panels, in rows; one without a run says so.

    Args:
      panels: at least one.
      path: of the PNG.
      columns: of panels.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, looks = new_figure(4.6 * columns + 2.4, 3.4 * rows), _looks(panels)
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    legend = {}
    for place, panel in zip(axes, panels, strict=False):
        for curve in panel.curves:
            every = max(len(curve.steps) // 6, 1)
            look = looks[curve.rule] | {"markersize": 5, "markevery": every}
            [legend[curve.rule]] = place.plot(curve.steps, curve.values, **look)
        for rule, value, is_best in panel.levels:
            style = "--" if is_best else ":"
            color = looks[rule]["color"]
            name = f"{rule}: paper's {'best' if is_best else 'final'}"
            legend[name] = place.axhline(value, color=color, linestyle=style, lw=1.2, alpha=0.8)
        if not panel.curves:
            place.text(0.5, 0.5, "not run", transform=place.transAxes, ha="center", color="0.4")
            place.set_xticks([])
        place.set(xlabel="step", ylabel=panel.ylabel)
        title(place, panel.title)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    if legend:
        figure.legend(legend.values(), legend.keys(), loc="outside right upper", frameon=False)
    save_figure(figure, path)


def _looks(panels: Sequence[Panel]) -> dict[str, dict[str, Any]]:
    """The look of each rule; of two with one colour, such as two k, the second has another."""
    looks: dict[str, dict[str, Any]] = {}
    rules = [c.rule for panel in panels for c in panel.curves]
    rules += [rule for panel in panels for rule, _, _ in panel.levels]
    own = {rule_style(rule)["color"] for rule in rules}
    for rule in dict.fromkeys(rules):
        look = rule_style(rule)
        used = {other["color"] for other in looks.values()}
        if look["color"] in used:
            free = next((color for color in COLORS if color not in used | own), look["color"])
            look |= {"color": free, "marker": MARKS[len(looks) % len(MARKS)]}
        looks[rule] = look
    return looks
