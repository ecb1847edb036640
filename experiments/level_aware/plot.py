"""results.json to figure.png: the family, every cell against the best of three, and why."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

OUTCOMES = {
    "worst met": "worst channel's pass rate",
    "joint": "joint pass rate",
    "quiet": "quiet failures",
}
RULES = ("GRPO", "GDPO", "RVPO k=1")


def plot(results: dict, path: Path) -> None:
    """Members and what they cost, whom the first steps serve; all cells for three outcomes."""
    data = results["data"]
    figure = new_figure(15, 8.5)
    panels = figure.subplots(2, 3)
    _family(panels[0, 0], data)
    _trade_off(panels[0, 1], data)
    _alignment(panels[0, 2], data)
    for axes, column in zip(panels[1], OUTCOMES, strict=True):
        _cells(axes, data, column)
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


def _members(data):
    """Each k with its look and its members by c: (c, shortfall of the criteria, of the mean)."""
    lines = {}
    for name, (k, c, additive) in data["members"].items():
        if not additive:
            lines.setdefault(k, []).append(
                (c, _shortfall(data, name), data["scores"][name]["mean"])
            )
    for place, (k, points) in enumerate(sorted(lines.items())):
        shade = str(0.75 * (1 - place / max(len(lines) - 1, 1)))
        look = {"marker": "osD^v"[place % 5], "color": shade, "label": f"k = {k:g}"}
        yield look, np.array(sorted(points)).T


def _shortfall(data, name: str) -> float:
    return float(np.mean([data["scores"][name][column] for column in data["criteria"]]))


def _family(axes, data) -> None:
    for look, (c, shortfall, _) in _members(data):
        axes.plot(range(len(c)), shortfall, **look)
    axes.set_xticks(range(len(c)), [f"{value:g}" for value in c])
    axes.legend(frameon=False, fontsize=9)
    title(axes, "chosen on: half of the map's pairs, seeds 100 to 105")
    axes.set(xlabel="level coefficient c", ylabel="mean shortfall, three outcomes")
    axes.set_ylim(bottom=0)


def _trade_off(axes, data) -> None:
    """What a member gives up in the mean for what it gains in the three outcomes."""
    for look, (c, shortfall, mean) in _members(data):
        axes.plot(mean, shortfall, **look)
        if look["label"] == "k = 1":
            for text, *place in zip(c, mean, shortfall, strict=True):
                # Left of the last point, where other members crowd; right of the others.
                side = "right" if place[0] == max(mean) else "left"
                offset = (-7, 4) if side == "right" else (5, 4)
                axes.annotate(
                    f"c={text:g}", place, offset, textcoords="offset points", ha=side, fontsize=9
                )
    for name in RULES:
        place = data["scores"][name]["mean"], _shortfall(data, name)
        axes.plot(*place, **{**rule_style(name), "markersize": 9})
    title(axes, "the trade-off: mean reward for the three outcomes")
    axes.set(xlabel="mean shortfall, mean reward", ylabel="mean shortfall, three outcomes")
    axes.set_ylim(bottom=0)


def _alignment(axes, data) -> None:
    for name in (*RULES, data["chosen"]):
        start = data["first_steps"].get(f"budget base/{name}")
        if start is None:
            continue
        order = np.argsort(start["level"])
        levels, alignment = (np.array(start[key])[order] for key in ("level", "alignment"))
        axes.plot(levels, alignment, **rule_style(name))
    axes.axhline(0, color="0.4", lw=1)
    title(axes, "whom the first 10 steps serve (budget base)")
    axes.set(xlabel="level of the channel", ylabel="correlation of advantage and score")


def _cells(axes, data, column: str) -> None:
    """Every rule's cells, sorted by their own difference to the best of three."""
    for name in (*RULES, data["chosen"]):
        some = [
            value
            for key, value in data["deficits"].items()
            if key.split("/")[1:] == [name, column] and "hopeless" not in key
        ]
        some.sort(key=lambda value: -value["ours"])
        ours = -np.array([value["ours"] for value in some])
        look = {**rule_style(name), "markersize": 4}
        if name == data["chosen"]:
            arms = np.abs(-np.array([[v["high"], v["low"]] for v in some]).T - ours)
            axes.errorbar(
                np.arange(len(some)), ours, yerr=arms, capsize=1.5, lw=1, label=name, **look
            )
        else:
            axes.plot(ours, label=name, **look)
    axes.axhline(0, color="0.4", lw=1)
    axes.axhline(-data["margin"], color="0.4", lw=1, linestyle=":")
    title(axes, f"{OUTCOMES[column]}: minus the best of three")
    axes.set(xlabel="cells of the map and held-out worlds, sorted", ylabel="difference")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
