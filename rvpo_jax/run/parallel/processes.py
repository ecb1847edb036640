"""Several processes of one run: who is who, and what they tell each other.

Every function here is called by all processes in the same order; where there is one, it costs
nothing. ``B`` prompts over all devices, of which each process has an equal part, in its order.
"""

import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.config import ParallelConfig
from rvpo_jax.run import pulse

T = TypeVar("T")
LOST_WORDS = ("Gloo", "UNAVAILABLE", "heartbeat", "coordination service")
# Of the coordinator, for a process that is gone. JAX's 100 s are longer than people wait.
HEARTBEAT_TIMEOUT = 30
COORDINATOR_WITHIN = 300  # seconds: machines do not start at the same time


def connect(options: ParallelConfig) -> None:
    """Joins the other processes of a run; before anything asks for devices.

    Args:
      options: where the coordinator is, and which process this is; without a coordinator nothing
        happens.

    Raises:
      ValueError: if there is to be more than one process, and no coordinator.
      Failure: if the others cannot be reached.
    """
    if options.coordinator is None:
        if (options.processes or 1) > 1:
            raise Refusal(
                f"parallel.processes = {options.processes} are started by rvpo train, got a call "
                "of train().",
                "Use the command, or give parallel.coordinator and parallel.rank in each process.",
            )
        return
    if jax.distributed.is_initialized():
        return
    # Small programs, too, are compiled for seconds: each that is done is a sign of life.
    jax.monitoring.register_event_duration_secs_listener(pulse.progress)
    if options.coordinator != "auto" and options.rank:
        _check_reachable(options.coordinator)
    # auto: Cloud TPU, SLURM and others tell JAX the rest.
    told: dict[str, Any] = (
        {}
        if options.coordinator == "auto"
        else {
            "coordinator_address": options.coordinator,
            "num_processes": options.processes,
            "process_id": options.rank,
        }
    )
    try:
        jax.distributed.initialize(**told, heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise Failure(
            f"the other processes of the run were not found: {str(error).splitlines()[0]}\n"
            f"  parallel.coordinator is {options.coordinator}, parallel.processes "
            f"{options.processes}, parallel.rank {options.rank}: is that so?"
        ) from error


def _check_reachable(coordinator: str) -> None:
    """JAX ends the process, with a trace of C++, when nobody answers."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + COORDINATOR_WITHIN
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise Failure(
                    f"nobody answers at parallel.coordinator {coordinator}: {error.strerror}.\n"
                    "  Start process 0 there, and let all machines reach its port."
                ) from None
            time.sleep(0.5)


def index() -> int:
    """Which of the processes this one is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is the one process that writes what a run has once."""
    return jax.process_index() == 0


def count() -> int:
    """Processes of the run."""
    return jax.process_count()


def suffix() -> str:
    """What tells this process's file from the others'; nothing where there is one process."""
    return f"-{jax.process_index():03d}" if jax.process_count() > 1 else ""


def mine(rows: Any) -> Any:
    """This process's rows of what has those of all.

    Args:
      rows: ``[B, ...]`` array.

    Returns:
      ``[B / processes, ...]``.
    """
    size = len(rows) // jax.process_count()
    return rows[jax.process_index() * size :][:size]


def gather(tree: Any) -> Any:
    """The rows of all processes.

    Args:
      tree: of NumPy arrays ``[B / processes, ...]``.

    Returns:
      The tree with ``[B, ...]``.
    """
    if jax.process_count() == 1:
        return tree
    return multihost_utils.process_allgather(tree, tiled=True)


def largest(number: int) -> int:
    """The largest of the processes' numbers.

    Args:
      number: of this process.

    Returns:
      The same for all.
    """
    return int(gather(np.array([number], np.int32)).max())


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process.

    Args:
      flag: of this process.

    Returns:
      The same for all.
    """
    return largest(int(flag)) > 0


def in_turn(make: Callable[[], T]) -> T:
    """What ``make`` returns, called in the first process before the others.

    Args:
      make: may write files that the others then find.

    Returns:
      This process's result.
    """
    made = make() if is_first() else None
    wait_for_all("the first has made it")
    return make() if made is None else made


def wait_for_all(why: str) -> None:
    """Returns when all processes are here.

    Args:
      why: a few words, the same in all.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(why)


def is_lost(error: Exception) -> bool:
    """Whether an error says that another process is gone.

    Args:
      error: of any kind: the runtime raises several.

    Returns:
      True where its text is that of a broken connection.
    """
    return any(word in str(error) for word in LOST_WORDS)
