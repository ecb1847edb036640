"""results.json to figure.png: what the rollouts follow over the steps; held-out accuracy."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, smoothed, title


def plot(results: dict, path: Path) -> None:
    """Left the mean share of instructions followed; right strict accuracy before and after."""
    figure = new_figure(10, 3.8)
    left, right = figure.subplots(1, 2)
    curves, values = results["data"]["curves"], results["values"]
    for place, (rule, runs) in enumerate(curves.items()):
        mean = smoothed(np.mean(runs, axis=0), half=2)
        look = rule_style(rule) | {"markersize": 5, "markevery": max(len(mean) // 6, 1)}
        left.plot(np.arange(len(mean)), mean, label=rule, **look)
        for shift, when, fill in ((-0.12, "before", "white"), (0.12, "after", None)):
            value = values[f"{rule}/strict {when}"]
            ends = [[value["ours"] - value["low"]], [value["high"] - value["ours"]]]
            right.errorbar(
                place + shift, value["ours"], np.maximum(ends, 0), capsize=3,
                marker=look["marker"], color=look["color"], markerfacecolor=fill or look["color"],
            )  # fmt: skip
    left.set(xlabel="step", ylabel="instructions followed, mean of rollouts")
    right.set(ylabel="strict accuracy, held-out prompts", ylim=(0, None))
    right.set_xticks(range(len(curves)), list(curves))
    title(left, "training (mean of five steps)")
    title(right, "before (empty) and after (full), 95 % intervals")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper center", ncol=3, frameon=False
    )
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
