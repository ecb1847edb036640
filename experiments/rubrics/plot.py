"""results.json to figure.png: axes, scores over the steps and by the judge's errors, the paper."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

MAIN = "10 % wrong"
ERRORS = ("0 % wrong", "10 % wrong", "20 % wrong")
# Rules of one colour are told apart by the line.
LINES = {"GDPO (sum)": ":", "RVPO k=5": "--"}


def plot(results: dict, path: Path) -> None:
    """Top: ours by axis, the paper's, and whom the first steps serve. Bottom: scores."""
    data, values = results["data"], results["values"]
    rules = list(data["curves"])
    figure = new_figure(13, 7.6)
    panels = figure.subplots(2, 3)
    _by_axis(panels[0], values, rules, data)
    _over_time(panels[1, 0], data)
    _over_errors(panels[1, 1], values, rules, data["worlds"])
    _paper_scores(panels[1, 2], data["paper_scores"])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


def _look(rule: str) -> dict:
    look = {**rule_style(rule), "markersize": 5}
    return {**look, "linestyle": LINES.get(rule, look["linestyle"])}


def _by_axis(panels, values, rules, data) -> None:
    axes_names = data["axes"]
    places = np.arange(len(axes_names))
    for axes, kind in zip(panels[:2], ("axes", "first steps"), strict=True):
        for rule in rules:
            found = [values[f"{kind}: {rule}/{axis}"] for axis in axes_names]
            mean = np.array([value["ours"] for value in found])
            arms = np.abs(np.array([[value["low"], value["high"]] for value in found]).T - mean)
            axes.errorbar(places, mean, yerr=arms, capsize=2, label=rule, **_look(rule))
    for rule, levels in data["paper_axes"].items():
        panels[2].plot(places, levels, **_look(rule))
    title(panels[0], "items met at the end, by axis")
    title(panels[1], f"whom the first {data['record_every']} steps serve")
    panels[1].axhline(0, color="0.6", lw=1)
    panels[1].set_ylabel("correlation of advantage and score")
    title(panels[2], "paper: HealthBench by axis, 7B")
    for axes in panels:
        names = [name.replace(" ", "\n") for name in axes_names]
        axes.set_xticks(places, names, fontsize=8, rotation=25, ha="right")


def _over_time(axes, data) -> None:
    for rule, curve in data["curves"].items():
        steps = (np.arange(len(curve)) + 1) * data["record_every"]
        axes.plot(steps, curve, markevery=max(len(curve) // 6, 1), **_look(rule))
    title(axes, f"score, {MAIN}, mean over seeds")
    axes.set(xlabel="step", ylabel="share of a prompt's items met")


def _over_errors(axes, values, rules, worlds) -> None:
    kinds = [kind for kind in (*ERRORS, "one policy") if kind in worlds]
    for rule in rules:
        found = [values[f"{kind}: {rule}/score final"] for kind in kinds]
        mean = np.array([value["ours"] for value in found])
        arms = np.abs(np.array([[value["low"], value["high"]] for value in found]).T - mean)
        look = _look(rule)
        is_error = np.array([kind in ERRORS for kind in kinds])
        places = np.arange(len(kinds))
        axes.errorbar(places[is_error], mean[is_error], yerr=arms[:, is_error], capsize=2, **look)
        alone = {**look, "linestyle": "none"}
        axes.errorbar(
            places[~is_error], mean[~is_error], yerr=arms[:, ~is_error], capsize=2, **alone
        )
    labels = [f"{kind}\n(10 % wrong)" if kind == "one policy" else kind for kind in kinds]
    axes.set_xticks(range(len(kinds)), labels, fontsize=9)
    title(axes, "final score against the judge's errors")
    axes.set(ylabel="share of a prompt's items met")


def _paper_scores(axes, paper) -> None:
    """Filled: final; open: best."""
    for shift, (rule, sizes) in zip((-0.08, 0.08), paper.items(), strict=True):
        look = {**_look(rule), "markersize": 8}
        places = np.arange(len(sizes)) + shift
        best, final = np.array(list(sizes.values())).T
        axes.plot(places, best, **{**look, "linestyle": "none"}, mfc="white")
        axes.plot(places, final, **{**look, "linestyle": "none"})
        axes.vlines(places, final, best, color=look["color"], lw=1)
    axes.set_xticks(range(len(sizes)), list(sizes))
    title(axes, "paper: HealthBench, best (open), final")
    axes.set(ylabel="score")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
