"""Where a run goes on: its newest checkpoint, for training and for a look at the policy."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.data import PromptStream
from rvpo_jax.method.frozen import join
from rvpo_jax.models import Model
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.json_lines import read_rows
from rvpo_jax.run.parallel import Layout
from rvpo_jax.run.resume import log_history, missing_records
from rvpo_jax.run.setup import Run, Task, build_run
from rvpo_jax.run.start import fingerprint, frozen_as_before
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
      The state and the meta of the checkpoints to come.

    Raises:
      ValueError: if the checkpoint belongs to another config or to other rows.
    """
    config, found = run.config, None
    restored = checkpoints.restore_latest(run.state_shapes())
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
        found = restored.meta
        check_same_config(found["config"], config, workdir)
        _check_same_data(found, run.task, config)
        frozen = frozen_as_before(config, run.policy.model, run.policy.layout, found)
        state = dataclasses.replace(restored.state, frozen=frozen)
        stream.seek(restored.step)
    history = log_history(found, config, int(state.step))
    for sentence in missing_records(workdir, history, int(state.step)):
        LOG.warning("%s", sentence)
    meta = {
        "config": config.to_dict(),
        "data": run.task.fingerprint,
        "log_history": history,
        "frozen": fingerprint(state.frozen) if found is None else found.get("frozen", 0),
    }
    return state, meta


def _check_same_data(meta: Mapping[str, Any], task: Task, config: Config) -> None:
    if meta.get("data") != task.fingerprint:
        beside = config.data.eval_source and f" or data.eval_source {config.data.eval_source}"
        raise Refusal(
            f"data.source {config.data.source}{beside or ''} has changed since the checkpoint.",
            "Its position in the rows means nothing now: restore the file, or choose another "
            "--workdir.",
        )


def restore_run(config: Config, workdir: Path, step: int | None = None) -> tuple[Run, Any, int]:
    """A run with the parameters of a checkpoint.

    Args:
      config: of the run.
      workdir: its folder; nothing in it is changed.
      step: of the checkpoint; None: the newest.

    Returns:
      The run, its parameters as its samplers take them, and their step.

    Raises:
      ValueError: if there is no checkpoint yet.
    """
    run = build_run(config, workdir)
    layout = run.policy.layout
    params, found = read_params(run.policy.model, layout, config, workdir, step)
    return run, layout.for_sampling(layout.place(join(*params))), found


def read_params(
    model: Model, layout: Layout, config: Config, workdir: Path, step: int | None = None
) -> tuple[tuple[Any, Any], int]:
    """The parameters of a run's checkpoint.

    Args:
      model: the network of the run.
      layout: where the parameters go.
      config: of the run.
      workdir: its folder; nothing in it is changed.
      step: of the checkpoint; None: the newest.

    Returns:
      What was trained and what is frozen beside it; and their step.

    Raises:
      ValueError: if there is no checkpoint yet, or the frozen parameters have changed.
    """
    shapes = layout.shapes(jax.eval_shape(model.adapters or model.init, jax.random.key(0)))
    with Checkpoints(workdir / "checkpoints", read_only=True, only=step) as checkpoints:
        restored = checkpoints.restore_params(shapes)
    if restored is None:
        raise Refusal(
            f"workdir {workdir} has no checkpoint yet.",
            f"The first is saved after {config.checkpoint.every} steps.",
        )
    params, meta, found = restored
    return (params, frozen_as_before(config, model, layout, meta)), found
