"""IFEval: strict and loose accuracy at the level of prompts and of instructions.

Answers may bring verdicts of the original checker (columns ``strict`` and ``loose``, one verdict
per instruction, and perhaps ``reliability``). Where the original is not deterministic (langdetect,
NLTK, a letter drawn at random) these count, elsewhere ours do; how often the two differ is shown.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.public import user
from rvpo_jax.rewards.instructions import (
    KINDS,
    Instruction,
    all_followed,
    instructions_of,
    loose_verdicts,
    strict_verdicts,
    why_not_scored,
)
from rvpo_jax.run.evaluation.estimates import rate_of
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
from rvpo_jax.run.evaluation.records import read_records
from rvpo_jax.run.evaluation.tasks.rows import OPTION, items_of

READINGS = ("strict", "loose")
_COLUMNS = ("key", "instruction_id_list", "kwargs")


def grade(item: Item, answer: Answer) -> Grade:
    """Verdicts on an answer: which count, ours and the original's.

    Args:
      item: its ``instruction_id_list`` and ``kwargs`` hold unless the answer brings its own.
      answer: the completion, perhaps with verdicts of the original.

    Returns:
      Channels ``strict`` and ``loose`` at the level of the prompt. Details: the kinds, for each
      reading the verdict that counts on each instruction, ours, and the original's or none.

    Raises:
      Refusal: when the instructions cannot be read, or the verdicts do not fit them.
    """
    own = answer.columns if "instruction_id_list" in answer.columns else item.row
    instructions = instructions_of(own)
    if not instructions:
        raise Refusal(f"the prompt {excerpt(item.key)} must have instructions, got none.", "Add.")
    ours = {
        "strict": strict_verdicts(answer.text, instructions),
        "loose": loose_verdicts(answer.text, instructions),
    }
    frozen = _frozen(answer, instructions)
    trusted = _trusted(answer, instructions) if frozen else [True] * len(instructions)
    used = {
        name: [
            mine if trust else frozen[name][place]
            for place, (mine, trust) in enumerate(zip(ours[name], trusted, strict=True))
        ]
        for name in READINGS
    }
    values = {name: _known(all_followed(used[name])) for name in READINGS}
    return Grade(
        values=values,
        all_met=None if values["strict"] is None else values["strict"] == 1,
        details={
            "kinds": [instruction.kind for instruction in instructions],
            **used,
            "ours": ours,
            "original": frozen,
            "counted": ["ours" if trust else "original" for trust in trusted],
            "own_instructions": instructions != instructions_of(item.row),
        },
    )


def _frozen(answer: Answer, instructions: Sequence[Instruction]) -> dict[str, list[bool]]:
    """The original's verdicts by reading; empty where the answer has none."""
    found = {name: answer.columns.get(name) for name in READINGS}
    if not any(isinstance(value, list) for value in found.values()):
        return {}
    for name, value in found.items():
        fits = isinstance(value, list) and len(value) == len(instructions)
        if not fits or not all(isinstance(verdict, bool) for verdict in value or ()):
            raise Refusal(
                f"{name} of the answer to {excerpt(answer.key)} must be {len(instructions)} "
                f"verdicts, true or false, one per instruction; got {excerpt(value)}.",
                "Give strict and loose as the original writes them, or leave both out.",
            )
    return {name: list(value or ()) for name, value in found.items()}


def _trusted(answer: Answer, instructions: Sequence[Instruction]) -> list[bool]:
    """Whether the original is deterministic, so that our verdict counts."""
    said = answer.columns.get("reliability")
    if isinstance(said, list) and len(said) == len(instructions):
        return [value is True for value in said]
    return [KINDS[instruction.kind].library is None for instruction in instructions]


def _known(value: float) -> float | None:
    return None if value != value else value  # NaN


