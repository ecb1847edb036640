"""Totals of a replayed log as tables: the numbers of an audit.

``N`` completions, ``M`` channels, ``R`` rules. Every function returns what JSON can hold.
"""

import math
from typing import Any

import numpy as np

from .estimates import mean, p_above, proportion, share_above
from .formulas import mean_of_scores
from .replay import Replay, within_groups

EDGES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
DEAD_FAIL_TOLERANCE = 0.2
SCATTER_POINTS = 1500


def number(value: Any) -> float | None:
    """A float for JSON: None for what is not finite."""
    value = float(value)
    return value if math.isfinite(value) else None


def judged_channels(played: Replay) -> list[int]:
    """Channels whose failure counts as one: the declared constraints, else all channels."""
    constraints = [i for i, c in enumerate(played.log.channels) if c.kind == "constraint"]
    return constraints or list(range(len(played.log.channels)))


def paid_channels(played: Replay) -> list[int]:
    """Judged channels whose failure the rule in use pays for on average: their gap is above 0."""
    gaps = played.gaps[played.rules[0].name]
    known = np.isfinite(gaps)
    total = np.where(known, gaps, 0.0).sum(0, dtype=np.float64)
    return [index for index in judged_channels(played) if total[index] > 0]


def fails_any(played: Replay) -> np.ndarray:
    """``[N]`` bool: fails at least one of the judged channels."""
    judged = judged_channels(played)
    return np.any(played.where[:, judged] & ~played.met[:, judged], axis=-1)


def channel_table(played: Replay) -> list[dict[str, Any]]:
    """Declaration, mean and pass rate of each channel.

    Args:
      played: the replay.

    Returns:
      One row per channel.
    """
    log = played.log
    rows = []
    for index, channel in enumerate(log.channels):
        scored = played.where[:, index]
        values = log.rewards[scored, index]
        rows.append(
            {
                "name": channel.name,
                "kind": channel.kind,
                "low": channel.low,
                "high": channel.high,
                "pass_at": channel.pass_at,
                "scored": int(scored.sum()),
                "mean": number(values.mean(dtype=np.float64)) if len(values) else None,
                "pass_rate": proportion(
                    played.group_met[:, index], played.group_scored[:, index], played.group_prompt
                ).plain(),
                "assumed_pass": channel.name in log.assumed_pass,
            }
        )
    return rows


def joint_pass_rate(played: Replay) -> dict[str, Any]:
    """Share of completions that meet every channel that scored them, an estimate."""
    scored = played.scored_any
    return proportion(
        np.all(played.met | ~played.where, -1) & scored, scored, played.log.prompt
    ).plain()


def quiet_failure_table(played: Replay) -> list[dict[str, Any]]:
    """Failures that are reinforced, per channel and rule.

    Args:
      played: the replay.

    Returns:
      One row per channel and rule: counts, shares of the scored completions and of the failures,
      and the failure gap with its one-sided p-value.
    """
    prompt, rows = played.group_prompt, []
    counts = {rule.name: _known_counts(played, rule.name) for rule in played.rules}
    for index, channel in enumerate(played.log.channels):
        for rule in played.rules:
            scored, failed = (count[:, index] for count in counts[rule.name])
            quiet = played.group_quiet[rule.name][:, index]
            gap = played.gaps[rule.name][:, index]
            gap_estimate = mean(gap, np.isfinite(gap), prompt)
            rows.append(
                {
                    "channel": channel.name,
                    "kind": channel.kind,
                    "rule": rule.name,
                    "count": int(quiet.sum()),
                    "failures": int(failed.sum()),
                    "scored": int(scored.sum()),
                    "rate": proportion(quiet, scored, prompt).plain(),
                    "of_failures": proportion(quiet, failed, prompt).plain(),
                    "gap": gap_estimate.plain(),
                    "groups": int(np.isfinite(gap).sum()),
                    "p_value": number(p_above(gap_estimate)),
                }
            )
    return rows


