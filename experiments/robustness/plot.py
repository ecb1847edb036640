"""results.json to figure.png: pass rates against steps, by spread of difficulty."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import BLACK, new_figure, rule_style, save_figure, title

KINDS = {"budget": "budget: slots shared by channels", "trade": "trade: one decision"}
FILLS = {"RVPO k=0.5": "none", "RVPO k=5": BLACK}
COLUMNS = {"worst met": "worst channel met", "joint": "all channels met"}


def plot(results: dict, path: Path) -> None:
    """A row per kind of world and a column per outcome: mean over its cells, by steps."""
    values, at = results["values"], results["data"]["at"]
    figure = new_figure(11, 7)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, (kind, words) in enumerate(KINDS.items()):
        for axes, (column, meaning) in zip(panels[row], COLUMNS.items(), strict=True):
            _lines(axes, values, kind, column, at)
            title(axes, f"{words}\n{meaning}, mean over cells")
    for axes in panels[1]:
        axes.set(xlabel="steps", xscale="log", xticks=at, xticklabels=[f"{x:,}" for x in at])
        axes.minorticks_off()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    save_figure(figure, path)


def _lines(axes, values, kind: str, column: str, at) -> None:
    """Nothing of a kind that was not trained, as in a smoke run."""
    rules = [
        key.split(", ")[2].split("/")[0]
        for key in values
        if key.startswith(f"{kind}, ") and key.endswith(f"/{column}") and ": cells" not in key
    ]
    for rule in dict.fromkeys(rules):
        points = [values[f"{kind}, {steps} steps, {rule}/{column}"] for steps in at]
        ours = np.array([point["ours"] for point in points])
        arms = np.abs(np.array([[point["low"], point["high"]] for point in points]).T - ours)
        look = {**rule_style(rule), "markersize": 6}
        fill = FILLS.get(rule, look["color"])
        axes.errorbar(at, ours, yerr=arms, capsize=2, label=rule, markerfacecolor=fill, **look)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
