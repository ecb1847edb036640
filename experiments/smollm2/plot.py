"""results.json to figure.png: pass rate of each check over the steps, all seeds."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

WINDOW = 5  # steps that a point is the mean of


def plot(results: dict, path: Path) -> None:
    """A panel per check and one for all together; a line for each seed."""
    curves = results["data"]["curves"]
    names = list(next(iter(curves.values())))
    figure = new_figure(11, 5.5)
    panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        for rule, by_name in curves.items():
            values = np.asarray(by_name[name])  # [seeds, steps]
            window = min(WINDOW, values.shape[1])
            kernel = np.ones(window) / window
            values = np.array([np.convolve(row, kernel, mode="valid") for row in values])
            steps = np.arange(values.shape[1]) + window
            look = {**rule_style(rule), "markersize": 4, "linewidth": 1.1}
            every = max(len(steps) // 5, 1)
            for place, row in enumerate(values):  # a mean would hide two modes
                label = rule if place == 0 else None
                axes.plot(steps, row, label=label, markevery=every, **look)
        axes.set(ylim=(-0.02, 1.02))
        title(axes, "all six met" if name == "all" else name.replace("_", " "))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel(f"pass rate of the rollouts, mean of {WINDOW} steps", fontsize=10)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncol=5, frameon=False
    )
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
