"""results.json to figure.png: mean reward of both channels over the steps, all seeds."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title


def plot(results: dict, path: Path) -> None:
    """One panel per channel: the mean over seeds and the band from the 10th to the 90th percent."""
    figure = new_figure(9, 3.8)
    panels = figure.subplots(1, 2)
    for axes, (channel, top) in zip(panels, (("correctness", 3.0), ("format", 1.0)), strict=True):
        for method, curves in results["data"]["curves"].items():
            values = np.asarray(curves[channel])  # [seeds, steps]
            steps = np.arange(values.shape[1])
            look = {**rule_style(method), "markersize": 5}
            axes.plot(
                steps, values.mean(0), label=method, markevery=max(len(steps) // 6, 1), **look
            )
            low, high = np.quantile(values, [0.1, 0.9], axis=0)
            axes.fill_between(steps, low, high, color=look["color"], alpha=0.2)
        axes.axhline(top, color="0.7", lw=1)
        axes.set(xlabel="step", ylabel=f"mean {channel} reward of the rollouts")
        seeds = len(results["seeds"])
        title(axes, f"{channel}, {seeds} seed{'s' if seeds > 1 else ''}")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncol=3, frameon=False
    )
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
