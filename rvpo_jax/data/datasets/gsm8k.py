"""GSM8K: grade-school mathematics with worked solutions."""

from rvpo_jax.data.datasets.public import Origin, PublicRows, Split, text, user
from rvpo_jax.data.row_files import Row

INSTRUCTION = 'Let\'s think step by step and output the final answer after "####".'
"""Added to each question: the answer is read after that mark."""


class Gsm8k(PublicRows):
    """GSM8K: 8,792 word problems of grade-school mathematics, each with a worked solution.

    Columns: ``question`` and ``answer``, the solution, whose last line is ``#### 18``.
    """

    origin = Origin(
        base="https://raw.githubusercontent.com/openai/grade-school-math/"
        "3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/",
        homepage="https://github.com/openai/grade-school-math",
        licence="MIT",
        citation="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, "
        "arXiv:2110.14168",
        megabytes=4.9,
    )
    splits = {
        "train": Split(files=("train.jsonl",), patterns=("train-*.parquet",), num_rows=7473),
        "test": Split(files=("test.jsonl",), patterns=("test-*.parquet",), num_rows=1319),
    }
    held_out = "test"

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        question = text(row, "question", where)
        text(row, "answer", where)
        return row | {"prompt": gsm8k_prompt(question)}


def gsm8k_prompt(question: str) -> list[dict[str, str]]:
    """What a model is asked, in training and evaluation.

    Args:
      question: A row's.

    Returns:
      One message.

    Source:
      verl's example for GSM8K (Apache-2.0).
    """
    return user(f"{question} {INSTRUCTION}")
