"""Trains the three methods and writes results.json and figure.png.

python experiments/constraint_neglect/run.py [--smoke] [--check] [--start leaky] [--task terseness]

Finished runs are kept in runs/constraint_neglect and not trained again. ``--check`` compares the
outcome with expected.json and fails where they differ by more than its tolerance.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from config import METHODS, SEEDS, TASKS, get_config, smoke_config  # noqa: E402
from plot import plot  # noqa: E402

from rvpo_jax.evaluate import ALL_MET  # noqa: E402
from rvpo_jax.metrics import read_metrics  # noqa: E402
from rvpo_jax.train import train  # noqa: E402

WORST = "worst channel"


def run_one(config, method: str, seed: int, folder: Path) -> dict:
    """Trains one method with one seed; its held-out rates and its training curves."""
    config = dataclasses.replace(config, advantage=METHODS[method], seed=seed)
    workdir = folder / f"{method.replace(' ', '_').replace('=', '')}-{seed}"
    train(config, workdir, Console(quiet=True))
    evals = read_metrics(workdir / "evals.jsonl")
    names = [name for name in evals[-1]["rates"] if name != ALL_MET]
    final = {name: evals[-1]["rates"][name]["rate"] for name in [*names, ALL_MET]}
    final[WORST] = min(final[name] for name in names)
    rows = read_metrics(workdir)
    curves = {name: [row[f"reward/{name}/pass_rate"] for row in rows] for name in names}
    curves[ALL_MET] = [row["reward/joint_pass_rate"] for row in rows]
    start = {name: rate["rate"] for name, rate in evals[0]["rates"].items()}
    return {"seed": seed, "start": start, "final": final, "curves": curves}


def interval(values) -> dict:
    """Mean over seeds with its 95 % t interval."""
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "half_width": float(half)}


def summarize(results: dict) -> dict:
    """Per method and quantity the mean with interval, and RVPO's paired differences."""
    summary = {
        method: {name: interval([run["final"][name] for run in runs]) for name in runs[0]["final"]}
        for method, runs in results.items()
    }
    reference = results["RVPO k=1"]
    for method, runs in results.items():
        if runs is not reference:
            summary[f"RVPO k=1 minus {method}"] = {
                name: interval(
                    [
                        a["final"][name] - b["final"][name]
                        for a, b in zip(reference, runs, strict=True)
                    ]
                )
                for name in reference[0]["final"]
            }
    return summary


def show(summary: dict) -> None:
    """Prints the table."""
    table = Table(
        title="Pass rate on held-out prompts: mean over seeds +- 95 % half width",
        title_justify="left",
    )
    table.add_column("")
    for method in summary:
        table.add_column(method, justify="right")
    for name in next(iter(summary.values())):
        cells = (summary[method][name] for method in summary)
        table.add_row(name, *(f"{c['mean']:.3f} +- {c['half_width']:.3f}" for c in cells))
    Console(width=140).print(table)


def check(summary: dict) -> int:
    """0 where every committed value is met within its tolerance."""
    expected = json.loads((HERE / "expected.json").read_text())
    failures = []
    for key, value in expected["values"].items():
        method, name = key.split("/")
        ours = summary[method][name]["mean"]
        if abs(ours - value["ours"]) > value["atol"]:
            failures.append(f"{key}: {ours:.3f}, expected {value['ours']} +- {value['atol']}")
    print("\n".join(failures) or f"all {len(expected['values'])} values agree with expected.json")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two steps, two seeds")
    parser.add_argument("--check", action="store_true", help="compare with expected.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="to split the work")
    parser.add_argument("--start", choices=("warm", "leaky"), default="warm", help="parameters")
    parser.add_argument("--task", choices=TASKS, default="brevity", help="see config.py")
    args = parser.parse_args()
    config = (smoke_config if args.smoke else get_config)(args.task, args.start)
    seeds = SEEDS[:2] if args.smoke else args.seeds
    folder = Path("runs/constraint_neglect") / "_".join(
        [args.start, args.task, *(["smoke"] if args.smoke else [])]
    )
    results: dict = {method: [] for method in METHODS}
    for seed in seeds:  # seed by seed, so that an interrupted sweep is balanced
        for method in METHODS:
            results[method].append(run_one(config, method, seed, folder))
            final = results[method][-1]["final"]
            print(
                f"{method:<9} seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in final.items())
            )
            sys.stdout.flush()
    summary = summarize(results)
    (folder / "results.json").write_text(
        json.dumps({"summary": summary, "runs": results}, indent=1)
    )
    plot(results, summary, folder / "figure.png")
    show(summary)
    print(f"picture: {folder / 'figure.png'}")
    return check(summary) if args.check else 0


if __name__ == "__main__":
    sys.exit(main())
