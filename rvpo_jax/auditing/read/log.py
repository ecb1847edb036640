"""What a reward log is once it is read, and how a reader is told what was counted on the way.

``N`` completions, ``M`` reward channels. Numbers are in memory; texts stay in the files.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from ...basics.channel import Channel
from ...basics.refusals import Refusal
from ...basics.text import printable

Format = Literal[
    "auto", "rvpo", "trl", "verl", "tunix", "nemo", "verifiers", "skyrl", "lm_eval", "columns"
]
FORMATS: tuple[str, ...] = get_args(Format)
MAX_SHOWN = 20  # names in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """Something that was counted, assumed or left out while a log was read."""

    kind: str
    """Short key, such as cut_line or missing."""
    count: int
    """Rows, groups, files or channels concerned."""
    text: str
    """One sentence for the reader, with the count."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the columns of a log are to be read; every field may be left to the format."""

    format: Format = "auto"
    """The trainer that wrote the log, or columns for any other table."""
    rewards: tuple[str, ...] = ()
    """Columns that are reward channels; (): by format, else the numeric columns."""
    group: str | None = None
    """Column that names the prompt; a group is one prompt at one step."""
    step: str | None = None
    """Column with the training step."""
    prompt: str | None = None
    """Column with the text of the prompt."""
    completion: str | None = None
    """Column with the text of the completion."""
    advantage: str | None = None
    """Column with the advantage that the trainer used."""
    outcome: str | None = None
    """Column with what the rewards stand for, such as a true score; it is no reward itself."""
    by: str | None = None
    """Column of which each value is a slice, for which the same is said as for the whole log."""
    group_size: int | None = None
    """Completions per prompt, where they follow each other; instead of a group column."""
    pass_at: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Channel to the raw value from which it counts as met."""
    pass_below: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Channel to the raw value up to which it counts as met."""
    lower_is_better: tuple[str, ...] = ()
    """Channels of which less is better."""
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Channel to the smallest and the largest raw value that it can have."""
    constraints: tuple[str, ...] = ()
    """Channels that must be met."""
    targets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Channel to the mean raw value that rules with targets or multipliers aim for."""
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Channel to what the rules multiply it with; any other has the run's weight, else 1."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise Refusal(
                f"--format must be one of {', '.join(FORMATS)}, got {self.format!r}.",
                "Choose one of these names.",
            )
        if self.group_size is not None and self.group_size < 2:
            raise Refusal(
                f"--group-size must be >= 2, got {self.group_size}.",
                "It is the number of completions that one prompt got.",
            )
        if self.group_size is not None and self.group is not None:
            raise Refusal(
                f"only one of --group and --group-size can be given, got {self.group!r} and "
                f"{self.group_size}.",
                "Prefer the column.",
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, value in [*self.pass_at.items(), *self.pass_below.items()]:
            if not (math.isfinite(value) and abs(value) <= float(np.finfo(np.float32).max)):
                raise Refusal(
                    f"--pass of channel {shown(name)} must be a finite float32, got {value}.",
                    "Give the raw reward from which the channel counts as met.",
                )
        for name, value in self.targets.items():
            if not math.isfinite(value):
                raise Refusal(
                    f"--target of channel {shown(name)} must be finite, got {value}.",
                    "Give the mean raw reward that the rule aims for.",
                )
        for name, value in self.weights.items():
            if not (math.isfinite(value) and value >= 0):
                raise Refusal(
                    f"--weight of channel {shown(name)} must be finite and >= 0, got {value}.",
                    "A reward that is subtracted is --lower-is-better with a positive weight.",
                )
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise Refusal(
                    f"--range of channel {shown(name)} must be finite with low < high, got "
                    f"{low},{high}.",
                    "Give the smallest and the largest raw reward that the channel can have.",
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardLog:
    """The numbers of a log, and a way back to its texts."""

    name: str
    """File or folder, as shown to the reader."""
    format: str
    """The format that was used."""
    channels: tuple[Channel, ...]
    """M channels."""
    rewards: np.ndarray
    """``[N, M]`` float32, NaN where not scored; rows in the order of the file."""
    group: np.ndarray
    """``[N]`` int64, ids from 0 in order of appearance: one prompt at one step."""
    prompt: np.ndarray
    """``[N]`` int64, ids from 0: the same prompt at every step. Equal within a group."""
    step: np.ndarray | None
    """``[N]`` int64 training step; None where the log has none."""
    advantage: np.ndarray | None
    """``[N]`` float32 advantage that the trainer used, NaN where missing; None: no such column."""
    method: str | None
    """Of a run of ours, such as rvpo."""
    risk_coef: float | None
    """Of a run of ours."""
    weights: np.ndarray | None = None
    """``[M]`` float64, what every rule multiplies the channels with; None: all alike."""
    assumed_pass: frozenset[str] = frozenset()
    """Channels whose pass_at is a guess from their values."""
    observed_range: frozenset[str] = frozenset()
    """Channels whose low and high are those of their values: nobody said what they can be."""
    sliced_by: str | None = None
    """The column of the slices."""
    slices: np.ndarray | None = None
    """``[N]`` int64, ids from 0, -1 without one; equal within a group. None: nobody asked."""
    slice_names: tuple[str, ...] = ()
    """The value that each id stands for."""
    outcome: np.ndarray | None = None
    """``[N]`` float32 of what the rewards stand for, NaN where missing; None: no such column."""
    completion_code: np.ndarray | None = None
    """``[N]`` int64, equal for equal completions, -1 without one; None: the log has no texts."""
    completion_length: np.ndarray | None = None
    """``[N]`` float32 bytes of the completions, NaN without one; None: the log has no texts."""
    notes: tuple[Note, ...]
    """Everything counted, assumed or left out."""
    read_texts: Callable[[Sequence[int]], list[tuple[str | None, str | None]]]
    """Rows to their texts (prompt, completion), in a second pass over the files."""


class Tally:
    """Counts what went wrong while files were read, with the first place of each kind."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, where: str) -> None:
        """Counts one occurrence at a place such as ``line 3 of a.jsonl``."""
        self._counts[kind] += 1
        self._first.setdefault(kind, where)

    def notes(self) -> list[Note]:
        """One note per kind that occurred."""
        return [
            Note(kind=kind, count=count, text=_TALLIED[kind].format(count=count, first=first))
            for kind, first in self._first.items()
            for count in [self._counts[kind]]
        ]


_TALLIED = {
    "cut_line": "{count} row(s) at the end of a file are cut and left out (first: {first}).",
    "bad_line": "{count} line(s) could not be read and are left out (first: {first}).",
    "not_object": "{count} line(s) are not a JSON object and are left out (first: {first}).",
    "long_line": "{count} line(s) are over 64 MiB and are left out (first: {first}).",
    "evaluation": "{count} row(s) are evaluations during a training and are left out (first: "
    "{first}).",
    "full_row": "{count} row(s) hold over 65536 completions; further ones are left out (first: "
    "{first}).",
    "bad_utf8": "{count} piece(s) of text are not UTF-8; bad bytes are shown as \ufffd (first: "
    "{first}).",
    "ragged_row": "{count} row(s) have more or fewer fields than the header; absent fields count "
    "as missing (first: {first}).",
    "unreadable_file": "{count} file(s) cannot be read and are left out (first: {first}).",
    "cut_file": "{count} file(s) end in damage; what was read before it is used (first: {first}).",
}


def shown(name: object) -> str:
    """A name from a file as one short line that is safe on a terminal.

    Args:
      name: Anything.

    Returns:
      At most 80 characters and their escapes; ``''`` for an empty name.

    >>> shown("a" + chr(27) + chr(10))
    'a\\\\x1b\\\\n'
    """
    text = str(name)
    short = text if len(text) <= 80 else text[:77] + "..."
    return printable(short).replace("\n", "\\n") or "''"


def listing(names: Collection[object], limit: int = MAX_SHOWN) -> str:
    """Names from a file for a message.

    Args:
      names: Any number of them.
      limit: How many are spelled out.

    Returns:
      ``a, b and 3 more``; ``none`` where there are none.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    first = ", ".join(shown(name) for name in list(names)[:limit])
    rest = len(names) - limit
    return (f"{first} and {rest} more" if rest > 0 else first) or "none"


def check_channels(given: Mapping[str, Iterable[str]], names: Collection[str]) -> None:
    """Raises where an option names a channel that the log does not have.

    Args:
      given: option, without its dashes, to the names that came.
      names: of the channels.

    Raises:
      ValueError: naming the option and the channels that exist.
    """
    for option, said in given.items():
        unknown = [name for name in said if name not in names]
        if unknown:
            raise Refusal(
                f"--{option} must name channels of the log, got {listing(unknown)}.",
                f"Its channels are: {listing(names)}.",
            )


def count_notes(kind: str, counts: Iterable[tuple[str, int]], text: str) -> list[Note]:
    """One note per channel with a positive count.

    Args:
      kind: Of the notes.
      counts: Pairs of channel and count.
      text: The sentence, with ``{name}`` and ``{count}``.

    Returns:
      The notes, in the order of the channels.
    """
    return [
        Note(kind=kind, count=count, text=text.format(name=shown(name), count=count))
        for name, count in counts
        if count
    ]
