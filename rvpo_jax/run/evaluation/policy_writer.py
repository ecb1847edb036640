"""Answers sampled from a policy: a run's checkpoint, or a Hugging Face folder.

An answer depends on the policy, the prompt, its place in the task and its seed; not on the batch
that it is sampled in. ``B`` prompts at a time.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.method.frozen import join
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.evaluate import EVAL_STREAM
from rvpo_jax.run.evaluation.writing import Question, Writer, Written
from rvpo_jax.run.restore import read_params
from rvpo_jax.run.setup import Run, Task, assemble, task_without_rows
from rvpo_jax.run.stored import without_rewards


def checkpoint_step(config: Config, workdir: Path, step: int | None = None) -> int:
    """The step of a run's checkpoint; no array is read.

    Args:
      config: of the run.
      workdir: its folder.
      step: the one that is wanted; None: the newest.

    Returns:
      The step.

    Raises:
      Refusal: when there is no such checkpoint.
    """
    with Checkpoints(workdir / "checkpoints", read_only=True, only=step) as checkpoints:
        found = checkpoints.read_meta()
    if found is None:
        raise Refusal(
            f"workdir {workdir} has no checkpoint yet.",
            f"The first is saved after {config.checkpoint.every} steps.",
        )
    return found[1]


def policy_writer(
    config: Config,
    workdir: Path | None,
    questions: Sequence[Question],
    temperature: float,
    step: int | None = None,
) -> Writer:
    """Samples the answers to questions; compiles for the longest of all.

    Args:
      config: of the run, or of a model with ``model.path``.
      workdir: folder of the run; None: the model's own parameters.
      questions: all of them, also those that are answered already.
      temperature: of the sampling; 0 takes the most likely token.
      step: of the run's checkpoint; None: the newest.

    Returns:
      The writer.

    Raises:
      Refusal: when there is no checkpoint or model, or a prompt cannot be rendered.
    """
    config = _for_sampling(config)
    task = task_without_rows(config)
    lengths = {id(question): _length(task, question) for question in questions}
    task = dataclasses.replace(task, prompt_tokens=-(-max(lengths.values()) // 8) * 8)
    run = assemble(config, task)
    params, sample = _params(run, workdir, step), run.policy.sampler(1, temperature)
    num_items = 1 + max(question.place for question in questions)
    at_once = config.rollout.prompts_at_once

    def write(left: Sequence[Question]) -> Iterator[Written]:
        # Prompts of about one length share a batch: the rest of its width is padding.
        ordered = sorted(left, key=lambda question: lengths[id(question)])
        for start in range(0, len(ordered), at_once):
            part = ordered[start : start + at_once]
            filled = part + part[-1:] * (at_once - len(part))
            examples = [{"prompt": question.prompt} for question in filled]
            wanted = (np.arange(at_once) < len(part))[:, None]
            keys = _keys(filled, num_items)
            rollout = sample(params, *task.encode_batch(examples), keys, wanted)
            cut = np.asarray(rollout.truncated)[:, 0].tolist()
            yield from map(Written, part, task.decode_batch(rollout), cut)

    return write


def _for_sampling(config: Config) -> Config:
    """The config without what only training needs."""
    loss = dataclasses.replace(config.loss, microbatch_tokens=None, microbatch_size=None)
    return dataclasses.replace(without_rewards(config), loss=loss)


def _length(task: Task, question: Question) -> int:
    length = len(task.encode(question.prompt))
    if not length:
        raise Refusal(
            f"the prompt {excerpt(question.item.key)} must have a token, got none.",
            "Leave it out of --task-path.",
        )
    return length


def _params(run: Run, workdir: Path | None, step: int | None) -> Any:
    layout, policy = run.policy.layout, run.policy
    if workdir is None:
        return policy.sampling_params(run.initial_state())
    params, _ = read_params(policy.model, layout, run.config, workdir, step)
    return layout.for_sampling(layout.place(join(*params)))


def _keys(questions: Sequence[Question], num_items: int) -> jax.Array:
    """``[B]`` keys: of each question's seed and place alone."""
    seeds = {question.seed for question in questions}
    by_seed = {seed: prompt_keys(jax.random.key(seed), EVAL_STREAM, num_items) for seed in seeds}
    return jax.numpy.stack([by_seed[question.seed][question.place] for question in questions])
