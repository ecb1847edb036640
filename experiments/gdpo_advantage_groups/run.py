"""How many different advantage groups a rule can tell apart: GDPO's Figures 2 and 3, with RVPO.

python experiments/gdpo_advantage_groups/run.py [--smoke] [--check]
"""

import itertools
import math
import sys
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax import compute_advantages
from rvpo_jax.lab.experiment import Outcome, run_experiment


def all_groups(num_rollouts: int, num_rewards: int) -> np.ndarray:
    """Every group of binary rewards, ``[B, G, M]``, each once up to the order of what is alike.

    The order of the rollouts does not matter, nor, all rules weighing channels alike, that of the
    channels; whichever of the two leaves fewer groups is left out.
    """
    by_rollout = math.comb(2**num_rewards + num_rollouts - 1, num_rollouts)
    by_channel = math.comb(2**num_rollouts + num_rewards - 1, num_rewards)
    length, count = (num_rewards, num_rollouts)
    if by_channel < by_rollout:
        length, count = count, length
    vectors = np.array(list(itertools.product((0.0, 1.0), repeat=length)), np.float32)
    chosen = np.array(list(itertools.combinations_with_replacement(range(len(vectors)), count)))
    groups = vectors[chosen]  # [B, count, length]
    return groups if length == num_rewards else groups.swapaxes(1, 2)


def advantages_of(rewards: np.ndarray, rule) -> np.ndarray:
    """Advantages ``[B, G]``, in chunks of one size so that one program serves them all."""
    compute = jax.jit(lambda r: compute_advantages(r, config=rule).advantages)
    size = min(config.CHUNK, len(rewards))
    padding = -len(rewards) % size
    padded = np.concatenate([rewards, np.repeat(rewards[-1:], padding, 0)])
    parts = [compute(part) for part in padded.reshape(-1, size, *rewards.shape[1:])]
    return np.concatenate(parts)[: len(rewards)]


def distinct(advantages: np.ndarray, tolerance: float = config.TOLERANCE) -> int:
    """Number of different rows ``[B, G]``, up to the order within a row."""
    ordered = np.sort(advantages, axis=1)
    flat = np.sort(ordered.reshape(-1))
    # Labels by gaps: rounding would split equal values that lie beside a rounding edge.
    starts = flat[np.concatenate([[True], np.diff(flat) > tolerance])]
    labels = np.searchsorted(starts, ordered + tolerance / 2, side="right")
    return len(np.unique(labels, axis=0))


def measure(seeds, smoke: bool) -> Outcome:
    """Counts by rule; and every case of two rollouts with two rewards."""
    del seeds
    rollouts = config.SMOKE_ROLLOUTS if smoke else config.ROLLOUTS
    rewards = config.SMOKE_REWARDS if smoke else config.REWARDS
    by_rollouts: dict = {name: [] for name in config.RULES}
    by_rewards: dict = {name: [] for name in config.RULES}
    for found, sizes in (
        (by_rollouts, [(g, config.REWARDS_FIXED) for g in rollouts]),
        (by_rewards, [(config.ROLLOUTS_FIXED, m) for m in rewards]),
    ):
        for size in sizes:
            groups = all_groups(*size)
            for name, rule in config.RULES.items():
                found[name].append(distinct(advantages_of(groups, rule)))
    pairs = all_groups(2, 2)
    data = {
        "rollouts": rollouts,
        "rewards": rewards,
        "by_rollouts": by_rollouts,
        "by_rewards": by_rewards,
        "pairs": pairs,
        "pair_advantages": {
            name: advantages_of(pairs, rule) for name, rule in config.RULES.items()
        },
    }
    values = {}
    for found, sizes, label in (
        (by_rollouts, rollouts, f"{{}} rollouts, {config.REWARDS_FIXED} rewards"),
        (by_rewards, rewards, f"{config.ROLLOUTS_FIXED} rollouts, {{}} rewards"),
    ):
        for index, size in enumerate(sizes):
            for name in config.RULES:
                values[f"{label.format(size)}/{name}"] = {"ours": float(found[name][index])}
    return Outcome(values=values, data=data)


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot))
