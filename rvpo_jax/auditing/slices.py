"""The same numbers for each slice of a log, and where the whole says the opposite of its parts.

``N`` completions, ``M`` channels, ``S`` slices.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import tables, trends
from .estimates import Estimate, difference, from_plain, weighted_sum
from .replay import Replay

SMALL = 0.02  # a change of less is none
# Slices with completions in both thirds must hold so many of all, for a change at a constant mix.
MIN_COVERED = 0.8


def slice_table(played: Replay) -> list[dict[str, Any]]:
    """What is said of a channel, for each slice.

    Args:
      played: the replay.

    Returns:
      One row per slice and channel: ``slice``, ``channel``, ``completions``, ``prompts``,
      ``scored``, ``pass_rate``; ``failures`` and the failure ``gap`` under the rule in use with its
      ``p_paid``; ``dead_fail_share`` with its ``p_dead_fail``; and with steps ``first``, ``last``,
      ``change``, ``returns`` and ``p_fall``. Empty without slices.
    """
    slices = played.log.slices
    if slices is None:
        return []
    rows = []
    for id, name in enumerate(played.log.slice_names):
        part = part_of(played, slices == id)
        quiet, dead = tables.quiet_failure_table(part), tables.dead_table(part)
        moves = trends.neglect(part)
        for index, channel in enumerate(tables.channel_table(part)):
            row = {
                "slice": name,
                "channel": channel["name"],
                "completions": len(part.log.rewards),
                "prompts": int(part.log.prompt.max()) + 1,
                "scored": channel["scored"],
                "pass_rate": channel["pass_rate"],
                "failures": quiet[index]["failures"],
                "gap": quiet[index]["gap"],
                "p_paid": quiet[index]["p_value"],
                "dead_fail_share": dead[index]["dead_fail_share"],
                "p_dead_fail": dead[index]["p_value"],
            }
            shown = ("first", "last", "change", "returns", "p_fall")
            rows.append(row | {key: moves[index][key] if moves else None for key in shown})
    return rows


def part_of(played: Replay, chosen: np.ndarray) -> Replay:
    """The replay of some of its groups, judged as they were among all.

    Args:
      played: the replay.
      chosen: ``[N]`` bool, equal within a group.

    Returns:
      A replay of the rule in use alone.
    """
    log, rule = played.log, played.rules[0]
    groups, group = np.unique(log.group[chosen], return_inverse=True)
    part = dataclasses.replace(
        log,
        rewards=log.rewards[chosen],
        group=group,
        prompt=np.unique(log.prompt[chosen], return_inverse=True)[1],
        step=None if log.step is None else log.step[chosen],
    )
    return dataclasses.replace(
        played,
        log=part,
        rules=(rule,),
        where=played.where[chosen],
        met=played.met[chosen],
        batch=np.unique(played.batch[chosen], return_inverse=True)[1],
        usable=played.usable[chosen],
        status=played.status[groups],
        advantages={rule.name: played.advantages[rule.name][chosen]},
        gaps={rule.name: played.gaps[rule.name][groups]},
        scores=played.scores[chosen],
        weights=played.weights[chosen],
        sum_weights=played.sum_weights[chosen],
        minima=played.minima[chosen],
        quantities={name: values[chosen] for name, values in played.quantities.items()},
        agreement={},  # totals of all completions, which no part has
    )


def paradoxes(rows: Sequence[Mapping], moves: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Channels whose pass rate moves one way as a whole, and the other way within the slices.

    The mix of slices changed over the steps: Simpson's paradox. Within the slices means at a
    constant mix, that of all completions. Intervals are those of prompts alone: this says what
    happened, not that it is a trend; steps that wander move the whole and the slices alike.

    Args:
      rows: of ``slice_table``.
      moves: of ``neglect``, of the whole log.

    Returns:
      ``channel``, ``change`` of the whole, ``within`` (both estimates) and in how many of the
      ``slices`` with both thirds it moves that way, ``agree``.
    """
    found = []
    for move in moves:
        own = [row for row in rows if row["channel"] == move["channel"] and row["scored"]]
        both = [(row, change) for row in own if (change := _moved(row)) is not None]
        total = sum(row["scored"] for row in own)
        covered = sum(row["scored"] for row, _ in both)
        if len(both) < 2 or covered < MIN_COVERED * total:
            continue
        within = weighted_sum(
            [change for _, change in both], [row["scored"] / covered for row, _ in both]
        )
        whole, way = _moved(move), _way(within)
        if whole is not None and way * _way(whole) == -1:
            changes = {"change": whole.plain(), "within": within.plain()}
            agree = sum(change.value * way > 0 for _, change in both)
            sizes = {"slices": len(both), "agree": agree}
            found.append({"channel": move["channel"], **changes, **sizes})
    return found


def _moved(row: Mapping[str, Any]) -> Estimate | None:
    """From the first to the last third of the steps, where both scored the channel."""
    if row["first"] is None or None in (row["first"]["value"], row["last"]["value"]):
        return None
    return difference(from_plain(row["first"]), from_plain(row["last"]))


def _way(change: Estimate) -> int:
    """1 for a clear rise, -1 for a clear fall, else 0."""
    if abs(change.value) < SMALL or not (change.low > 0 or change.high < 0):
        return 0
    return int(math.copysign(1, change.value))
