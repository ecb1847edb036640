"""The training loop: sample, score, update, log, save; resumes where it stopped.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from rvpo_jax.auditing import audit
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config
from rvpo_jax.data import PromptStream
from rvpo_jax.data.tokenizer import render_messages
from rvpo_jax.method.diagnostics import channel_metrics
from rvpo_jax.method.live_audit import make_monitor
from rvpo_jax.method.optim import make_optimizer
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.method.schedules import make_risk_schedule
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.rewards import check_any_scored
from rvpo_jax.run import parallel
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.console import Stopped, progress, stop_requests
from rvpo_jax.run.evaluate import Evaluation, pass_rates, sample_held_out
from rvpo_jax.run.metrics import MetricsWriter, append_jsonl, read_metrics, truncate_jsonl
from rvpo_jax.run.rollout_log import drop_rollouts, write_rollouts
from rvpo_jax.run.setup import Policy, Task, build_task
from rvpo_jax.run.summary import plot_run, rate_table
from rvpo_jax.run.workdir import check_workdir, run_header, write_config
from rvpo_jax.types import Batch, Rollout, TrainState

LOG = logging.getLogger(__name__)


class NonFiniteError(Failure):
    """A loss, gradient or parameter is NaN or infinite."""


def train(config: Config, workdir: Path, console: Console | None = None) -> TrainState:
    """Trains until ``config.steps``; resumes from ``workdir`` if it has a checkpoint.

    Writes config.json, metrics.jsonl, samples.jsonl, evals.jsonl, rollouts/, checkpoints/, run.png
    and at the end audit.html and audit.json.

    Args:
      config: the run.
      workdir: its folder, created if absent.
      console: where progress and the final table go; None: standard output.

    Returns:
      The final state.

    Raises:
      ValueError: on input that does not fit, before anything is compiled.
      NonFiniteError: when a number is not finite; the last good checkpoint stays.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    console = Console() if console is None else console
    check_workdir(config, workdir)
    task = build_task(config, workdir / "data")
    policy = Policy(config, task)
    train_step, optimizer = _make_step(config, task, policy)
    params = policy.initial_params()
    state = init_state(params, optimizer, jax.random.key(config.seed))
    stream = PromptStream(task.train, config.rollout.num_prompts, seed=config.seed)
    write_config(config, workdir)

    checkpoint = config.checkpoint
    with Checkpoints(
        workdir / "checkpoints", keep=checkpoint.keep, save_every=checkpoint.every
    ) as checkpoints:
        restored = checkpoints.restore_latest(state, stream.iterator)
        if restored is not None:
            _check_same_data(restored.meta, task)
            state = restored.state
        first = 0 if restored is None else restored.step
        opening = _opening_line(config, task, policy, params, first)
        console.print(printable(opening), markup=False, highlight=False)
        key = state.key  # on one device: the keys drawn from it are split over all of them
        state = parallel.replicate(state, policy.devices)
        reference = parallel.replicate(params, policy.devices) if config.loss.kl_coef else None
        sample = policy.sampler(config.rollout.group_size)
        monitor = make_monitor(config.advantage, task.channels, _schedule(config))
        for name in ("samples.jsonl", "evals.jsonl"):
            truncate_jsonl(workdir / name, first + (name == "evals.jsonl"))
        drop_rollouts(workdir, first)
        with (
            MetricsWriter(
                workdir,
                sinks=config.log.sinks,
                resume_step=None if restored is None else first,
                header=run_header(config, policy.devices),
            ) as writer,
            stop_requests() as stop_requested,
            progress(config, console, first) as show,
        ):

            def save(step: int) -> None:
                meta = {"config": config.to_dict(), "data": task.fingerprint}
                checkpoints.save(step, state, stream.iterator, meta)

            for step in range(first, config.steps):
                if step == 0 or (config.eval.every and step % config.eval.every == 0):
                    _evaluate(policy, state.params, step, workdir)
                start = time.perf_counter()
                examples = next(stream)
                prompts, prompt_mask = task.encode_batch(examples)
                keys = prompt_keys(key, step, len(examples))
                rollout = jax.device_get(sample(state.params, prompts, prompt_mask, keys))
                sampled = time.perf_counter()
                texts = task.decode_batch(rollout)
                batch = make_batch(rollout, *task.score(texts, examples)[:2])
                if reference is not None:
                    ref_logprobs = policy.reference_logprobs(reference, batch)
                    batch = dataclasses.replace(batch, ref_logprobs=ref_logprobs)
                scored = time.perf_counter()
                new_state, step_metrics = train_step(state, batch)
                step_metrics = jax.device_get(step_metrics)
                times = (start, sampled, scored, time.perf_counter())
                used, audited = jax.device_get(monitor(*_judged(batch), step))
                metrics = _flatten(step_metrics | audited, batch, rollout, task, times)
                _check_finite(metrics, batch, step, workdir)
                state = new_state

                if step % config.log.every == 0:
                    writer.write(step, metrics)
                if config.log.rollouts != "none":
                    _write_rollouts(workdir, step, task, texts, batch, examples, used, metrics)
                if config.log.samples_every and step % config.log.samples_every == 0:
                    _write_samples(workdir, step, task, texts, batch, examples)
                show(step, metrics)
                if checkpoints.is_due(step + 1) or step + 1 == config.steps:
                    save(step + 1)
                if stop_requested() and step + 1 < config.steps:
                    save(step + 1)
                    checkpoints.wait()
                    raise Stopped(
                        f"Stopped after step {step + 1} of {config.steps}; the state is saved.\n"
                        "  The same command goes on from there."
                    )
        checkpoints.wait()
        _evaluate(policy, state.params, int(state.step), workdir)
    _finish(workdir, task, config, console)
    return state


