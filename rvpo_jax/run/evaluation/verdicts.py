"""HealthBench's criteria put to a grader one by one, and its verdicts beside the answers."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rvpo_jax.run.evaluation.items import Answer, Item
from rvpo_jax.run.evaluation.responses import Answered
from rvpo_jax.run.evaluation.results import fingerprint_of
from rvpo_jax.run.evaluation.tasks.healthbench_grader import grader_prompt, read_verdict
from rvpo_jax.run.evaluation.writing import Question, Writer, written_answers

TRIES = 3  # of a question whose reply holds no verdict
FOLDER = "grader"


def with_verdicts(
    answered: Answered,
    writer: Writer,
    folder: Path,
    settings: dict[str, Any],
    console: Console,
) -> Answered:
    """Has a grader judge all answers that come without verdicts.

    Its replies are kept in ``grader/answers.jsonl`` as they come: an evaluation that is started
    again asks for the rest. A criterion whose reply holds no verdict, three times, has none.

    Args:
      answered: items of HealthBench and answers.
      writer: the grader.
      folder: of the evaluation.
      settings: of the grader.
      console: where to show progress.

    Returns:
      The same answers, with ``verdicts`` in their columns.
    """
    items = {item.key: item for item in answered.items}
    asked = [
        _question(items[answer.key], answer, place)
        for answer in answered.answers
        if answer.columns.get("verdicts") is None
        for place in range(len(items[answer.key].row["rubrics"]))
    ]
    if not asked:
        return answered
    told = {**settings, "answers": fingerprint_of([question.item for question in asked])}
    met = _ask_until_valid(asked, lambda questions: writer, folder / FOLDER, told, console)

    def judged(answer: Answer) -> Answer:
        if answer.columns.get("verdicts") is not None:
            return answer
        count = len(items[answer.key].row["rubrics"])
        verdicts = [met.get(_key(answer, place)) for place in range(count)]
        return dataclasses.replace(answer, columns={**answer.columns, "verdicts": verdicts})

    return dataclasses.replace(answered, answers=[judged(answer) for answer in answered.answers])


def _ask_until_valid(
    asked: Sequence[Question],
    make_writer: Callable[[Sequence[Question]], Writer],
    folder: Path,
    settings: dict[str, Any],
    console: Console,
) -> dict[str, bool]:
    """Verdicts by the name of the question; each try has a seed of its own."""
    met: dict[str, bool] = {}
    for seed in range(TRIES):
        left = [question._replace(seed=seed) for question in asked if question.item.key not in met]
        if not left:
            break
        replies = written_answers(left, make_writer, folder, settings, console)
        found = {reply.key: read_verdict(reply.text) for reply in replies.answers}
        met |= {key: verdict for key, verdict in found.items() if verdict is not None}
    return met


def _key(answer: Answer, place: int) -> str:
    return f"{answer.key} {answer.seed} {place}"


def _question(item: Item, answer: Answer, place: int) -> Question:
    rubric = item.row["rubrics"][place]
    prompt = grader_prompt(item.row["prompt"], answer.text, rubric["criterion"], rubric["points"])
    row = {"response": answer.text, "criterion": rubric["criterion"]}
    return Question(Item(key=_key(answer, place), row=row), place, 0, prompt, {})