def measures(graded: Sequence[Graded]) -> list[Measure]:
    """The four accuracies.

    Args:
      graded: answers.

    Returns:
      Prompt level, then instruction level; what was not scored is left out and counted by
      ``notes``.

    Source:
      IFEval, arXiv:2311.07911, section 2.3.
    """

    def prompt(name: str, one: Graded) -> list[float | None]:
        return [one.grade.values[name]]

    def single(name: str, one: Graded) -> list[float | None]:
        return [None if v is None else float(v) for v in one.grade.details[name]]

    levels = {"prompt": (prompt, "answers"), "instruction": (single, "instructions")}
    return [
        Measure(
            name=f"{level}_{reading}",
            rate=rate_of(graded, functools.partial(values, reading)),
            note=f"share of {unit}",
        )
        for level, (values, unit) in levels.items()
        for reading in READINGS
    ]


def sections(graded: Sequence[Graded]) -> list[Section]:
    """Verdicts per kind: ours, the original's, and how many differ.

    Args:
      graded: answers.

    Returns:
      One table where the answers bring the original's verdicts, else none.
    """
    counts: dict[str, Counter[str]] = {}
    for details in (one.grade.details for one in graded if one.grade.details["original"]):
        for place, kind in enumerate(details["kinds"]):
            count = counts.setdefault(kind, Counter())
            for reading in READINGS:
                mine, theirs = details["ours"][reading][place], details["original"][reading][place]
                count["original"] += 1
                count["ours"] += mine is not None
                count["disagreeing"] += mine is not None and mine != theirs
                count["counted"] += details["counted"][place] == "ours"
    if not counts:
        return []
    columns = ("ours", "original", "disagreeing", "counted")
    counts["all kinds"] = sum(counts.values(), Counter())
    kinds = [*sorted(set(counts) - {"all kinds"}), "all kinds"]
    return [
        Section(
            title="Verdicts, strict and loose; ours count where the original is deterministic",
            header=("kind of instruction", "ours", "frozen", "disagreeing", "used"),
            rows=[(kind, *(counts[kind][name] for name in columns)) for kind in kinds],
        )
    ]


def notes(graded: Sequence[Graded]) -> list[str]:
    """What was not scored, and instructions that answers bring themselves.

    Args:
      graded: answers.

    Returns:
      Sentences.
    """
    found = []
    without = Counter(
        kind
        for one in graded
        for kind, verdict in zip(
            one.grade.details["kinds"], one.grade.details["strict"], strict=True
        )
        if verdict is None
    )
    unscored = sum(one.grade.values["strict"] is None for one in graded)
    if unscored:
        reasons = "; ".join(filter(None, map(why_not_scored, sorted(without))))
        found.append(
            f"{unscored} of {len(graded)} answers are not scored at the level of prompts: "
            f"{reasons}."
        )
    own = sum(one.grade.details["own_instructions"] for one in graded)
    if own:
        found.append(
            f"{own} answer(s) bring other instructions than the task's row has, and are judged by "
            "their own."
        )
    return found


def _read(path: Path) -> list[Item]:
    rows = read_records(path, OPTION)
    return items_of(rows, lambda _, row: row["key"], (*_COLUMNS, "prompt"), "ifeval")


def _ask(item: Item, seed: int) -> tuple[Prompt, dict[str, Any]]:
    return user(str(item.row["prompt"])), {}


def _item_of(columns: Mapping[str, Any]) -> Item | None:
    if any(columns.get(name) is None for name in _COLUMNS):
        return None
    return Item(key=str(columns["key"]), row={name: columns[name] for name in _COLUMNS})


IFEVAL = Task(
    name="ifeval",
    source="arXiv:2311.07911",
    read=_read,
    dataset=("ifeval", "train"),
    keys=("key",),
    text_of=lambda item: str(item.row.get("prompt", "")),
    ask=_ask,
    channels=READINGS,
    grade=grade,
    measures=measures,
    pass_channel="strict",
    sections=sections,
    notes=notes,
    item_of=_item_of,
)
