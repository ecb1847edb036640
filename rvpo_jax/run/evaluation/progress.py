"""How far an evaluation is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S = 10.0  # seconds between two lines where there is no terminal


@contextlib.contextmanager
def progress(
    what: str, total: int, console: Console, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Shows progress while the block runs.

    Args:
      what: is done.
      total: how many.
      console: where to show it.
      done: of them, before the block.

    Yields:
      ``advance(count)``.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
        )
        bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        with bars:
            bar = bars.add_task(what, total=total, completed=done)
            yield lambda count: bars.advance(bar, count)
        return
    reached, said = done, time.monotonic()

    def line(count: int) -> None:
        nonlocal reached, said
        reached += count
        if time.monotonic() - said >= EVERY_S:
            said = time.monotonic()
            console.print(f"{what}: {reached} of {total}", markup=False, highlight=False)

    yield line
