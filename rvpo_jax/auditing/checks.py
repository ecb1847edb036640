"""Checks that cost little: each looks for one thing that an average does not show, and names it.

They raise no alarm: what they find is worth a look and may be as it should be. How often each says
something of a log without it is measured in ``experiments/audit_logs``. ``N`` completions, ``M``
channels, ``W`` windows of steps.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..basics.intervals import percent
from ..basics.threshold import risk_coef_threshold
from .replay import Replay, within_groups
from .trends import MIN_WINDOWS, windows_of

TWINS = 0.98  # correlation from which two channels are one
MIN_GROUPS = 20  # with both channels live, for a correlation
FLIP = 0.1  # least correlation, of either sign, in the first and the last third
FLIP_ERRORS = 4.0  # standard errors that either is away from 0
JUMP_ERRORS = 8.0  # usual moves from window to window that a jump exceeds
JUMP_SPREAD = 0.5  # standard deviations within groups that the mean jumps by at least
JUMP_SCALE = 2.0  # factor of the scale
SOLVED = 0.95  # of the groups, met by all
LENGTH = 0.5  # correlation of length and advantage
RARE = 0.25  # of a group, up to which a success, or a failure, is rare
SPURIOUS = 0.05  # least correlation of rare successes and rare failures
SPURIOUS_ERRORS = 4.0  # standard errors that it is above 0
REPEATED = 0.1  # of all completions, one text
REPEATED_PROMPTS = 10  # that it answers at least
REPEATED_BYTES = 20  # that it has at least: a short one may be a label


def run_checks(played: Replay) -> list[dict[str, Any]]:
    """Everything that the checks find.

    Args:
      played: the replay.

    Returns:
      ``check`` (its name), ``channels`` and ``text`` of each finding.
    """
    return [finding for check in CHECKS for finding in check(played)]


def _finding(check: str, channels: list[str], text: str) -> dict[str, Any]:
    return {"check": check, "channels": channels, "text": text}


def _names(played: Replay) -> list[str]:
    return [channel.name for channel in played.log.channels]


def twins(played: Replay) -> list[dict[str, Any]]:
    """Pairs of channels that say the same.

    Args:
      played: the replay.

    Returns:
      One finding per pair.
    """
    names, products = _names(played), played.agreement["products"]
    scale = np.sqrt(np.outer(np.diag(products), np.diag(products)))
    live = (played.status == 1).astype(float)
    both = live.T @ live
    found = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            if both[a, b] >= MIN_GROUPS and products[a, b] > TWINS * scale[a, b] > 0:
                value = products[a, b] / scale[a, b]
                text = (
                    f"{names[a]} and {names[b]} say the same within groups (correlation "
                    f"{value:.3f}): together they count twice."
                )
                found.append(_finding("twins", [names[a], names[b]], text))
    return found


def flips(played: Replay) -> list[dict[str, Any]]:
    """Pairs of channels that agree at first and conflict in the end, or the other way round.

    Args:
      played: the replay.

    Returns:
      One finding per pair.
    """
    if played.log.step is None or int(played.batch.max()) < MIN_WINDOWS:
        return []
    names, size = _names(played), len(played.status)
    third = windows_of(played.group_batch, 3)
    scores = np.where(played.where & played.usable[:, None], played.scores, 0.0)
    count = np.bincount(played.log.group, played.usable, size)
    found = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            both = (played.status[:, a] == 1) & (played.status[:, b] == 1)
            total = np.bincount(played.log.group, scores[:, a] * scores[:, b], size)
            product = total / np.maximum(count - 1, 1)
            first, last = (_mean_error(product[both & (third == at)]) for at in (0, 2))
            if _opposite(first, last):
                text = (
                    f"{names[a]} and {names[b]} {'agreed' if first[0] > 0 else 'were in conflict'} "
                    f"at first and {'agree' if last[0] > 0 else 'are in conflict'} in the end "
                    f"(correlation {first[0]:+.2f}, then {last[0]:+.2f})."
                )
                found.append(_finding("flips", [names[a], names[b]], text))
    return found


def _mean_error(values: np.ndarray) -> tuple[float, float]:
    if len(values) < MIN_GROUPS:
        return 0.0, math.inf
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _opposite(first: tuple[float, float], last: tuple[float, float]) -> bool:
    clear = all(abs(mean) > max(FLIP, FLIP_ERRORS * error) for mean, error in (first, last))
    return clear and first[0] * last[0] < 0


def jumps(played: Replay) -> list[dict[str, Any]]:
    """Channels whose mean or scale changes from one window to the next, and stays so.

    Args:
      played: the replay.

    Returns:
      One finding per channel, of the larger of the two.
    """
    log = played.log
    if log.step is None or int(played.batch.max()) < 2 * MIN_WINDOWS:
        return []
    window = windows_of(played.batch)
    first_step = np.full(int(window.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_step, window, log.step)
    found = []
    for index, name in enumerate(_names(played)):
        scored = played.where[:, index] & played.usable
        mean, spread, seen = _moments(played, index, scored, window)
        if len(mean) < 2 * MIN_WINDOWS:
            continue
        steps = first_step[seen]
        # In a window in which nobody differs, as where all meet a mark, a channel has no scale.
        varies = spread > 0
        usual = float(np.median(spread[varies])) if varies.any() else 0.0
        of_scale = None
        if varies.sum() >= 2 * MIN_WINDOWS:
            of_scale = _jump(np.log(spread[varies]), math.log(JUMP_SCALE))
        of_mean = _jump(mean, JUMP_SPREAD * usual) if usual else None
        if of_scale is not None:
            at, size = of_scale
            text = (
                f"The scale of {name} changes at step {steps[varies][at]}, to "
                f"{math.exp(size):.3g} times what it was: has the reward been redefined?"
            )
            found.append(_finding("jumps", [name], text))
        elif of_mean is not None:
            at, size = of_mean
            text = (
                f"The mean of {name} jumps at step {steps[at]}, by {size:+.3g}: have the reward or "
                "the data been changed? A policy that learns or loses a thing at once looks alike."
            )
            found.append(_finding("jumps", [name], text))
    return found


def _moments(
    played: Replay, index: int, scored: np.ndarray, window: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of a channel and its standard deviation within groups, by window, and which windows."""
    group, values = played.log.group, np.where(scored, played.log.rewards[:, index], 0.0)
    squares = np.bincount(window, within_groups(values, scored, group) ** 2)
    of_group = np.zeros(len(played.status), np.int64)
    of_group[group] = window
    degrees = np.maximum(np.bincount(group, scored) - 1, 0)
    free = np.bincount(of_group, degrees, len(squares))
    counted = np.bincount(window, scored, len(squares))
    seen = np.flatnonzero((counted > 0) & (free > 0))
    mean = np.bincount(window, values, len(squares))[seen] / counted[seen]
    return mean, np.sqrt(squares[seen] / free[seen]), seen


