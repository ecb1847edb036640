"""results.json to figure.png: which rewards of a completion each rule holds for equally good."""

import json
import math
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, save_figure

COLUMNS = 7


def plot(results: dict, path: Path) -> None:
    """A panel for each rule: its level sets by the two rewards of one completion of a group."""
    levels = results["data"]["levels"]
    rows = math.ceil(len(levels) / COLUMNS)
    figure = new_figure(14, 2.1 * rows + 0.4)
    panels = np.atleast_2d(figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False))
    for axes in panels.ravel():
        axes.set_axis_off()
    for axes, (name, values) in zip(panels.ravel(), levels.items(), strict=False):
        values = np.array(values, float)
        grid = np.linspace(0, 1, len(values))
        axes.set_axis_on()
        if np.ptp(values) > 0:
            axes.contour(grid, grid, values.T, levels=9, cmap="viridis", linewidths=1)
        axes.set_title(name, fontsize=8, loc="left")
        axes.set(xticks=(0, 1), yticks=(0, 1), aspect="equal")
    figure.supxlabel("reward of the easier channel", fontsize=9)
    figure.supylabel("reward of the harder channel", fontsize=9)
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
