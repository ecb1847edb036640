"""BFCL v3, its single-turn Python categories: the table of the leaderboard and both averages.

Two tasks with the same rows and grading differ in what they ask for: ``bfcl_v3`` calls in Python's
syntax, ``bfcl_v3_toolrl`` the ``<tool_call>`` blocks that RLLA trains. Both forms are read in both.
"""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.bfcl import toolrl_prompt
from rvpo_jax.rewards.function_calls import (
    AST_CATEGORIES,
    RELEVANCE_CATEGORIES,
    category_of,
    check_answer,
    summarize,
)
from rvpo_jax.run.evaluation.estimates import clustered, interval_of
from rvpo_jax.run.evaluation.items import (
    Answer,
    Grade,
    Graded,
    Item,
    Measure,
    Prompt,
    Section,
    Task,
)
from rvpo_jax.run.evaluation.records import LINES, Record, read_records
from rvpo_jax.run.evaluation.tasks.rows import OPTION, items_of

CATEGORIES = AST_CATEGORIES + RELEVANCE_CATEGORIES
OUT = "Java, JavaScript and multi-turn are out: neither is asked, and no average has them."
_PREFIX = "BFCL_v3_"
_PYTHON = """\
You answer by calling functions. Reply with the calls alone, in the form \
[name(parameter=value, ...), name(parameter=value, ...)] and Python's syntax, and nothing else. \
Where no function fits, or a required parameter is missing, say so in a sentence instead.
The functions that there are, in JSON:
{functions}"""


def grade(item: Item, answer: Answer) -> Grade:
    """Whether an answer is right, and the original's name for its first error.

    Args:
      item: ``id``, ``function`` and, where the category has it, ``ground_truth``.
      answer: the completion.

    Returns:
      Channel ``valid``.
    """
    verdict = check_answer(answer.text, item.row)
    details = {"category": category_of(item.row), "error": verdict.error_type}
    return Grade(
        values={"valid": float(verdict.valid)}, all_met=bool(verdict.valid), details=details
    )


def measures(graded: Sequence[Graded]) -> list[Measure]:
    """The leaderboard's table and both averages.

    Each number is a weighted sum of the categories' shares; its interval comes from theirs.

    Args:
      graded: answers.

    Returns:
      The averages first, then what they are made of; NaN where a category has no answers.
    """
    verdicts: dict[str, list[bool]] = {}
    prompts: dict[str, dict[str, list[bool]]] = {}
    for one in graded:
        category, valid = one.grade.details["category"], bool(one.grade.all_met)
        verdicts.setdefault(category, []).append(valid)
        prompts.setdefault(category, {}).setdefault(one.item.key, []).append(valid)
    variances = {name: _variance(list(found.values())) for name, found in prompts.items()}
    table = summarize(verdicts)
    weights = {name: _weights(verdicts, name) for name in verdicts}
    found = []
    for name in ("overall", "ast", *(name for name in table if name not in ("overall", "ast"))):
        average = table[name]
        if math.isnan(average.value):
            rate = clustered([], [])
        else:
            variance = sum(weights[c][name] ** 2 * variances[c] for c in verdicts)
            used = [c for c in verdicts if weights[c][name]]
            trials = sum(len(prompts[c]) for c in used)
            count = average.num_answers
            rate = interval_of(average.value, variance, trials=trials, count=count)
        found.append(Measure(name=name, rate=rate, note=_short(average.note)))
    return found


def _short(note: str) -> str:
    """How an average is made, and what is out, in few words; ``notes`` says the rest."""
    made, _, out = note.partition("; ")
    without = [name for name in ("Java", "JavaScript", "multi-turn") if name in out]
    return f"{made}; without {', '.join(without)}" if without else made


def _variance(prompts: Sequence[Sequence[bool]]) -> float:
    """Of a category's share, with prompts as trials."""
    size = sum(map(len, prompts))
    rate = sum(map(sum, prompts)) / size
    return sum((sum(found) - rate * len(found)) ** 2 for found in prompts) / size**2


