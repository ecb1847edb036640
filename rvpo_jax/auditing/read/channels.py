"""Reward channels from the numbers of a log: range and threshold, declared or observed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...basics.channel import Channel
from ...basics.refusals import Refusal
from .log import Note, ReadOptions, check_channels, shown
from .marks import Guess, guess_mark


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of a log, and what of them nobody said."""

    channels: tuple[Channel, ...]
    assumed_pass: frozenset[str]
    """Names of those whose pass_at was assumed."""
    observed_range: frozenset[str]
    """Names of those whose range is that of their values."""
    notes: list[Note]


def make_channels(
    names: Sequence[str],
    rewards: np.ndarray,
    options: ReadOptions,
    declared: Mapping[str, Mapping[str, Any]],
) -> Channels:
    """Channels that hold whatever the data is, and notes on what was assumed.

    Args:
      names: M names.
      rewards: ``[N, M]`` float32, NaN where not scored; at least one number per channel.
      options: ``pass_at``, ``ranges``, ``constraints`` and ``targets``.
      declared: Name to the fields of a channel, as a run of ours wrote them.

    Returns:
      M channels, and notes of kinds assumed_pass, outlier, out_of_range, bad_metadata and
      constant_channel.

    Raises:
      ValueError: if an option names a channel that does not exist.
    """
    said = {"pass": options.pass_at, "range": options.ranges, "target": options.targets}
    check_channels(said | {"constraint": options.constraints}, names)
    channels, assumed, observed, notes = [], set(), set(), []
    for name, column in zip(names, rewards.T, strict=True):
        values = column[np.isfinite(column)]
        own = _declared_channel(name, declared)
        if name in declared and own is None:
            text = f"The declared range of {shown(name)} is not valid; the observed one is used."
            notes.append(Note(kind="bad_metadata", count=1, text=text))
        if values.min() == values.max():
            text = f"{shown(name)} is {values[0]:g} in all {len(values)} completions it scored."
            notes.append(Note(kind="constant_channel", count=len(values), text=text))
        if name in options.ranges:
            notes += _range_notes(name, values, options)
        elif own is None:
            observed.add(name)
        if name in options.pass_at:
            pass_at = _as_float32(options.pass_at[name])
        elif own is not None and name not in options.ranges:
            pass_at = own.pass_at
        else:
            guess = guess_mark(values, options.ranges.get(name))
            pass_at = guess.mark
            assumed.add(name)
            notes += _guess_notes(name, guess)
        channels.append(_make_channel(name, values, options, own, pass_at))
    return Channels(
        channels=tuple(channels),
        assumed_pass=frozenset(assumed),
        observed_range=frozenset(observed),
        notes=notes,
    )


def _range_notes(name: str, values: np.ndarray, options: ReadOptions) -> list[Note]:
    """That rewards lie outside the range that the user gave; raises where the mark does."""
    low, high = options.ranges[name]
    mark = options.pass_at.get(name)
    if mark is not None and not low < mark <= high:
        raise Refusal(
            f"--pass of channel {shown(name)} must lie above the lower end of its --range and not "
            f"above the upper one, ({low:g}, {high:g}], got {mark:g}.",
            "With the lower end every completion would pass, above the upper one none.",
        )
    outside = int(((values < _as_float32(low)) | (values > _as_float32(high))).sum())
    if not outside:
        return []
    text = (
        f"{shown(name)} is outside its --range of {low:g} to {high:g} in {outside} row(s), from "
        f"{values.min():.6g} to {values.max():.6g}: rules that read levels take them as they are."
    )
    return [Note(kind="out_of_range", count=outside, text=text)]


def _make_channel(
    name: str, values: np.ndarray, options: ReadOptions, own: Channel | None, pass_at: float
) -> Channel:
    """A valid channel: its range as the user gave it, else as declared, else as observed."""
    low, high = float(values.min()), float(values.max())
    if name in options.ranges:
        low, high = options.ranges[name]
    elif own is not None:
        low, high = own.low, own.high
    if not low < pass_at:  # everything is met: the range is as wide as that needs
        low = 0.0 if pass_at > 0 else pass_at - max(1.0, -pass_at)
    high = max(high, pass_at)
    declared_constraint = own is not None and own.kind == "constraint"
    is_constraint = name in options.constraints or declared_constraint
    target = options.targets.get(name, None if own is None else own.target)
    if target is not None and not low <= target <= high:
        raise Refusal(
            f"--target of channel {shown(name)} must lie in its range, [{low:g}, {high:g}], got "
            f"{target:g}.",
            f"Give the range with --range {shown(name)}=LOW,HIGH.",
        )
    return Channel(
        name=name,
        low=low,
        high=high,
        pass_at=pass_at,
        kind="constraint" if is_constraint else "quality",
        target=target,
    )


def _guess_notes(name: str, guess: Guess) -> list[Note]:
    """That a mark is a guess, and what was left out in guessing it."""
    text = f"{shown(name)} counts as met from {guess.mark:.6g} on: assumed."
    assumed = Note(kind="assumed_pass", count=1, text=text)
    count = len(guess.outliers)
    if not count:
        return [assumed]
    furthest = guess.outliers[np.argmax(np.abs(guess.outliers - guess.mark))]
    text = (
        f"{shown(name)} is beyond its usual {guess.low:.6g} to {guess.high:.6g} in {count} row(s), "
        f"as far as {furthest:.6g}: its pass mark leaves them out, the rules do not."
    )
    return [assumed, Note(kind="outlier", count=count, text=text)]


def _as_float32(value: float) -> float:
    """Rounded as rewards are, so that 0.7 >= 0.7 holds in either precision."""
    return float(np.float32(value))


def _declared_channel(name: str, declared: Mapping[str, Mapping[str, Any]]) -> Channel | None:
    """The channel as declared, if it is valid."""
    fields = declared.get(name, {})
    try:
        low, high, pass_at = (float(fields[key]) for key in ("low", "high", "pass_at"))
        kind = fields.get("kind", "quality")
        rounded = _as_float32(pass_at)
        pass_at = rounded if low < rounded <= high else pass_at
        target = fields.get("target")
        return Channel(name=name, low=low, high=high, pass_at=pass_at, kind=kind, target=target)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
