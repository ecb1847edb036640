"""results.json to figure.png: the family, every cell against the best of three, and why."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.figures.style import new_figure, rule_style, save_figure, title

CRITERIA = {"worst met": "worst channel's pass rate", "joint": "joint pass rate"}
RULES = ("GRPO", "GDPO", "RVPO k=1")


def plot(results: dict, path: Path) -> None:
    """Four panels: members, all cells for two criteria, whom the first steps serve."""
    data = results["data"]
    figure = new_figure(12, 9)
    panels = figure.subplots(2, 2)
    _family(panels[0, 0], data)
    _alignment(panels[0, 1], data)
    for axes, column in zip(panels[1], CRITERIA, strict=True):
        _cells(axes, data, column)
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


def _family(axes, data) -> None:
    lines = {}
    for name, (k, c, additive) in data["members"].items():
        if not additive:
            lines.setdefault(k, []).append((c, sum(data["scores"][name].values()) / 3))
    marks = "osD^v"
    for mark, (k, points) in zip(marks, sorted(lines.items()), strict=False):
        c, score = np.array(sorted(points)).T
        shade = str(0.75 * (1 - list(sorted(lines)).index(k) / max(len(lines) - 1, 1)))
        axes.plot(range(len(c)), score, marker=mark, color=shade, label=f"k = {k:g}")
    axes.set_xticks(range(len(c)), [f"{value:g}" for value in c])
    axes.legend(frameon=False, fontsize=9)
    title(axes, "chosen on: half of the map's pairs, seeds 100 to 105")
    axes.set(xlabel="level coefficient c", ylabel="mean shortfall to the best of three")
    axes.set_ylim(bottom=0)


def _alignment(axes, data) -> None:
    for name in (*RULES, data["chosen"]):
        start = data["first_steps"].get(f"budget base/{name}")
        if start is None:
            continue
        order = np.argsort(start["level"])
        levels, alignment = (np.array(start[key])[order] for key in ("level", "alignment"))
        axes.plot(levels, alignment, **rule_style(name))
    axes.axhline(0, color="0.4", lw=1)
    title(axes, "whom the first 10 steps serve (budget base)")
    axes.set(xlabel="level of the channel", ylabel="correlation of advantage and score")


def _cells(axes, data, column: str) -> None:
    """Every rule's cells, sorted by their own difference to the best of three."""
    for name in (*RULES, data["chosen"]):
        some = [
            value
            for key, value in data["deficits"].items()
            if key.split("/")[1:] == [name, column] and "hopeless" not in key
        ]
        some.sort(key=lambda value: -value["ours"])
        ours = -np.array([value["ours"] for value in some])
        look = {**rule_style(name), "markersize": 4}
        if name == data["chosen"]:
            arms = np.abs(-np.array([[v["high"], v["low"]] for v in some]).T - ours)
            axes.errorbar(
                np.arange(len(some)), ours, yerr=arms, capsize=1.5, lw=1, label=name, **look
            )
        else:
            axes.plot(ours, label=name, **look)
    axes.axhline(0, color="0.4", lw=1)
    axes.axhline(-data["margin"], color="0.4", lw=1, linestyle=":")
    title(axes, f"{CRITERIA[column]}: minus the best of three")
    axes.set(xlabel="cells of the map and held-out worlds, sorted", ylabel="difference")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
