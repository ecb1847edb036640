"""HealthBench: points of the criteria that an answer meets, per row, axis and theme.

A grader says which criteria are met; the verdicts stand in the answer's column ``verdicts``, one
per rubric item: true, false, or null where none could be had. An answer with a null is not scored.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvpo_jax.basics.intervals import Rate
from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.items import Answer, Grade, Graded, Item, Measure, Prompt, Task
from rvpo_jax.run.evaluation.records import read_records
from rvpo_jax.run.evaluation.tasks.healthbench_grader import NOT_RUN
from rvpo_jax.run.evaluation.tasks.rows import OPTION, items_of

AXES = tuple(
    f"axis:{name}"
    for name in (
        "accuracy",
        "communication_quality",
        "completeness",
        "context_awareness",
        "instruction_following",
    )
)
RESAMPLES = 1000


def score_of(rubrics: Sequence[Mapping[str, Any]], verdicts: Sequence[bool]) -> float | None:
    """Points of the criteria met, as a share of the positive points.

    Args:
      rubrics: items with ``points``, which may be negative.
      verdicts: whether each is met.

    Returns:
      At most 1, and negative where what costs points prevails; None where no points are positive.

    Source:
      HealthBench, arXiv:2505.08775; github.com/openai/simple-evals (MIT).

    >>> score_of([{"points": p} for p in (7, 5, 10, -6)], [True, False, True, True])
    0.5
    """
    possible = sum(item["points"] for item in rubrics if item["points"] > 0)
    if not possible:
        return None
    met = zip(rubrics, verdicts, strict=True)
    return sum(item["points"] for item, verdict in met if verdict) / possible


def grade(item: Item, answer: Answer) -> Grade:
    """The score of an answer and of the axes that its rubric has.

    Args:
      item: with ``rubrics``.
      answer: with ``verdicts`` in its columns.

    Returns:
      Channels ``score`` and the axes, None where nothing is known. All met: every positive
      criterion and no negative one.

    Raises:
      Refusal: when the verdicts do not fit the rubric.
    """
    rubrics = item.row["rubrics"]
    verdicts = _verdicts(item, answer)
    known = [verdict for verdict in verdicts if verdict is not None]
    if len(known) < len(rubrics):
        return Grade(
            values=dict.fromkeys(("score", *AXES)),
            all_met=None,
            details={"verdicts": verdicts, "tags": {}},
        )

    def tagged(tag: str) -> float | None:
        places = [i for i, rubric in enumerate(rubrics) if tag in rubric["tags"]]
        return score_of([rubrics[i] for i in places], [known[i] for i in places])

    score = score_of(rubrics, known)
    tags = sorted({tag for rubric in rubrics for tag in rubric["tags"]} - {"level:example"})
    by_tag = {tag: value for tag in tags if (value := tagged(tag)) is not None}
    by_tag |= {tag: score for tag in item.row.get("example_tags") or () if score is not None}
    return Grade(
        values={"score": score, **{axis: by_tag.get(axis) for axis in AXES}},
        all_met=all(
            met == (rubric["points"] > 0) for rubric, met in zip(rubrics, known, strict=True)
        ),
        details={"verdicts": verdicts, "tags": by_tag},
    )


def _verdicts(item: Item, answer: Answer) -> list[bool | None]:
    count, found = len(item.row["rubrics"]), answer.columns.get("verdicts")
    if found is None:
        return [None] * count
    fits = isinstance(found, list) and len(found) == count
    if not fits or not all(verdict is None or isinstance(verdict, bool) for verdict in found):
        raise Refusal(
            f"verdicts of the answer to {excerpt(item.key)} must be {count} of true, false or "
            f"null, one per rubric item; got {excerpt(found)}.",
            "Keep the order of the row's rubrics.",
        )
    return list(found)


def clipped_mean(values: Sequence[float], *, seed: int = 0) -> Rate:
    """Mean of scores, clipped to [0, 1], with its bootstrap interval.

    Args:
      values: of rows, each at most 1.
      seed: of the resamples.

    Returns:
      The clipped mean; the interval is the original's standard error, from 1,000 resamples each
      clipped too, times 1.96 either way. NaN where the error is 0: of one row, or where every
      resample is clipped, nothing follows for other rows.

    Source:
      github.com/openai/simple-evals (MIT): mean, n and bootstrap_std of HealthBench.

    >>> clipped_mean([-1.0, -1.0]).rate, clipped_mean([0.5, 0.5])
    (0.0, Rate(rate=0.5, low=nan, high=nan, count=2))
    """
    if not values:
        return Rate(rate=math.nan, low=0.0, high=1.0, count=0)
    scores = np.array(values, np.float64)
    mean, error = float(np.clip(scores.mean(), 0, 1)), bootstrap_error(values, seed=seed)
    if not error:
        return Rate(rate=mean, low=math.nan, high=math.nan, count=len(scores))
    low, high = (float(np.clip(mean + sign * 1.96 * error, 0, 1)) for sign in (-1, 1))
    return Rate(rate=mean, low=low, high=high, count=len(scores))


def bootstrap_error(values: Sequence[float], *, seed: int = 0) -> float:
    """Standard deviation of the clipped mean over resamples of the rows.

    Args:
      values: of rows.
      seed: of the resamples.

    Returns:
      The error; 0 where every resample is clipped, as a mean far below 0 is.
    """
    generator, scores = np.random.default_rng(seed), np.array(values, np.float64)
    means = [generator.choice(scores, scores.size).mean() for _ in range(RESAMPLES)]
    return float(np.clip(means, 0, 1).std())


def measures(graded: Sequence[Graded]) -> list[Measure]:
    """The score, then axes and themes.

    Args:
      graded: answers.

    Returns:
      Clipped means over rows; a row with several answers counts with their mean.
    """

    tags = Counter(tag for one in graded for tag in one.grade.details["tags"])
    names = [tag for tag in sorted(tags) if tag.startswith(("axis:", "theme:"))]
    return [
        _mean("score", [(one, one.grade.values["score"]) for one in graded]),
        *(
            _mean(tag, [(one, one.grade.details["tags"].get(tag)) for one in graded])
            for tag in names
        ),
    ]


def _mean(name: str, values: Sequence[tuple[Graded, float | None]]) -> Measure:
    rows: dict[str, list[float]] = {}
    for one, value in values:
        if value is not None:
            rows.setdefault(one.item.key, []).append(value)
    scores = [float(np.mean(found)) for found in rows.values()]
    note = f"bootstrap error {bootstrap_error(scores):.4f}" if scores else ""
    if scores and np.mean(scores) < 0:
        note += f"; {np.mean(scores):.3f} before clipping"
    return Measure(name=name, rate=clipped_mean(scores), note=note or "no verdicts")


def notes(graded: Sequence[Graded]) -> list[str]:
    """Answers that are not scored.

    Args:
      graded: answers.

    Returns:
      Sentences.
    """
    unscored = sum(one.grade.values["score"] is None for one in graded)
    found = ["Scores are means over rows, clipped to 0 .. 1.", NOT_RUN]
    if unscored:
        found.append(
            f"{unscored} of {len(graded)} answers lack a verdict and are not scored: give a column "
            "verdicts, one per rubric item, or name a grader with --grader."
        )
    return found


def _read(path: Path) -> list[Item]:
    rows = read_records(path, OPTION)
    columns = ("prompt_id", "prompt", "rubrics")
    items = items_of(rows, lambda _, row: row["prompt_id"], columns, "healthbench")
    for item in items:
        rubrics = item.row["rubrics"]
        if not isinstance(rubrics, list) or not rubrics or not all(map(_is_rubric, rubrics)):
            raise Refusal(
                f"rubrics of row {excerpt(item.key)} of {OPTION} must be a list of at least one "
                f"item with criterion, points and tags, got {excerpt(rubrics)}.",
                "Give the original file of healthbench.",
            )
    return items


def _is_rubric(item: object) -> bool:
    if not isinstance(item, Mapping):
        return False
    points, tags = item.get("points"), item.get("tags")
    return (
        isinstance(item.get("criterion"), str)
        and isinstance(points, (int, float))
        and not isinstance(points, bool)
        and isinstance(tags, list)
    )


def _ask(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    return [dict(message) for message in item.row["prompt"]], {}


HEALTHBENCH = Task(
    name="healthbench",
    source="arXiv:2505.08775; github.com/openai/simple-evals",
    read=_read,
    dataset=("healthbench", "test"),
    keys=("prompt_id", "key"),
    text_of=lambda item: str(item.row["prompt"][-1]["content"]),
    ask=_ask,
    channels=("score", *AXES),
    grade=grade,
    measures=measures,
    notes=notes,
)
