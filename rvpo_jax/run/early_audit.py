"""Audits on the way: that failing a channel is paid is said while there is time to stop the run.

Rates look fine then. In ``experiments/exploited_language_model`` the audit of ten steps names the
channel that most rules give up in the next fifty, when it is met in 98 of 100 completions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rvpo_jax.basics.text import printable

FIRST = 10  # steps


def is_due(steps: int) -> bool:
    """Whether there is an audit after so many steps: 10, 20, 40, 80, ...

    Each reads all rollouts so far, so all of them together read twice what the last one reads.

    Args:
      steps: that were made.

    Returns:
      True where there is one.

    >>> [steps for steps in range(100) if is_due(steps)]
    [10, 20, 40, 80]
    """
    times, rest = divmod(steps, FIRST)
    return rest == 0 and times > 0 and times & (times - 1) == 0


def paid_failures(audit: Callable[..., Any], workdir: Any, steps: int) -> str | None:
    """What is to be said of a run that goes on.

    Args:
      audit: ``rvpo_jax.audit``.
      workdir: its folder. In a bucket nothing is read, for all of it would have to come here.
      steps: that were made.

    Returns:
      A line where failing a channel is paid, or where no audit could be made; else None.
    """
    if not isinstance(workdir, Path):
        return None
    try:
        sentences = audit(workdir, redact=True).report["sentences"]
    except (ValueError, OSError) as error:  # training matters more
        return printable(f"no audit after {steps} steps: {error}")
    paid = next(row for row in sentences if row["topic"] == "Quiet failures")
    if paid["level"] != "problem":
        return None
    return printable(
        f"after {steps} steps: {paid['text']} rvpo audit {workdir} shows cases; the run goes on."
    )
