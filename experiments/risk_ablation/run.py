"""Best and final level, joint pass rate and switching bottlenecks against the risk coefficient.

python experiments/risk_ablation/run.py [--smoke] [--check]
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
from rvpo_jax.lab.training import train_many

TESTED = ("worst final", "mean final", "joint")


def measure(seeds, smoke: bool) -> Outcome:
    """Trains every rule in every setting."""
    options = config.SMOKE_OPTIONS if smoke else config.OPTIONS
    window = config.SMOKE_WINDOW if smoke else config.WINDOW
    values, data, notes = {}, {}, []
    for name in config.SMOKE_SETTINGS if smoke else config.SETTINGS:
        setting = config.SETTINGS[name]
        found = {}
        for rule, risks in config.FAMILIES.values():
            if smoke:
                risks = {risk: k for risk, k in risks.items() if risk in config.SMOKE_RULES}
            k = np.stack([config.schedule(ends, options["steps"]) for ends in risks.values()])
            history = train_many(
                setting.world,
                rule,
                seeds,
                risk_coefs=k,
                learning_rate=setting.learning_rate,
                **options,
            )
            levels = exact_levels(setting.world, history.policy)
            for i, risk in enumerate(risks):
                found[risk] = summary(levels[i], history.joint_pass[i], window)
        for risk, (columns, curve) in found.items():
            values |= {f"{name}: {risk}/{key}": interval(columns[key]) for key in setting.columns}
            data.setdefault(name, {})[risk] = curve
        notes += compare(name, {risk: columns for risk, (columns, _) in found.items()})
    data = {"settings": data, "paper": config.PAPER, "window": window, **options}
    return Outcome(values=values, data=data, notes=tuple(notes))


def exact_levels(world, policy: np.ndarray) -> np.ndarray:
    """Expected reward of each channel, ``[..., M]`` of a policy ``[..., 1, 1, A]``, unsampled."""
    probs = np.asarray(policy, np.float64)[..., 0, 0, :]
    if "table" in world.settings:
        return probs @ np.asarray(world.settings["table"], np.float64)[0]
    # Counts are binomial: E[min(n / need, 1)] = 1 - sum over n < need of (1 - n / need) P(n).
    needs = np.asarray(world.settings["needs"])
    short, chance = np.zeros_like(probs), (1 - probs) ** world.num_slots
    for n in range(int(needs.max())):
        short += np.maximum(1 - n / needs, 0) * chance
        odds = probs / np.maximum(1 - probs, 1e-12)
        chance = chance * odds * (world.num_slots - n) / (n + 1)
    return 1 - short


def summary(levels: np.ndarray, joint: np.ndarray, window: int):
    """Outcomes by seed, and the worst channel by window; levels ``[seeds, steps, M]``."""
    seeds, steps, num_channels = levels.shape
    windows = levels.reshape(seeds, steps // window, window, num_channels).mean(2)
    worst, mean = windows.min(-1), windows.mean(-1)
    columns = {
        "worst best": worst.max(1),
        "worst final": worst[:, -1],
        "worst kept": worst[:, -1] / worst.max(1),
        "mean best": mean.max(1),
        "mean final": mean[:, -1],
        "joint": joint[:, -window:].mean(1),
        "switch": (np.diff(windows.argmin(-1), axis=1) != 0).mean(1),
        "turns": np.array([turns(run, config.MARGIN) for run in levels]),
    }
    return columns, worst.mean(0)


def turns(levels: np.ndarray, margin: float) -> int:
    """How often another channel becomes the lowest one by a margin; levels ``[steps, M]``."""
    lowest, count = int(levels[0].argmin()), 0
    for row in levels:
        now = int(row.argmin())
        if row[now] < row[lowest] - margin:
            lowest, count = now, count + 1
    return count


def compare(setting: str, ends: dict) -> list[str]:
    """Paired tests of every rule against GDPO, corrected for the number of rules."""
    return [
        f"{setting}, {column}, {line}"
        for column in TESTED
        for line in against(config.REFERENCE, {name: end[column] for name, end in ends.items()})
    ]


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot, config.SEEDS, config.SMOKE_SEEDS))
