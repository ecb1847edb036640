"""What changes over the steps of a log: pass rates, neglect, channels that take turns at failing.

``N`` completions, ``M`` channels, ``W`` windows: runs of consecutive steps.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..basics.distributions import t_quantile
from ..basics.intervals import CONFIDENCE, wilson_interval
from .autocorrelation import TrendTest, contrast_error, trend_test
from .estimates import Estimate, difference, holm, mean, p_above, proportion
from .late import late_fall
from .replay import Replay

MAX_WINDOWS = 60
MIN_WINDOWS = 6  # a trend test of fewer points can hardly reject
# A window's leader counts only where it leads by so many standard errors: with p < 2e-5 a window,
# four such windows with alternating leaders do not happen by chance (at 60 windows and 36 pairs of
# channels the probability is below 1e-9).
REVERSAL_P = 2e-5
REVERSALS = 3
REVERSAL_WINDOWS = (12, 24, MAX_WINDOWS, 1000)  # slow turns show in long windows, fast in short


def windows_of(batch: np.ndarray, max_windows: int = MAX_WINDOWS) -> np.ndarray:
    """Cuts consecutive steps into windows of about equally many steps.

    Args:
      batch: ``[N]`` int, dense index of the step.
      max_windows: at most so many.

    Returns:
      ``[N]`` int, the window of each row, dense from 0.

    >>> windows_of(np.array([0, 0, 1, 2, 3]), 2).tolist()
    [0, 0, 0, 1, 1]
    """
    num_batches = int(batch.max()) + 1
    return batch * min(num_batches, max_windows) // num_batches


def trajectory(played: Replay, rules: Sequence[str]) -> dict[str, Any] | None:
    """Pass rates, weights and quiet failures over the windows of a log.

    Args:
      played: the replay.
      rules: names of the rules whose quiet failures are followed.

    Returns:
      The report's ``trajectory``; None for a log of one step or none.
    """
    log = played.log
    if log.step is None or int(played.batch.max()) < 1:
        return None
    window = windows_of(played.batch)
    size = int(window.max()) + 1
    first = np.full(size, np.iinfo(np.int64).max)
    last = np.full(size, np.iinfo(np.int64).min)
    np.minimum.at(first, window, log.step)
    np.maximum.at(last, window, log.step)
    names = [channel.name for channel in log.channels]
    joint = played.in_groups(np.all(played.met | ~played.where, -1) & played.scored_any)
    of_group = windows_of(played.group_batch)
    rates = {
        name: _rates(played.group_met[:, i], played.group_scored[:, i], of_group)
        for i, name in enumerate(names)
    }
    usable = np.bincount(window, played.usable, size)
    weights = played.in_groups(played.weights * played.usable[:, None])
    judged = played.in_groups(played.where & played.usable[:, None])
    quiet = {
        name: {
            rule: _plain(
                np.bincount(of_group, played.group_quiet[rule][:, index], size),
                np.bincount(of_group, judged[:, index], size),
            )
            for rule in rules
        }
        for index, name in enumerate(names)
    }
    return {
        "steps": np.stack([first, last], -1).tolist(),
        "step": ((first + last) / 2).tolist(),
        "pass_rate": rates,
        "joint": _rates(joint, played.in_groups(played.scored_any), of_group),
        "weight": {
            name: _plain(np.bincount(of_group, weights[:, i], size), usable)
            for i, name in enumerate(names)
        },
        "quiet": quiet,
    }


def _plain(numerator: np.ndarray, denominator: np.ndarray) -> list[float | None]:
    return [float(n / d) if d else None for n, d in zip(numerator, denominator, strict=True)]


def _rates(
    passed: np.ndarray, counted: np.ndarray, window: np.ndarray
) -> dict[str, list[float | None]]:
    """Pass rate of each window with its interval, from the sums of its groups, the clusters."""
    size = int(window.max()) + 1
    total = np.bincount(window, counted, size)
    used = counted > 0
    clusters = np.bincount(window, used, size)
    rate = np.bincount(window, passed, size) / np.maximum(total, 1)
    residual = np.where(used, passed - rate[window] * counted, 0.0)
    variance = np.bincount(window, residual**2, size)
    variance *= clusters / np.maximum(clusters - 1, 1) / np.maximum(total, 1) ** 2
    result: dict[str, list[float | None]] = {"rate": [], "low": [], "high": []}
    for r, v, n, k in zip(rate, variance, total, clusters, strict=True):
        if not n:
            low = high = r = None
        else:
            size_eff = n if k < 2 else min(r * (1 - r) / v, n) if v > 0 else k
            z = t_quantile(0.975, k - 1) if k > 1 else 1.96
            low, high = wilson_interval(float(r), float(size_eff), float(z))
        for key, value in (("rate", r), ("low", low), ("high", high)):
            result[key].append(None if value is None else float(value))
    return result


def neglect(played: Replay) -> list[dict[str, Any]]:
    """How each channel's pass rate moved from the first to the last third of the steps.

    Args:
      played: the replay.

    Returns:
      One row per channel: ``first``, ``last``, ``change`` (estimates), ``returns`` (whether prompts
      come back, and were compared with themselves), their ``own_change`` (an estimate, or None),
      one-sided p-values ``p_fall`` and ``p_rise``, None where there are too few windows, ``late``:
      see ``late_fall``, and ``gain_share``: the channel's part of the summed gain in mean reward on
      the scale of its range. Empty without steps.
    """
    log = played.log
    if log.step is None or int(played.batch.max()) < 1:
        return []
    third = windows_of(played.group_batch, 3)
    ends = (third == 0, third == int(third.max()))
    totals = played.in_groups(np.where(played.where, log.rewards, 0))
    every, window = np.arange(len(third)), windows_of(played.group_batch)
    gains = []
    rows: list[dict[str, Any]] = []
    for index, channel in enumerate(log.channels):
        scored, met = played.group_scored[:, index], played.group_met[:, index]
        start, end = (proportion(met * part, scored * part, every) for part in ends)
        first, final = (_quotient(totals[part, index].sum(), scored[part].sum()) for part in ends)
        gains.append((final - first) / (channel.high - channel.low))
        change = difference(start, end)
        row: dict[str, Any] = {"channel": channel.name, "first": start.plain(), "last": end.plain()}
        row["late"] = late_fall(met, scored, window)
        rows.append(row | _trend(played, met, scored, change))
    total = sum(gain for gain in gains if math.isfinite(gain))
    for row, gain in zip(rows, gains, strict=True):
        known = math.isfinite(gain) and abs(total) > 1e-9
        row["gain_share"] = gain / total if known else None
    return rows


def _quotient(total: float, count: float) -> float:
    return float(total / count) if count else math.nan


def outcome_trend(played: Replay) -> dict[str, Any] | None:
    """How what the rewards stand for moved, and how the rewards themselves did.

    Args:
      played: the replay.

    Returns:
      ``name``, ``first``, ``last`` and ``change`` of the outcome on a scale from its least to its
      largest value, ``returns``, ``own_change``, ``p_fall``, ``p_rise`` as of a channel, and
      ``rewards``: the change of the mean reward, channels on the scale of their ranges. None
      without an outcome or steps.
    """
    log = played.log
    if log.outcome is None or log.step is None or int(played.batch.max()) < 1:
        return None
    known = np.isfinite(log.outcome)
    low, high = float(np.nanmin(log.outcome)), float(np.nanmax(log.outcome))
    values = np.where(known, (log.outcome - low) / max(high - low, 1e-30), 0.0)
    third = windows_of(played.batch, 3)
    ends = (third == 0, third == int(third.max()))
    start, end = (mean(values, known & part, log.group) for part in ends)
    ranges = np.array([[channel.low, channel.high] for channel in log.channels])
    scaled = (np.where(played.where, log.rewards, 0) - ranges[:, 0]) / np.ptp(ranges, axis=1)
    total = np.where(played.where, scaled, 0).sum(-1) / np.maximum(played.where.sum(-1), 1)
    some = played.scored_any
    before, after = (_quotient(total[some & part].sum(), (some & part).sum()) for part in ends)
    row = {"first": start.plain(), "last": end.plain(), "rewards": after - before}
    sums = played.in_groups(values), played.in_groups(known)
    return row | _trend(played, *sums, difference(start, end))


def _trend(played: Replay, met: np.ndarray, scored: np.ndarray, change: Estimate) -> dict[str, Any]:
    """A change with an interval for steps that wander, and tests of a trend; sums of groups in."""
    window = windows_of(played.group_batch)
    counted = np.bincount(window, scored)
    series = np.bincount(window, met, len(counted))[counted > 0] / counted[counted > 0]
    row: dict[str, Any] = {"change": change.plain(), "returns": False, "own_change": None}
    if len(series) < MIN_WINDOWS:
        return row | {"p_fall": None, "p_rise": None}
    test, third = trend_test(series), len(series) // 3
    thirds = np.zeros(len(series))
    thirds[:third], thirds[-third:] = -1 / third, 1 / third
    error = contrast_error(test, thirds)
    if error > change.se:
        row["change"] = _interval(change.value, error, len(series)).plain()
    # The windows that the channel scored, counted from 0.
    dense = (np.cumsum(counted > 0) - 1)[window]
    own = _against_oneself(played.group_prompt, met, scored, dense, test)
    if own is None:
        return row | {"p_fall": test.p_fall, "p_rise": test.p_rise}
    row |= {"returns": True, "own_change": own.plain()}
    return row | {"p_fall": p_above(_negated(own)), "p_rise": p_above(own)}


def _against_oneself(
    prompt: np.ndarray, met: np.ndarray, scored: np.ndarray, window: np.ndarray, test: TrendTest
) -> Estimate | None:
    """What a prompt that comes back is met more often from the first third to the last.

    The slope over the windows of all completions, each prompt at a level of its own, so that
    prompts which are drawn later and are harder count for nothing. Its error has two parts: that of
    prompts, and that of windows that wander. None where less than half of the completions are of
    prompts that come back in another window. Sums over groups come in, whose window is one.
    """
    count = np.bincount(prompt, scored)
    center = np.bincount(prompt, scored * window) / np.maximum(count, 1)
    time = window - center[prompt]
    squares = np.bincount(prompt, scored * time**2)
    total = float(squares.sum())
    if 2 * count[squares > 0].sum() < count.sum() or not total > 0:
        return None
    slope = float(time @ met) / total
    level = np.bincount(prompt, met) / np.maximum(count, 1)
    residual = met - scored * (level[prompt] + slope * time)
    clusters, num = np.bincount(prompt, time * residual), int(np.count_nonzero(count))
    of_prompts = math.sqrt(num / max(num - 1, 1) * np.sum(clusters**2)) / total
    size = int(window[scored > 0].max()) + 1
    of_windows = contrast_error(test, np.bincount(window, scored * time, size)[:size] / total)
    span = 2 / 3 * size
    return _interval(span * slope, span * math.hypot(of_prompts, of_windows), size)


def _interval(value: float, error: float, size: int) -> Estimate:
    """An estimate from so many windows."""
    half = error * t_quantile((1 + CONFIDENCE) / 2, size - 2)
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Estimate(value=value, low=low, high=high, n=size - 1, se=error)


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(
        value=-estimate.value, low=-estimate.high, high=-estimate.low, n=estimate.n, se=estimate.se
    )


def switching(played: Replay) -> dict[str, Any]:
    """How often the bottleneck of a prompt is another channel than at its last visit.

    The bottleneck of a group is the channel with the largest mean soft-min weight. Where prompts
    do not come back, the bottlenecks of consecutive steps are compared.

    Args:
      played: the replay.

    Returns:
      ``switch_rate`` (estimate), ``switch_chance`` (what independent draws with the same
      frequencies would give) and ``switch_unit``: visits, steps or None.
    """
    num_groups = int(played.log.group.max()) + 1
    decided = played.usable
    weight = _group_means(played.weights, played.log.group, decided, num_groups)
    valid = np.bincount(played.log.group, decided, num_groups) > 0
    leader = np.argmax(weight, -1)
    prompt, batch = played.group_prompt, played.group_batch
    order = np.lexsort((batch, prompt))
    order = order[valid[order]]
    again = (prompt[order][1:] == prompt[order][:-1]) & (batch[order][1:] > batch[order][:-1])
    unit: str | None = "visits"
    if again.sum() >= 10:
        previous, current = leader[order][:-1][again], leader[order][1:][again]
        cluster = prompt[order][1:][again]
    else:
        size = int(played.batch.max()) + 1
        per_step = _group_means(played.weights, played.batch, decided, size)
        leaders = np.argmax(per_step, -1)
        previous, current = leaders[:-1], leaders[1:]
        cluster = np.arange(len(current))
        unit = "steps" if len(current) else None
    rate = proportion((previous != current) * 1.0, np.ones(len(current)), cluster)
    share = np.bincount(current, minlength=1) / max(len(current), 1)
    chance = float(1 - np.sum(share**2)) if len(current) else None
    return {"switch_rate": rate.plain(), "switch_chance": chance, "switch_unit": unit}


def reversals(played: Replay) -> list[dict[str, Any]]:
    """Pairs of channels that take turns at being the worse one: the oscillation of high k.

    In each window the pass rates of the two channels are compared over its groups (paired t test).
    Windows without a clear difference are skipped; a reversal is a clear window in which the other
    channel is the worse one. Looked at with windows of several lengths.
    Weights would not show it: scores have mean 0 in every group, whatever a channel's level.

    Args:
      played: the replay.

    Returns:
      Pairs with at least ``REVERSALS`` reversals: ``channels``, ``count`` and ``steps`` (the first
      step after each reversal), most reversals first.
    """
    if played.log.step is None or int(played.batch.max()) < REVERSALS:
        return []
    counted = played.group_scored
    rate, present = played.group_met / np.maximum(counted, 1), counted > 0
    names = [channel.name for channel in played.log.channels]
    steps = np.unique(played.log.step)
    best: dict[tuple[int, int], tuple[int, float, list[int]]] = {}
    num_batches = len(steps)
    for size in {min(num_batches, windows) for windows in REVERSAL_WINDOWS}:
        window = windows_of(played.group_batch, size)
        first_batch = np.full(size, num_batches)
        np.minimum.at(first_batch, window, played.group_batch)
        for a in range(len(names)):
            for b in range(a + 1, len(names)):
                both = present[:, a] & present[:, b]
                gaps = (rate[:, a] - rate[:, b])[both]
                leads = _clear_leads(gaps, window[both], size)
                clear = np.flatnonzero(leads)
                turns = clear[1:][leads[clear][1:] != leads[clear][:-1]]
                at = [int(steps[first_batch[turn]]) for turn in turns]
                # Of pairs that turn equally often, the one whose leads are larger comes first.
                best[a, b] = max(
                    best.get((a, b), (0, 0.0, [])), (len(turns), float(np.abs(gaps).mean()), at)
                )
    ordered = sorted(best.items(), key=lambda item: item[1][:2], reverse=True)
    return [
        {"channels": [names[a], names[b]], "count": count, "steps": at[:50]}
        for (a, b), (count, _, at) in ordered
        if count >= REVERSALS
    ]


def _clear_leads(values: np.ndarray, window: np.ndarray, size: int) -> np.ndarray:
    """+1 or -1 in windows whose mean is clearly above or below 0, else 0."""
    count = np.bincount(window, minlength=size)
    mean = np.bincount(window, values, size) / np.maximum(count, 1)
    squares = np.bincount(window, (values - mean[window]) ** 2, size)
    se = np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1))
    enough = (count >= 4) & (se > 0)
    t = np.where(enough, mean / np.where(enough, se, 1.0), 0.0)
    sizes, place = np.unique(count, return_inverse=True)
    bounds = [t_quantile(1 - REVERSAL_P / 2, max(size - 1, 1)) for size in sizes.tolist()]
    return np.where(enough & (np.abs(t) > np.array(bounds)[place]), np.sign(t), 0.0).astype(int)


def _group_means(values: np.ndarray, group: np.ndarray, where: np.ndarray, size: int) -> np.ndarray:
    """``[size, M]`` means of ``[N, M]`` values."""
    count = np.maximum(np.bincount(group, where, size), 1)
    columns = [np.bincount(group, column * where, size) / count for column in values.T]
    return np.stack(columns, -1)


def rising_and_falling(rows: Sequence[dict[str, Any]], level: float) -> tuple[list[str], list[str]]:
    """Channels that rise and channels that fall, at a family-wise level.

    Args:
      rows: of ``neglect``.
      level: probability of naming any channel when none moves.

    Returns:
      Names of rising and of falling channels. A move of less than 2 points is not named.
    """
    p_values: dict[Any, float] = {}
    for row in rows:
        for way in ("p_rise", "p_fall"):
            p_values[row["channel"], way] = math.nan if row[way] is None else row[way]
    adjusted = holm(p_values)
    named: dict[str, list[str]] = {"p_rise": [], "p_fall": []}
    for (name, way), p in adjusted.items():
        change = next(row["change"]["value"] for row in rows if row["channel"] == name)
        if p < level and change is not None and abs(change) >= 0.02:
            named[way].append(name)
    return named["p_rise"], named["p_fall"]
