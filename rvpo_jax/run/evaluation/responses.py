"""Stored answers: a file with one answer per row, matched with a task's items.

Columns: the item's name (``key``, or the task's own, such as ``id`` or ``prompt_id``) or else its
text (``prompt`` or ``question``); the answer (``response`` or ``completion``: a text); where an
item has several answers, ``seed`` or ``sample``, a whole number; where a file has the answers of
several models, ``model``. What grading needs besides, such as ``permutation`` or ``verdicts``,
stands in further columns.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.items import Answer, Item, Task
from rvpo_jax.run.evaluation.records import Record, read_records

OPTION = "--responses"
_TEXTS, _SEEDS, _PROMPTS = ("response", "completion"), ("seed", "sample"), ("prompt", "question")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """The answers to a task, and what they lack.

    Attributes:
      items: of the task.
      answers: to them, in their order.
      num_missing: answers that there should be, for every item one per seed.
      missing: names of the first items that lack one.
      num_unknown: stored answers to prompts that are none of the task's.
      is_whole: whether the items are those of the task's own file, so that one that is missing
        shows.
    """

    items: Sequence[Item]
    answers: Sequence[Answer]
    num_missing: int = 0
    missing: Sequence[str] = ()
    num_unknown: int = 0
    is_whole: bool = True

    @property
    def seeds(self) -> list[int]:
        """Of the answers, in order."""
        return sorted({answer.seed for answer in self.answers})

    def sentences(self) -> list[str]:
        """What a reader of the table must know about the answers."""
        found = []
        if self.num_missing:
            found.append(
                f"{self.num_missing} of {len(self.items) * len(self.seeds)} answers are missing "
                f"(such as {', '.join(map(excerpt, self.missing))}): every number is a share of "
                "those there are."
            )
        if self.num_unknown:
            found.append(f"{self.num_unknown} answer(s) to prompts outside the task are left out.")
        if not self.is_whole:
            found.append(
                "The prompts are those of the answers' file: whether some of the task are missing "
                "is not known. --task-path names the task's own file."
            )
        return found


def read_responses(path: Path, task: Task, items: Sequence[Item] | None) -> dict[str, Answered]:
    """The answers in a file, for each model that wrote some.

    Args:
      path: JSON lines, Parquet or CSV.
      task: what was asked.
      items: of the task's own file; None: the answers' columns describe them.

    Returns:
      By the name of the model; an empty name where the file has no column ``model``.

    Raises:
      Refusal: on missing or wrong columns, two answers of one seed, or a file of another task.
    """
    by_model: dict[str, list[tuple[str, Record]]] = {}
    for number, record in enumerate(read_records(path, OPTION), start=1):
        where = f"row {number} of {OPTION} {path}"
        by_model.setdefault(str(record.get("model") or ""), []).append((where, record))
    return {name: _match(rows, task, items) for name, rows in by_model.items()}


def collect(items: Sequence[Item], answers: Sequence[Answer], **more: Any) -> Answered:
    """Answers in the order of the items, and the count of those that are missing.

    Args:
      items: of the task.
      answers: in any order, none twice.
      **more: further fields.

    Returns:
      The answers with what they lack.
    """
    place = {item.key: number for number, item in enumerate(items)}
    ordered = sorted(answers, key=lambda answer: (place[answer.key], answer.seed))
    seeds, given = {answer.seed for answer in answers}, {(a.key, a.seed) for a in answers}
    lacking = [item.key for item in items for seed in seeds if (item.key, seed) not in given]
    return Answered(
        items=items,
        answers=ordered,
        num_missing=len(lacking),
        missing=list(dict.fromkeys(lacking))[:3],
        **more,
    )


def _match(
    rows: Sequence[tuple[str, Record]], task: Task, items: Sequence[Item] | None
) -> Answered:
    is_whole = items is not None
    if items is None:
        items = _described(rows, task)
    by_key = {item.key: item for item in items}
    by_text = _by_text(task, items)
    answers: dict[tuple[str, int], Answer] = {}
    unknown: list[str] = []
    for where, row in rows:
        item = _item_of(row, where, task, by_key, by_text)
        text, seed = _text_of(row, where), _seed_of(row, where)
        if item is None:
            unknown.append(where)
        elif (item.key, seed) in answers:
            raise Refusal(
                f"{where} must not be a second answer of seed {seed} to {excerpt(item.key)}.",
                "Give several answers to a prompt a column seed, or remove one.",
            )
        else:
            answers[item.key, seed] = Answer(key=item.key, seed=seed, text=text, columns=row)
    if not answers:
        raise Refusal(
            f"{OPTION} must answer prompts of {task.name}, got none that does; the first is "
            f"{rows[0][0]}.",
            f"Name the prompt in a column {' or '.join(task.keys)}, as {task.name} names it.",
        )
    return collect(items, list(answers.values()), num_unknown=len(unknown), is_whole=is_whole)


def _by_text(task: Task, items: Sequence[Item]) -> dict[str, Item]:
    """Items by their text, without those that share one: which is meant would be a guess."""
    times = Counter(map(task.text_of, items))
    return {text: item for item in items if times[text := task.text_of(item)] == 1}


def _described(rows: Sequence[tuple[str, Record]], task: Task) -> list[Item]:
    found: dict[str, Item] = {}
    for where, row in rows:
        item = task.item_of(row)
        if item is None:
            raise Refusal(
                f"--task {task.name} needs its own rows: {where} does not hold all of them.",
                f"Give the original file of {task.name} with --task-path.",
            )
        found.setdefault(item.key, item)
    return list(found.values())


def _item_of(
    row: Record, where: str, task: Task, by_key: Mapping[str, Item], by_text: Mapping[str, Item]
) -> Item | None:
    for name in dict.fromkeys((*task.keys, "key")):
        if row.get(name) is not None:
            return by_key.get(str(row[name]))
    for name in _PROMPTS:
        prompt = row.get(name)
        if isinstance(prompt, list) and prompt and isinstance(prompt[-1], Mapping):
            prompt = prompt[-1].get("content")
        if isinstance(prompt, str):
            return by_text.get(prompt)
    raise Refusal(
        f"{where} must name its prompt in a column {' or '.join(task.keys)}, or have its text in "
        f"prompt, got the columns: {excerpt(', '.join(row), 200)}.",
        f"Add the column {task.keys[0]}.",
    )


def _text_of(row: Record, where: str) -> str:
    name = next((name for name in _TEXTS if row.get(name) is not None), None)
    if name is None or not isinstance(row[name], str):
        came = (
            f"the columns: {excerpt(', '.join(row), 200)}" if name is None else f"{row[name]!r:.80}"
        )
        raise Refusal(
            f"{where} must have the answer, a text, in a column {' or '.join(_TEXTS)}, got {came}.",
            "Rename the column; an empty answer is an empty text.",
        )
    return str(row[name])


def _seed_of(row: Record, where: str) -> int:
    value = next((row[name] for name in _SEEDS if row.get(name) not in (None, "")), 0)
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise Refusal(
            f"seed of {where} must be a whole number, got {excerpt(value)}.",
            "It tells several answers to a prompt apart.",
        ) from None
