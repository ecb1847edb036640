"""Questions with rubrics: RaR-Medicine, RaR-Science and HealthBench.

Items stay as they are published, since what their wording means is for the judge to decide: RaR's
``{title, description, weight}``, HealthBench's ``{criterion, points, tags}``.
"""

import math
import numbers
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.public import Origin, PublicRows, Split, column, text, user
from rvpo_jax.data.row_files import Row
from rvpo_jax.data.rows import is_messages

_NOT_PASSED_ON = "Not part of this package, and not to be passed on with it."
_RAR = "Gunjal et al. 2025, Rubrics as Rewards, arXiv:2507.17746"


def _rar_splits(train: int, val: int, test: int) -> dict[str, Split]:
    sizes = {"train": train, "val": val, "test": test}
    return {
        name: Split(
            files=(f"{name}-00000-of-00001.parquet",),
            patterns=(f"{name}*.parquet", f"data/{name}*.parquet", f"{name}*.jsonl*"),
            num_rows=size,
        )
        for name, size in sizes.items()
    }


class _Rar(PublicRows):
    """Columns: ``question``, ``reference_answer`` (may be empty), ``rubric`` and the others."""

    held_out = "val"

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        question = text(row, "question", where)
        _check_items(row, "rubric", "description", "weight", where)
        return row | {"prompt": user(question)}


class RarMedicine(_Rar):
    """RaR-Medicine: medical questions, each with a rubric of 5 to 17 items."""

    origin = Origin(
        base="https://huggingface.co/datasets/ScaleAI/RaR-Medicine/resolve/main/data/",
        homepage="https://huggingface.co/datasets/ScaleAI/RaR-Medicine",
        licence="none is known: see the page of the data set",
        citation=_RAR,
        redistribution=_NOT_PASSED_ON,
    )
    splits = _rar_splits(17_926, 2_240, 2_242)


class RarScience(_Rar):
    """RaR-Science: questions of science, each with a rubric of 5 to 12 items."""

    origin = Origin(
        base="https://huggingface.co/datasets/ScaleAI/RaR-Science/resolve/main/data/",
        homepage="https://huggingface.co/datasets/ScaleAI/RaR-Science",
        licence="none is known: see the page of the data set",
        citation=_RAR,
        redistribution=_NOT_PASSED_ON,
    )
    splits = _rar_splits(18_333, 2_292, 2_292)


class Healthbench(PublicRows):
    """HealthBench: conversations about health, each with a rubric that physicians wrote.

    For evaluation. Columns: ``prompt_id``, ``rubric`` (``rubrics`` in the files), ``example_tags``
    and the others; an item's tags name its axis.
    """

    origin = Origin(
        base="https://openaipublic.blob.core.windows.net/simple-evals/healthbench/",
        homepage="https://github.com/openai/simple-evals",
        licence="MIT (of the repository openai/simple-evals)",
        citation="Arora et al. 2025, HealthBench: Evaluating Large Language Models Towards "
        "Improved Human Health, arXiv:2505.08775",
        redistribution=f"{_NOT_PASSED_ON} Its rows carry a canary: keep them out of training data.",
    )
    splits = {
        "test": Split(
            files=("2025-05-07-06-14-12_oss_eval.jsonl",),
            patterns=("*oss_eval.jsonl*", "test*.jsonl*"),
            num_rows=5000,
        ),
        "hard": Split(
            files=("hard_2025-05-08-21-00-10.jsonl",),
            patterns=("hard*.jsonl*",),
            num_rows=1000,
        ),
        "consensus": Split(
            files=("consensus_2025-05-09-20-00-46.jsonl",), patterns=("consensus*.jsonl*",)
        ),
    }

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        messages = column(row, "prompt", list, where)
        if not messages or not is_messages(messages):
            raise Refusal(
                f"prompt in {where} must be a list of messages with the texts role and content, "
                f"got {messages!r:.120}.",
                "Take the files as they were published.",
            )
        items = _check_items(row, "rubrics", "criterion", "points", where)
        others = {name: value for name, value in row.items() if name != "rubrics"}
        return others | {"rubric": items}


def _check_items(row: Row, name: str, words: str, number: str, where: str) -> list[Row]:
    """The items of a row, each of which has a text and a finite number."""
    items = column(row, name, list, where)
    if not items:
        raise Refusal(f"{name} in {where} must have an item or more, got none.", "Remove the row.")
    for place, item in enumerate(items, start=1):
        of_item = f"item {place} of {name} in {where}"
        if not isinstance(item, dict):
            raise Refusal(
                f"{of_item} must be an object, got {type(item).__name__} {excerpt(item)}.",
                f"An item has {words} and {number}.",
            )
        text(item, words, of_item)
        if not _is_number(item.get(number)):
            raise Refusal(
                f"{number} of {of_item} must be a number, got {excerpt(item.get(number))}.",
                "Take the files as they were published.",
            )
    return items


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
