"""The training loop: sample, score, update, log, save; resumes where it stopped.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rvpo_jax import parallel
from rvpo_jax.checkpoint import Checkpoints
from rvpo_jax.config import Config
from rvpo_jax.data import PromptStream
from rvpo_jax.diagnostics import channel_metrics
from rvpo_jax.evaluate import Evaluation, pass_rates, sample_held_out
from rvpo_jax.metrics import MetricsWriter, append_jsonl, read_metrics, truncate_jsonl
from rvpo_jax.optim import make_optimizer
from rvpo_jax.reports.run import plot_run, rate_table
from rvpo_jax.rewards import check_any_scored
from rvpo_jax.run import Policy, Task, build_task
from rvpo_jax.sampling import prompt_keys
from rvpo_jax.schedules import make_risk_schedule
from rvpo_jax.step import init_state, make_train_step
from rvpo_jax.types import Batch, Rollout, TrainState

LOG = logging.getLogger(__name__)

# Fields that may differ between a run and its continuation: they change no number of the training.
HARMLESS = ("steps", "log.", "checkpoint.", "eval.", "parallel.", "data.reward_threads")


class NonFiniteError(RuntimeError):
    """A loss, gradient or parameter is NaN or infinite."""


class Stopped(RuntimeError):
    """The run was asked to stop, and has saved its state."""


def train(config: Config, workdir: Path, console: Console | None = None) -> TrainState:
    """Trains until ``config.steps``; resumes from ``workdir`` if it has a checkpoint.

    Writes config.json, metrics.jsonl, samples.jsonl, evals.jsonl, checkpoints/ and run.png.

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
            state = restored.state
        first = 0 if restored is None else restored.step
        console.print(_opening_line(config, task, policy, params, first), highlight=False)
        state = parallel.replicate(state, policy.devices)
        reference = parallel.replicate(params, policy.devices) if config.loss.kl_coef else None
        sample = policy.sampler(config.rollout.group_size)
        for name in ("samples.jsonl", "evals.jsonl"):
            truncate_jsonl(workdir / name, first + (name == "evals.jsonl"))
        with (
            MetricsWriter(
                workdir,
                sinks=config.log.sinks,
                resume_step=None if restored is None else first,
                header=_header(config, policy),
            ) as writer,
            _stop_requests() as stop_requested,
            _progress(config, console, first) as show,
        ):

            def save(step: int) -> None:
                meta = {"config": config.to_dict()}
                checkpoints.save(step, state, stream.iterator, meta)

            for step in range(first, config.steps):
                if step == 0 or (config.eval.every and step % config.eval.every == 0):
                    _evaluate(policy, state.params, step, workdir)
                start = time.perf_counter()
                examples = next(stream)
                prompts, prompt_mask = task.encode_batch(examples)
                keys = prompt_keys(jax.random.key(config.seed), step, len(examples))
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
                metrics = _flatten(step_metrics, batch, rollout, task, times)
                _check_finite(metrics, batch, step, workdir)
                state = new_state

                if step % config.log.every == 0:
                    writer.write(step, metrics)
                if config.log.samples_every and step % config.log.samples_every == 0:
                    _write_samples(workdir, step, task, texts, batch, examples)
                show(step, metrics)
                if checkpoints.is_due(step + 1) or step + 1 == config.steps:
                    save(step + 1)
                if stop_requested():
                    save(step + 1)
                    checkpoints.wait()
                    raise Stopped(
                        f"Stopped after step {step + 1} of {config.steps}; the state is saved.\n"
                        "  The same command goes on from there."
                    )
        checkpoints.wait()
        _evaluate(policy, state.params, config.steps, workdir)
    _finish(workdir, task, config, console)
    return state