def _make_step(config: Config, task: Task, policy: Policy) -> tuple[Callable[..., Any], Any]:
    loss = config.loss
    num_updates = config.steps * loss.num_minibatches * loss.num_epochs
    optimizer = make_optimizer(config.optim, num_updates)
    train_step = make_train_step(
        policy.logprobs,
        config.advantage,
        optimizer,
        loss=loss,
        channels=task.channels,
        risk_schedule=_schedule(config),
    )
    return parallel.data_parallel(train_step, policy.devices, config.parallel.impl), optimizer


def _schedule(config: Config) -> Callable[[jax.Array], jax.Array]:
    return make_risk_schedule(config.risk, config.advantage.risk_coef, config.steps)


def restore_policy(config: Config, workdir: Path) -> tuple[Policy, Any, int]:
    """The policy of a run with the parameters of its newest checkpoint.

    Args:
      config: of the run.
      workdir: its folder; nothing in it is changed.

    Returns:
      Policy, parameters and their step.

    Raises:
      ValueError: if there is no checkpoint yet.
    """
    task = build_task(config, workdir / "data")
    policy = Policy(config, task)
    _, optimizer = _make_step(config, task, policy)
    key = jax.random.key(config.seed)
    abstract = jax.eval_shape(lambda: init_state(policy.initial_params(), optimizer, key))
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore_latest(abstract)
    if restored is None:
        raise Refusal(
            f"workdir {workdir} has no checkpoint yet.",
            f"The first is saved after {config.checkpoint.every} steps.",
        )
    return policy, parallel.replicate(restored.state.params, policy.devices), restored.step


def make_batch(rollout: Rollout, rewards: np.ndarray, where: np.ndarray) -> Batch:
    """Joins a rollout with its rewards.

    Args:
      rollout: B prompts with G completions each.
      rewards: ``[B * G, M]`` float32.
      where: ``[B * G, M]`` bool.

    Returns:
      The batch.
    """
    groups = rollout.completions.shape[:2]
    return Batch(
        prompts=rollout.prompts,
        prompt_mask=rollout.prompt_mask,
        completions=rollout.completions,
        completion_mask=rollout.completion_mask,
        old_logprobs=rollout.logprobs,
        rewards=jnp.reshape(rewards, (*groups, -1)),
        where=jnp.reshape(where, (*groups, -1)),
    )


def _check_same_data(meta: Mapping[str, Any], task: Task) -> None:
    if meta.get("data") != task.fingerprint:
        raise Refusal(
            f"data.source {task.config.data.source} has changed since the checkpoint.",
            "Its position in the rows means nothing now: restore the file, or choose another "
            "--workdir.",
        )


def _opening_line(config: Config, task: Task, policy: Policy, params: Any, first: int) -> str:
    num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    method = config.to_dict()["advantage"]["method"]
    start = "starting" if first == 0 else f"resuming at step {first}"
    return (
        f"{start}: {method} on {len(task.channels)} channels "
        f"({', '.join(task.channel_names)}); policy {config.model.preset} with {num_params:,} "
        f"parameters; {len(policy.devices)} {policy.devices[0].platform} device(s); "
        f"{len(task.train)} training and {len(task.held_out)} held-out prompts"
        + (f", {task.num_dropped} dropped as too long" if task.num_dropped else "")
    )