def _jump(series: np.ndarray, least: float) -> tuple[int, float] | None:
    """Place and size of a jump that stays: three windows before and after differ by it."""
    moves = np.diff(series)
    usual = 1.4826 * float(np.median(np.abs(moves - np.median(moves))))
    at = int(np.argmax(np.abs(moves))) + 1
    before, after = series[max(at - 3, 0) : at], series[at : at + 3]
    if len(before) < 3 or len(after) < 3:
        return None
    size = float(after.mean() - before.mean())
    stays = size * moves[at - 1] > 0 and abs(size) > 0.7 * abs(moves[at - 1])
    if stays and abs(size) > max(least, JUMP_ERRORS * usual):
        return at, size
    return None


def saturated(played: Replay) -> list[dict[str, Any]]:
    """Channels that nearly all groups meet as a whole at the end, and did not at first.

    Args:
      played: the replay.

    Returns:
      One finding per channel.
    """
    if played.log.step is None or int(played.batch.max()) < MIN_WINDOWS:
        return []
    third = windows_of(played.group_batch, 3)
    found = []
    for index, name in enumerate(_names(played)):
        status = played.status[:, index]
        first, last = (status[(third == at) & (status > 0)] for at in (0, 2))
        if min(len(first), len(last)) < MIN_GROUPS:
            continue
        before, after = float(np.mean(first == 2)), float(np.mean(last == 2))
        if before < SOLVED <= after:
            text = (
                f"{name} is met by whole groups in {percent(after, unit=' %')} of the last third "
                f"({percent(before, unit=' %')} of the first): it teaches nothing more."
            )
            found.append(_finding("saturated", [name], text))
    return found


