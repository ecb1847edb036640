"""The training loop on one screen: sample, score, step (which judges), record, save.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rvpo_jax.auditing import audit
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config
from rvpo_jax.method.frozen import join
from rvpo_jax.method.policy_loss import needs_reference
from rvpo_jax.run import parallel, pulse
from rvpo_jax.run.bucket import run_folder
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.collect import collect, make_batch
from rvpo_jax.run.console import make_console, opening_lines
from rvpo_jax.run.early_audit import is_due, paid_failures
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.profile import traced_steps
from rvpo_jax.run.recorder import Laps, NonFiniteError, Recorder
from rvpo_jax.run.restore import start_or_resume
from rvpo_jax.run.setup import Run, build_run, make_stream
from rvpo_jax.run.shorten import shorten
from rvpo_jax.run.stopping import Stopped, stop_requests, stopped
from rvpo_jax.run.workdir import claim_workdir, write_config
from rvpo_jax.types import Batch, TrainState

__all__ = ["NonFiniteError", "Stopped", "make_batch", "train"]


def train(config: Config, workdir: str | Path, console: Console | None = None) -> TrainState:
    """Trains until ``config.steps``; resumes from ``workdir`` if it has a checkpoint.

    Writes config.json, metrics.jsonl, samples.jsonl, evals.jsonl, rollouts/, checkpoints/, run.png
    and at the end audit.html and audit.json. Several processes call it with the same arguments, but
    for ``config.parallel.rank``; ``rvpo train`` also starts them and watches over them.

    Args:
      config: the run.
      workdir: its folder, created if absent; also gs://BUCKET/FOLDER.
      console: where progress and the final table go; None: standard output.

    Returns:
      The final state.

    Raises:
      ValueError: on input that does not fit, before anything is compiled.
      NonFiniteError: when a number is not finite; the last good checkpoint stays.
      Stopped: on SIGTERM or Ctrl-C, after saving.
    """
    processes.connect(config.parallel)
    console = make_console(console)
    workdir = run_folder(workdir)
    with stop_requests() as stop, claim_workdir(config, workdir) as lock:
        run = processes.in_turn(lambda: build_run(config, workdir))
        run.try_rewards()
        stream = make_stream(run)
        if processes.is_first():
            write_config(config, workdir)
        every, keep = config.checkpoint.every, config.checkpoint.keep
        with Checkpoints(workdir / "checkpoints", keep=keep, save_every=every) as checkpoints:
            state, meta = start_or_resume(run, workdir, checkpoints, stream)
            first, key = int(state.step), parallel.on_no_device(state.key)
            state = run.policy.layout.place(state)
            _say(console, opening_lines(run, state, first))
            reference = _reference(run)
            with Recorder(run, workdir, console, first, lock) as record:
                for step in record.enter_context(traced_steps(config, workdir, first)):
                    if step == 0 or (config.eval.every and step % config.eval.every == 0):
                        record.evaluation(step, run.policy.sampling_params(state))
                    laps = Laps(step)
                    sampled = collect(run, state, next(stream), key, laps)
                    batch = _with_reference(run, shorten(sampled.batch), reference, state.frozen)
                    new_state, *outcome = run.train_step(state, batch)
                    judged, metrics = jax.device_get(outcome)
                    record.step(step, sampled, judged, metrics, laps)
                    _audit_on_the_way(config, workdir, step + 1, console)
                    state, stop.in_steps = new_state, True
                    stopping = processes.any_of(bool(stop))
                    if checkpoints.is_due(step + 1) or step + 1 == config.steps or stopping:
                        record.flush()
                        checkpoints.save(step + 1, state, meta)
                        laps.lap("save")
                    if stopping and step + 1 < config.steps:
                        checkpoints.wait()
                        raise stopped(step + 1, config.steps)
                checkpoints.wait()
                record.evaluation(int(state.step), run.policy.sampling_params(state))
        _finish(record, config, workdir, console)
    return state


def _finish(record: Recorder, config: Config, workdir: Path, console: Console) -> None:
    """Picture, table and audit, by the first process; the others wait, and all end together."""
    processes.wait_for_all("everything is written")
    if processes.is_first():
        with pulse.untimed():
            record.finish()
            if config.log.audit:
                _audit(workdir, console)
    processes.wait_for_all("the first has ended")


def _audit_on_the_way(config: Config, workdir: Path, steps: int, console: Console) -> None:
    """What the run is about to learn, while there is time to stop it."""
    goes_on = steps < config.steps and config.log.audit and processes.is_first()
    if goes_on and is_due(steps):
        with pulse.untimed():
            line = paid_failures(audit, workdir, steps)
        _say(console, [] if line is None else [line])


def _audit(workdir: Path, console: Console) -> None:
    """What the mean hid in this run: the sentences, and the page beside its files."""
    result = audit(workdir)
    _, page = result.save(workdir)
    found = result.report["sentences"]
    _say(console, (printable(f"{row['level']:<8} {row['topic']}: {row['text']}") for row in found))
    _say(console, [f"audit: {page}"])


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _reference(run: Run) -> Any:
    """What was trained at step 0, on all devices, where a term of the loss compares with them."""
    if not needs_reference(run.config.loss):
        return None
    return run.policy.layout.place(run.initial_params())


def _with_reference(run: Run, batch: Batch, reference: Any, frozen: Any) -> Batch:
    if reference is None:
        return batch
    params = join(reference, frozen)  # of adapters there is a second copy, of what they adapt none
    return dataclasses.replace(batch, ref_logprobs=run.policy.reference_logprobs(params, batch))