def _known_counts(played: Replay, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """``[num_groups, M]`` completions with an advantage that are scored, and that fail."""
    known = np.isfinite(played.advantages[rule])[:, None]
    if known.all():
        return played.group_scored, played.group_scored - played.group_met
    scored, met = (played.in_groups(which & known) for which in (played.where, played.met))
    return scored, scored - met


def dead_table(played: Replay) -> list[dict[str, Any]]:
    """Groups in which a channel says nothing, per channel.

    Args:
      played: the replay.

    Returns:
      One row per channel; ``p_value`` is that of "at most a fifth of the groups are dead-fail",
      with the prompt as the independent unit.
    """
    prompt, rows = played.group_prompt, []
    for index, channel in enumerate(played.log.channels):
        status = played.status[:, index]
        present, failed = status > 0, status == 3
        total = np.bincount(prompt, present)
        shares = np.bincount(prompt, failed, len(total))[total > 0] / total[total > 0]
        rows.append(
            {
                "channel": channel.name,
                "groups": int(present.sum()),
                "live": int((status == 1).sum()),
                "dead_pass": int((status == 2).sum()),
                "dead_fail": int(failed.sum()),
                "dead_fail_share": proportion(failed, present, prompt).plain(),
                "p_value": number(share_above(shares, DEAD_FAIL_TOLERANCE)),
            }
        )
    return rows


def bottleneck_table(played: Replay) -> dict[str, Any]:
    """Which channel decides: share of minima, mean weights, effective number of channels."""
    usable = played.usable
    count = max(int(usable.sum()), 1)
    sums = played.sum_weights[usable].sum(0, dtype=np.float64)
    squares = _within_squares(played)
    channels = [
        {
            "channel": channel.name,
            "minima_share": float(played.minima[usable, index].sum(dtype=np.float64) / count),
            "weight": float(played.weights[usable, index].sum(dtype=np.float64) / count),
            "weight_grpo": number(sums[index] / sums.sum()) if sums.sum() > 0 else None,
            "variance_share": number(squares[index] / squares.sum()) if squares.any() else None,
        }
        for index, channel in enumerate(played.log.channels)
    ]
    effective = played.quantities["effective"][usable]
    return {
        "channels": channels,
        "effective_channels": number(effective.mean(dtype=np.float64)) if len(effective) else None,
    }


def _within_squares(played: Replay) -> np.ndarray:
    """``[M]`` squared deviations of the raw rewards from the mean of their group, added up."""
    counted = (played.where & played.usable[:, None]).T
    columns = zip(played.log.rewards.T, counted, strict=True)
    return np.array([np.sum(within_groups(x, w, played.log.group) ** 2) for x, w in columns])


def signal_table(played: Replay) -> dict[str, Any]:
    """In how many groups at least one channel varies: the others teach nothing.

    Args:
      played: the replay.

    Returns:
      ``groups`` of two or more completions, ``live`` ones among them, and their ``share``, an
      estimate.
    """
    present = np.bincount(played.log.group, played.usable, len(played.status)) > 1
    live = present & np.any(played.status == 1, axis=-1)
    return {
        "groups": int(present.sum()),
        "live": int(live.sum()),
        "share": proportion(live, present, played.group_prompt).plain(),
    }


def between_channels(played: Replay) -> dict[str, list[list[float | None]]]:
    """Conditional pass rates, correlations and conflicts: ``[M][M]`` lists.

    Args:
      played: the replay.

    Returns:
      ``conditional[i][j]`` = P(i met | j met) over completions that both scored;
      ``correlation``, pooled within groups; ``conflict``, the share of completions whose two
      scores have opposite signs where both channels are live.
    """
    met, where = played.met.astype(np.float32), played.where.astype(np.float32)
    # float32 counts are exact up to 2^24; float64 beyond that.
    exact = np.float64 if len(met) > 2**24 else np.float32
    both_met = met.T.astype(exact) @ met.astype(exact)
    given = where.T.astype(exact) @ met.astype(exact)  # i scored and j met
    products, pairs = played.agreement["products"], played.agreement["both"]
    scale = np.sqrt(np.outer(np.diag(products), np.diag(products)))

    def matrix(numerator: np.ndarray, denominator: np.ndarray) -> list[list[float | None]]:
        return [
            [float(n / d) if d > 0 else None for n, d in zip(ns, ds, strict=True)]
            for ns, ds in zip(numerator, denominator, strict=True)
        ]

    return {
        "conditional": matrix(both_met, given),
        "correlation": matrix(products, np.where(pairs > 0, scale, 0.0)),
        "conflict": matrix(played.agreement["opposite"], pairs),
    }


def level_table(played: Replay) -> dict[str, Any]:
    """Where the soft minimum's weight goes, by the group's pass rate of the channel.

    Args:
      played: the replay.

    Returns:
      ``edges`` of the pass rate; ``cells``: per channel and interval the number of groups and the
      mean weight of failing and of passing completions, beside the even share 1/M;
      ``favours``: a sentence.
    """
    usable = played.usable[:, None]
    passing, failing = (
        (played.in_groups(played.weights * which), played.in_groups(which))
        for which in (played.met & usable, played.where & ~played.met & usable)
    )
    share = played.where * usable / np.maximum(played.where.sum(-1, keepdims=True), 1)
    even = played.in_groups(share)
    rate = played.group_met / np.maximum(played.group_scored, 1)
    place = np.minimum(np.searchsorted(EDGES, rate, side="right") - 1, len(EDGES) - 2)
    cells: list[dict[str, Any]] = []
    pooled = {"easy": [0.0, 0.0], "hard": [0.0, 0.0]}
    for index, channel in enumerate(played.log.channels):
        present = played.group_scored[:, index] > 0
        for at in range(len(EDGES) - 1):
            there = present & (place[:, index] == at)
            (passed, num_passed), (failed, num_failed), (equal,) = (
                [values[there, index].sum() for values in of] for of in (passing, failing, (even,))
            )
            cells.append(
                {
                    "channel": channel.name,
                    "low": EDGES[at],
                    "high": EDGES[at + 1],
                    "groups": int(there.sum()),
                    "weight_failing": _quotient(failed, num_failed),
                    "weight_passing": _quotient(passed, num_passed),
                    "weight_even": _quotient(equal, num_passed + num_failed),
                }
            )
        live = played.status[:, index] == 1
        for kind, ends in (("easy", rate >= 0.75), ("hard", rate <= 0.25)):
            chosen = live & ends[:, index]
            pooled[kind][0] += float((passing[0] + failing[0])[chosen, index].sum())
            pooled[kind][1] += float(even[chosen, index].sum())
    return {"edges": list(EDGES), "cells": cells, "favours": _favours(pooled)}


def _favours(pooled: dict[str, list[float]]) -> str:
    ratio = {kind: total / even if even else None for kind, (total, even) in pooled.items()}
    easy, hard = ratio["easy"], ratio["hard"]
    if easy is None or hard is None:
        return "No channels are live at both ends: easy (pass rate >= 75 %) and hard (<= 25 %)."
    if abs(easy - hard) < 0.05:
        return (
            f"Easy and hard channels weigh the same ({easy:.2f} and {hard:.2f} of an even share)."
        )
    more, less = ("easy", "hard") if easy > hard else ("hard", "easy")
    return (
        f"The soft minimum gives {more} channels more weight than {less} ones: "
        f"{max(easy, hard):.2f} "
        f"against {min(easy, hard):.2f} of an even share"
        + (
            "; it punishes rare failures of easy channels more than it seeks successes of hard "
            "ones."
            if more == "easy"
            else "."
        )
    )


def _quotient(total: float, count: int) -> float | None:
    return float(total / count) if count else None


def _mean(values: np.ndarray, where: np.ndarray) -> float | None:
    return float(values[where].mean(dtype=np.float64)) if where.any() else None


def spread_table(played: Replay, risk_coef: float) -> dict[str, Any]:
    """k times the spread between channels, and where the soft minimum lies between mean and min.

    Args:
      played: the replay.
      risk_coef: k, 1/score.

    Returns:
      ``k_spread``, ``to_mean``, ``to_min`` (means over completions) and ``position`` from 0 (it is
      the mean) to 1 (it is the minimum).
    """
    usable = played.usable
    spread, to_mean, to_min = (
        _mean(played.quantities[name], usable) or 0.0 for name in ("spread", "to_mean", "to_min")
    )
    whole = to_mean + to_min
    return {
        "k_spread": number(risk_coef * spread) if spread else 0.0,
        "to_mean": to_mean,
        "to_min": to_min,
        "position": to_mean / whole if whole > 0 else None,
    }


def flip_table(played: Replay) -> list[list[float]]:
    """``[R][R]``: share of completions whose advantage is positive under one rule alone."""
    signs = {rule.name: played.reinforced(rule.name) for rule in played.rules}
    count = max(int(played.usable.sum()), 1)
    return [
        [
            float(np.sum((signs[a.name] != signs[b.name]) & played.usable) / count)
            for b in played.rules
        ]
        for a in played.rules
    ]


def compensation_table(played: Replay) -> list[dict[str, Any]]:
    """Of the completions that fail a judged channel, the share that each rule reinforces."""
    failing = fails_any(played)
    return [
        {
            "rule": rule.name,
            "rate": proportion(
                failing & played.reinforced(rule.name),
                failing & np.isfinite(played.advantages[rule.name]),
                played.log.prompt,
            ).plain(),
        }
        for rule in played.rules
    ]


def scatter(played: Replay, rule: str, rows: np.ndarray) -> dict[str, Any]:
    """Mean score against advantage of some completions.

    Args:
      played: the replay.
      rule: name of the rule in use.
      rows: numbers of the completions to show.

    Returns:
      The report's ``scatter``.
    """
    level = mean_of_scores(played.scores[rows], played.where[rows], played.log.weights)
    return {
        "x": level.astype(float).tolist(),
        "y": played.advantages[rule][rows].astype(float).tolist(),
        "failed": fails_any(played)[rows].tolist(),
        "x_label": "mean score over channels",
        "y_label": "advantage",
    }
