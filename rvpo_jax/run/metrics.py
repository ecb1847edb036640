"""Metrics of a run: ``metrics.jsonl`` always, TensorBoard and W&B when asked for.

One JSON object per logged step, ``{"step": int, "time": seconds since 1970, name: value, ...}``,
after a first line ``{"header": {...}}``. A value that is not finite is ``null``: JSON has no NaN.
On resuming, lines from the resumed step on are dropped, so no step is ever in the file twice.

All names, with ``<channel>`` once per reward channel; means are over the rollout batch:

================================  ==================================================================
Name                              Meaning, unit
================================  ==================================================================
``reward/<channel>/mean``         mean raw reward, channel's unit
``reward/<channel>/std``          its standard deviation over all completions, channel's unit
``reward/<channel>/pass_rate``    share of completions with reward >= pass_at
``reward/<channel>/live_frac``    share of groups in which the channel varies
``reward/<channel>/dead_pass_frac``  share of groups in which it is constant and met
``reward/<channel>/dead_fail_frac``  share of groups in which it is constant and failed
``reward/<channel>/scored_frac``  share of completions that it scored
``reward/<channel>/failed_frac``  share of completions on which the function raised (skipped)
``reward/joint_pass_rate``        share of completions that meet all their channels
``aggregate/weight/<channel>``    mean weight of the channel, d aggregate / d score; for a user's
                                  rule every ``log.audit_every`` steps
``aggregate/channel_var``         mean variance between the scores of a completion, score^2
``aggregate/group_mean``          mean aggregate before recentring and whitening, score
``audit/quiet_failures/<rule>/<channel>``  share of scored completions that fail the channel and
                                  have a positive advantage; rule: ``used`` (the run's own) and, on
                                  the same rewards, every ``log.audit_every`` steps, ``grpo``,
                                  ``gdpo``, ``rvpo``, ``hard_min``
``audit/failure_gap/<channel>``   mean advantage of failing minus meeting completions of a group
``audit/bottleneck/<channel>``    share of completions with their smallest score in this channel
``audit/compensation``            share of completions failing a constraint (without any: a
                                  channel) that have a positive advantage
``audit/effective_channels``      exp of the entropy of the soft minimum's weights
``audit/conflict``                share of pairs of live scores with opposite signs
``audit/k_spread``                k times the standard deviation between scores of a completion
``audit/position``                0: the soft minimum is the mean, 1: the minimum
``aggregate/dropped_frac``        share of scored completions that the rule dropped
``rule/<name>/<channel>``         what a rule with memory remembers of a channel after the step,
                                  such as its multiplier; ``rule/<name>``: one number for all
``advantage/abs_mean``            mean absolute advantage
``policy/loss``                   loss of the update; near 0 while each batch is used once, by the
                                  policy that sampled it, whatever is learned: the ratio is 1 there
                                  and advantages sum to about 0
``policy/ratio_mean``             mean new / old probability of a completion token
``policy/clip_frac``              share of completion tokens whose ratio is clipped
``policy/kl_ref``                 KL divergence to the reference policy, nats per token
``policy/kl_old``                 KL divergence to the policy that sampled, nats per token
``policy/entropy``                entropy of the next token, nats
``policy/grad_norm``              global norm of the gradient before it is scaled down
``rollout/length_mean``           completion length, tokens
``rollout/truncated_frac``        share of completions cut at the length limit
``time/rollout_s``                sampling, seconds
``time/reward_s``                 scoring, seconds; with ``rollout.num_parts`` what is left of it
                                  when all is sampled
``time/update_s``                 train step, seconds
``time/record_s``                 metrics, ``rollouts/`` and ``samples.jsonl``, seconds
``time/step_s``                   the whole step up to its line in this file, seconds
``time/reward_wait_frac``         share of the step in which all waits for rewards
``perf/rollout_tokens_per_s``     completion tokens sampled per second, all devices
``perf/update_tokens_per_s``      completion tokens trained on per second, all devices
``perf/rollout_useful_frac``      completion tokens over token positions that decoding computed
``perf/update_useful_frac``       completion tokens over positions that the update computed: the
                                  rest is padding (``loss.microbatch_tokens``)
``risk_coef``                     k of the soft minimum, 1/score
================================  ==================================================================
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rvpo_jax.basics.files import with_parts
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.bucket import run_folder, scratch_of
from rvpo_jax.run.json_lines import JsonLines, read_rows, start_jsonl


class Sink(Protocol):
    """Where metrics go besides ``metrics.jsonl``."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one step."""

    def close(self) -> None:
        """Flushes what is buffered."""


class MetricsWriter:
    """Writes the metrics of a run; a context manager that closes its sinks.

    In a folder each line is there when it is written, and a killed run loses nothing but the step
    it was in; in a bucket it is there after ``flush``.

    Args:
      workdir: Folder of the run, created if absent; holds ``metrics.jsonl``.
      sinks: Further sinks by name: ``"tensorboard"``, ``"wandb"``.
      resume_step: First step that this process will write. ``None`` starts a new file; a step
        keeps the lines before it and drops the rest, also a last line that was cut.
      header: What describes the run: config hash, git commit, package versions, devices. Written
        once, as the first line; on resuming, that of the old file stays, if it has one.

    Raises:
      ValueError: if a sink is unknown.
      ModuleNotFoundError: if the package of a sink is not installed.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        sinks: Sequence[str] = (),
        resume_step: int | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> None:
        workdir = run_folder(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self._sinks = [_make_sink(name, workdir) for name in sinks]
        self.path = workdir / "metrics.jsonl"
        self._lines = JsonLines(self.path)
        start_jsonl(self.path, resume_step, header or {})

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends the metrics of one step and hands them to the sinks.

        Args:
          step: Rollout batches seen.
          metrics: Names to scalars: Python numbers or arrays without axes.
        """
        values = {name: float(value) for name, value in metrics.items()}
        self._lines.append({"step": step, "time": round(time.time(), 3), **values})
        for sink in self._sinks:
            sink.write(step, values)

    def flush(self) -> None:
        """Writes the lines that are kept for a bucket."""
        self._lines.flush()

    def close(self) -> None:
        """Flushes and closes the sinks."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The logged steps of a run, oldest first, without the header and without a cut last line.

    Args:
      path: A ``metrics.jsonl``, or the folder of the run.

    Returns:
      One dictionary per logged step; values that were not finite are ``None``.

    Raises:
      ValueError: if there is no such file.
    """
    path = run_folder(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    if not with_parts(path):
        raise Refusal(
            f"path must be a metrics.jsonl or the folder of a run, got {path}.",
            "A run writes metrics.jsonl from its first step on.",
        )
    return read_rows(path)


class _TensorBoard:
    def __init__(self, workdir: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, workdir: Path) -> None:
        import wandb

        # The folder's name is the run's id, so that a resumed run continues its curves.
        name = workdir.resolve().name
        self._run = wandb.init(
            project="rvpo", id=name, dir=str(scratch_of(workdir)), resume="allow"
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


_SINKS: dict[str, type[_TensorBoard] | type[_WandB]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
}


def _make_sink(name: str, workdir: Path) -> Sink:
    if name not in _SINKS:
        raise Refusal(
            f"log.sinks must name {' or '.join(_SINKS)}, got {name!r}.",
            "metrics.jsonl is always written and needs no sink.",
        )
    try:
        return _SINKS[name](workdir)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"log.sinks {name} needs the package {error.name}, which is not installed.\n"
            "  Install it: pip install 'rvpo-jax[log]'",
            name=error.name,
        ) from error
