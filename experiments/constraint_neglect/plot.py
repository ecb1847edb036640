"""results.json to figure.png: final pass rates, and how they got there."""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

COLORS = {"GRPO": "#D55E00", "GDPO": "#0072B2", "RVPO k=1": "#009E73"}
MARKERS = {"GRPO": "s", "GDPO": "o", "RVPO k=1": "D"}
CURVES = ("privacy", "explanation", "all channels met")


def plot(results: dict, summary: dict, path: Path) -> None:
    """Left: final rates, small marks single seeds, large ones means with 95 % intervals.

    Right: three of the rates over the steps, one line per seed.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.add_gridspec(len(CURVES), 2, width_ratios=(1.35, 1))
    axes = figure.add_subplot(grid[:, 0])
    names = list(results["GRPO"][0]["final"])
    places = np.arange(len(names))[::-1]
    for index, method in enumerate(results):
        offset = 0.22 * (1 - index)
        for run in results[method]:
            finals = [run["final"][name] for name in names]
            axes.plot(
                finals, places + offset, MARKERS[method], color=COLORS[method], alpha=0.35,
                markersize=4, markeredgewidth=0,
            )  # fmt: skip
        mean = [summary[method][name]["mean"] for name in names]
        half = [summary[method][name]["half_width"] for name in names]
        axes.errorbar(
            mean, places + offset, xerr=half, fmt=MARKERS[method], color=COLORS[method],
            label=method, capsize=3, markersize=6,
        )  # fmt: skip
    start = results["GRPO"][0]["start"]
    shown = [i for i, name in enumerate(names) if name in start]
    axes.plot(
        [start[names[i]] for i in shown], places[shown], "|", color="0.5", markersize=22,
        label="start",
    )  # fmt: skip
    axes.set_yticks(places, names)
    axes.axhline(1.5, color="0.7", lw=0.8)
    axes.set(xlim=(-0.02, 1.02), xlabel="pass rate on held-out prompts at the end")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=4, frameon=False)
    for row, name in enumerate(CURVES):
        axes = figure.add_subplot(grid[row, 1])
        for method, runs in results.items():
            for run in runs:  # single seeds: a mean would hide that some of them fail
                axes.plot(_smooth(run["curves"][name]), color=COLORS[method], lw=1, alpha=0.7)
        axes.set(ylim=(-0.02, 1.02))
        axes.set_title(name, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        if row + 1 < len(CURVES):
            axes.tick_params(labelbottom=False)
    axes.set_xlabel("step")
    figure.savefig(path, dpi=110)


def _smooth(values, half: int = 4) -> np.ndarray:
    values = np.asarray(values, float)
    return np.array([values[max(i - half, 0) : i + half + 1].mean() for i in range(len(values))])


if __name__ == "__main__":
    stored = json.loads(Path(sys.argv[1]).read_text())
    plot(stored["runs"], stored["summary"], Path(sys.argv[1]).with_name("figure.png"))
