"""The reward ``rubric``: every item of a row's rubric is a channel, and a judge decides whether a
completion meets it.

``N`` completions, ``M`` items of a row, which differs between rows.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Channel
from rvpo_jax.rewards.channels import Example
from rvpo_jax.rewards.judge.client import Client, Verdicts
from rvpo_jax.rewards.judge.counts import Counts
from rvpo_jax.rewards.judge.items import Item, Pitfalls, read_items
from rvpo_jax.rewards.judge.polarity import PolarityReport, tally
from rvpo_jax.rewards.judge.protocol import Question, make_question
from rvpo_jax.rewards.judge.settings import Judge
from rvpo_jax.rewards.judge.store import Store

_logger = logging.getLogger(__name__)
FILE = "judge.sqlite"
# Settings that verdicts depend on.
_DECISIVE = ("endpoint", "model", "ask", "structured", "explain", "temperature", "extra")


def rubric(
    judge: Judge, *, max_items: int = 17, pitfalls: Pitfalls = "detect", name: str = "rubric"
) -> "Rubric":
    """The reward of a judge, to be named in ``data.rewards``.

    Args:
      judge: whom to ask.
      max_items: channels that it fills, ``NAME_1`` and so on, by the place of the item in its row;
        no row has more items. RaR's have 17 at most.
      pitfalls: how RaR's items with negative weight are read, see ``read_items``.
      name: of the channels.

    Returns:
      A reward function whose results are ragged.

    >>> judge = Judge(endpoint="http://localhost:8000/v1", model="m", key_variable=None)
    >>> [channel.name for channel in rubric(judge, max_items=2).channels]
    ['rubric_1', 'rubric_2']
    """
    if not isinstance(max_items, int) or isinstance(max_items, bool) or max_items < 1:
        raise Refusal(
            f"max_items must be a whole number > 0, got {max_items!r}.",
            "Give the number of items of the longest rubric.",
        )
    if pitfalls not in ("detect", "met is good", "met is bad"):
        raise Refusal(
            f"pitfalls must be one of detect, met is good, met is bad, got {pitfalls!r}.",
            "Choose one of these.",
        )
    channels = tuple(Channel(name=f"{name}_{place}") for place in range(1, max_items + 1))
    return Rubric(judge, channels, pitfalls)


class _Asked(NamedTuple):
    """Which verdicts a question is about."""

    completion: int
    items: tuple[int, ...]


class Rubric:
    """A reward function: 1 where an item is as it should be, 0 where not, NaN where not known.

    Args:
      judge: whom to ask.
      channels: ``M_max``, for the first item of a row, the second and so on.
      pitfalls: see ``rubric``.
      store: a file that is open already; None: the judge's own, or see ``use_folder``.
    """

    def __init__(
        self,
        judge: Judge,
        channels: tuple[Channel, ...],
        pitfalls: Pitfalls,
        store: Store | None = None,
    ) -> None:
        self.judge, self.channels, self._pitfalls = judge, channels, pitfalls
        self.__name__ = channels[0].name.removesuffix("_1")
        self._store = store
        self._client: Client | None = None
        self._folder: Path | None = None
        self._counts = Counts()

    def __repr__(self) -> str:
        return f"Rubric({self.judge.model!r} at {self.judge.endpoint!r})"

    @property
    def keywords(self) -> Mapping[str, Any]:
        """What a run's config.json says of it: all that verdicts depend on.

        Limits and budget are not among it, so that a run can be taken up with others; nor is a key.
        """
        judge = {name: getattr(self.judge, name) for name in _DECISIVE}
        return {
            **judge,
            "name": self.__name__,
            "max_items": len(self.channels),
            "pitfalls": self._pitfalls,
        }

    def use_folder(self, folder: str | Path) -> None:
        """Keeps verdicts, rates and budget in a run's folder, where the judge names no file.

        Args:
          folder: of the run. Of one in a bucket nothing is kept: SQLite needs a disk.
        """
        self._client = None  # another run has a file of its own
        self._folder = None
        if self.judge.file is None and "://" in str(folder):
            _logger.warning(
                "the judge's verdicts are not kept: %s is no folder of this machine. Name a file: "
                "judge.file.",
                folder,
            )
        else:
            self._folder = Path(folder)

    def __call__(
        self, completions: Sequence[str], examples: Sequence[Example]
    ) -> list[npt.NDArray[np.float64]]:
        """Judges completions.

        Args:
          completions: ``N`` texts.
          examples: ``N`` rows with a prompt (``prompt`` or ``question``) and a rubric.

        Returns:
          ``N`` arrays ``[M]``: 1 where the item is met and meeting it is good, or not met and
          meeting it is bad; else 0; NaN where there is no verdict.

        Raises:
          Refusal: when a row has no rubric that can be read, or the judge's key is missing.
          BudgetSpent: when the judge may make no further call.
          JudgeDown: when the judge cannot be used.
        """
        return self.repeated(completions, examples, 0)

    def repeated(
        self, completions: Sequence[str], examples: Sequence[Example], repeat: int
    ) -> list[npt.NDArray[np.float64]]:
        """Judges completions once more: what differs between repeats is the judge's noise.

        Args:
          completions: as in a call.
          examples: as in a call.
          repeat: 0 is what a call asks; each number has verdicts of its own in the cache.

        Returns:
          As a call.
        """
        begun = time.monotonic()
        rubrics = self._rubrics(examples)
        asked, questions = self._questions(completions, examples, rubrics)
        client = self._open()
        try:
            answers = client.ask(questions, repeat)
        finally:
            counts = client.tally.take()
            counts.seconds = time.monotonic() - begun
            self._counts.add(counts)
        values = [np.full(len(items), np.nan) for items in rubrics]
        for (completion, places), verdicts in zip(asked, answers, strict=True):
            _fill(values[completion], rubrics[completion], places, verdicts)
        found = Counts(
            verdicts=sum(len(items) for items in rubrics),
            not_scored=sum(int(np.isnan(row).sum()) for row in values),
            left_out=sum(item.met_is_good is None for items in rubrics for item in items),
        )
        self._counts.add(found)
        _warn(found, counts)
        return values

    def take_metrics(self) -> dict[str, float]:
        """``take_counts`` by the names of metrics: what a run logs with each step.

        Returns:
          Numbers that add up over processes.
        """
        return self.take_counts().metrics(self.__name__)

    def take_counts(self) -> Counts:
        """What asking came to since the last call.

        Returns:
          The sums.
        """
        taken, self._counts = self._counts, Counts()
        return taken

    def _open(self) -> Client:
        if self._client is None:
            path = self.judge.file or (self._folder and self._folder / FILE)
            self._client = Client(self.judge, self._store or Store(path))
        return self._client

    def _rubrics(self, examples: Sequence[Example]) -> list[tuple[Item, ...]]:
        """The items of each row; a row stands once per completion."""
        read: dict[int, tuple[Item, ...]] = {}
        for index, row in enumerate(examples):
            if id(row) not in read:
                read[id(row)] = read_items(row, index, pitfalls=self._pitfalls)
                _check_length(read[id(row)], index, len(self.channels))
        return [read[id(row)] for row in examples]

    def _questions(
        self,
        completions: Sequence[str],
        examples: Sequence[Example],
        rubrics: Sequence[tuple[Item, ...]],
    ) -> tuple[list[_Asked], list[Question]]:
        asked, questions = [], []
        for index, (text, row, items) in enumerate(
            zip(completions, examples, rubrics, strict=True)
        ):
            places = [i for i, item in enumerate(items) if item.met_is_good is not None]
            parts = [places] if self.judge.ask == "completion" else [[place] for place in places]
            for part in filter(None, parts):
                texts = [items[place].text for place in part]
                prompt = _prompt(row, index)
                asked.append(_Asked(index, tuple(part)))
                questions.append(make_question(self.judge, prompt, text, texts))
        return asked, questions


def polarity_report(
    examples: Sequence[Example], *, pitfalls: Pitfalls = "detect"
) -> PolarityReport:
    """What the polarities of a data set's items are taken for, and why; reads every row.

    Args:
      examples: rows.
      pitfalls: see ``read_items``.

    Returns:
      Counts, with an example of each decision.

    Raises:
      Refusal: naming the first row whose rubric cannot be read.

    >>> row = {"rubric": [{"description": "Pitfall Criteria: Avoids harm.", "weight": -1}]}
    >>> polarity_report([row]).counts
    {('met is good', 'says what to do or avoid'): 1}
    """
    return tally(
        (item.text, item.met_is_good, item.reason)
        for index, row in enumerate(examples)
        for item in read_items(row, index, pitfalls=pitfalls)
    )


def _check_length(items: Sequence[Item], index: int, max_items: int) -> None:
    if len(items) > max_items:
        raise Refusal(
            f"example {index} has {len(items)} rubric items, more than max_items {max_items}.",
            f"Give rubric(..., max_items={len(items)}), or the most that any row has.",
        )


def _prompt(row: Example, index: int) -> object:
    prompt = next((row[name] for name in ("prompt", "question") if row.get(name)), None)
    if not isinstance(prompt, (str, list, tuple)):
        raise Refusal(
            f"example {index} must have a prompt for the judge to read, got "
            f"{type(prompt).__name__}.",
            "Give it the column prompt, a text or a list of messages.",
        )
    return prompt


def _fill(
    values: np.ndarray, items: Sequence[Item], places: Sequence[int], verdicts: Verdicts | None
) -> None:
    for place, met in zip(places, verdicts or (), strict=verdicts is not None):
        values[place] = float(met == items[place].met_is_good)


def _warn(found: Counts, asked: Counts) -> None:
    """A verdict that is missing unseen would be a quiet failure."""
    if asked.failed:
        reasons = "; ".join(f"{n} x {reason}" for reason, n in asked.reasons.most_common(3))
        _logger.warning(
            "the judge gave no verdict on %d of %d items, which are not scored: %s",
            *(found.not_scored - found.left_out, found.verdicts, reasons),
        )
