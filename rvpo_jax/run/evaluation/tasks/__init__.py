"""The tasks by name, and the one function that finds one."""

import difflib
from collections.abc import Mapping

from rvpo_jax.basics.bounds import shown
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.items import Task
from rvpo_jax.run.evaluation.tasks.bfcl import BFCL_V3, BFCL_V3_TOOLRL
from rvpo_jax.run.evaluation.tasks.gpqa import GPQA_DIAMOND
from rvpo_jax.run.evaluation.tasks.gsm8k import GSM8K
from rvpo_jax.run.evaluation.tasks.healthbench import HEALTHBENCH
from rvpo_jax.run.evaluation.tasks.healthbench_grader import HEALTHBENCH_META
from rvpo_jax.run.evaluation.tasks.ifeval import IFEVAL

_ALL = (IFEVAL, GSM8K, BFCL_V3, BFCL_V3_TOOLRL, GPQA_DIAMOND, HEALTHBENCH, HEALTHBENCH_META)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}
"""Tasks by name."""


def find_task(name: str) -> Task:
    """The task of a name.

    Args:
      name: as the user typed it.

    Returns:
      The task.

    Raises:
      Refusal: naming the nearest one.

    >>> find_task("gsm8")
    Traceback (most recent call last):
    ...
    rvpo_jax.basics.refusals.Refusal: --task must be one of ifeval, gsm8k, bfcl_v3, \
bfcl_v3_toolrl, gpqa_diamond, healthbench, healthbench_meta, got 'gsm8'.
      Did you mean gsm8k?
    """
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name[:80], TASKS, n=1, cutoff=0.4)
    raise Refusal(
        f"--task must be one of {', '.join(TASKS)}, got {shown(name)}.",
        f"Did you mean {near[0]}?" if near else "Choose one of these.",
    )
