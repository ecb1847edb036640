"""Answers that somebody writes: each is kept as it comes, and none is asked for twice."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from rvpo_jax.run.evaluation.items import Answer, Item, Prompt, Task
from rvpo_jax.run.evaluation.progress import progress
from rvpo_jax.run.evaluation.responses import Answered, collect
from rvpo_jax.run.evaluation.results import Answers

LOG = logging.getLogger(__name__)


class Question(NamedTuple):
    """One answer that is wanted."""

    item: Item
    place: int  # of the item in the task: its random numbers are those of the place
    seed: int
    prompt: Prompt
    columns: Mapping[str, Any]  # to store with the answer


class Written(NamedTuple):
    """What was written for a question."""

    question: Question
    text: str
    truncated: bool  # it was cut at the limit of tokens


Writer = Callable[[Sequence[Question]], Iterator[Written]]
"""Answers questions, in any order; what it leaves out was refused, and is counted as missing."""


def questions_of(task: Task, items: Sequence[Item], seeds: Sequence[int]) -> list[Question]:
    """One question for each item and seed.

    Args:
      task: says how to ask.
      items: of the task.
      seeds: of the answers to each.

    Returns:
      The questions, seed by seed.
    """
    asked = [
        (place, item, seed) for seed in dict.fromkeys(seeds) for place, item in enumerate(items)
    ]
    return [Question(item, place, seed, *task.ask(item, seed)) for place, item, seed in asked]


def written_answers(
    questions: Sequence[Question],
    make_writer: Callable[[Sequence[Question]], Writer],
    folder: Path,
    settings: Mapping[str, Any],
    console: Console,
) -> Answered:
    """Has the questions answered that the folder has no answer to.

    Args:
      questions: all of them.
      make_writer: from all questions, a writer; called where something is left to write.
      folder: keeps the answers.
      settings: what an answer depends on.
      console: where to show progress.

    Returns:
      The items with all answers.

    Raises:
      Refusal: when the folder has answers of other settings.
    """
    answers = Answers(folder, settings)
    wanted = {(question.item.key, question.seed) for question in questions}
    kept = {(a.key, a.seed): a for a in answers.found if (a.key, a.seed) in wanted}
    left = [question for question in questions if (question.item.key, question.seed) not in kept]
    if kept:
        console.print(f"going on: {len(kept)} of {len(questions)} answers are there")
    if left:
        with progress("answering", len(questions), console, len(kept)) as advance:
            for written in make_writer(questions)(left):
                question = written.question
                answer = Answer(
                    key=question.item.key,
                    seed=question.seed,
                    text=written.text,
                    columns={**question.columns, "truncated": written.truncated},
                )
                answers.add(answer)
                kept[answer.key, answer.seed] = answer
                advance(1)
    items = list({question.item.key: question.item for question in questions}.values())
    return collect(items, list(kept.values()))
