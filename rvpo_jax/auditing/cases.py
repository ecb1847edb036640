"""Which completions a report shows, and what their what-if needs.

``N`` completions, ``M`` channels, ``G`` completions of a group.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .replay import Replay, whitening_statistics
from .rules import Rule
from .sweep import K_GRID, soft_minima_over_k
from .tables import judged_channels, number

MAX_CASES = 60
PER_REASON = {"quiet": 36, "flip": 14, "pushed_down": 5, "dead_fail": 5}
MAX_TEXT = 4000
FIRST = 3  # cases of each channel in focus come before all others


def select_cases(
    played: Replay, rule: str, other: str, focus: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[int, str]]:
    """Rows to show and why, at most ``MAX_CASES``, at most two of a group and reason.

    Args:
      played: the replay.
      rule: the rule in use.
      other: the rule to compare with.
      focus: channels whose cases come first, with why and of which slice (``focus_channels``).

    Returns:
      (row, reason) pairs: failures of the channels in focus; the most reinforced failures of each
      judged channel; the largest sign flips between the two rules; completions that meet
      everything and are pushed down; failures that no rule can see.
    """
    chosen: dict[int, str] = {}
    used, compared = (
        np.where(np.isfinite(played.advantages[name]), played.advantages[name], 0.0)
        for name in (rule, other)
    )
    names = [channel.name for channel in played.log.channels]
    for place in focus:
        _add_focus(played, used, rule, place, chosen)
    judged = judged_channels(played)
    each = max(PER_REASON["quiet"] // len(judged), 2)
    quiet_left = PER_REASON["quiet"]
    for index in judged:
        failed = _failed(played, index) & played.reinforced(rule)
        rows = _top(played, used, failed, min(each, quiet_left), chosen)
        quiet_left -= len(rows)
        chosen |= dict.fromkeys(rows, f"fails {names[index]} and is reinforced")
    flips = (played.reinforced(rule) != played.reinforced(other)) & played.usable
    for row in _top(played, np.abs(used - compared), flips, PER_REASON["flip"], chosen):
        chosen[row] = f"{rule} and {other} disagree about its sign"
    fine = played.scored_any & np.all(played.met | ~played.where, -1) & played.usable
    for row in _top(played, -used, fine & (used < 0), PER_REASON["pushed_down"], chosen):
        chosen[row] = "meets every channel and is pushed down"
    blind = (played.status == 3)[played.log.group] & ~played.met & played.where
    for row in _top(played, used, blind.any(-1), PER_REASON["dead_fail"], chosen):
        chosen[row] = _unseen(names[int(np.argmax(blind[row]))])
    return list(chosen.items())[:MAX_CASES]


def _add_focus(
    played: Replay, used: np.ndarray, rule: str, place: Mapping[str, Any], chosen: dict[int, str]
) -> None:
    """The first cases of a channel: what its alarm is about, else what fails it; one of a group."""
    log, name, where = played.log, place["channel"], place["slice"]
    index = [channel.name for channel in log.channels].index(name)
    failed, of_slice = _failed(played, index), ""
    if where is not None and log.slices is not None:
        failed, of_slice = failed & (log.slices == log.slice_names.index(where)), f" (in {where})"
    blind = failed & (played.status[:, index] == 3)[log.group]
    kinds = [
        (blind, _unseen(name)),
        (failed & played.reinforced(rule), f"fails {name} and is reinforced"),
        (failed, f"fails {name}"),
    ]
    left = FIRST
    for rows_of_kind, reason in kinds if place["why"] == "dead_fail" else kinds[1:]:
        rows = _top(played, used, rows_of_kind, left, chosen, per_group=1)
        chosen |= dict.fromkeys(rows, reason + of_slice)
        left -= len(rows)


def _failed(played: Replay, index: int) -> np.ndarray:
    return played.where[:, index] & ~played.met[:, index] & played.usable


def _unseen(name: str) -> str:
    return f"all of its group fail {name}: no group-relative rule sees it"


def _top(
    played: Replay,
    values: np.ndarray,
    where: np.ndarray,
    num: int,
    taken: dict[int, str],
    per_group: int = 2,
) -> list[int]:
    """Rows with the largest values, at most so many of a group."""
    rows = np.flatnonzero(where)
    rows = rows[np.argsort(-values[rows], kind="stable")]
    found: list[int] = []
    of_group: dict[int, int] = {}
    for row in rows[: 50 * MAX_CASES].tolist():
        group = int(played.log.group[row])
        if len(found) < num and row not in taken and of_group.get(group, 0) < per_group:
            found.append(row)
            of_group[group] = of_group.get(group, 0) + 1
    return found


def describe_cases(
    played: Replay, chosen: list[tuple[int, str]], *, redact: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The cases with all their numbers and texts, and the whitening statistics of their batches.

    Args:
      played: the replay.
      chosen: of ``select_cases``.
      redact: leave the texts out.

    Returns:
      The report's ``cases`` and ``batches``.
    """
    log, rows = played.log, [row for row, _ in chosen]
    texts = [(None, None)] * len(rows) if redact else log.read_texts(rows)
    batches = sorted({int(played.batch[row]) for row in rows})
    names = [channel.name for channel in log.channels]
    order = np.argsort(log.group, kind="stable")
    starts = np.searchsorted(log.group[order], np.arange(int(log.group.max()) + 2))
    cases = []
    for (row, why), (prompt, completion) in zip(chosen, texts, strict=True):
        group = int(log.group[row])
        members = np.sort(order[starts[group] : starts[group + 1]])
        prompt, prompt_cut = _cut(prompt)
        completion, cut = _cut(completion)
        cases.append(
            {
                "row": row,
                "step": None if log.step is None else int(log.step[row]),
                "group": group,
                "index": int(np.searchsorted(members, row)),
                "prompt": prompt,
                "prompt_cut": prompt_cut,
                "completion": completion,
                "cut": cut,
                "failed": [
                    name
                    for i, name in enumerate(names)
                    if played.where[row, i] and not played.met[row, i]
                ],
                "why": why,
                "rewards": _values(log.rewards[row]),
                "scores": played.scores[row].astype(float).tolist(),
                "weights": played.weights[row].astype(float).tolist(),
                "advantages": {name: number(a[row]) for name, a in played.advantages.items()},
                "group_rewards": [_values(values) for values in log.rewards[members]],
                "batch": batches.index(int(played.batch[row])),
            }
        )
    return cases, whitening_grid(played, batches)


