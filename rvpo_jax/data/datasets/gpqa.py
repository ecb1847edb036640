"""GPQA Diamond: multiple choice whose options stand in a seeded order."""

import random
from collections.abc import Sequence

from rvpo_jax.data.datasets.public import Origin, PublicRows, Split, text, user
from rvpo_jax.data.row_files import Row

LETTERS = "ABCD"
OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
"""Columns of the original."""
_TEMPLATE = """\
Answer the following multiple choice question. The last line of your response should be of the \
following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by \
step before answering.

{question}

A) {choices[0]}
B) {choices[1]}
C) {choices[2]}
D) {choices[3]}"""


class GpqaDiamond(PublicRows):
    """GPQA Diamond: 198 multiple-choice questions of biology, physics and chemistry.

    For evaluation. Columns: ``question``, ``choices`` (four texts, in the order of the prompt),
    ``answer`` (the letter of the right one), ``record_id``, ``domain``, ``subdomain``.
    ``permute_choices`` gives a row another order.
    """

    origin = Origin(
        base="https://openaipublic.blob.core.windows.net/simple-evals/",
        homepage="https://github.com/idavidrein/gpqa",
        licence="CC-BY-4.0",
        citation="Rein et al. 2023, GPQA: A Graduate-Level Google-Proof Q&A Benchmark, "
        "arXiv:2311.12022",
        redistribution="Not part of this package, and not to be passed on with it: its authors ask "
        "not to reveal questions in plain text, which would end up in training data.",
    )
    splits = {
        "test": Split(files=("gpqa_diamond.csv",), patterns=("gpqa_diamond*.csv*",), num_rows=198)
    }

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        question = text(row, "Question", where).strip()
        options = [text(row, name, where).strip() for name in OPTIONS]
        return permute_choices(
            {
                "question": question,
                "choices": options,
                "answer": LETTERS[0],
                "record_id": row.get("Record ID") or "",
                "domain": row.get("High-level domain") or "",
                "subdomain": row.get("Subdomain") or "",
            },
            seed=0,
        )


def permute_choices(row: Row, seed: int) -> Row:
    """The row with its options in the order of a seed, whatever their order was before.

    Args:
      row: With ``question``, four ``choices`` and ``answer``, the letter of the right one.
      seed: Another one, another order; each question has one of its own. 0 is the builder's.

    Returns:
      The row with the prompt, choices and letter of that order.

    Source:
      Ours.

    >>> row = {"question": "1 + 1?", "choices": ["2", "3", "4", "5"], "answer": "A"}
    >>> permuted = permute_choices(row, seed=3)
    >>> permuted["choices"][LETTERS.index(permuted["answer"])]
    '2'
    """
    order = choice_order(row["question"], row["choices"], seed)
    choices = [row["choices"][number] for number in order]
    return row | {
        "prompt": gpqa_prompt(row["question"], choices),
        "choices": choices,
        "answer": LETTERS[order.index(LETTERS.index(row["answer"]))],
    }


def choice_order(question: str, choices: Sequence[str], seed: int) -> list[int]:
    """The order in which options are shown: one for each question and seed.

    Args:
      question: Of a row.
      choices: Four texts, in any order.
      seed: Another one, another order.

    Returns:
      The places of the options in ``choices``.

    Source:
      Ours.

    >>> [["2", "3", "4", "5"][i] for i in choice_order("1 + 1?", ["2", "3", "4", "5"], 0)] == [
    ...     ["5", "4", "3", "2"][i] for i in choice_order("1 + 1?", ["5", "4", "3", "2"], 0)
    ... ]
    True
    """
    order = sorted(range(len(choices)), key=choices.__getitem__)
    random.Random(f"gpqa\n{seed}\n{question}").shuffle(order)
    return order


def gpqa_prompt(question: str, choices: Sequence[str]) -> list[dict[str, str]]:
    """What a model is asked.

    Args:
      question: Of a row.
      choices: Four texts, in the order of the letters.

    Returns:
      One message.

    Source:
      github.com/openai/simple-evals (MIT).
    """
    return user(_TEMPLATE.format(question=question, choices=choices))
