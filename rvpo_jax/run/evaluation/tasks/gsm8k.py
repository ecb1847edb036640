"""GSM8K: the share of right answers, judged as the original judges them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.gsm8k import gsm8k_prompt
from rvpo_jax.rewards.gsm8k import final_answer, gsm8k_correctness, gsm8k_format
from rvpo_jax.run.evaluation.estimates import rate_of
from rvpo_jax.run.evaluation.items import (
    Answer,
    Grade,
    Graded,
    Item,
    Measure,
    Prompt,
    Task,
)
from rvpo_jax.run.evaluation.records import read_records
from rvpo_jax.run.evaluation.tasks.rows import OPTION, items_of

CHANNELS = ("correctness", "format")


def grade(item: Item, answer: Answer) -> Grade:
    """Whether the marked number is the reference's, and whether the form is GSM8K's.

    Args:
      item: with ``answer``.
      answer: the completion.

    Returns:
      Channels ``correctness`` and ``format``; all met means both.
    """
    functions = (gsm8k_correctness, gsm8k_format)
    scores = [float(function([answer.text], [item.row])[0]) for function in functions]
    return Grade(
        values=dict(zip(CHANNELS, scores, strict=True)),
        all_met=min(scores) == 1,
        details={"extracted": final_answer(answer.text)},
    )


def measures(graded: Sequence[Graded]) -> list[Measure]:
    """Accuracy, and what it rests on.

    Args:
      graded: answers.

    Returns:
      Accuracy, the share of right form, and that of answers whose number is marked at all.
    """
    return [
        Measure(
            name="accuracy",
            rate=rate_of(graded, lambda one: [one.grade.values["correctness"]]),
            note="the number after the first ####, or after A:",
        ),
        Measure(
            name="format",
            rate=rate_of(graded, lambda one: [one.grade.values["format"]]),
            note="the last line is #### and a number, and no other ####",
        ),
        Measure(
            name="marked",
            rate=rate_of(graded, lambda one: [float(one.grade.details["extracted"] is not None)]),
            note="an answer without a mark counts as wrong",
        ),
    ]


def _read(path: Path) -> list[Item]:
    rows = read_records(path, OPTION)
    items = items_of(
        rows, lambda place, row: row.get("key", place), ("question", "answer"), "gsm8k"
    )
    for item in items:
        if final_answer(str(item.row["answer"])) is None:
            raise Refusal(
                f"answer of row {excerpt(item.key)} of {OPTION} must end with #### and a number, "
                f"got {excerpt(item.row['answer'])}.",
                "Give the original file of gsm8k.",
            )
    return items


def _ask(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    return gsm8k_prompt(str(item.row["question"])), {}


GSM8K = Task(
    name="gsm8k",
    source="github.com/openai/grade-school-math",
    read=_read,
    dataset=("gsm8k", "test"),
    keys=("key",),
    text_of=lambda item: str(item.row["question"]),
    ask=_ask,
    channels=CHANNELS,
    grade=grade,
    measures=measures,
    pass_channel="correctness",
)
