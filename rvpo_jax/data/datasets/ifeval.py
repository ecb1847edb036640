"""IFEval and IFBench: prompts with instructions that a program can check."""

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


class Ifbench(Ifeval):
    """IFBench: 300 prompts with 58 kinds of instructions that IFEval does not have.

    For evaluation. Columns as those of IFEval. Its kinds have no checkers here: rewards of
    instructions refuse them.
    """

    origin = Origin(
        base="https://raw.githubusercontent.com/allenai/IFBench/main/data/",
        homepage="https://github.com/allenai/IFBench",
        licence="ODC-BY-1.0 (data), prompts from WildChat",
        citation="Pyatkin et al. 2025, Generalizing Verifiable Instruction Following, "
        "arXiv:2507.02833",
        megabytes=0.3,
    )
    splits = {
        "test": Split(
            files=("IFBench_test.jsonl",),
            patterns=("ifbench*.jsonl*", "test-*.parquet"),
            num_rows=300,
        )
    }
