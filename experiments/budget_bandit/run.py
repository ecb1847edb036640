"""Ten channels of different difficulty share sixteen slots: who is neglected under which rule?

python experiments/budget_bandit/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.evidence import against, interval
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.lab.training import outcomes, train_rules

REFERENCE = "GDPO"


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every rule in both worlds; outcomes over the last quarter of the steps."""
    names = config.SMOKE_RULES if smoke else tuple(config.RULES)
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    rules = {name: config.RULES[name] for name in names}
    values, data, notes = {}, {}, []
    for kind in config.SMOKE_WORLDS if smoke else config.WORLDS:
        world = config.WORLDS[kind]
        histories = train_rules(
            world, rules, seeds, learning_rate=config.LEARNING_RATES[kind], **options
        )
        points = options["steps"] // options["record_every"]
        last = max(int(config.LAST_FRAC * points), 1)
        ends = {name: outcomes(history, world, last) for name, history in histories.items()}
        for name, end in ends.items():
            for column in ("mean", "worst"):
                values[f"{name}/{column}, {kind}"] = interval(end[column])
        notes += compare(kind, ends)
        data[kind] = {
            name: {
                "worst": history.channel_mean.min(-1).mean(0),
                "level": history.channel_mean[:, -last:].mean((0, 1)),
                "first_level": history.channel_mean[:, 0].mean(0),
                "first_alignment": history.alignment[:, 0].mean(0),
            }
            for name, history in histories.items()
        }
    needs = np.asarray(world.settings["needs"])
    return Outcome(
        values=values, data={"worlds": data, "needs": needs, **options}, notes=tuple(notes)
    )


def compare(kind: str, ends: dict) -> list[str]:
    """Paired tests of every rule's worst channel against GDPO's, corrected for their number."""
    worst = {name: end["worst"] for name, end in ends.items()}
    return [f"worst channel, {kind}, {line}" for line in against(REFERENCE, worst)]


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
