"""results.json to figure.png: parts of the tiny step, and the aggregator's share by size."""

import json
import sys
from pathlib import Path

import numpy as np

from rvpo_jax.lab.style import BLACK, BLUE, GREEN, GREY, ORANGE, new_figure, save_figure, title

SHARES = {"worst": "CPU time of the aggregator / H100 peak time of the step", "share": "FLOPs"}
LOOKS = {"rubrics": (GREEN, "D"), "tool calling": (ORANGE, "s")}


def plot(results: dict, path: Path) -> None:
    """Left: measured milliseconds. Right: shares by arithmetic, and the paper's bound."""
    data = results["data"]
    figure = new_figure(11.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    names = list(data["parts"])
    left.barh(names, [1e3 * seconds for seconds in data["parts"].values()], color=BLUE)
    left.invert_yaxis()
    left.set(xscale="log", xlabel="milliseconds (median, log scale)")
    title(left, "measured: parts of the tiny step")
    for kind, (color, marker) in LOOKS.items():
        found = {n.partition(", ")[2]: c for n, c in data["counts"].items() if n.startswith(kind)}
        for key, label in SHARES.items():
            line = "-" if key == "worst" else ":"
            y = np.array([count[key] for count in found.values()])
            right.plot(list(found), y, line, color=color, marker=marker, label=f"{kind}: {label}")
    right.axhline(data["paper"], color=BLACK, ls="--", lw=1, label="paper: below 1 %")
    right.set(yscale="log", ylabel="share of a step", ylim=(1e-13, 1e5))
    right.tick_params(axis="x", labelsize=8)
    right.legend(fontsize=8, loc="upper right", edgecolor=GREY)
    title(right, "steps by arithmetic of the shapes, not measured")
    save_figure(figure, path)


if __name__ == "__main__":
    plot(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]).with_name("figure.png"))