def lengths(played: Replay) -> list[dict[str, Any]]:
    """Whether length is what the rule in use pays for.

    Args:
      played: the replay.

    Returns:
      One finding, or none.
    """
    length = played.log.completion_length
    if length is None:
        return []
    advantage = played.advantages[played.rules[0].name]
    counted, group = np.isfinite(length) & np.isfinite(advantage) & played.usable, played.log.group
    longer, better = (within_groups(values, counted, group) for values in (length, advantage))
    scale = math.sqrt(float(longer @ longer) * float(better @ better))
    live = np.bincount(group, (longer * better) ** 2) > 0
    if live.sum() < MIN_GROUPS or not scale > 0:
        return []
    value = float(longer @ better) / scale
    if abs(value) < LENGTH:
        return []
    way = "Longer" if value > 0 else "Shorter"
    text = f"{way} completions are paid: length and advantage have correlation {value:+.2f}."
    return [_finding("lengths", [], text)]


def repeats(played: Replay) -> list[dict[str, Any]]:
    """Whether one text answers many prompts.

    Args:
      played: the replay.

    Returns:
      One finding, or none.
    """
    code, length = played.log.completion_code, played.log.completion_length
    if code is None or length is None or not np.any(code >= 0):
        return []
    count = np.bincount(code[code >= 0])
    most = int(np.argmax(count))
    rows = np.flatnonzero(code == most)
    share, prompts = len(rows) / len(code), len(np.unique(played.log.prompt[rows]))
    if share < REPEATED or prompts < REPEATED_PROMPTS or length[rows[0]] < REPEATED_BYTES:
        return []
    text = (
        f"One completion makes up {percent(share, unit=' %')} of all, in answer to {prompts:,} "
        "prompts: the policy may have collapsed to it."
    )
    return [_finding("repeats", [], text)]


def spurious(played: Replay) -> list[dict[str, Any]]:
    """Whether the completions that succeed where others fail also fail where others succeed.

    So does an answer that fools some judges and breaks what the others watch, and an answer to
    channels that compete for room. An exploit that breaks nothing is not seen.

    Args:
      played: the replay.

    Returns:
      One finding, or none.

    Source:
      Ours; its error rates are measured in experiments/exploitable_judges.
    """
    group, usable = played.log.group, played.usable
    met, scored = played.met & usable[:, None], played.where & usable[:, None]
    share = played.group_met / np.maximum(played.group_scored, 1)  # [groups, M]
    rare, usual = (share > 0) & (share <= RARE), (share < 1) & (share >= 1 - RARE)
    wins = (met & rare[group]).sum(-1)
    losses = (scored & ~met & usual[group]).sum(-1)
    more_wins, more_losses = (within_groups(x, usable, group) for x in (wins, losses))
    scale = math.sqrt(float(more_wins @ more_wins) * float(more_losses @ more_losses))
    products = np.bincount(group, more_wins * more_losses, len(played.status))
    mean, error = _mean_error(products[np.bincount(group, usable) > 0])
    if not scale > 0 or mean <= SPURIOUS_ERRORS * error:
        return []
    value = float(more_wins @ more_losses) / scale
    both = (wins > 0) & (losses > 0)
    if value < SPURIOUS or not both.any():
        return []
    sizes = np.bincount(group, usable)
    size, broken = float(np.median(sizes[sizes > 1])), float(losses[both].mean())
    k = risk_coef_threshold(met.shape[1], broken, size)
    text = (
        f"What succeeds where the others of its group fail also fails where they succeed "
        f"(correlation {value:+.2f}; {int(both.sum()):,} completions do both, failing {broken:.1f} "
        f"channels on average): judges that can be fooled look like this, and so do channels that "
        f"compete. A soft minimum with k above {k:.1f} refuses them, true successes too."
    )
    return [_finding("spurious", [], text)]


CHECKS: tuple[Callable[[Replay], list[dict[str, Any]]], ...] = (
    twins,
    flips,
    jumps,
    saturated,
    lengths,
    repeats,
    spurious,
)
