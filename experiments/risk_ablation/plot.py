"""results.json to figure.png: a row per rule, a panel per outcome, and two of them over time."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import BLACK, BLUE, GREEN, OLIVE, PINK, new_figure, save_figure, title

# Over time: soft minima from green to pink, the mean blue, as in the other figures.
CURVES = {
    "k=0 (GDPO)": (BLUE, "o", "-"),
    "k=0.5": (GREEN, "D", ":"),
    "k=2": (GREEN, "D", "-"),
    "k: 0.5 -> 2": (BLACK, ">", "-"),
    "k: 2 -> 0.5": (BLACK, "<", "--"),
    "k=inf (hard-min)": (PINK, "v", "--"),
    "beta=1": (OLIVE, "^", "--"),
}


def plot(results: dict, path: Path) -> None:
    """Top: outcomes by rule, the paper's beside ours. Bottom: worst channel over the steps."""
    data, values = results["data"], results["values"]
    settings = data["settings"]
    rules = list(next(iter(settings.values())))
    figure = new_figure(12.5, 8.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    panels = top.subplots(1, 5, sharey=True)
    if "conflict" in settings:
        _dots(panels[0], values, rules, {"joint": "conflict: {}/joint"})
    title(panels[0], "conflict: joint pass")
    for axes, name in zip(panels[1:3], ("budget", "budget, fast"), strict=True):
        if name in settings:
            keys = {end: f"{name}: {{}}/worst {end}" for end in ("best", "final")}
            _dots(axes, values, rules, keys)
        title(axes, f"{name}: worst channel")
    if "budget, fast" in settings:
        _dots(panels[3], values, rules, {"final": "budget, fast: {}/turns"})
    title(panels[3], "fast: bottleneck turns")
    _paper(panels[4], data["paper"], rules)
    panels[0].set_yticks(range(len(rules)), rules)
    panels[0].invert_yaxis()
    _over_time(bottom, settings, data["window"])
    save_figure(figure, path)


def _dots(axes, values, rules, keys) -> None:
    """Filled: final; open: best."""
    for label, key in keys.items():
        found = [values[key.format(rule)] for rule in rules]
        mean = np.array([value["ours"] for value in found])
        arms = np.abs(np.array([[value["low"], value["high"]] for value in found]).T - mean)
        face = "white" if label == "best" else BLUE
        axes.errorbar(
            mean,
            range(len(rules)),
            xerr=arms,
            fmt="o",
            color=BLUE,
            mfc=face,
            capsize=2,
            label=label,
        )
    if len(keys) > 1:
        axes.legend(fontsize=9, loc="upper left")


def _paper(axes, paper, rules) -> None:
    """The paper's HealthBench scores where it gives them."""
    for end, label, face in ((0, "best", "white"), (1, "final", BLACK)):
        known = [(paper[rule][end], place) for place, rule in enumerate(rules) if rule in paper]
        known = [(score, place) for score, place in known if score is not None]
        axes.plot(*zip(*known, strict=True), "s", color=BLACK, mfc=face, label=label)
    axes.legend(fontsize=9, loc="lower right")
    title(axes, "paper: HealthBench, 7B")


def _over_time(figure, settings, window) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("budget", "budget, fast"), strict=True):
        for rule, (color, marker, line) in CURVES.items():
            curve = settings.get(name, {}).get(rule, [])
            steps = (np.arange(len(curve)) + 1) * window
            axes.plot(steps, curve, line, color=color, marker=marker, markevery=4, ms=5, label=rule)
        title(axes, f"{name}: worst channel, mean over seeds")
        axes.set(xlabel="step", ylabel="level")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
