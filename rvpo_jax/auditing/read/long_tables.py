"""Tables with one row per completion and channel, as wide ones: one row per completion.

The rows of a completion may follow each other, or lie one channel after the other. ``N`` rows of
the file, ``K`` completions, ``M`` channels.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from .groups import dense
from .log import Note, Tally, listing
from .parts import Chunk, Kind, Part, Row
from .texts import to_text
from .values import to_codes, to_list, to_numbers

NAMES = (
    *("channel", "reward_name", "reward_fn", "reward_func", "reward_function", "reward_type"),
    *("metric", "metric_name", "criterion", "rubric", "scorer", "grader", "variable", "component"),
)
VALUES = ("value", "score", "reward", "reward_value", "metric_value", "val")
COMPLETION_IDS = (
    *("completion_id", "sample_id", "rollout_id", "trajectory_id", "response_id", "trace_id"),
    *("completion_index", "completion_idx", "sample_index", "sample_idx", "rollout_index"),
)
MAX_CHANNELS = 256


@dataclasses.dataclass(frozen=True)
class Long:
    """The columns of a long table."""

    name: str
    """Of the channel."""
    values: tuple[str, ...]
    """What the channel says of a completion; several make a channel each."""
    prefix: str
    """Before the names of the columns that the channels become."""


def find_long(columns: Collection[str]) -> Long | None:
    """Whether columns are those of a long table.

    Args:
      columns: Of the log.

    Returns:
      Its columns; None where it is none. A column called ``name`` needs one called ``value``.
    """
    by_lower = {column.lower(): column for column in columns}
    name = next((by_lower[name] for name in NAMES if name in by_lower), None)
    value = next((by_lower[value] for value in VALUES if value in by_lower), None)
    if name is None and value is not None and value.lower() == "value":
        name = by_lower.get("name")
    return Long(name, (value,), "rewards.") if name is not None and value is not None else None


class LongPart:
    """A long table as a wide one; one with too many channels to be one has no columns.

    Args:
      part: With one row per completion and channel; its numbers are read at once.
      long: Its columns.
      keys: Columns that tell completions apart. Where several have the same, the first values
        of the channels are those of the first one, the second ones of the second, and so on.
      kept: Columns that are handed on; those of the row where a completion appears first.
    """

    def __init__(self, part: Part, long: Long, keys: Sequence[str], kept: Collection[str]) -> None:
        self.name = part.name
        self._part = part
        self._kept = set(kept)
        self._wanted = {long.name, *long.values, *keys, *kept}
        self.columns: dict[str, np.ndarray] = {}
        self.num_rows = self.num_completions = 0
        self._first = np.zeros(0, bool)
        self._read(long, keys)

    def _read(self, long: Long, keys: Sequence[str]) -> None:
        labels: dict[str, int] = {}
        read = []
        for chunk in self._chunks(Tally()):
            read.append(_codes(chunk, long, keys, labels))
            if len(labels) * len(long.values) > MAX_CHANNELS:
                return  # any text, but no names of channels
        if not read:
            return
        key, label, values = map(np.concatenate, zip(*read, strict=True))
        ids = dense(_mixed(key, _occurrence(key, label)))
        self.num_rows, self.num_completions = len(key), int(ids.max()) + 1
        self._first = np.zeros(len(ids), bool)
        self._first[np.unique(ids, return_index=True)[1]] = True
        for text, number in labels.items():
            rows = label == number
            for value, column in zip(long.values, values.T, strict=True):
                wide = np.full(self.num_completions, np.nan)
                wide[ids[rows]] = column[rows]
                # Metrics of lm-evaluation-harness are called like this in its results too.
                is_metric = value.startswith(long.prefix)
                self.columns[f"{value},{text}" if is_metric else f"{long.prefix}{text}"] = wide

    def fields(self) -> Mapping[str, Kind]:
        """Nothing: the columns that are kept are known only from the rows."""
        return {}

    def chunks(self, wants: Callable[[str, Kind], bool], tally: Tally) -> Iterator[Chunk]:
        """All completions."""
        del wants
        row = completion = 0
        for chunk in self._chunks(tally):
            inside = np.flatnonzero(self._first[row : row + chunk.num_rows])
            row += chunk.num_rows
            if len(inside):
                yield self._wide(chunk, inside, completion)
                completion += len(inside)

    def pick(self, places: Sequence[int], columns: Sequence[str]) -> Iterator[Row]:
        """Rows of the file where the completions appear first."""
        yield from self._part.pick(places, columns)

    def _chunks(self, tally: Tally) -> Iterator[Chunk]:
        return self._part.chunks(lambda name, kind: name in self._wanted, tally)

    def _wide(self, chunk: Chunk, inside: np.ndarray, start: int) -> Chunk:
        """The completions that appear first in a chunk, at its rows ``inside``."""
        kept = [name for name in chunk.names if name in self._kept]
        end = start + len(inside)

        def column(name: str) -> pa.Array | list[object]:
            if name in self.columns:
                return pa.array(self.columns[name][start:end])
            values = to_list(chunk.column(name))
            return [values[place] for place in inside.tolist()]

        return Chunk(
            names=[*kept, *self.columns],
            num_rows=len(inside),
            column=column,
            places=chunk.places[inside],
            ordinals=np.arange(start, end),
            typed=chunk.typed,
        )


def long_note(parts: Sequence[LongPart], long: Long) -> Note:
    """What was made of a long table.

    Args:
      parts: Of the log.
      long: Its columns.

    Returns:
      A note of kind long_table.
    """
    rows, count = sum(part.num_rows for part in parts), sum(part.num_completions for part in parts)
    names = dict.fromkeys(name for part in parts for name in part.columns)
    text = (
        f"{rows} rows with one channel each became {count} completions with {len(names)} channels, "
        f"by {listing([long.name])}."
    )
    return Note(kind="long_table", count=rows, text=text)


def _codes(
    chunk: Chunk, long: Long, keys: Sequence[str], labels: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[n]`` keys, ``[n]`` numbers of channels, ``[n, values]`` numbers."""
    key = np.zeros(chunk.num_rows, np.int64)
    for name in keys:
        key = _mixed(key, to_codes(chunk.column(name))[0])
    texts = [to_text(value) for value in to_list(chunk.column(long.name))]
    label = np.array(
        [-1 if text is None else labels.setdefault(text, len(labels)) for text in texts], np.int64
    )
    values = [to_numbers(chunk.column(name)).values for name in long.values]
    return key, label, np.stack(values, axis=1)


def _mixed(key: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Keys that differ where either differs, but for a chance of 2e-64 per pair."""
    with np.errstate(over="ignore"):
        spread = (key.view(np.uint64) ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(
            0xBF58476D1CE4E5B9
        )
        spread = (spread ^ (spread >> np.uint64(29))) + more.view(np.uint64)
        spread = spread * np.uint64(0x94D049BB133111EB)
        return (spread ^ (spread >> np.uint64(32))).view(np.int64)


def _occurrence(key: np.ndarray, label: np.ndarray) -> np.ndarray:
    """``[N]`` how many earlier rows have the same key and channel."""
    order = np.lexsort((label, key))  # stable
    new = np.ones(len(key), bool)
    new[1:] = (key[order][1:] != key[order][:-1]) | (label[order][1:] != label[order][:-1])
    place = np.arange(len(key))
    start = np.maximum.accumulate(np.where(new, place, 0)) if len(key) else place
    found = np.empty(len(key), np.int64)
    found[order] = place - start
    return found
