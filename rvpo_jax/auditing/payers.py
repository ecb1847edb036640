"""Who pays for a failure: the failure gap of a channel, split by what each channel adds to it.

``N`` completions, ``M`` channels.
"""

from typing import Any

import numpy as np

from ..basics.residue import RESIDUE
from .estimates import mean
from .formulas import channel_shares
from .replay import WHITEN_EPS, Replay, whitening_statistics, within_groups
from .rules import LOGGED


def payer_table(played: Replay, channels: list[int]) -> list[dict[str, Any]]:
    """What every other channel adds to the gap of a channel under the rule in use.

    Args:
      played: the replay; its first rule is the one in use.
      channels: numbers of the channels whose gap is split.

    Returns:
      One row per pair, the largest addition of a channel first: ``channel``, ``payer``, ``part``
      (estimate, in units of the advantage) and ``conflict``, the share of the groups with failing
      and passing completions in which the part is positive.
    """
    order = np.argsort(played.log.group, kind="stable")
    starts = np.flatnonzero(np.diff(played.log.group[order], prepend=-1))
    parts = _parts(played)[order]
    names = [channel.name for channel in played.log.channels]
    rows = []
    for index in channels:
        gaps = _gaps(played, index, parts, order, starts)
        found: list[dict[str, Any]] = [
            {
                "channel": names[index],
                "payer": name,
                "part": mean(gap, np.isfinite(gap), played.group_prompt).plain(),
                "conflict": float(np.mean(gap[np.isfinite(gap)] > 0)),
            }
            for name, gap in zip(names, gaps.T, strict=True)
            if name != names[index] and np.isfinite(gap).any()
        ]
        rows += sorted(found, key=lambda row: -row["part"]["value"])
    return rows


def _gaps(
    played: Replay, index: int, parts: np.ndarray, order: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """``[num_groups, M]`` mean parts of those that fail a channel less those of the others."""
    scored = (played.where[:, index] & played.usable)[order]
    met = played.met[order, index]
    sums = []
    for chosen in (scored & ~met, scored & met):
        count = np.add.reduceat(chosen.astype(float), starts)
        total = np.add.reduceat(np.where(chosen[:, None], parts, 0.0), starts)
        sums.append(total / np.where(count > 0, count, np.nan)[:, None])
    return sums[0] - sums[1]


def _parts(played: Replay) -> np.ndarray:
    """``[N, M]`` what each channel adds to a completion's advantage.

    Exact for the sum and the mean of scores. The soft and the hard minimum follow their weights. A
    trainer's own advantages are split as its method is, where a run of ours names it; else nobody
    knows the formula, and they are taken for a sum.
    """
    rule, log = played.rules[0], played.log
    method = rule.method if rule.name != LOGGED else log.method
    shares = {
        "gdpo": channel_shares(played.where, log.weights),
        "rvpo": played.weights,
        "hard_min": played.minima,
    }
    if method not in shares:
        importance = 1.0 if log.weights is None else log.weights
        rewards = np.where(played.where, log.rewards, 0.0).astype(np.float64) * importance
        return rewards / _group_std(rewards.sum(-1), played)[:, None]
    parts = np.where(played.where, played.scores, 0.0) * shares[method]
    _, std = whitening_statistics(parts.sum(-1), played.usable, played.batch)
    # Where channels cancel in a whole batch nobody is paid: over eps their parts would explode.
    std = np.where(std > RESIDUE, std + WHITEN_EPS, np.inf)
    return parts / std[played.batch, None]


def _group_std(values: np.ndarray, played: Replay) -> np.ndarray:
    """``[N]`` sample standard deviation of a completion's group; infinite where it is 0."""
    group = played.log.group
    squares = np.bincount(group, within_groups(values, played.usable, group) ** 2)
    std = np.sqrt(squares / np.maximum(np.bincount(group, played.usable) - 1, 1))
    return np.where(std > 0, std, np.inf)[group]
