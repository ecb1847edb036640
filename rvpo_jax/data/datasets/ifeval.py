"""IFEval: prompts with instructions that a program can check."""

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.public import Origin, PublicRows, Split, column, text, user
from rvpo_jax.data.row_files import Row


class Ifeval(PublicRows):
    """IFEval: 541 prompts with one to three of 25 kinds of instructions that a program can check.

    Columns: ``key``, ``instruction_id_list``, and ``kwargs``, one object per instruction.
    """

    origin = Origin(
        base="https://raw.githubusercontent.com/google-research/google-research/master/"
        "instruction_following_eval/data/",
        homepage="https://github.com/google-research/google-research/tree/master/"
        "instruction_following_eval",
        licence="Apache-2.0",
        citation="Zhou et al. 2023, Instruction-Following Evaluation for Large Language Models, "
        "arXiv:2311.07911",
        megabytes=0.2,
    )
    splits = {
        "train": Split(
            files=("input_data.jsonl",),
            patterns=("ifeval_input_data.jsonl*", "train-*.parquet"),
            num_rows=541,
        )
    }

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """See ``PublicRows``."""
        names = column(row, "instruction_id_list", list, where)
        kwargs = column(row, "kwargs", list, where)
        if not names or len(names) != len(kwargs):
            raise Refusal(
                f"{where} must have as many kwargs as instructions, one or more, got "
                f"{len(kwargs)} and {len(names)}.",
                "Take the files as they were published.",
            )
        return row | {"prompt": user(text(row, "prompt", where))}
