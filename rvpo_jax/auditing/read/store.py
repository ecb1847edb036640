"""What is kept of the chunks of a log: numbers and codes of texts, never a text.

``N`` rows, ``M`` reward channels.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

import numpy as np

from .formats import Layout
from .log import Note, count_notes, listing
from .parts import Chunk, Kind
from .slices import SLICED, propose
from .values import Column, to_advantages, to_codes, to_float32, to_lengths, to_numbers, to_steps

KEYS = ("group", "prompt", "prompt_key", "completion", "by")
MAX_CANDIDATES = 256
MAX_COLUMNS = 10_000


@dataclasses.dataclass
class Candidate:
    """A column that may be a reward channel."""

    channel: str
    pieces: list[tuple[int, np.ndarray]] = dataclasses.field(default_factory=list)  # start, values
    numbers: int = 0
    parsed: int = 0  # of the numbers, those that were written as text in a typed file
    verdicts: int = 0  # of the numbers, those that were words such as pass and fail
    not_numeric: int = 0
    not_finite: int = 0
    largest: float = -np.inf

    def is_numeric(self) -> bool:
        """Whether at least half of its values are numbers, or nine in ten of them verdicts."""
        numbers = self.numbers - self.parsed
        least = 0.9 if self.is_verdict() else 0.5
        return numbers > 0 and numbers >= least * (
            self.numbers + self.not_numeric + self.not_finite
        )

    def is_verdict(self) -> bool:
        """Whether most of its numbers were words."""
        return 2 * self.verdicts > self.numbers

    def column(self, num_rows: int) -> np.ndarray:
        """``[N]`` float32, NaN where not scored."""
        values = np.full(num_rows, np.nan, np.float32)
        for start, piece in self.pieces:
            values[start : start + len(piece)] = piece
        return values


class Store:
    """Collects chunks.

    Args:
      layout: Roles of the columns.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.num_rows = 0
        self.columns: dict[str, None] = {}  # all names, in order of appearance
        self.candidates: dict[str, Candidate] = {}
        self.columns_of_part: dict[int, set[str]] = {}
        self.sliceable: dict[str, set[int]] = {}  # codes of the first rows' texts, by column
        self._has_steps = False
        self._steps: list[tuple[np.ndarray, np.ndarray]] = []
        self._advantages: list[np.ndarray] = []
        self._codes: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {key: [] for key in KEYS}
        self._lengths: list[np.ndarray] = []
        self._outcomes: list[np.ndarray] = []
        self._places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, chunk: Chunk, part: int, kinds: dict[str, Kind], named_step: int | None) -> None:
        """Takes the numbers of a chunk.

        Args:
          chunk: Rows.
          part: Number of the part that they come from.
          kinds: Of the columns of the part, where known.
          named_step: Step of the part's name, for rows without a step column.
        """
        present = set(chunk.names)
        self.add_columns(chunk.names, part)
        for name in chunk.names:
            if name in self.columns:
                self._add_reward(name, chunk, kinds.get(name, "any"))
                self._add_sliceable(name, chunk)
        for key in KEYS:
            name = getattr(self.layout, key)
            self._codes[key].append(
                to_codes(chunk.column(name)) if name in present else _absent(chunk.num_rows)
            )
        self._add_steps(chunk, present, named_step)
        layout = self.layout
        self._advantages.append(_numbers_of(layout.advantage, chunk, to_advantages))
        self._lengths.append(_numbers_of(layout.completion, chunk, to_lengths))
        self._outcomes.append(_numbers_of(layout.outcome, chunk, _to_outcomes))
        parts = np.full(chunk.num_rows, part, np.int64)
        self._places.append((parts, chunk.places, chunk.ordinals))
        self.num_rows += chunk.num_rows

    def add_columns(self, names: Iterable[str], part: int) -> None:
        """Takes the names of columns of a part.

        Args:
          names: Any number of them; beyond ``MAX_COLUMNS`` they are not looked at.
          part: Number of the part.
        """
        seen = self.columns_of_part.setdefault(part, set())
        for name in itertools.islice(names, MAX_COLUMNS):
            if len(self.columns) < MAX_COLUMNS or name in self.columns:
                self.columns[name] = None
                seen.add(name)

    def _add_reward(self, name: str, chunk: Chunk, kind: Kind) -> None:
        channel = self.layout.channel(name, kind)
        if channel is None:
            return
        if name not in self.candidates and len(self.candidates) >= MAX_CANDIDATES:
            return
        candidate = self.candidates.setdefault(name, Candidate(channel))
        numbers = to_numbers(chunk.column(name))
        values = to_float32(numbers.values)
        count = int(np.isfinite(values).sum())
        too_large = int(np.isfinite(numbers.values).sum()) - count
        candidate.numbers += count
        candidate.parsed += numbers.parsed if chunk.typed else 0
        candidate.verdicts += numbers.verdicts
        candidate.not_numeric += numbers.not_numeric
        candidate.not_finite += numbers.not_finite + too_large
        if count:
            candidate.pieces.append((self.num_rows, values))
            candidate.largest = max(candidate.largest, float(np.nanmax(values)))

    def _add_sliceable(self, name: str, chunk: Chunk) -> None:
        """Values of the first rows, where a column may be one to slice by."""
        candidate = self.candidates.get(name)
        words = candidate is not None and not candidate.numbers and candidate.not_numeric
        if self.num_rows == 0 and (words or name.lower() in SLICED):
            codes, present = to_codes(chunk.column(name))
            self.sliceable[name] = set(codes[present].tolist())

    def _add_steps(self, chunk: Chunk, present: set[str], named_step: int | None) -> None:
        rows = chunk.num_rows
        if self.layout.step is not None and self.layout.step in present:
            found = to_steps(chunk.column(self.layout.step))
        elif named_step is not None:
            found = np.full(rows, named_step, np.int64), np.ones(rows, bool)
        else:
            found = np.zeros(rows, np.int64), np.zeros(rows, bool)
        self._has_steps |= bool(found[1].any()) or self.layout.step in present
        self._steps.append(found)

    def steps(self) -> tuple[np.ndarray, np.ndarray] | None:
        """``[N]`` int64 steps and ``[N]`` bool, which rows have one; None: no row does."""
        if not self._has_steps:
            return None
        steps, valid = zip(*self._steps, strict=True)
        return np.concatenate(steps), np.concatenate(valid)

    def advantages(self) -> np.ndarray:
        """``[N]`` float32, NaN where there is none."""
        return np.concatenate(self._advantages)

    def outcomes(self) -> np.ndarray:
        """``[N]`` float32, NaN where there is none."""
        return np.concatenate(self._outcomes)

    def lengths(self) -> np.ndarray:
        """``[N]`` float32 bytes of the completions, NaN where there is none."""
        return np.concatenate(self._lengths)

    def key(self, role: str) -> tuple[np.ndarray, np.ndarray] | None:
        """``[N]`` codes of a role and which rows have one; None: no row does."""
        codes, present = zip(*self._codes[role], strict=True)
        has = np.concatenate(present)
        return (np.concatenate(codes), has) if has.any() else None

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[N]`` part, place in the part, number in the part."""
        parts, places, ordinals = zip(*self._places, strict=True)
        return np.concatenate(parts), np.concatenate(places), np.concatenate(ordinals)

    def chosen(self) -> list[str]:
        """Columns of the reward channels, in order: all components, else the total."""
        layout = self.layout
        numeric = [
            name
            for name, candidate in self.candidates.items()
            if candidate.numbers and (layout.is_definite(name) or candidate.is_numeric())
            if not layout.is_measure(name, candidate.largest)
        ]
        if layout.rewards:
            return sorted(numeric, key=self._place_in_options)
        if layout.declared:
            return [name for name in layout.declared if name in numeric]
        components = [name for name in numeric if name not in layout.totals()]
        totals = [name for name in layout.totals() if name in numeric]
        return components or totals[:1]

    def _place_in_options(self, column: str) -> int:
        rewards = self.layout.rewards
        name = column if column in rewards else self.candidates[column].channel
        return rewards.index(name)

    def channel_names(self, chosen: list[str]) -> list[str]:
        """Names of the channels of columns; a name that is taken gets its column's, or a number."""
        names: list[str] = []
        for column in chosen:
            name = self.candidates[column].channel
            if name in names:
                name = column
            base, number = name, 2
            while name in names:
                name, number = f"{base}_{number}", number + 1
            names.append(name)
        return names

    def column_notes(self, chosen: list[str], names: list[str]) -> list[Note]:
        """What was taken, left out, and not scored."""
        found = [
            (name, self.candidates[column]) for name, column in zip(names, chosen, strict=True)
        ]
        notes = self._choice_notes(chosen)
        missing = [
            (name, self.num_rows - c.numbers - c.not_numeric - c.not_finite) for name, c in found
        ]
        notes += count_notes(
            "missing", missing, f"{{name}} did not score {{count}} of {self.num_rows} completions."
        )
        notes += count_notes(
            "not_numeric",
            [(name, c.not_numeric) for name, c in found],
            "{name} is no number in {count} row(s); they count as not scored.",
        )
        notes += count_notes(
            "not_finite",
            [(name, c.not_finite) for name, c in found],
            "{name} is infinite in {count} row(s); they count as not scored.",
        )
        return notes

    def _choice_notes(self, chosen: list[str]) -> list[Note]:
        layout, notes = self.layout, []
        if not (layout.rewards or layout.declared or layout.is_definite("")):
            text = (
                f"{len(chosen)} column(s) were taken as rewards: {listing(chosen)}. "
                "Name others with --rewards."
            )
            notes.append(Note(kind="assumed_rewards", count=len(chosen), text=text))
        used = set(chosen) | set(layout.roles().values())
        notes += propose(self.sliceable, used) if layout.by is None else []
        unused = [name for name in self.columns if name not in used]
        if unused:
            text = f"{len(unused)} column(s) were not used: {listing(unused)}."
            notes.append(Note(kind="ignored_column", count=len(unused), text=text))
        if len(self.columns) >= MAX_COLUMNS or len(self.candidates) >= MAX_CANDIDATES:
            text = (
                f"The log has over {MAX_CANDIDATES} columns that may be rewards or over "
                f"{MAX_COLUMNS} columns; further ones were not looked at."
            )
            notes.append(Note(kind="too_many_columns", count=len(self.columns), text=text))
        everything = set(self.columns)
        parts = list(self.columns_of_part.values())
        lacking = sum(part != everything for part in parts)
        if lacking:
            partial = [c for c in self.columns if any(c not in part for part in parts)]
            text = (
                f"{lacking} of {len(parts)} files lack columns that others have: "
                f"{listing(partial)}. They count as missing there."
            )
            notes.append(Note(kind="different_columns", count=lacking, text=text))
        return notes


def _numbers_of(
    name: str | None, chunk: Chunk, convert: Callable[[Column], np.ndarray]
) -> np.ndarray:
    """``[num_rows]`` float32 of a column, NaN where a log or a chunk lacks it."""
    if name is None or name not in chunk.names:
        return np.full(chunk.num_rows, np.nan, np.float32)
    return convert(chunk.column(name))


def _to_outcomes(column: Column) -> np.ndarray:
    return to_float32(to_numbers(column).values)


def _absent(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(num_rows, np.int64), np.zeros(num_rows, bool)
