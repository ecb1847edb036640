"""results.json to figure.png: two rollouts case by case, and how many groups can be told apart."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import BLACK, new_figure, rule_style, save_figure, title

PANELS = ("GRPO", "GDPO", "RVPO k=1")
LINES = {"GRPO without std": ":", "RVPO k=1, recentred": ":"}


def plot(results: dict, path: Path) -> None:
    """Top: advantages of two rollouts with two binary rewards. Bottom: the counts."""
    data = results["data"]
    figure = new_figure(11, 7.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1))
    _pairs(top, data)
    panels = bottom.subplots(1, 2)
    for axes, found, sizes, label in (
        (panels[0], data["by_rollouts"], data["rollouts"], "rollouts (two binary rewards)"),
        (panels[1], data["by_rewards"], data["rewards"], "binary rewards (four rollouts)"),
    ):
        for name, counts in found.items():
            look = rule_style(name)
            look["linestyle"] = LINES.get(name, look["linestyle"])
            axes.semilogy(sizes, counts, label=name, markersize=5, **look)
        title(axes, "distinct advantage groups")
        axes.set(xlabel=label, ylabel="groups")
    panels[0].legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def _pairs(figure, data) -> None:
    panels = figure.subplots(1, len(PANELS), sharey=True)
    pairs = np.array(data["pairs"], int)
    names = [
        "  ".join("(" + ",".join(map(str, rollout)) + ")" for rollout in pair) for pair in pairs
    ]
    for axes, name in zip(panels, PANELS, strict=True):
        advantages = np.array(data["pair_advantages"][name])
        places = np.arange(len(pairs))[::-1]
        axes.hlines(places, advantages.min(1), advantages.max(1), color="0.8")
        axes.plot(advantages[:, 0], places, "o", color=rule_style(name)["color"], markersize=8)
        axes.plot(advantages[:, 1], places, "x", color=BLACK, markersize=7)
        axes.set_yticks(places, names)
        title(axes, name)
        axes.set(xlabel="advantage before whitening: o first, x second")
    panels[0].set_ylabel("rewards of the two rollouts")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
