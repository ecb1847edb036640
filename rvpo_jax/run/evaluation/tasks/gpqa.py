"""GPQA-Diamond: four options in an order drawn per question and seed; the share of right letters.

An answer means nothing without the order of its options: it is stored with it as ``permutation``,
the numbers of the options (0 is the correct one) in the order in which they were shown.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.gpqa import LETTERS, OPTIONS, choice_order, gpqa_prompt
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

_ANSWER = re.compile(r"answer[ \t]*:[ \t]*\$?([A-D])\$?", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?\(?([A-D])\)?\}")


def chosen_letter(text: str) -> tuple[str | None, str]:
    r"""The option that an answer names, and the form it was read in.

    Args:
      text: a completion.

    Returns:
      The letter after the first ``Answer:``, as in the original; where there is none, that of the
      last ``\boxed{}``, in which RaR's models answer; else None. And ``answer``, ``boxed`` or
      ``none``.

    Source:
      github.com/openai/simple-evals (MIT); boxed answers: arXiv:2507.17746.

    >>> chosen_letter("Answer: c"), chosen_letter(r"Thus \boxed{B}."), chosen_letter("It is D.")
    (('C', 'answer'), ('B', 'boxed'), (None, 'none'))
    """
    match = _ANSWER.search(text)
    if match:
        return match[1].upper(), "answer"
    boxed = _BOXED.findall(text)
    return (boxed[-1], "boxed") if boxed else (None, "none")


def permutation_of(item: Item, seed: int) -> list[int]:
    """The order in which the options are shown: one for each question and seed.

    Args:
      item: the question.
      seed: of the answer.

    Returns:
      The numbers 0 to 3; 0 is the correct option.
    """
    return choice_order(str(item.row["Question"]).strip(), _options(item), seed)


def _options(item: Item) -> list[str]:
    """The right one first."""
    return [str(item.row[name]).strip() for name in OPTIONS]


def grade(item: Item, answer: Answer) -> Grade:
    """Whether the letter is that of the correct option.

    Args:
      item: the question.
      answer: with ``permutation`` in its columns.

    Returns:
      Channel ``correct``; no letter is wrong.

    Raises:
      Refusal: when the answer has no order of options.
    """
    order = answer.columns.get("permutation")
    if not isinstance(order, list) or sorted(map(str, order)) != list("0123"):
        raise Refusal(
            f"the answer to {excerpt(item.key)} must have permutation, the numbers 0 to 3 in the "
            f"order in which the options were shown (0 is the correct one), got {excerpt(order)}.",
            "Without it a letter means nothing: store it with the answers.",
        )
    letter, form = chosen_letter(answer.text)
    right = LETTERS[list(map(int, order)).index(0)]
    return Grade(
        values={"correct": float(letter == right)},
        all_met=letter == right,
        details={"letter": letter, "right": right, "form": form},
    )


def measures(graded: Sequence[Graded]) -> list[Measure]:
    """Accuracy, and the share of answers in which a letter was found.

    Args:
      graded: answers.

    Returns:
      Both, with intervals over questions.
    """
    boxed = sum(one.grade.details["form"] == "boxed" for one in graded)
    return [
        Measure(
            name="accuracy",
            rate=rate_of(graded, lambda one: [one.grade.values["correct"]]),
            note="guessing gives 25 %",
        ),
        Measure(
            name="letter_found",
            rate=rate_of(graded, lambda one: [float(one.grade.details["letter"] is not None)]),
            note=f"no letter counts as wrong; {boxed} read from \\boxed{{}}",
        ),
    ]


def _read(path: Path) -> list[Item]:
    rows = read_records(path, OPTION)
    columns = ("Record ID", "Question", *OPTIONS)
    return items_of(rows, lambda _, row: row["Record ID"], columns, "gpqa_diamond")


def _ask(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    order = permutation_of(item, seed)
    options = _options(item)
    choices = [options[number] for number in order]
    return gpqa_prompt(str(item.row["Question"]).strip(), choices), {"permutation": order}


GPQA_DIAMOND = Task(
    name="gpqa_diamond",
    source="arXiv:2311.12022; github.com/openai/simple-evals",
    read=_read,
    dataset=("gpqa_diamond", "test"),
    keys=("Record ID", "key"),
    text_of=lambda item: str(item.row["Question"]),
    ask=_ask,
    channels=("correct",),
    grade=grade,
    measures=measures,
    pass_channel="correct",
)
