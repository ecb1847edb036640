"""What an evaluation leaves in its folder: answers as they are written, rows, ``eval.json``.

``answers.jsonl`` grows while a policy writes, under a first line with the settings: an evaluation
that is started again goes on with it, and one with other settings is refused. ``rows.jsonl`` (one
graded answer per line) and ``eval.json`` appear when all are graded, each as a whole.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvpo_jax.basics.files import cannot_write, read_object, replacing, to_json, write_text
from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.grading import Report
from rvpo_jax.run.evaluation.items import Answer, Graded, Item
from rvpo_jax.run.json_lines import append_jsonl

ANSWERS, ROWS, EVAL = "answers.jsonl", "rows.jsonl", "eval.json"


def fingerprint_of(items: Sequence[Item]) -> str:
    """A short text that changes with the rows of a task.

    Args:
      items: of the task.

    Returns:
      16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for item in items:
        digest.update(to_json([item.key, item.row]).encode())
    return digest.hexdigest()[:16]


class Answers:
    """The answers that a policy has written, kept as they come.

    Args:
      folder: of the evaluation; made where it is absent.
      settings: what an answer depends on.

    Raises:
      Refusal: when the folder has answers of other settings.
      WriteError: when it cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / ANSWERS
        header = json.loads(to_json(settings))
        make_folder(folder)
        first, *rest = _objects(self._path) or [{}]
        if "settings" in first:
            _check_settings(first["settings"], header, self._path)
        self.found = [_answer(row) for row in rest if "settings" in first and _is_answer(row)]
        # Written anew: a line that was cut is gone, and the next one begins on a line of its own.
        lines = [to_json({"settings": header}), *map(_line, self.found)]
        write_text(self._path, "".join(f"{line}\n" for line in lines))

    def add(self, answer: Answer) -> None:
        """Keeps one more.

        Args:
          answer: that was written.

        Raises:
          WriteError: when it cannot be.
        """
        append_jsonl(self._path, json.loads(_line(answer)))
        self.found.append(answer)


def make_folder(folder: Path) -> None:
    """Makes the folder of an evaluation where it is absent.

    Args:
      folder: to make.

    Raises:
      WriteError: when it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def check_same_task(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuses to write over the evaluation of another task, or of other answers.

    Args:
      folder: of the evaluation.
      report: with ``task`` and ``answered_by``.

    Raises:
      Refusal: when the folder holds another one.
    """
    path = folder / EVAL
    if not path.exists():
        return
    found, problem = read_object(path)
    there = {name: (found or {}).get(name, problem) for name in report}
    if there != dict(report):
        raise Refusal(
            f"{folder} holds an evaluation of {there}, not of {dict(report)}.",
            "Give another folder with --out, or remove it.",
        )


def write_results(folder: Path, report: Report, graded: Sequence[Graded]) -> None:
    """Writes rows.jsonl and eval.json, each as a whole or not at all.

    Args:
      folder: of the evaluation.
      report: what was found.
      graded: all answers.

    Raises:
      WriteError: when one cannot be written.
    """
    make_folder(folder)
    with replacing(folder / ROWS) as part, part.open("w", encoding="utf-8") as lines:
        lines.writelines(f"{to_json(_row(one))}\n" for one in graded)
    write_text(folder / EVAL, to_json(_plain(report), indent=1) + "\n")


def read_results(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """eval.json and the rows of a finished evaluation.

    Args:
      folder: of the evaluation.

    Returns:
      The report and the graded answers, plain.

    Raises:
      Refusal: when it is not finished, or not one.
    """
    report, problem = read_object(folder / EVAL)
    rows = [row for row in _objects(folder / ROWS) if isinstance(row.get("values"), dict)]
    if report is None or not rows or "task" not in report:
        what = f"{EVAL}, {problem}" if report is None else f"no {ROWS}"
        raise Refusal(
            f"--compare takes folders of finished evaluations, got {folder} with {what}.",
            "Run rvpo eval --task ... --out FOLDER first.",
        )
    return report, rows


def _plain(report: Report) -> dict[str, Any]:
    plain = dataclasses.asdict(report)
    plain["measures"] = {
        measure.name: {**dataclasses.asdict(measure.rate), "note": measure.note}
        for measure in report.measures
    }
    return plain


def _row(one: Graded) -> dict[str, Any]:
    """A row that ``--responses`` takes: with all that its grading needs."""
    return {
        **one.answer.columns,
        "key": one.answer.key,
        "seed": one.answer.seed,
        "values": one.grade.values,
        "all_met": one.grade.all_met,
        "response": one.answer.text,
        "details": one.grade.details,
    }


def _line(answer: Answer) -> str:
    row = {"key": answer.key, "seed": answer.seed, "response": answer.text}
    return to_json(row | {"columns": answer.columns})


def _is_answer(row: Mapping[str, Any]) -> bool:
    kinds = {"key": str, "seed": int, "response": str, "columns": dict}
    return all(isinstance(row.get(name), kind) for name, kind in kinds.items())


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(key=row["key"], seed=row["seed"], text=row["response"], columns=row["columns"])


def _check_settings(old: Any, new: Mapping[str, Any], path: Path) -> None:
    if not isinstance(old, dict):
        old = {}
    differing = [name for name in new | old if old.get(name) != new.get(name)]
    if differing:
        told = "; ".join(
            f"{name} {excerpt(old.get(name))} there, {excerpt(new.get(name))} here"
            for name in differing
        )
        raise Refusal(
            f"{path} has answers of other settings: {told}.",
            "Go on with the same settings, or give another folder with --out.",
        )


def _objects(path: Path) -> list[dict[str, Any]]:
    """The lines that hold an object: a process that was killed leaves at most its last one cut."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.append(row)
    return found