def _make_step(config: Config, task: Task, policy: Policy) -> tuple[Callable[..., Any], Any]:
    loss = config.loss
    num_updates = config.steps * loss.num_minibatches * loss.num_epochs
    optimizer = make_optimizer(config.optim, num_updates)
    schedule = make_risk_schedule(config.risk, config.advantage.risk_coef, config.steps)
    train_step = make_train_step(
        policy.logprobs,
        config.advantage,
        optimizer,
        loss=loss,
        channels=task.channels,
        risk_schedule=schedule,
    )
    return parallel.data_parallel(train_step, policy.devices, config.parallel.impl), optimizer


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
        raise ValueError(
            f"workdir {workdir} has no checkpoint yet.\n"
            f"  The first is saved after {config.checkpoint.every} steps."
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


def differing_fields(stored: Mapping, current: Mapping, prefix: str = "") -> list[str]:
    """Fields that differ between two config dictionaries, harmless ones left out.

    Args:
      stored: of the workdir.
      current: of this command.
      prefix: path of the two in the whole.

    Returns:
      One line per field: ``name: stored -> current``.

    >>> differing_fields({"seed": 0, "steps": 5}, {"seed": 1, "steps": 9})
    ['seed: 0 -> 1']
    """
    lines = []
    for name in sorted({*stored, *current}):
        path = f"{prefix}{name}"
        old, new = stored.get(name), current.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and path != "advantage.weights":
            lines += differing_fields(old, new, f"{path}.")
        elif old != new and not path.startswith(HARMLESS):
            lines.append(f"{path}: {old} -> {new}")
    return lines


def check_workdir(config: Config, workdir: Path) -> None:
    """Refuses a folder that cannot be used, or that holds a run with another config.

    Args:
      config: the run.
      workdir: its folder.

    Raises:
      ValueError: naming the folder or the differing fields.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".write_test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"workdir must be a folder that can be written to, got {workdir}: {error.strerror}.\n"
            "  Choose another --workdir."
        ) from None
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        stored = json.loads(path.read_text())
    except ValueError:
        raise ValueError(
            f"{path} is not valid JSON.\n  Restore it, or choose another --workdir."
        ) from None
    lines = differing_fields(stored, config.to_dict())
    if lines:
        raise ValueError(
            f"workdir {workdir} holds a run with another config; differing fields "
            "(there -> here):\n    "
            + "\n    ".join(lines)
            + "\n  Choose another --workdir, or give the same values."
        )


def write_config(config: Config, workdir: Path) -> None:
    """Writes config.json, all or nothing.

    Args:
      config: the run.
      workdir: its folder.
    """
    part = workdir / "config.json.part"
    part.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    part.replace(workdir / "config.json")


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


def _header(config: Config, policy: Policy) -> dict[str, Any]:
    text = json.dumps(config.to_dict(), sort_keys=True)
    packages = ("rvpo-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "git_commit": _git_commit(),
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "devices": [str(device) for device in policy.devices],
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip() or None
    return None


def _flatten(
    metrics: dict, batch: Batch, rollout: Rollout, task: Task, times: tuple[float, ...]
) -> dict[str, float]:
    """Metrics of one step by name; the names are listed in ``metrics.py``."""
    weights = metrics.pop("aggregate/weight")
    flat = {name: float(value) for name, value in metrics.items()}
    channels = jax.device_get(jax.jit(channel_metrics)(batch.rewards, batch.where, task.pass_at))
    flat["reward/joint_pass_rate"] = float(channels.pop("joint_pass_rate"))
    for index, name in enumerate(task.channel_names):
        flat[f"aggregate/weight/{name}"] = float(weights[index])
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
    console.print(f"picture: {workdir / 'run.png'}", highlight=False)


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """SIGTERM and the first Ctrl-C set a flag that the loop reads between two steps."""
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        LOG.warning("Stopping after this step; a second Ctrl-C stops at once.")

    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: a notebook's, which handles its own interrupts
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(
    config: Config, console: Console, first: int
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar on a terminal, a line now and then elsewhere."""

    def summary(step: int, metrics: Mapping[str, float]) -> str:
        return (
            f"step {step:>5}  all met {metrics['reward/joint_pass_rate']:.2f}  "
            f"length {metrics['rollout/length_mean']:.0f}  "
            f"entropy {metrics['policy/entropy']:.2f}  {metrics['time/step_s']:.2f} s/step"
        )

    if not console.is_terminal:

        def line(step: int, metrics: Mapping[str, float]) -> None:
            if step % config.log.console_every == 0 or step + 1 == config.steps:
                console.print(summary(step, metrics), highlight=False, soft_wrap=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("training", total=config.steps, completed=first)
        yield lambda step, metrics: progress.update(
            bar, completed=step + 1, description=summary(step, metrics)
        )
