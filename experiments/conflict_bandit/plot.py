"""results.json to figure.png: the balanced arm over the steps, and against its own reward."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

# RVPO is green for every k; the line tells the values apart.
LINES = {"RVPO k=0.5": ":", "RVPO k=1": "-", "RVPO k=4": "--"}


def plot(results: dict, path: Path) -> None:
    """Top: probability of the balanced arm at 0.45. Bottom: at the end, over its reward."""
    data = results["data"]
    figure = new_figure(11, 6.4)
    panels = figure.subplots(2, 2, sharey=True)
    for column, (convention, label) in enumerate(
        (("plain", "no final whitening"), ("whitened", "whitened over the batch (default)"))
    ):
        for key, curves in data["curves"].items():
            if not key.startswith(convention):
                continue
            name = key.partition("/")[2]
            look = {**rule_style(name), "markersize": 5}
            look["linestyle"] = LINES.get(name, look["linestyle"])
            curves = np.asarray(curves)  # [seeds, T]
            steps = (np.arange(curves.shape[1]) + 1) * data["record_every"]
            every = max(len(steps) // 6, 1)
            axes = panels[0, column]
            axes.plot(steps, curves.mean(0), label=name, markevery=every, **look)
            axes.fill_between(steps, curves.min(0), curves.max(0), color=look["color"], alpha=0.2)
            ends = data["final"][key]
            mean = np.array([end["ours"] for end in ends])
            spread = np.abs(np.array([[end["low"], end["high"]] for end in ends]).T - mean)
            panels[1, column].errorbar(data["balanced"], mean, yerr=spread, capsize=2, **look)
        title(panels[0, column], f"balanced arm pays 0.45; {label}")
        title(panels[1, column], f"after {data['steps']} steps; {label}")
        panels[0, column].set_xlabel("step")
        panels[1, column].set_xlabel("reward of the balanced arm in each channel")
        panels[1, column].axvline(0.5, color="0.6", lw=1)
    for axes in panels[:, 0]:
        axes.set(ylabel="P(balanced arm)", ylim=(-0.03, 1.03))
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
