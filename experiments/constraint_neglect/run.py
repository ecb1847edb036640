"""Trains the three methods and writes results.json and figure.png.

python experiments/constraint_neglect/run.py [--smoke] [--check] [--start leaky] [--task terseness]

Finished runs are kept in runs/constraint_neglect and not trained again. ``--check`` compares the
outcome with expected.json and fails where they differ by more than its tolerance.
"""

import dataclasses
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
from rvpo_jax.figures.evidence import print_check, write_json  # noqa: E402
from rvpo_jax.figures.experiment import experiment_parser  # noqa: E402
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


def main() -> int:
    parser = experiment_parser(__doc__, recordable=False)
    parser.add_argument("--start", choices=("warm", "leaky"), default="warm", help="parameters")
    parser.add_argument("--task", choices=TASKS, default="brevity", help="see config.py")
    args = parser.parse_args()
    config = (smoke_config if args.smoke else get_config)(args.task, args.start)
    seeds = SEEDS[:2] if args.smoke else args.seeds or SEEDS
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
    write_json(folder / "results.json", {"summary": summary, "runs": results})
    plot(results, summary, folder / "figure.png")
    show(summary)
    print(f"picture: {folder / 'figure.png'}")
    values = {
        f"{method}/{name}": {"ours": value["mean"]}
        for method, row in summary.items()
        for name, value in row.items()
    }
    return print_check(values, HERE / "expected.json") if args.check else 0


if __name__ == "__main__":
    sys.exit(main())
