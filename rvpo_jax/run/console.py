"""The person at the run: progress on the console, and requests to stop."""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rvpo_jax.basics.refusals import Failure
from rvpo_jax.config import Config

LOG = logging.getLogger(__name__)


class Stopped(Failure):
    """The run was asked to stop, and has saved its state."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """SIGTERM and the first Ctrl-C set a flag that the loop reads between two steps.

    Yields:
      ``stop_requested()``.
    """
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
