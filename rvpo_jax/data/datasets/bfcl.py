"""BFCL v3: function calls, with the possible answers that its checker takes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.public import Files, Origin, PublicRows, Split, column, text
from rvpo_jax.data.datasets.rlla_prompt import rlla_prompt
from rvpo_jax.data.row_files import Row, read_file
from rvpo_jax.data.rows import is_messages

WITH_ANSWERS = (
    "simple",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
WITHOUT_ANSWERS = ("irrelevance", "live_irrelevance", "live_relevance")
_QUESTIONS, _ANSWERS = "BFCL_v3_{}.json", "possible_answer/BFCL_v3_{}.json"
_SYNTAX = " Note that the provided function is in Python 3 syntax."
_REQUEST = (
    "\nIf there's no appropriate tools to apply or required parameters are missing, please "
    "directly inform me in your response without any tool call, or call the tool with the name as "
    "'None'. Otherwise, you should use one or more necessary tool calls to complete the given task "
    "in this turn."
)


class BfclV3(PublicRows):
    """BFCL v3: function calls in one turn, in the categories that can be checked.

    For evaluation. Columns: ``id``, which begins with the category, ``question``, ``function`` and,
    where the category has it, ``ground_truth``. Java, JavaScript and the categories of several
    turns are left out: nothing here checks them.

    Source:
      The prompt is that of ToolRL's handler for BFCL (Apache-2.0), in the form of RLLA; another one
      can be made of ``question`` and ``function``.
    """

    origin = Origin(
        base="https://raw.githubusercontent.com/ShishirPatil/gorilla/"
        "cd9429ccf3d4d04156affe883c495b3b047e6b64/berkeley-function-call-leaderboard/bfcl_eval/"
        "data/",
        homepage="https://gorilla.cs.berkeley.edu/leaderboard.html",
        licence="Apache-2.0",
        citation="Patil et al. 2025, The Berkeley Function Calling Leaderboard, ICML 2025",
    )
    splits = {
        "test": Split(
            files=(
                *(_QUESTIONS.format(name) for name in (*WITH_ANSWERS, *WITHOUT_ANSWERS)),
                *(_ANSWERS.format(name) for name in WITH_ANSWERS),
            )
        )
    }

    @classmethod
    def read(cls, split: str, files: Files) -> Iterator[Row]:
        """See ``PublicRows``."""
        del split
        for category in (*WITH_ANSWERS, *WITHOUT_ANSWERS):
            path = files.get(_QUESTIONS.format(category))
            if path is None:
                continue
            answers = _answers(files, category) if category in WITH_ANSWERS else None
            for where, row in read_file(path, ".jsonl"):
                yield cls.to_row(row | _ground_truth(answers, row, where), where)

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        return row | {"prompt": toolrl_prompt(row, where)}


def toolrl_prompt(row: Row, where: str) -> list[dict[str, str]]:
    """The prompt of a row for a model that was trained on RLLA.

    Args:
      row: With ``question``, one turn, and ``function``.
      where: Of the row, for messages.

    Returns:
      A system and a user message.

    Raises:
      Refusal: when the row is not as BFCL has them.

    Source:
      ToolRL's handler for BFCL (Apache-2.0).
    """
    turns = column(row, "question", list, where)
    if len(turns) != 1 or not turns[0] or not is_messages(turns[0]):
        raise Refusal(
            f"question in {where} must have one turn, a list of messages, got {excerpt(turns)}.",
            "Categories of several turns are not checked here.",
        )
    functions = column(row, "function", list, where)
    tools = [_tool(function, f"function in {where}") for function in functions]
    asked = [
        message | {"content": message["content"].strip() + _REQUEST}
        if message["role"] == "user"
        else message
        for message in turns[0]
    ]
    return rlla_prompt(tools, asked)


def _tool(function: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(function, dict):
        raise Refusal(
            f"{where} must be a list of objects, got {excerpt(function)}.",
            "Take the files as they were published.",
        )
    parameters = column(function, "parameters", dict, where)
    return {
        "name": text(function, "name", where),
        "description": column(function, "description", str, where) + _SYNTAX,
        "parameters": parameters.get("properties", {}),
    }


def _answers(files: Files, category: str) -> dict[str, Any]:
    name = _ANSWERS.format(category)
    path: Path | None = files.get(name)
    if path is None:
        raise Refusal(
            f"data set bfcl_v3 must have {name} beside {_QUESTIONS.format(category)}, got none.",
            "Take the folder possible_answer, too.",
        )
    return {
        text(row, "id", where): column(row, "ground_truth", list, where)
        for where, row in read_file(path, ".jsonl")
    }


def _ground_truth(answers: Mapping[str, Any] | None, row: Row, where: str) -> Row:
    name = text(row, "id", where)
    if answers is None:
        return {}
    if name not in answers:
        raise Refusal(
            f"{where} must have a possible answer for its id, got {excerpt(name)}.",
            "Take both files of a category from the same place.",
        )
    return {"ground_truth": answers[name]}
