"""All answers graded, and what eval.json says of them."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rvpo_jax.run.evaluation.estimates import passes_at
from rvpo_jax.run.evaluation.items import Graded, Measure, Section, Task
from rvpo_jax.run.evaluation.responses import Answered


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What an evaluation found.

    Attributes:
      task: its name.
      answered_by: what wrote the answers, for a reader.
      num_items: prompts of the task.
      num_answers: that were graded.
      num_missing: answers that there should be, for every prompt one per seed.
      seeds: of the answers.
      measures: the table.
      by_seed: by measure, its value for each seed alone; empty for one seed.
      sections: further tables.
      notes: what a reader must know, in sentences.
      settings: how the answers came about.
    """

    task: str
    answered_by: str
    num_items: int
    num_answers: int
    num_missing: int
    seeds: Sequence[int]
    measures: Sequence[Measure]
    by_seed: Mapping[str, Sequence[float]]
    sections: Sequence[Section]
    notes: Sequence[str]
    settings: Mapping[str, Any]


def grade_all(
    task: Task, answered: Answered, advance: Callable[[int], None] = lambda count: None
) -> list[Graded]:
    """Grades answers, one after the other.

    Args:
      task: that they answer.
      answered: items and answers.
      advance: is told of each answer that is done.

    Returns:
      The answers with their grades, in their order.
    """
    items = {item.key: item for item in answered.items}
    graded = []
    for answer in answered.answers:
        item = items[answer.key]
        graded.append(Graded(item, answer, task.grade(item, answer)))
        advance(1)
    return graded


def report_of(
    task: Task,
    answered: Answered,
    graded: Sequence[Graded],
    *,
    answered_by: str,
    settings: Mapping[str, Any],
) -> Report:
    """What the grades amount to.

    Args:
      task: that was answered.
      answered: items and answers.
      graded: the answers.
      answered_by: what wrote them.
      settings: how they came about.

    Returns:
      The report.
    """
    seeds = answered.seeds
    by_seed: dict[str, list[float]] = {}
    if len(seeds) > 1:
        for seed in seeds:
            part = [one for one in graded if one.answer.seed == seed]
            for measure in task.measures(part):
                by_seed.setdefault(measure.name, []).append(measure.rate.rate)
    return Report(
        task=task.name,
        answered_by=answered_by,
        num_items=len(answered.items),
        num_answers=len(graded),
        num_missing=answered.num_missing,
        seeds=seeds,
        measures=[*task.measures(graded), *_passes(task, graded)],
        by_seed=by_seed,
        sections=task.sections(graded),
        notes=[*answered.sentences(), *_truncated(graded), *task.notes(graded)],
        settings=settings,
    )


def seed_spread(report: Report, name: str) -> float:
    """Standard deviation of a measure over seeds (ddof 1).

    Args:
      report: of the evaluation.
      name: of the measure.

    Returns:
      NaN for one seed, or a measure that is not of single seeds, such as pass@k.
    """
    values = report.by_seed.get(name, ())
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _passes(task: Task, graded: Sequence[Graded]) -> list[Measure]:
    if task.pass_channel is None:
        return []
    found = passes_at(graded, task.pass_channel)
    note = f"{task.pass_channel} in one of k answers, share of prompts"
    return [Measure(name=f"pass@{k}", rate=rate, note=note) for k, rate in found.items()]


def _truncated(graded: Iterable[Graded]) -> list[str]:
    known = [one.answer.columns.get("truncated") for one in graded]
    cut = sum(value is True for value in known)
    if not cut:
        return []
    return [f"{cut} of {len(known)} answers were cut at the limit of --max-tokens."]
