"""What the rules make of groups of a log, and what the channels do there.

The quantities are those of ``method.diagnostics`` of rvpo-jax. ``B`` groups, ``G`` completions of
a group, ``M`` reward channels, ``N`` completions.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ..basics.residue import RESIDUE
from .formulas import (
    Groups,
    channel_shares,
    dot,
    group_scores,
    minimum,
    soft_minimum,
    soft_minimum_weights,
    sum_weights,
)


def judge_groups(
    rewards: np.ndarray,
    pass_at: np.ndarray,
    rules: Mapping[str, Callable[[Groups], np.ndarray]],
    risk_coef: float,
    weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Scores, weights and aggregates of groups, each of which counts on its own.

    Args:
      rewards: ``[B, G, M]`` float, NaN where not scored.
      pass_at: ``[M]`` float32.
      rules: aggregates ``[B, G]`` of groups, by name.
      risk_coef: k of the soft minimum whose weights are returned, 1/score.
      weights: ``[M]`` float >= 0, what the rules multiply channels with; None: equal.

    Returns:
      ``scores``, ``weights`` (of the soft minimum), ``sum_weights`` and ``minima``: ``[B, G, M]``;
      ``spread``, ``to_mean``, ``to_min``, ``effective`` and the aggregate of each rule under its
      name after ``rule``: ``[B, G]``; ``status`` ``[B, M]`` int (0 absent, 1 live, 2 dead-pass, 3
      dead-fail); ``opposite``, ``both`` and ``products``: ``[M, M]``, summed over the block.
    """
    groups = group_scores(rewards)
    decided = soft_minimum_weights(groups.scores, groups.where, risk_coef, weights)
    return {
        "scores": groups.scores,
        "weights": decided,
        "sum_weights": sum_weights(groups, weights),
        "effective": np.exp(-dot(decided, np.log(np.where(decided > 0, decided, 1.0)))),
        "status": _status(groups, pass_at),
        **_between_mean_and_minimum(groups, risk_coef, weights),
        **_agreement(groups),
        **{f"rule {name}": aggregate(groups) for name, aggregate in rules.items()},
    }


def _status(groups: Groups, pass_at: np.ndarray) -> np.ndarray:
    high = np.where(groups.where, groups.rewards, -np.inf).max(axis=1)
    dead = np.where(high >= pass_at, 2, 3)
    return np.where(groups.live, 1, np.where(groups.where.any(axis=1), dead, 0))


def _between_mean_and_minimum(
    groups: Groups, risk_coef: float, weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Spread of a completion's scores, and how far its soft minimum is from mean and minimum."""
    scores, share = groups.scores, channel_shares(groups.where, weights)
    mean, counted = dot(share, scores), share > 0
    value = soft_minimum(scores, groups.where, risk_coef, weights)
    low = minimum(scores, counted)
    return {
        "minima": channel_shares(counted & (scores <= (low + RESIDUE)[..., None])),
        "spread": np.sqrt(dot(share, (scores - mean[..., None]) ** 2)),
        "to_mean": mean - value,
        "to_min": value - low,
    }


def _agreement(groups: Groups) -> dict[str, np.ndarray]:
    """In how many completions two channels pull the same way, and the products of their scores."""
    counted = groups.where & groups.live[:, None, :]
    scores = np.where(counted, groups.scores, 0.0).reshape(-1, counted.shape[-1])
    above, below = (scores > 0).astype(np.float32), (scores < 0).astype(np.float32)
    present = counted.reshape(scores.shape).astype(np.float32)
    opposite = above.T @ below
    return {
        "opposite": opposite + opposite.T,
        "both": present.T @ present,
        "products": scores.T @ scores,
    }


def failure_gaps(
    advantages: Mapping[str, np.ndarray], met: np.ndarray, where: np.ndarray, group: np.ndarray
) -> dict[str, np.ndarray]:
    """How much better each rule pays for failing a channel than for meeting it, in each group.

    Args:
      advantages: ``[N]`` by rule. A completion that one of them is silent about, as a log may be,
        counts for none.
      met: ``[N, M]`` bool, scored and met.
      where: ``[N, M]`` bool, scored.
      group: ``[N]`` int, dense.

    Returns:
      ``[num_groups, M]`` float32 by rule: the mean advantage of those that fail less that of those
      that meet the channel; NaN where a group lacks either.
    """
    size = int(group.max()) + 1
    known = np.isfinite(list(advantages.values())).all(axis=0)
    gaps = {name: np.empty((size, where.shape[1]), np.float32) for name in advantages}
    for index in range(where.shape[1]):
        sides = (where[:, index] & ~met[:, index] & known, met[:, index] & known)
        rows = [np.flatnonzero(side) for side in sides]
        of_rows = [group[some] for some in rows]
        counts = [np.bincount(groups, minlength=size) for groups in of_rows]
        counts = [np.where(count > 0, count, np.nan) for count in counts]
        for name, values in advantages.items():
            failed, passed = (
                np.bincount(groups, values[some], size) / count
                for some, groups, count in zip(rows, of_rows, counts, strict=True)
            )
            gaps[name][:, index] = failed - passed
    return gaps
