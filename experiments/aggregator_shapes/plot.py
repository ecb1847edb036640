"""results.json to figure.png: the aggregators as functions, their series and their digits."""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from rvpo_jax.lab.style import BLUE, GREEN, RED, new_figure, rule_style, save_figure, title

LINES = {"RVPO k=0.5": ":", "RVPO k=1": "-", "RVPO k=4": "--"}


def look(name: str) -> dict:
    """RVPO is green for every k; the line tells the values apart."""
    style = rule_style(name)
    return {"color": style["color"], "linestyle": LINES.get(name, style["linestyle"]), "lw": 2}


def plot(results: dict, path: Path) -> None:
    """Six panels: line, plane, penalty; weight, series, float32."""
    data = results["data"]
    grid = np.array(data["grid"])
    figure = new_figure(11, 7)
    panels = figure.subplots(2, 3)
    for name, values in data["line"].items():
        panels[0, 0].plot(grid, values, **look(name))
    title(panels[0, 0], "one channel moves, the other is 0")
    panels[0, 0].set(xlabel="score of the moving channel", ylabel="aggregate", ylim=(-3.1, 1.7))

    for name, values in data["plane"].items():
        style = look(name)
        panels[0, 1].contour(
            grid, grid, np.array(values), [-0.5], colors=style["color"],
            linestyles=style["linestyle"], linewidths=2,
        )  # fmt: skip
    title(panels[0, 1], "pairs of scores worth -0.5")
    panels[0, 1].set(xlabel="first channel", ylabel="second channel")

    right = grid >= 0
    for name, values in data["penalty"].items():
        panels[0, 2].plot(grid[right], np.array(values)[right], **look(name))
    title(panels[0, 2], "penalty for scores (d, -d)")
    panels[0, 2].set(xlabel="deviation d", ylabel="mean - aggregate", ylim=(-0.1, 3.1))

    for name, values in data["weight"].items():
        panels[1, 0].plot(grid, values, **look(name))
    panels[1, 0].axhline(0.5, **look("GDPO"))
    title(panels[1, 0], "weight of the lower of two channels")
    panels[1, 0].set(xlabel="how much lower it is", ylabel="weight", xlim=(0, 3), ylim=(0.45, 1.02))

    _over_k(panels[1, 1], data["taylor"], (BLUE, RED, GREEN))
    title(panels[1, 1], "series in k: mean error, 17 channels")
    _over_k(panels[1, 2], data["numeric"], (RED, BLUE, GREEN))
    title(panels[1, 2], "float32: largest error, 17 channels")
    panels[1, 2].text(0.97, 0.5, "textbook form overflows\nfrom k = 100 on", ha="right",
                      transform=panels[1, 2].transAxes, fontsize=9)  # fmt: skip
    handles = [Line2D([], [], label=name, **look(name)) for name in data["line"]]
    figure.legend(handles=handles, loc="outside upper center", ncol=len(handles), frameon=False)
    save_figure(figure, path)


def _over_k(axes, errors, colors) -> None:
    names = [name for name in errors if name != "k"]
    for name, color, mark in zip(names, colors, "s^D", strict=True):
        values = np.array(errors[name], float)  # None, where it overflows, becomes NaN
        label = name.replace("_", "-")
        axes.loglog(errors["k"], values, color=color, marker=mark, markersize=4, label=label)
    axes.set(xlabel="k", ylabel="error")
    axes.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
