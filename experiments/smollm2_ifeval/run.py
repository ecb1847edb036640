"""SmolLM2 on IFEval's prompts: GRPO, GDPO and RVPO, strict accuracy on held-out prompts.

python experiments/smollm2_ifeval/run.py [--smoke] [--check] [--seeds N ...]

A finished run is recorded beside this file, in recorded/; one that was stopped goes on.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import Value, interval
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.language_runs import LanguageRun, train_methods

# A completion meets instructions_share where it follows all instructions literally: IFEval's
# strict accuracy at the level of prompts.
MEASURES = {"strict": "instructions_share", "no repetition": "repetition"}


def rate(runs: list[LanguageRun], place: int, channel: str) -> Value:
    """A held-out rate: of one run with its interval over prompts, of several over runs."""
    found = [run.evals[place]["rates"][channel] for run in runs]
    if len(found) > 1:
        return interval([one["rate"] for one in found])
    [one] = found
    return {"ours": one["rate"], "low": one["low"], "high": one["high"], "n": one["count"]}


def measure(seeds, smoke: bool) -> Outcome:
    """Every rule with every seed; the held-out prompts are the same for all."""
    folder = Path("runs/smollm2_ifeval") / ("smoke/runs" if smoke else "runs")
    settings = config.smoke_config(folder) if smoke else config.get_config()
    recorded = None if smoke else HERE / "recorded"
    runs = train_methods(settings, seeds, folder, recorded=recorded)
    values = {
        f"{rule}/{name} {when}": rate(found, place, channel)
        for rule, found in runs.items()
        for name, channel in MEASURES.items()
        for when, place in (("before", 0), ("after", -1))
    }
    curves = {
        rule: [[row["reward/instructions_share/mean"] for row in run.rows] for run in found]
        for rule, found in runs.items()
    }
    seconds = [run.rows[-1]["time/step_s"] for found in runs.values() for run in found]
    words = ", ".join(f"{one:.0f}" for one in seconds)
    notes = (f"Last step of each run: {words} s. Intervals of one run are over prompts.",)
    return Outcome(values=values, data={"curves": curves}, notes=notes)


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