def _weights(verdicts: Mapping[str, Sequence[bool]], category: str) -> dict[str, float]:
    """What a category's share counts in each number: its value where all else is wrong."""
    alone = {name: [name == category] * len(found) for name, found in verdicts.items()}
    return {name: average.value for name, average in summarize(alone).items()}


def sections(graded: Sequence[Graded]) -> list[Section]:
    """Right answers and the commonest error per category.

    Args:
      graded: answers.

    Returns:
      One table.
    """
    rows: list[tuple[str | int, ...]] = []
    for category in CATEGORIES:
        found = [one.grade for one in graded if one.grade.details["category"] == category]
        errors = Counter(
            str(grade.details["error"]).rpartition(":")[2] for grade in found if not grade.all_met
        )
        common = "".join(f"{name} ({count})" for name, count in errors.most_common(1))
        right = sum(bool(grade.all_met) for grade in found)
        rows.append((category, len(found), right, common))
    header = ("category", "answers", "right", "commonest error")
    return [Section(title="Categories", header=header, rows=rows)]


def _read(path: Path) -> list[Item]:
    """Rows of the original's folder: questions beside ``possible_answer/``; or one file of ours."""
    rows = list(_folder_rows(path)) if path.is_dir() else read_records(path, OPTION)
    scored = [row for row in rows if "id" not in row or category_of(row) in CATEGORIES]
    items = items_of(scored, lambda _, row: row["id"], ("id", "question", "function"), "bfcl_v3")
    for item in items:
        if category_of(item.row) in AST_CATEGORIES and not item.row.get("ground_truth"):
            raise Refusal(
                f"row {excerpt(item.key)} of {OPTION} must have its possible answers.",
                "Give the folder that holds possible_answer/, or rows with ground_truth.",
            )
    return items


def _folder_rows(path: Path) -> Iterator[Record]:
    found = 0
    for category in CATEGORIES:
        file = _file(path, category)
        if file is None:
            continue
        found += 1
        answers: dict[Any, Any] = {}
        if category in AST_CATEGORIES:
            possible = _file(path / "possible_answer", category)
            if possible is None:
                raise Refusal(
                    f"{OPTION} must hold possible_answer/{_PREFIX}{category}.json, got {path} "
                    "without it.",
                    "Fetch the whole folder of BFCL v3.",
                )
            rows = read_records(possible, OPTION)
            answers = {row.get("id"): row.get("ground_truth") for row in rows}
        for row in read_records(file, OPTION):
            yield row | ({"ground_truth": answers[row["id"]]} if row.get("id") in answers else {})
    if not found:
        raise Refusal(
            f"{OPTION} must hold files such as {_PREFIX}simple.json, got {path} without any.",
            "Give the folder of BFCL v3's data.",
        )


def _file(folder: Path, category: str) -> Path | None:
    names = [folder / f"{_PREFIX}{category}{suffix}" for suffix in LINES]
    return next((name for name in names if name.is_file()), None)


def _turns(item: Item) -> Prompt:
    question = item.row["question"]
    turns = question[0] if question and isinstance(question[0], list) else question
    return [{"role": str(m["role"]), "content": str(m["content"])} for m in turns]


def _ask_python(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    system = _PYTHON.format(functions=json.dumps(item.row["function"], ensure_ascii=False))
    return [{"role": "system", "content": system}, *_turns(item)], {}


def _ask_toolrl(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    return toolrl_prompt(dict(item.row), f"row {excerpt(item.key)} of {OPTION}"), {}


BFCL_V3 = Task(
    name="bfcl_v3",
    source="github.com/ShishirPatil/gorilla",
    read=_read,
    dataset=("bfcl_v3", "test"),
    keys=("id", "key"),
    text_of=lambda item: _turns(item)[-1]["content"],
    ask=_ask_python,
    channels=("valid",),
    grade=grade,
    measures=measures,
    pass_channel="valid",
    sections=sections,
    notes=lambda graded: [OUT],
)
BFCL_V3_TOOLRL = dataclasses.replace(
    BFCL_V3,
    name="bfcl_v3_toolrl",
    source="github.com/ShishirPatil/gorilla; prompts of github.com/qiancheng0/ToolRL (Apache-2.0)",
    ask=_ask_toolrl,
)