def _values(values: np.ndarray) -> list[float | None]:
    return [number(value) for value in values]


def _cut(text: str | None) -> tuple[str | None, int]:
    """The first characters of a text, and how many are left out."""
    if text is None:
        return None, 0
    return text[:MAX_TEXT], max(len(text) - MAX_TEXT, 0)


def whitening_grid(played: Replay, batches: list[int]) -> list[dict[str, Any]]:
    """Mean and standard deviation of the aggregates of some batches, over a grid of k.

    Args:
      played: the replay.
      batches: dense ids.

    Returns:
      One entry per batch: ``k`` (the last is "inf"), and ``mean`` and ``std`` over k for ``rvpo``;
      single numbers for ``gdpo`` (k = 0), ``hard_min`` (k = inf) and ``grpo`` (not whitened: 0, 1).
    """
    rows = np.flatnonzero(np.isin(played.batch, batches) & played.usable)
    if not len(rows):
        return [_grid_entry(np.zeros(len(K_GRID)), np.ones(len(K_GRID)))] * len(batches)
    place = np.searchsorted(batches, played.batch[rows])
    means, stds = np.zeros((2, len(K_GRID), len(batches)))
    for index, aggregate in enumerate(soft_minima_over_k(played, rows)):
        mean, std = whitening_statistics(aggregate, np.ones(len(rows), bool), place)
        means[index, : len(mean)], stds[index, : len(std)] = mean, std
    return [_grid_entry(means[:, i], stds[:, i]) for i in range(len(batches))]


def _grid_entry(mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    entry: dict[str, Any] = {"k": [*K_GRID[:-1], "inf"]}
    entry["rvpo"] = {"mean": mean.tolist(), "std": std.tolist()}
    for name, at in (("gdpo", 0), ("hard_min", -1)):
        entry[name] = {"mean": float(mean[at]), "std": float(std[at])}
    return entry | {"grpo": {"mean": 0.0, "std": 1.0}}


def scatter_rows(played: Replay, rule: str, num: int) -> np.ndarray:
    """At most ``num`` rows, evenly spread over the log, that the rule has an advantage for."""
    rows = np.flatnonzero(np.isfinite(played.advantages[rule]) & played.usable)
    if len(rows) <= num:
        return rows
    return rows[np.linspace(0, len(rows) - 1, num).astype(int)]


def other_rule(rules: tuple[Rule, ...]) -> str:
    """The rule that the one in use is compared with: the first soft minimum."""
    return next(rule.name for rule in rules if rule.method == "rvpo")
