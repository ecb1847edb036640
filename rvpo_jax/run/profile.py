"""A trace of some steps for TensorBoard's profiler, or Perfetto: where their time goes."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax

from rvpo_jax.config import Config
from rvpo_jax.run.parallel import processes

LOG = logging.getLogger(__name__)
STEP = "step"  # what a step is called in the trace; its number stands beside


@contextlib.contextmanager
def traced_steps(config: Config, workdir: Path, first: int) -> Iterator[Iterator[int]]:
    """The steps of a run, of which those in ``log.profile`` leave a trace in ``profile/``.

    Args:
      config: of the run.
      workdir: its folder. Of several processes each writes a folder of its own in ``profile/``.
      first: the step that this process starts at.

    Yields:
      The steps from ``first`` on. A trace that has begun is written also when the block raises.
    """
    start, end = config.log.profiled or (0, 0)
    start = max(start, first)
    if config.log.profile is not None and start >= end:
        LOG.warning("log.profile %s: these steps were made before.", config.log.profile)
    with contextlib.ExitStack() as trace:

        def steps() -> Iterator[int]:
            for step in range(first, config.steps):
                if step == start < end:
                    trace.enter_context(_trace(workdir / "profile"))
                with jax.profiler.StepTraceAnnotation(STEP, step_num=step):
                    yield step
                if step + 1 == end:
                    trace.close()

        yield steps()


@contextlib.contextmanager
def _trace(folder: Path) -> Iterator[None]:
    """Traces what happens in the block; written to a disk first: the folder may be in a bucket."""
    if processes.count() > 1:  # on one host, all would write the same file
        folder = folder / f"process{processes.suffix()}"
    with tempfile.TemporaryDirectory() as written:
        try:
            with jax.profiler.trace(written):
                yield
        finally:
            for path in sorted(Path(written).rglob("*")):
                target = folder / path.relative_to(written)
                if path.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())
