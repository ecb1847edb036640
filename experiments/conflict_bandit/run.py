"""Three arms, two opposed channels: which rule keeps the balanced arm? Many seeds in one program.

python experiments/conflict_bandit/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab import worlds
from rvpo_jax.lab.evidence import interval, paired, value_text
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.training import outcomes, train_rules

BALANCED_ARM = 1


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every rule at every strength of the conflict, under both conventions."""
    names = config.SMOKE_RULES if smoke else tuple(config.RULES)
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    bandits = [worlds.conflict_bandit(balanced) for balanced in config.BALANCED]
    at = config.BALANCED.index(config.REFERENCE)
    values, curves, final = {}, {}, {}
    ends: dict[str, np.ndarray] = {}
    conventions = config.SMOKE_CONVENTIONS if smoke else tuple(config.CONVENTIONS)
    for convention in conventions:
        rules = {name: config.CONVENTIONS[convention](config.RULES[name]) for name in names}
        for name, history in train_rules(bandits, rules, seeds, **options).items():
            chosen = history.policy[..., 0, 0, BALANCED_ARM]  # [W, seeds, T]
            curves[f"{convention}/{name}"] = chosen[at]
            final[f"{convention}/{name}"] = [
                interval(end) for end in chosen[:, :, -1].astype(float)
            ]
            whole_run = outcomes(history, bandits[at], last=chosen.shape[-1])
            ends[f"{convention}/{name}"] = chosen[at, :, -1]
            values[f"{name}/P(Y) {convention}"] = interval(chosen[at, :, -1])
            values[f"{name}/quiet {convention}"] = interval(whole_run["quiet_any"][at])
    notes = []
    for convention in conventions:
        ours, mean = ends[f"{convention}/RVPO k=1"], ends[f"{convention}/GDPO"]
        notes.append(f"P(Y), RVPO k=1 minus GDPO, {convention}: {value_text(paired(ours, mean))}")
    data = {"balanced": config.BALANCED, "curves": curves, "final": final, **options}
    return Outcome(values=values, data=data, notes=tuple(notes))


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
