"""results.json to figure.png: conflict against difficulty, one axis at a time, and why."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import BLACK, new_figure, rule_style, save_figure, title

KINDS = {
    "budget": ("budget: slots shared by channels", "needs over slots"),
    "trade": ("trade: every arm but one fails a channel", "price of the arm that fails none"),
}
SHOWN = ("GRPO", "RVPO k=0.5", "RVPO k=1", "RVPO k=5")
FILLS = {"RVPO k=0.5": "none", "RVPO k=5": BLACK}
COLUMN = "joint"


def plot(results: dict, path: Path) -> None:
    """A row per kind of world: heat map, axes around the base, whom the first steps serve."""
    data = results["data"]
    figure = new_figure(14, 11)
    panels = figure.subplots(2, 3, width_ratios=(1, 1.15, 0.9))
    for row, kind in enumerate(KINDS):
        _heat_map(panels[row, 0], kind, data["differences"])
        _axes(panels[row, 1], kind, data["differences"])
        _alignment(panels[row, 2], kind, data["first_steps"])
    handles, labels = panels[1, 1].get_legend_handles_labels()
    extra = panels[1, 2].get_legend_handles_labels()
    for handle, label in zip(*extra, strict=True):
        if label not in labels:
            handles, labels = [*handles, handle], [*labels, label]
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


def _heat_map(axes, kind: str, differences) -> None:
    found = {}
    for key, value in differences.items():
        cell, rule, column = key.split("/")
        start = f"{kind} pair "
        if column == COLUMN and cell.startswith(start):
            found.setdefault(cell.removeprefix(start), {})[rule] = value["ours"]
    if not found:
        return
    places = [tuple(float(part) for part in cell.split(",")) for cell in found]
    conflicts, spreads = (sorted(set(some)) for some in zip(*places, strict=True))
    image = np.full((len(spreads), len(conflicts)), np.nan)
    for (conflict, spread), rules in zip(places, found.values(), strict=True):
        x, y = conflicts.index(conflict), spreads.index(spread)
        image[y, x] = rules["RVPO k=1"]
        # Rounded first: there is no -0.00.
        lines = [f"{round(rules[rule], 2) + 0.0:+.2f}" for rule in ("RVPO k=1", "RVPO k=5")]
        axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=8.5)
    axes.imshow(image, cmap="PiYG", vmin=-1.3, vmax=1.3, origin="lower", aspect="auto")
    title(axes, f"{KINDS[kind][0]}\n{COLUMN} pass rate minus GDPO's: k = 1 (and colour), k = 5")
    axes.grid(False)
    axes.set_xticks(range(len(conflicts)), [f"{x:g}" for x in conflicts])
    axes.set_yticks(range(len(spreads)), [f"{y:g}" for y in spreads])
    axes.set(xlabel=f"conflict: {KINDS[kind][1]}", ylabel="spread: hardest over easiest channel")


def _axes(axes, kind: str, differences) -> None:
    cells = []
    for key in differences:
        cell = key.split("/")[0]
        if cell.startswith(kind) and " pair" not in cell and cell not in cells:
            cells.append(cell)
    for offset, rule in zip(np.linspace(-0.27, 0.27, len(SHOWN)), SHOWN, strict=True):
        some = [differences[f"{cell}/{rule}/{COLUMN}"] for cell in cells]
        ours = np.array([value["ours"] for value in some])
        arms = np.abs(np.array([[value["low"], value["high"]] for value in some]).T - ours)
        look = {**rule_style(rule), "linestyle": "none", "markersize": 5}
        axes.errorbar(
            ours,
            np.arange(len(cells)) + offset,
            xerr=arms,
            capsize=2,
            label=rule,
            markerfacecolor=FILLS.get(rule, look["color"]),
            **look,
        )
    axes.axvline(0, color="0.4", lw=1)
    axes.set_yticks(range(len(cells)), [cell.removeprefix(f"{kind} ") for cell in cells])
    axes.invert_yaxis()
    title(axes, f"around the base: {COLUMN} pass rate minus GDPO's")
    axes.set(xlabel="difference, 95 % interval")


def _alignment(axes, kind: str, first_steps) -> None:
    for rule in ("GRPO", "GDPO", "RVPO k=0.5", "RVPO k=1", "RVPO k=5"):
        start = first_steps.get(f"{kind} base/{rule}")
        if start is None:
            continue
        order = np.argsort(start["level"])
        levels, alignment = (np.array(start[key])[order] for key in ("level", "alignment"))
        look = {**rule_style(rule), "markersize": 6}
        fill = FILLS.get(rule, look["color"])
        axes.plot(levels, alignment, label=rule, markerfacecolor=fill, **look)
    axes.axhline(0, color="0.4", lw=1)
    title(axes, "whom the first 10 steps serve (base)")
    axes.set(xlabel="level of the channel", ylabel="correlation of advantage and score")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
