"""results.json to figure.png: mean against worst channel, levels, who decides, and over time."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, rule_style, save_figure, title

# What the panels with curves show; all rules are in the first one.
SHOWN = ("GRPO", "GDPO", "RVPO k=1", "hard-min", "level soft-min 3")


def plot(results: dict, path: Path) -> None:
    """Shared row of logits: four panels; the other world stands in the table of the README."""
    worlds = results["data"]["worlds"]
    rules = worlds["shared"]
    figure = new_figure(11, 7.4)
    panels = figure.subplots(2, 2)
    _mean_against_worst(panels[0, 0], results["values"], rules)
    _over_time(panels[0, 1], rules, results["data"]["record_every"])
    _levels(panels[1, 0], rules, results["data"]["needs"])
    _alignment(panels[1, 1], rules, results["data"]["record_every"])
    save_figure(figure, path)


def _mean_against_worst(axes, values, rules) -> None:
    for name in rules:
        mean, worst = values[f"{name}/mean, shared"], values[f"{name}/worst, shared"]
        look = {**rule_style(name), "linestyle": "none"}
        axes.errorbar(
            mean["ours"],
            worst["ours"],
            xerr=_arms(mean),
            yerr=_arms(worst),
            capsize=2,
            markersize=8,
            label=name,
            **look,
        )
        # Rules of one colour are told apart by their coefficient.
        number = name.rpartition(" ")[2] if name.startswith(("RVPO", "level")) else ""
        axes.annotate(
            number,
            (mean["ours"], worst["ours"]),
            xytext=(-14, -3) if name.startswith("level weights") else (7, 5),
            textcoords="offset points",
            fontsize=9,
        )
    axes.margins(x=0.12, y=0.08)
    title(axes, "last quarter of the steps, 95 % intervals")
    axes.set(xlabel="mean over the channels", ylabel="worst channel")
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


def _arms(value) -> list[list[float]]:
    return [[value["ours"] - value["low"]], [value["high"] - value["ours"]]]


def _over_time(axes, rules, record_every) -> None:
    for name in (name for name in SHOWN if name in rules):
        worst = np.asarray(rules[name]["worst"])
        steps = (np.arange(len(worst)) + 1) * record_every
        axes.plot(steps, worst, markevery=max(len(worst) // 6, 1), **rule_style(name))
    title(axes, "worst channel of the batch, mean over seeds")
    axes.set(xlabel="step", ylabel="level")


def _levels(axes, rules, needs) -> None:
    places = np.arange(len(needs))
    for name in (name for name in SHOWN if name in rules):
        axes.plot(places, rules[name]["level"], **rule_style(name))
    axes.set_xticks(places, [f"{need:g}" for need in needs])
    title(axes, "level of each channel at the end")
    axes.set(xlabel="slots that the channel asks for", ylabel="level", ylim=(-0.03, 1.03))


def _alignment(axes, rules, record_every) -> None:
    for name in (name for name in SHOWN if name in rules):
        order = np.argsort(rules[name]["first_level"])
        levels, alignment = (
            np.array(rules[name][key])[order] for key in ("first_level", "first_alignment")
        )
        axes.plot(levels, alignment, **rule_style(name))
    title(axes, f"whom the first {record_every} steps serve")
    axes.set(xlabel="level of the channel", ylabel="correlation of advantage and score")


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
