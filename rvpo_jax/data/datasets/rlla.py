"""RLLA: tool calls in ToolRL's format."""

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.public import Origin, PublicRows, Split, column, text
from rvpo_jax.data.row_files import Row
from rvpo_jax.data.rows import is_messages


class Rlla(PublicRows):
    """RLLA-4k: dialogues with tools and a reference answer, of ToolACE, Hammer and xLAM.

    Columns as they are: ``reward_model`` holds ``ground_truth``, which ToolRL's rewards read.
    """

    origin = Origin(
        base="https://raw.githubusercontent.com/qiancheng0/ToolRL/"
        "8cee13ec0ca72f0461da372a93a6fd8140dbb840/dataset/rlla_4k/",
        homepage="https://github.com/qiancheng0/ToolRL",
        licence="Apache-2.0; the share of xLAM-60k (Salesforce) CC-BY-4.0",
        citation="Qian et al. 2025, ToolRL: Reward is All Tool Learning Needs, arXiv:2504.13958",
        redistribution="Keep the attribution of ToolACE, Hammer and xLAM.",
    )
    splits = {
        "train": Split(files=("train.parquet",), patterns=("rl.parquet",), num_rows=3920),
        "test": Split(files=("test.parquet",), num_rows=80),
    }
    held_out = "test"

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
        model = column(row, "reward_model", dict, where)
        text(model, "ground_truth", f"reward_model of {where}")
        return row
