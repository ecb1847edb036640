"""results.json to figure.png: how often each planted kind is named, how often clean ones alarm."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import new_figure, save_figure, title


def plot(results: dict, path: Path) -> None:
    """Left: the planted kinds. Right: the clean ones."""
    figure = new_figure(12, 8)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for axes, group, label in (
        (left, "planted", "variants in which a sentence names what was planted"),
        (right, "clean", "logs without problems that raise an alarm"),
    ):
        rows = {
            name.split("/")[0].removeprefix(f"{group} ").replace("_", " "): value
            for name, value in results["values"].items()
            if name.startswith(f"{group} ")
        }
        places = np.arange(len(rows))[::-1]
        mean, low, high = (
            100 * np.array([row[key] for row in rows.values()]) for key in ("ours", "low", "high")
        )
        axes.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", capsize=2)
        axes.set_yticks(places, list(rows), fontsize=8)
        axes.set(xlabel="% [95 % interval]")
        title(axes, label)
    right.axvline(1.0, color="0.6", linestyle="--")
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
