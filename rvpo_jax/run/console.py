"""The person at the run: progress on the console."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config
from rvpo_jax.rewards import assumed_channels
from rvpo_jax.run.memory import memory_line
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.setup import Run
from rvpo_jax.types import TrainState


def make_console(console: Console | None) -> Console:
    """The console of this process: of several, the first one speaks, and warns, for all.

    Args:
      console: of the caller; None: standard output.

    Returns:
      The console.
    """
    if processes.is_first():
        return Console() if console is None else console
    logging.getLogger("rvpo_jax").setLevel(logging.ERROR)
    return Console(quiet=True)


def opening_lines(run: Run, state: TrainState, first: int) -> Iterator[str]:
    """What a run says of itself before its first step; the last line comes after compiling it.

    Args:
      run: the run.
      state: its state, on all devices.
      first: step that it starts at.

    Yields:
      Lines of plain text.

    Raises:
      ValueError: where a device has too little memory.
    """
    task = run.task
    num_params, num_frozen = map(_size, (state.params, state.frozen))
    trained = f", {num_params:,} of them in adapters" if num_frozen else ""
    dropped = f", {task.num_dropped} dropped as too long" if task.num_dropped else ""
    lines = [
        f"{'starting' if first == 0 else f'resuming at step {first}'}: "
        f"{run.config.to_dict()['advantage']['method']} on {len(task.channels)} channels "
        f"({', '.join(task.channel_names)}); policy {run.policy.model.name} with "
        f"{num_params + num_frozen:,} parameters{trained}; "
        f"{run.policy.layout.describe()}; "
        f"{len(task.train)} training and {len(task.held_out)} held-out prompts{dropped}"
    ]
    if task.repeats is not None:
        lines += task.repeats.lines()
    loss = run.config.loss
    if loss.num_minibatches == loss.num_epochs == 1:
        lines.append(
            "policy/loss stays near 0, since each batch is used once, by the policy that sampled "
            "it: the ratio is 1 and advantages sum to about 0. Watch the rewards."
        )
    yield from (printable(line) for line in (*lines, *assumed_channels(task.reward_fns)))
    if first < run.config.steps:
        yield memory_line(run, state)


def _size(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@contextlib.contextmanager
def progress(
    config: Config, console: Console, first: int
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A bar on a terminal, a line now and then elsewhere.

    Args:
      config: the run.
      console: where to show it.
      first: step that the run starts at.

    Yields:
      ``show(step, metrics)``.
    """

    def summary(step: int, metrics: Mapping[str, float]) -> str:
        return (
            f"step {step:>5}  all met {metrics['reward/joint_pass_rate']:.2f}  "
            f"length {metrics['rollout/length_mean']:.0f}  "
            f"entropy {metrics['policy/entropy']:.2f}  {metrics['time/step_s']:.2f} s/step"
        )

    if not console.is_terminal:

        def line(step: int, metrics: Mapping[str, float]) -> None:
            if step % config.log.console_every == 0 or step + 1 == config.steps:
                console.print(summary(step, metrics), markup=False, highlight=False, soft_wrap=True)

        yield line
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task("training", total=config.steps, completed=first)
        yield lambda step, metrics: bars.update(
            bar, completed=step + 1, description=summary(step, metrics)
        )
