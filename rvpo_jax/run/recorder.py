"""All that a run writes but its checkpoints: metrics, rollouts, samples, evaluations, the ending.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from rvpo_jax.basics.files import replacing
from rvpo_jax.basics.refusals import Failure
from rvpo_jax.method.rules import rule_name
from rvpo_jax.rewards import Scores, check_any_scored, may_be_absent
from rvpo_jax.run import pulse
from rvpo_jax.run.console import progress
from rvpo_jax.run.evaluate import evaluate_held_out, evaluation_row
from rvpo_jax.run.json_lines import JsonLines, read_rows, truncate_jsonl
from rvpo_jax.run.lock import Lock
from rvpo_jax.run.metrics import MetricsWriter
from rvpo_jax.run.observe import Counts, make_observer
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.rollout_log import drop_rollouts, write_rollouts
from rvpo_jax.run.setup import Run
from rvpo_jax.run.summary import plot_run, rate_table
from rvpo_jax.run.workdir import run_header
from rvpo_jax.types import Advantages, Batch, Rollout

# Of so many completions, a channel that is in a tenth of the prompts misses all with odds of 1:800.
ENOUGH = 64


class NonFiniteError(Failure):
    """A loss, gradient or parameter is NaN or infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampled:
    """What one step sampled in this process and how it was scored.

    Attributes:
      examples: B rows of the data.
      texts: ``B * G`` completions, prompt by prompt.
      batch: as the train step takes it, arrays on the host.
      rollout: where the batch comes from.
      scores: of the reward functions, ``B * G`` rows.
    """

    examples: Sequence[Mapping[str, Any]]
    texts: Sequence[str]
    batch: Batch
    rollout: Rollout
    scores: Scores

    def counts(self) -> Counts:
        """In numbers, of this process."""
        return Counts(
            rewards=np.asarray(self.batch.rewards),
            where=np.asarray(self.batch.where),
            lengths=np.asarray(self.batch.completion_mask).sum(-1, dtype=np.int32),
            truncated=np.asarray(self.rollout.truncated),
            computed=np.asarray(self.rollout.computed),
            num_failed=self.scores.num_failed[None].astype(np.int32),
        )


