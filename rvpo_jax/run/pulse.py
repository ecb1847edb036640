"""Signs of life of a run's process, for the command that started it and watches over it.

One line for each: a JSON object on the socket whose number stands in the environment. Without one,
as in a notebook, nothing is said.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator

SOCKET = "RVPO_PULSE_FD"


def is_watched() -> bool:
    """Whether another command has started this process and watches over it."""
    return _socket() is not None


def beat(step: int, done: str) -> None:
    """Says what has been done.

    Args:
      step: rollout batches seen before.
      done: what of the step, such as rollout.
    """
    _say({"step": step, "done": done})


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Says that a program is being compiled, which may take long.

    Yields:
      None.
    """
    _say({"compiling": True})
    try:
        yield
    finally:
        _say({"compiling": False})


def end_with_watcher() -> None:
    """Ends this process when the one that watches over it is gone: nobody else would."""
    watcher = _socket()
    if watcher is not None:
        threading.Thread(target=_wait, args=(watcher,), daemon=True).start()


def _wait(watcher: socket.socket) -> None:
    with contextlib.suppress(OSError):
        watcher.recv(1)  # nothing is ever sent: this returns at the end of the other side
    os.write(sys.stderr.fileno(), b"rvpo: the command that started this process is gone; ended.\n")
    os._exit(1)


def _say(report: dict[str, object]) -> None:
    watcher = _socket()
    if watcher is not None:
        with contextlib.suppress(OSError):
            watcher.sendall(json.dumps(report).encode() + b"\n")


@functools.cache
def _socket() -> socket.socket | None:
    number = os.environ.pop(SOCKET, None)  # what this process starts is not watched over
    return None if number is None else socket.socket(fileno=int(number))
