"""What ``rvpo eval`` does with a task: stored answers, or those of a policy; two evaluations."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rvpo_jax.basics.files import write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.grading import Report, grade_all, report_of
from rvpo_jax.run.evaluation.items import Item, Task
from rvpo_jax.run.evaluation.paired import compare, comparison_json, show_comparison
from rvpo_jax.run.evaluation.progress import progress
from rvpo_jax.run.evaluation.responses import Answered, read_responses
from rvpo_jax.run.evaluation.results import (
    EVAL,
    ROWS,
    check_same_task,
    fingerprint_of,
    make_folder,
    read_results,
    write_results,
)
from rvpo_jax.run.evaluation.table import say, show, show_together

DEFAULT_OUT = Path("runs/evals")
COMPARISON = "comparison.json"
Judged = Callable[[Answered, Path], Answered]


def items_of_task(task: Task, path: Path | None) -> list[Item]:
    """The rows of a task: the one place that says where they come from.

    Args:
      task: whose rows.
      path: local file or folder of the original; None: they are downloaded, which is said first.

    Returns:
      The items.

    Raises:
      Refusal: when the rows cannot be read, are none of this task or cannot be downloaded.
      DownloadFailed: when they are not to be had.
    """
    if path is not None:
        return task.read(path.expanduser())
    if task.dataset is None:
        raise Refusal(
            f"--task {task.name} needs --task-path, its rows as its authors publish them.",
            "Fetch them, and name the file or folder.",
        )
    from rvpo_jax.data.datasets import builder_of, original

    name, split = task.dataset
    return task.read(original(builder_of(name), split))


def evaluate_responses(
    task: Task,
    responses: Path,
    items: Sequence[Item] | None,
    out: Path | None,
    console: Console,
    judged: Judged | None = None,
) -> None:
    """Grades stored answers; those of several models each by themselves.

    Args:
      task: that they answer.
      responses: the file.
      items: of the task; None: the answers' columns describe them.
      out: folder to write to; of several models, each has a folder in it. None: one below
        ``runs/evals``.
      console: where to print.
      judged: adds a grader's verdicts to answers; None: they bring what grading needs.

    Raises:
      Refusal: on answers that cannot be used.
    """
    stem = responses.name.split(".")[0]
    folder = DEFAULT_OUT / task.name / stem if out is None else out
    by_model, reports = read_responses(responses, task, items), []
    for model, answered in by_model.items():
        inside = folder / as_folder(model) if len(by_model) > 1 else folder
        settings = {
            "responses": str(responses),
            "model": model,
            "task_rows": fingerprint_of(answered.items),
        }
        if judged is not None:
            answered = judged(answered, inside)
        reports += [
            finish(task, answered, inside, console, answered_by=model or stem, settings=settings)
        ]
    if len(reports) > 1:
        show_together(reports, console)


def finish(
    task: Task,
    answered: Answered,
    folder: Path,
    console: Console,
    *,
    answered_by: str,
    settings: Mapping[str, Any],
) -> Report:
    """Grades answers, writes what was found and shows it.

    Args:
      task: that was answered.
      answered: items and answers.
      folder: to write to.
      console: where to print.
      answered_by: what wrote the answers.
      settings: how they came about.

    Returns:
      What was found.

    Raises:
      Refusal: when an answer cannot be graded, or the folder has another evaluation.
    """
    check_same_task(folder, {"task": task.name, "answered_by": answered_by})
    with progress("grading", len(answered.answers), console) as advance:
        graded = grade_all(task, answered, advance)
    report = report_of(task, answered, graded, answered_by=answered_by, settings=settings)
    write_results(folder, report, graded)
    show(report, console)
    say(f"wrote {folder}: {EVAL}, {ROWS}", console)
    return report


def compare_folders(folders: Sequence[Path], out: Path | None, console: Console) -> None:
    """Compares two finished evaluations.

    Args:
      folders: A and B.
      out: folder to write ``comparison.json`` to; None: it is only shown.
      console: where to print.

    Raises:
      Refusal: when they are not two evaluations of one task.
    """
    (first, rows), (second, others) = map(read_results, folders)
    if first["task"] != second["task"]:
        raise Refusal(
            f"--compare needs two evaluations of one task, got {first['task']} and "
            f"{second['task']}.",
            "Evaluate both on the same task.",
        )
    names = [str(report.get("answered_by")) for report in (first, second)]
    found, only = compare(rows, others)
    show_comparison(names, found, only, console)
    prints = [(report.get("settings") or {}).get("task_rows") for report in (first, second)]
    if prints[0] != prints[1]:
        say("- The two have other rows of the task: prompts are paired by name alone.", console)
    if out is not None:
        make_folder(out)
        write_text(out / COMPARISON, comparison_json(names, found, only) + "\n")


def as_folder(name: str) -> str:
    """A name that anybody may have written, as that of a folder.

    Args:
      name: of a model.

    Returns:
      A name without separators.

    >>> as_folder("Qwen/Qwen2.5-7B"), as_folder("../..")
    ('Qwen-Qwen2.5-7B', 'unnamed')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:100] or "unnamed"
