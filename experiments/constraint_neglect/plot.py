"""results.json to figure.png: final pass rates, and how they got there."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, smoothed, title

CURVES = ("privacy", "explanation", "all channels met")


def plot(results: dict, path: Path) -> None:
    """Left: final rates, small marks single seeds, large ones means with 95 % intervals.

    Right: three of the rates over the steps, one line per seed.
    """
    data = results["data"]
    figure = new_figure(11, 4.8)
    grid = figure.add_gridspec(len(CURVES), 2, width_ratios=(1.35, 1))
    _finals(figure.add_subplot(grid[:, 0]), results["values"], data)
    for row, name in enumerate(CURVES):
        axes = figure.add_subplot(grid[row, 1])
        for method, runs in data["curves"].items():
            style = {**rule_style(method), "marker": "", "lw": 1, "alpha": 0.6}
            for curve in runs:  # single seeds: a mean would hide that some of them fail
                axes.plot(smoothed(curve[name]), **style)
        axes.set(ylim=(-0.03, 1.03))
        title(axes, f"{name}, rollouts, every seed" if row == 0 else name)
        if row + 1 < len(CURVES):
            axes.tick_params(labelbottom=False)
    axes.set_xlabel("step")
    figure.legend(loc="outside lower center", ncols=8, frameon=False, markerscale=0.8)
    save_figure(figure, path)


def _finals(axes, values: dict, data: dict) -> None:
    names = [name for name in next(iter(data["finals"].values()))[0] if name != "privacy kept"]
    places = np.arange(len(names))[::-1]
    shown = [place for place, name in zip(places, names, strict=True) if name in data["start"]]
    axes.scatter(
        [data["start"][name] for name in names if name in data["start"]], shown,
        marker="|", s=260, color="0.5", label="start",
    )  # fmt: skip
    for index, (method, seeds) in enumerate(data["finals"].items()):
        color, marker = (rule_style(method)[name] for name in ("color", "marker"))
        height = places + 0.22 - 0.44 * index / max(len(data["finals"]) - 1, 1)
        for found in seeds:
            finals = [found[name] for name in names]
            axes.plot(finals, height, marker, color=color, alpha=0.35, markersize=4, mew=0)
        found = [values[f"{method}/{name}"] for name in names]
        means = np.array([value["ours"] for value in found])
        ends = np.array([(value["low"], value["high"]) for value in found]).T
        axes.errorbar(
            means, height, xerr=np.abs(ends - means), fmt=marker, color=color, label=method,
            capsize=3, markersize=6,
        )  # fmt: skip
    axes.set_yticks(places, names)
    axes.axhline(1.5, color="0.7", lw=0.8)
    axes.set(xlim=(-0.02, 1.02), xlabel="pass rate on held-out prompts at the end")
    title(axes, f"at the end, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
