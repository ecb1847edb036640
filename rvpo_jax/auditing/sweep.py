"""What the soft minimum would do to a log at every k of a grid: the numbers behind the slider.

``N`` completions, ``M`` channels.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..basics.residue import POSITIVE
from .formulas import channel_shares, soft_minimum
from .replay import BLOCK_VALUES, WHITEN_EPS, Replay, whitening_statistics

K_GRID = (
    *(round(0.1 * i, 1) for i in range(21)),
    2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 50.0, float("inf"),
)  # fmt: skip
# Completions times channels that are swept; of a longer log some steps, or some groups.
MAX_CELLS = 100_000


def soft_minima_over_k(played: Replay, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The soft minima of some completions for each k of the grid.

    Args:
      played: the replay.
      rows: ``[n]`` which completions.

    Yields:
      ``[n]`` float64.
    """
    height = max(BLOCK_VALUES // played.scores.shape[1], 1)
    blocks = [rows[start : start + height] for start in range(0, len(rows), height)]
    weights = played.log.weights
    for k in K_GRID:
        parts = [
            soft_minimum(played.scores[block], played.where[block], k, weights) for block in blocks
        ]
        yield np.concatenate(parts).astype(np.float64)


def sweep_table(played: Replay) -> dict[str, Any]:
    """Quiet failures, failure gap and weight of every channel at every k.

    Args:
      played: the replay.

    Returns:
      ``k`` (the last is "inf"), ``completions`` that were swept, and ``rate``, ``of_failures``,
      ``gap`` and ``weight``: a row of M numbers for each k, None where undefined.
    """
    rows = _swept_rows(played)
    table: dict[str, Any] = {"k": [*K_GRID[:-1], "inf"], "completions": len(rows)}
    table |= {name: [] for name in ("rate", "of_failures", "gap", "weight")}
    if not len(rows):
        return table | {"k": []}
    where, batch = played.where[rows], played.batch[rows]
    share = channel_shares(where, played.log.weights)
    failed = where & ~played.met[rows]
    # As in the tables: where one rule is silent, as a log may be, no gap is computed.
    known = np.all([np.isfinite(values[rows]) for values in played.advantages.values()], axis=0)
    counted = where & known[:, None]
    contrast = _contrast(played.log.group[rows], failed & counted, counted & ~failed)
    usable = np.ones(len(rows), bool)
    for k, values in zip(K_GRID, soft_minima_over_k(played, rows), strict=True):
        mean, std = whitening_statistics(values, usable, batch)
        # The replay keeps its advantages in float32: the same completions must be above 0 here.
        advantages = ((values - mean[batch]) / (std[batch] + WHITEN_EPS)).astype(np.float32)
        quiet = (failed & (advantages > POSITIVE)[:, None]).sum(0)
        table["rate"].append(_ratios(quiet, where.sum(0)))
        table["of_failures"].append(_ratios(quiet, failed.sum(0)))
        table["gap"].append(_ratios(advantages @ contrast[0], contrast[1]))
        table["weight"].append(_mean_weights(played.scores[rows], share, k))
    return table


def _swept_rows(played: Replay) -> np.ndarray:
    """Completions to sweep: all, else every n-th step, else those of every n-th group."""
    every = -(-played.log.rewards.size // MAX_CELLS)
    unit = played.batch if played.batch.max() >= every else played.log.group
    return np.flatnonzero(played.usable & (unit % every == 0))


def _contrast(
    group: np.ndarray, failed: np.ndarray, met: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a completion adds to the failure gaps ``[n, M]``, and the groups with both ``[M]``.

    A gap is a difference of two means in each group, so it is linear in the advantages: the sum
    over groups is a product with these numbers, whatever k is.
    """
    size = int(group.max()) + 1
    parts, groups = np.zeros(failed.shape), np.zeros(failed.shape[1])
    for m in range(failed.shape[1]):
        failing, passing = (np.bincount(group, which[:, m], size) for which in (failed, met))
        both = (failing > 0) & (passing > 0)
        groups[m] = both.sum()
        down = failed[:, m] / np.maximum(failing, 1)[group]
        up = met[:, m] / np.maximum(passing, 1)[group]
        parts[:, m] = np.where(both[group], down - up, 0.0)
    return parts, groups


def _ratios(numerator: np.ndarray, denominator: np.ndarray) -> list[float | None]:
    pairs = zip(numerator.tolist(), denominator.tolist(), strict=True)
    return [a / b if b else None for a, b in pairs]


def _mean_weights(scores: np.ndarray, share: np.ndarray, k: float) -> list[float]:
    """Mean gradient of the soft minimum; equal minima share it at k = infinity."""
    counted = share > 0
    lowest = np.where(counted, scores, np.inf).min(-1, keepdims=True)
    excess = np.where(counted, scores - lowest, 0.0)
    parts = counted & (excess == 0) if np.isinf(k) else share * np.exp(-k * excess)
    total = parts.sum(-1, keepdims=True)  # 0 where only channels of weight 0 scored
    return (parts / np.where(total > 0, total, 1.0)).mean(0, dtype=np.float64).tolist()
