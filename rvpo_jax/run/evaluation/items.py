"""What an evaluation is made of: a task's items, answers to them, and what grading finds."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rvpo_jax.basics.intervals import Rate

Prompt = list[dict[str, str]]
"""Messages with ``role`` and ``content``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt of a task.

    Attributes:
      key: its name, one of a kind in the task.
      row: as the task's file has it.
    """

    key: str
    row: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One completion of an item.

    Attributes:
      key: of the item.
      seed: tells several answers to an item apart.
      text: the completion.
      columns: what else is stored with it, such as the order of GPQA's options.
    """

    key: str
    seed: int
    text: str
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grade:
    """What grading finds of one answer.

    Attributes:
      values: by channel of the task; None where the channel does not apply or was not scored.
      all_met: whether every channel that applies is met; None where that is not known.
      details: how it came about, for the row.
    """

    values: Mapping[str, float | None]
    all_met: bool | None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Graded(NamedTuple):
    """An answer with its item and grade."""

    item: Item
    answer: Answer
    grade: Grade


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a task's table.

    Attributes:
      name: in the table and in ``eval.json``.
      rate: the value, its 95 % interval and what it is a share of.
      note: how it is made, and what is out.
    """

    name: str
    rate: Rate
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A further table: counts that the numbers rest on."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | int]]


Ask = Callable[[Item, int], tuple[Prompt, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark: how its rows are read, asked and graded.

    Attributes:
      name: as the user types it.
      source: what the grading follows.
      read: its items, from a file or folder of the original.
      keys: columns that name an item in a file of answers, the first one first.
      text_of: the prompt's text, by which an answer without a key finds its item.
      ask: messages for an item and a seed, and what must be stored with the answer.
      channels: names of the values of a grade.
      grade: of one answer to an item; takes nothing else and keeps nothing.
      measures: the table.
      sections: further tables.
      notes: sentences on what is out or was not scored.
      dataset: data set and split of its rows, to download where the user has no file of them.
      pass_channel: channel that is 1 for a right answer, which pass@k counts; None: there is none.
      item_of: the item that an answer's own columns describe, where they suffice for grading.
    """

    name: str
    source: str
    read: Callable[[Path], list[Item]]
    keys: tuple[str, ...]
    text_of: Callable[[Item], str]
    ask: Ask
    channels: tuple[str, ...]
    grade: Callable[[Item, Answer], Grade]
    measures: Callable[[Sequence[Graded]], list[Measure]]
    sections: Callable[[Sequence[Graded]], list[Section]] = lambda graded: []
    notes: Callable[[Sequence[Graded]], list[str]] = lambda graded: []
    item_of: Callable[[Mapping[str, Any]], Item | None] = lambda columns: None
    dataset: tuple[str, str] | None = None
    pass_channel: str | None = None
