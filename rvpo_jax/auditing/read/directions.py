"""Channels of which less is better, or a middle: turned, so that more is better."""

import dataclasses
import re
from collections.abc import Collection, Sequence

import numpy as np

from ...basics.refusals import Refusal
from .log import Note, ReadOptions, check_channels, shown

# Names of what one wants little of; asked about where the user did not say.
LESS = re.compile(
    r"(.*[_./-])?(cost|costs|error|errors|hallucinations?|toxicity|toxic|violations?|mistakes?|"
    r"regret|risk|harm|harmfulness|perplexity|penalty|penalties|leaks?|refusals?)"
    r"([_./-](rate|score|count|share|fraction|prob|probability))?"
)


def turn_channels(
    names: Sequence[str], rewards: np.ndarray, options: ReadOptions, declared: Collection[str]
) -> tuple[np.ndarray, ReadOptions, list[Note]]:
    """Rewards of which more is better, and pass marks that fit them.

    A channel that is better when lower is used as its negative. One with marks on both sides is
    used as minus its distance to what lies between them.

    Args:
      names: M names.
      rewards: ``[N, M]`` float32, NaN where not scored.
      options: ``pass_at``, ``pass_below``, ``lower_is_better``, ``ranges`` and
        ``targets``.
      declared: names of channels that a run of ours declares, of which nothing is asked.

    Returns:
      The rewards, the options with marks and ranges for them, and notes of kinds turned and asked.

    Raises:
      ValueError: if an option names a channel that does not exist, or two of them disagree.
    """
    _check(names, options)
    rewards, marks, notes = rewards.copy(order="K"), dict(options.pass_at), []
    ranges, targets = dict(options.ranges), dict(options.targets)
    for index, name in enumerate(names):
        column = rewards[:, index]
        if name in options.pass_at and name in options.pass_below:
            low, high = options.pass_at[name], options.pass_below[name]
            rewards[:, index] = -np.maximum(np.maximum(low - column, column - high), 0)
            marks[name] = 0.0
            if name in ranges:
                furthest = max(low - ranges[name][0], ranges[name][1] - high, 0.0)
                ranges[name] = (-furthest, 0.0)
            text = f"{shown(name)} is met from {low:g} to {high:g}, and used as minus its distance."
            notes.append(Note(kind="turned", count=1, text=text))
        elif name in options.pass_below or name in options.lower_is_better:
            rewards[:, index] = -column
            if name in options.pass_below:
                marks[name] = -options.pass_below[name]
            if name in ranges:
                ranges[name] = (-ranges[name][1], -ranges[name][0])
            if name in targets:
                targets[name] = -targets[name]
            text = f"{shown(name)} is better when lower, and used as its negative."
            notes.append(Note(kind="turned", count=1, text=text))
        elif name not in options.pass_at and name not in declared:
            notes += _question(name, column)
    changed = dataclasses.replace(options, pass_at=marks, ranges=ranges, targets=targets)
    return rewards, changed, notes


def _question(name: str, column: np.ndarray) -> list[Note]:
    """Whether a channel is better when lower, where its name sounds so and its sign does too."""
    if not LESS.fullmatch(name.lower()) or not np.nanmax(column) > 0:
        return []  # what is 0 at best is a penalty already
    text = (
        f"{shown(name)} sounds as if less were better, and is read as if more were: say "
        f"--lower-is-better {shown(name)}, or give its mark with --pass."
    )
    return [Note(kind="asked", count=1, text=text)]


def turned(name: str, options: ReadOptions) -> bool:
    """Whether a channel is used as something else than its values.

    Args:
      name: of the channel.
      options: of the user.

    Returns:
      True where less is better, or a middle.
    """
    return name in options.pass_below or name in options.lower_is_better


def _check(names: Sequence[str], options: ReadOptions) -> None:
    said = {"pass": options.pass_below, "lower-is-better": options.lower_is_better}
    check_channels(said, names)
    for name in options.lower_is_better:
        if name in options.pass_at:
            raise Refusal(
                f"{shown(name)} must be better in one direction, got --lower-is-better and a mark "
                f"from which it is met, {options.pass_at[name]:g}.",
                f"Write --pass '{shown(name)}<=VALUE'.",
            )
    for name, high in options.pass_below.items():
        low = options.pass_at.get(name, -np.inf)
        if low > high:
            raise Refusal(
                f"{shown(name)} must be met somewhere, got marks from {low:g} up and from {high:g} "
                "down.",
                "Give the lower one with >=.",
            )
