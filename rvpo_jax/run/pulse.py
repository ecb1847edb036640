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
import time
import traceback
from collections.abc import Iterator

SOCKET = "RVPO_PULSE_FD"
EVERY = 1.0  # seconds


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


def progress(*_: object, **__: object) -> None:
    """Says that something has been done; any arguments, as JAX's listeners have them."""
    _say({})


def lost(text: str) -> None:
    """Says that another process seems to be gone.

    Args:
      text: what the runtime said.
    """
    _say({"lost": text})


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Says that something is under way that may take long, such as compiling.

    Yields:
      None.
    """
    _say({"untimed": True})
    try:
        yield
    finally:
        _say({"untimed": False})


def start() -> None:
    """Begins to say that this process is alive, and ends it when the one that watches is gone."""
    watcher = _socket()
    if watcher is not None:
        threading.Thread(target=_live, daemon=True).start()
        threading.Thread(target=_end_with, args=(watcher,), daemon=True).start()


def end_at_once(code: int) -> None:
    """Ends a watched process that has failed: the usual end would wait for the others.

    Args:
      code: exit code; 0: nothing happens.
    """
    if code and is_watched():
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _live() -> None:
    while True:
        _say({"alive": True})
        time.sleep(EVERY)


def _end_with(watcher: socket.socket) -> None:
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
