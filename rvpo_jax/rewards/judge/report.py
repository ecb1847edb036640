"""How far a judge agrees with itself: repeated verdicts on the same items of the same completions.

A unit is one item of one completion; its verdicts are those of all repeats. ``R`` repeats.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rvpo_jax.basics.intervals import wilson_interval
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.rewards.judge.protocol import InvalidReply, read_verdicts
from rvpo_jax.rewards.judge.store import Store

_Z95 = 1.959964


class Answer(NamedTuple):
    """One reply: the verdicts on some items of one completion."""

    request: str  # the same for all repeats
    texts: tuple[str, ...]  # M, of the items
    met: tuple[bool, ...]  # M
    cost: float


class Flips(NamedTuple):
    """Of an item, or of all: how often two verdicts on the same unit differ."""

    name: str
    units: int  # with two verdicts or more
    verdicts: int  # of these
    met_frac: float  # share of these verdicts that are met
    flip_rate: float  # chance that two verdicts on a unit differ, mean over the units
    interval: tuple[float, float]  # of flip_rate, 95 %, Wilson, units counted as independent


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeReport:
    """What repeated verdicts say of a judge.

    Attributes:
      all_items: flips over all units.
      items: flips of each item, most unsteady first.
      alpha: Krippendorff's alpha: 1 is agreement, 0 what chance gives; NaN without any variation.
      calls: replies, also those on units that were asked once.
      cost: of these, in the unit of the prices.
    """

    all_items: Flips
    items: tuple[Flips, ...]
    alpha: float
    calls: int
    cost: float

    @property
    def wrong_rate(self) -> float:
        """p, the chance of a wrong verdict, if errors are independent and alike for all units.

        Two verdicts then differ with 2 p (1 - p). It is the judge's noise of the map of
        experiments; what the judge gets wrong every time it does not see. NaN above 1/2.
        """
        flips = self.all_items.flip_rate
        return (1 - math.sqrt(1 - 2 * flips)) / 2 if flips <= 0.5 else math.nan

    def lines(self, limit: int = 20) -> list[str]:
        """The report for a reader.

        Args:
          limit: items that are listed.

        Returns:
          Lines of text.
        """
        head = f"{'flip rate':>9}  {'95 %':>14}  {'met':>5}  {'units':>6}  item"
        rows = [_row(row) for row in (self.all_items, *self.items[:limit])]
        more = len(self.items) - limit
        return [
            f"agreement {1 - self.all_items.flip_rate:.3f}, Krippendorff's alpha {self.alpha:.3f}",
            f"wrong verdicts, if errors are independent: {self.wrong_rate:.3f}",
            f"cost {self.cost:.4g} for {self.calls} replies",
            "",
            head,
            *rows,
            *([f"and {more} further items"] if more > 0 else []),
        ]


def judge_report(answers: Iterable[Answer]) -> JudgeReport:
    """Agreement, flip rates and cost.

    Args:
      answers: of one judge, repeats among them.

    Returns:
      The report.

    Raises:
      Refusal: when no unit has two verdicts.

    >>> twice = [Answer("a", ("Greets.",), (met,), 0.01) for met in (True, False)]
    >>> judge_report(twice).all_items.flip_rate
    1.0
    """
    units: dict[tuple[str, int], list[bool]] = {}
    names: dict[tuple[str, int], str] = {}
    calls, cost = 0, 0.0
    for answer in answers:
        calls, cost = calls + 1, cost + answer.cost
        for place, (text, met) in enumerate(zip(answer.texts, answer.met, strict=True)):
            units.setdefault((answer.request, place), []).append(met)
            names[answer.request, place] = text
    repeated = {unit: met for unit, met in units.items() if len(met) > 1}
    if not repeated:
        raise Refusal(
            f"a judge's report needs repeated verdicts, got {len(units)} item(s) judged once each.",
            "Ask again with another repeat.",
        )
    by_item: dict[str, list[list[bool]]] = {}
    for unit, verdicts in repeated.items():
        by_item.setdefault(names[unit], []).append(verdicts)
    items = [_flips(name, several) for name, several in by_item.items()]
    return JudgeReport(
        all_items=_flips("all items", list(repeated.values())),
        items=tuple(sorted(items, key=lambda row: -row.flip_rate)),
        alpha=_alpha(list(repeated.values())),
        calls=calls,
        cost=cost,
    )


def read_answers(path: str | Path) -> list[Answer]:
    """The replies in a judge's file.

    Args:
      path: of the file, such as ``judge.sqlite`` in a run's folder.

    Returns:
      Those whose verdicts can be read.

    Raises:
      Refusal: when there is no such file.
    """
    if not Path(path).is_file():
        raise Refusal(
            f"there is no file {printable(path, keep='')}.",
            "A run's is judge.sqlite in its folder.",
        )
    with Store(path).transaction() as rows:
        found = rows.execute("SELECT request, texts, reply, cost FROM replies").fetchall()
    answers = [_answer(*row) for row in found]
    return [answer for answer in answers if answer is not None]


def _answer(request: str, texts: str, reply: str, cost: float) -> Answer | None:
    items = tuple(json.loads(texts))
    for explain in (False, True):
        try:
            met = read_verdicts(reply, len(items), explain=explain)
        except InvalidReply:
            continue
        return Answer(request, items, met, cost)
    return None


def _flips(name: str, verdicts: Sequence[Sequence[bool]]) -> Flips:
    differing = [_differing(met) for met in verdicts]
    rate, size = sum(differing) / len(differing), sum(map(len, verdicts))
    return Flips(
        name,
        units=len(verdicts),
        verdicts=size,
        met_frac=sum(map(sum, verdicts)) / size,
        flip_rate=rate,
        interval=wilson_interval(rate, len(verdicts), _Z95),
    )


def _differing(met: Sequence[bool]) -> float:
    """Share of the pairs of a unit's verdicts that differ."""
    yes, no = sum(met), len(met) - sum(met)
    return yes * no / math.comb(len(met), 2)


def _alpha(verdicts: Sequence[Sequence[bool]]) -> float:
    """Krippendorff's alpha for two values; units may have different numbers of verdicts."""
    size, yes = sum(map(len, verdicts)), sum(map(sum, verdicts))
    expected = 2 * yes * (size - yes) / (size - 1)
    observed = sum(_differing(met) * len(met) for met in verdicts)
    return 1 - observed / expected if expected else math.nan


def _row(row: Flips) -> str:
    low, high = row.interval
    interval = f"{low:.3f} to {high:.3f}"
    name = printable(row.name[:80], keep="")
    return f"{row.flip_rate:>9.3f}  {interval:>14}  {row.met_frac:>5.2f}  {row.units:>6}  {name}"
