"""Tables of averages, which are no log of rewards: a training history says nothing of rows."""

import re
from collections.abc import Collection

from ...basics.refusals import Refusal
from .formats import Layout
from .log import ReadOptions, listing

# Columns of a W&B history, of a chart that W&B exports, and of a trainer's state.
HISTORY = re.compile(r"_step|_runtime|_timestamp|.+__(?:MIN|MAX)|log_history", re.DOTALL)
AVERAGE = re.compile(
    r"(?:.*[^a-z])?(?:mean|avg|average|std|stdev)(?:[^a-z].*)?", re.DOTALL | re.IGNORECASE
)


def refuse_averages(columns: Collection[str], layout: Layout, options: ReadOptions) -> None:
    """Raises where a log has averages of steps instead of completions.

    Args:
      columns: Of the log.
      layout: Of the log.
      options: Of the user.

    Raises:
      ValueError: if no column names a prompt or holds a completion, and those that there are have
        the names of averages.
    """
    roles = layout.roles()
    if any(role in roles for role in ("prompt", "completion", "prompt_key", "group")):
        return
    history = [name for name in columns if HISTORY.fullmatch(name)]
    averages = [name for name in columns if AVERAGE.fullmatch(name)]
    if history or (averages and options.group_size is None):
        raise Refusal(
            "the log must have one row per completion, got the columns "
            f"{listing([*averages, *history], 5)}: these are averages, not rows.",
            "Log the completions with their rewards too, such as log_completions of TRL or a "
            "W&B table, and name that file.",
        )
