"""Where a run goes on: its newest checkpoint, for training and for a look at the policy."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.data import PromptStream
from rvpo_jax.run import parallel
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.metrics import read_rows
from rvpo_jax.run.resume import log_history, missing_records
from rvpo_jax.run.setup import Run, Task, build_run
from rvpo_jax.run.workdir import check_same_config
from rvpo_jax.types import TrainState

LOG = logging.getLogger(__name__)


def start_or_resume(
    run: Run, workdir: Path, checkpoints: Checkpoints, stream: PromptStream
) -> tuple[TrainState, dict[str, Any]]:
    """The state that training goes on from; the stream is moved to its position.

    Where there is a checkpoint, the start is not read: only the model's config and tokenizer are.
    Warns of what the files of the folder lack of the steps before.

    Args:
      run: the run.
      workdir: its folder.
      checkpoints: of its folder.
      stream: prompts of the run.

    Returns:
      The state, on one device, and the meta of the checkpoints to come.

    Raises:
      ValueError: if the checkpoint belongs to another config or to other rows.
    """
    config, found = run.config, None
    restored = checkpoints.restore_latest(run.state_shapes(), stream.iterator)
    if restored is None:
        logged = len(read_rows(workdir / "metrics.jsonl"))
        if logged:
            LOG.warning(
                "%s has no checkpoint: the run starts again, and its %d logged step(s) are "
                "written anew.",
                *(workdir, logged),
            )
        state = run.initial_state()
    else:
        state, found = restored.state, restored.meta
        check_same_config(found["config"], config, workdir)
        _check_same_data(found, run.task, config)
    history = log_history(found, config, int(state.step))
    for sentence in missing_records(workdir, history, int(state.step)):
        LOG.warning("%s", sentence)
    meta = {"config": config.to_dict(), "data": run.task.fingerprint, "log_history": history}
    return state, meta


def _check_same_data(meta: Mapping[str, Any], task: Task, config: Config) -> None:
    if meta.get("data") != task.fingerprint:
        raise Refusal(
            f"data.source {config.data.source} has changed since the checkpoint.",
            "Its position in the rows means nothing now: restore the file, or choose another "
            "--workdir.",
        )


def restore_run(config: Config, workdir: Path) -> tuple[Run, Any, int]:
    """A run with the parameters of its newest checkpoint.

    Args:
      config: of the run.
      workdir: its folder; nothing in it is changed.

    Returns:
      The run, its parameters on its devices, and their step.

    Raises:
      ValueError: if there is no checkpoint yet.
    """
    run = build_run(config, workdir)
    params, step = newest_params(run.state_shapes().params, config, workdir)
    return run, parallel.replicate(params, run.policy.devices), step


def newest_params(shapes: Any, config: Config, workdir: Path) -> tuple[Any, int]:
    """The parameters of a run's newest checkpoint.

    Args:
      shapes: the parameter tree, of shapes.
      config: of the run.
      workdir: its folder; nothing in it is changed.

    Returns:
      The parameters, on one device, and their step.

    Raises:
      ValueError: if there is no checkpoint yet.
    """
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore_params(shapes)
    if restored is None:
        raise Refusal(
            f"workdir {workdir} has no checkpoint yet.",
            f"The first is saved after {config.checkpoint.every} steps.",
        )
    return restored