class Laps:
    """Seconds between moments of one step, which are signs of life too.

    Args:
      step: rollout batches seen before.

    >>> laps = Laps(0)
    >>> laps.lap("rollout")
    >>> list(laps.seconds)
    ['rollout']
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Notes the time since the last moment under a name."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
        pulse.beat(self.step, name)


class Recorder(contextlib.ExitStack):
    """Writes the folder of a run; a context manager that closes its files.

    On entering, what a resumed run will write again is dropped. Of several processes, each writes
    the rollouts that it sampled, and the first one all the rest.

    Args:
      run: the run.
      workdir: its folder.
      console: where progress and the final table go.
      first: the step that this process starts at.
      lock: on the folder.
    """

    def __init__(self, run: Run, workdir: Path, console: Console, first: int, lock: Lock) -> None:
        super().__init__()
        self._run, self._workdir, self._console, self._first = run, workdir, console, first
        self._lock = lock
        self._samples = JsonLines(workdir / "samples.jsonl")
        self._evals = JsonLines(workdir / "evals.jsonl")
        self._evaluated: set[int] = set()
        self._method = run.config.to_dict()["advantage"]["method"]
        self._observe = make_observer(run.advantage, run.task.channels, run.config.log.audit_every)

    def __enter__(self) -> "Recorder":
        super().__enter__()
        config = self._run.config
        if processes.is_first():
            truncate_jsonl(self._samples.path, self._first)
            truncate_jsonl(self._evals.path, self._first + 1)
            self._evaluated |= {row["step"] for row in read_rows(self._evals.path)}
            drop_rollouts(self._workdir, self._first)
            self._writer = self.enter_context(
                MetricsWriter(
                    self._workdir,
                    sinks=config.log.sinks,
                    resume_step=self._first or None,
                    header=run_header(config, self._run.policy.layout.devices),
                )
            )
        processes.wait_for_all("what a resumed run writes again is dropped")
        self._told()  # the trial before the first step belongs to no step
        self._show = self.enter_context(progress(config, self._console, self._first))
        return self

    def __exit__(self, *error: Any) -> Any:
        try:
            self.flush()
        finally:
            super().__exit__(*error)

    def evaluation(self, step: int, params: Any) -> None:
        """Evaluates and appends a row to evals.jsonl, unless this step is there already.

        Args:
          step: rollout batches seen.
          params: of the policy.
        """
        if processes.any_of(step in self._evaluated):
            return
        run = self._run
        evaluation = evaluate_held_out(run, params, run.config.eval.num_prompts)
        if step == 0:
            check_any_scored(
                evaluation.where,
                run.task.channel_names,
                enough=ENOUGH,
                may_be_absent=may_be_absent(run.task.reward_fns),
            )
        told = self._told()
        if processes.is_first():
            row = {"step": step, **evaluation_row(run.task, evaluation)}
            self._evals.append(row | ({"told": told} if told else {}))
            self._evaluated.add(step)

    def step(
        self,
        step: int,
        sampled: Sampled,
        judged: Advantages,
        step_metrics: dict[str, Any],
        laps: Laps,
    ) -> None:
        """Writes one step.

        Args:
          step: rollout batches seen before.
          sampled: prompts, completions and their scores.
          judged: the advantages of the batch, on the host.
          step_metrics: of the train step, on the host.
          laps: seconds of ``rollout`` and ``reward``; the update ends here.

        Raises:
          NonFiniteError: when a number is not finite, in any process; nothing of the step is
            written then but the batch.
        """
        laps.lap("update")
        config, batch = self._run.config, sampled.batch
        counts = processes.gather(sampled.counts())
        metrics = self._observe(step, counts, judged, step_metrics)
        if np.isnan(judged.weights).all():  # a user's rule, between two computations
            metrics = {k: v for k, v in metrics.items() if not k.startswith("aggregate/weight/")}
        self._check_finite(step, metrics, batch)
        if config.log.rollouts != "none":
            self._write_rollouts(step, sampled, judged, metrics)
        sampled_due = config.log.samples_every and step % config.log.samples_every == 0
        if sampled_due and processes.is_first():
            self._write_samples(step, sampled)
        laps.lap("record")
        metrics |= self._told() | _rates(counts, laps)
        if step % config.log.every == 0 and processes.is_first():
            self._writer.write(step, metrics)
        self._show(step, metrics)

    def _told(self) -> dict[str, float]:
        """What reward functions of all processes tell of their calls since they were last asked."""
        takes = [getattr(fn, "take_metrics", None) for fn in self._run.task.reward_fns]
        numbers = {name: x for take in takes if take for name, x in take().items()}
        if not numbers:
            return {}
        rows = processes.gather(np.array([list(numbers.values())]))
        return dict(zip(numbers, rows.sum(axis=0).tolist(), strict=True))

    def flush(self) -> None:
        """Writes the lines that are kept for a bucket; before a checkpoint, which stands for them.

        Raises:
          LostLockError: if the folder may be another process's by now.
        """
        if not processes.is_first():
            return
        self._lock.check()
        for log in (self._writer, self._samples, self._evals):
            log.flush()

    def finish(self) -> None:
        """The picture and the table at the end of a run."""
        run, workdir, console = self._run, self._workdir, self._console
        rows = read_rows(workdir / "evals.jsonl")
        names = run.task.channel_names
        title = f"{self._method}, {run.config.data.source} task, seed {run.config.seed}"
        plot_run(read_rows(workdir / "metrics.jsonl"), names, workdir / "run.png", title)
        console.print(rate_table(rows[0], rows[-1], names))
        console.print(f"picture: {workdir / 'run.png'}", markup=False, highlight=False)

    def _check_finite(self, step: int, metrics: Mapping[str, float], batch: Batch) -> None:
        # What the rule returned comes first: a loss that is NaN because of it is not the cause.
        # What it remembers may be infinite, as the best of no rewards is.
        counted = [name for name in metrics if not name.startswith("rule/")]
        names = sorted(counted, key=lambda name: name != RULE_VALUE)
        name = next((name for name in names if not math.isfinite(metrics[name])), None)
        if not processes.any_of(name is not None):
            return
        path = self._workdir / f"bad_batch_step_{step}{processes.suffix()}.npz"
        fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        with replacing(path) as part:
            np.savez(part, **{key: x for key, x in fields.items() if x is not None})
        rule = rule_name(self._run.advantage.method)
        remedy = (
            f"The rule {rule} returned it: mask before dividing or taking a logarithm."
            if name == RULE_VALUE
            else "A smaller optim.learning_rate is the usual cure."
        )
        found = "another process met a number" if name is None else f"{name} is {metrics[name]}"
        raise NonFiniteError(
            f"{found} at step {step}; the run stops and keeps its last checkpoint.\n"
            f"  The batch is in {path}. {remedy}"
        )

    def _write_rollouts(
        self, step: int, sampled: Sampled, judged: Advantages, metrics: Mapping[str, float]
    ) -> None:
        task = self._run.task
        write_rollouts(
            self._workdir,
            step,
            task.channels,
            np.asarray(sampled.batch.rewards),
            np.asarray(sampled.batch.where),
            processes.mine(np.asarray(judged.advantages)),
            prompts=[task.tokenizer.render(example["prompt"]) for example in sampled.examples],
            completions=sampled.texts if self._run.config.log.rollouts == "texts" else None,
            method=self._method,
            risk_coef=metrics["risk_coef"],
            weights=self._run.advantage.weights,
            part=processes.index() if processes.count() > 1 else None,
        )

    def _write_samples(self, step: int, sampled: Sampled) -> None:
        """The first completions of the first prompts, one of each, with their channel values."""
        group_size = sampled.batch.rewards.shape[1]
        names = self._run.task.channel_names
        for prompt in range(min(self._run.config.log.num_samples, len(sampled.examples))):
            rewards, where = sampled.batch.rewards[prompt, 0], sampled.batch.where[prompt, 0]
            values = {
                name: float(rewards[index]) if where[index] else None
                for index, name in enumerate(names)
            }
            row = {
                "step": step,
                "prompt": sampled.examples[prompt]["prompt"],
                "completion": sampled.texts[prompt * group_size],
                "rewards": values,
            }
            self._samples.append(row)


RULE_VALUE = "aggregate/group_mean"


def _rates(counts: Counts, laps: Laps) -> dict[str, float]:
    """Lengths, seconds and tokens per second of one step."""
    seconds = laps.seconds
    num_tokens = float(counts.lengths.sum())
    return {
        "rollout/length_mean": num_tokens / counts.lengths.size,
        "rollout/truncated_frac": float(np.mean(counts.truncated)),
        **{f"time/{name}_s": value for name, value in seconds.items()},
        "time/step_s": sum(seconds.values()),
        "time/reward_wait_frac": seconds["reward"] / sum(seconds.values()),
        "perf/rollout_tokens_per_s": num_tokens / seconds["rollout"],
        "perf/update_tokens_per_s": num_tokens / seconds["update"],
        "perf/rollout_useful_frac": num_tokens / float(counts.computed.sum()),
    }