def _flatten(
    metrics: dict, batch: Batch, rollout: Rollout, task: Task, times: tuple[float, ...]
) -> dict[str, float]:
    """Metrics of one step by name; the names are listed in ``metrics.py``."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if np.ndim(value):  # one value per channel
            for channel, entry in zip(task.channel_names, value, strict=True):
                flat[f"{name}/{channel}"] = float(entry)
        else:
            flat[name] = float(value)
    channels = jax.device_get(jax.jit(channel_metrics)(batch.rewards, batch.where, task.pass_at))
    flat["reward/joint_pass_rate"] = float(channels.pop("joint_pass_rate"))
    for index, name in enumerate(task.channel_names):
        for statistic, values in channels.items():
            flat[f"reward/{name}/{statistic}"] = float(values[index])
    start, sampled, scored, updated = times
    num_tokens = float(np.sum(rollout.completion_mask))
    flat |= {
        "rollout/length_mean": num_tokens / rollout.truncated.size,
        "rollout/truncated_frac": float(np.mean(rollout.truncated)),
        "time/rollout_s": sampled - start,
        "time/reward_s": scored - sampled,
        "time/update_s": updated - scored,
        "time/step_s": updated - start,
        "perf/rollout_tokens_per_s": num_tokens / (sampled - start),
        "perf/update_tokens_per_s": num_tokens / (updated - scored),
    }
    return flat


def _check_finite(metrics: Mapping[str, float], batch: Batch, step: int, workdir: Path) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            path = workdir / f"bad_batch_step_{step}.npz"
            fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
            np.savez(path, **{key: value for key, value in fields.items() if value is not None})
            raise NonFiniteError(
                f"{name} is {value} at step {step}; the run stops and keeps its last checkpoint.\n"
                f"  The batch is in {path}. A smaller optim.learning_rate is the usual cure."
            )


def _write_samples(workdir, step: int, task: Task, texts, batch: Batch, examples) -> None:
    """The first completions of the first prompts, one of each, with their channel values."""
    group_size = batch.rewards.shape[1]
    for prompt in range(min(task.config.log.num_samples, len(examples))):
        rewards, where = batch.rewards[prompt, 0], batch.where[prompt, 0]
        values = {
            name: float(rewards[index]) if where[index] else None
            for index, name in enumerate(task.channel_names)
        }
        row = {
            "step": step,
            "prompt": examples[prompt]["prompt"],
            "completion": texts[prompt * group_size],
            "rewards": values,
        }
        append_jsonl(workdir / "samples.jsonl", row)


def _judged(batch: Batch) -> tuple[Any, Any, Any]:
    """What the monitor looks at: rewards, their mask and the completions' lengths."""
    return batch.rewards, batch.where, np.sum(batch.completion_mask, axis=-1)


def _write_rollouts(
    workdir, step, task: Task, texts, batch: Batch, examples, used, metrics
) -> None:
    config = task.config
    write_rollouts(
        workdir,
        step,
        task.channels,
        np.asarray(batch.rewards),
        np.asarray(batch.where),
        used,
        prompts=[render_messages(example["prompt"]) for example in examples],
        completions=texts if config.log.rollouts == "texts" else None,
        method=config.to_dict()["advantage"]["method"],
        risk_coef=metrics["risk_coef"],
    )


def _evaluate(policy: Policy, params: Any, step: int, workdir: Path) -> None:
    """Appends a row to evals.jsonl, unless this step is there already."""
    path = workdir / "evals.jsonl"
    if any(row["step"] == step for row in _read_evals(path)):
        return
    task = policy.task
    evaluation: Evaluation = sample_held_out(policy, params, policy.config.eval.num_prompts)
    if step == 0:
        check_any_scored(evaluation.where, task.channel_names)
    rates = pass_rates(task, evaluation)
    means = np.mean(evaluation.rewards, axis=0, where=evaluation.where).tolist()
    append_jsonl(
        path,
        {
            "step": step,
            "rates": {name: dataclasses.asdict(rate) for name, rate in rates.items()},
            "means": dict(zip(task.channel_names, means, strict=True)),
        },
    )


def _read_evals(path: Path) -> list[dict[str, Any]]:
    return read_metrics(path) if path.exists() else []


def _finish(workdir: Path, task: Task, config: Config, console: Console) -> None:
    rows = _read_evals(workdir / "evals.jsonl")
    method = config.to_dict()["advantage"]["method"]
    title = f"{method}, {config.data.source} task, seed {config.seed}"
    plot_run(read_metrics(workdir), task.channel_names, workdir / "run.png", title)
    console.print(rate_table(rows[0], rows[-1], task.channel_names))
    console.print(f"picture: {workdir / 'run.png'}", markup=False, highlight=False)
    if config.log.audit:
        result = audit(workdir)
        _, page = result.save(workdir)
        for sentence in result.report["sentences"]:
            text = printable(f"{sentence['level']:<8} {sentence['topic']}: {sentence['text']}")
            console.print(text, markup=False, highlight=False)
        console.print(f"audit: {page}", markup=False, highlight=False)
