"""Requests to stop: answered at once, also while the main thread is inside the compiler.

Python runs its signal handlers between two bytecodes of the main thread, and a compilation is one
bytecode of many seconds. The number of a signal is written to a socket as it arrives, by Python's
own C code, and a thread that waits there answers.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rvpo_jax.basics.refusals import Failure

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Failure):
    """The run was asked to stop, and has saved its state."""


def stopped(done: int, steps: int) -> Stopped:
    """The error that ends a run which was asked to stop.

    Args:
      done: rollout batches that are trained on and saved.
      steps: of the run.

    Returns:
      The error to raise.
    """
    return Stopped(
        f"Stopped after step {done} of {steps}; the state is saved.\n"
        "  The same command goes on from there."
    )


class StopRequests:
    """What has been asked so far.

    Attributes:
      received: numbers of the signals that arrived.
      in_steps: True once a step is worth finishing; before it, a request interrupts.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.in_steps = False

    def __bool__(self) -> bool:
        return bool(self.received)

    def handle(self, number: int, _frame: Any) -> None:
        """In the main thread, as soon as it runs Python again."""
        self.received.append(number)
        if not self.in_steps or len(self.received) > 1:
            raise KeyboardInterrupt

    def answer(self, arrived: int) -> None:
        """In the waiting thread, at once.

        Args:
          arrived: how many signals there were, this one included.
        """
        if arrived > 1 and "ipykernel" not in sys.modules:  # a notebook's process is not ours
            _say("ended at once; the last checkpoint is intact.")
            os._exit(1)
        if self.in_steps:
            _say("stopping after this step; a second Ctrl-C or SIGTERM ends the process at once.")
        else:
            _say("stopping as soon as the compiler returns; a second one ends the process at once.")


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """SIGTERM and the first Ctrl-C are noted, and answered on standard error; a second one ends.

    Outside the main thread, as in some notebooks, nothing is changed.

    Yields:
      The requests; true once there is one.
    """
    requests = StopRequests()
    try:
        before = {number: signal.signal(number, requests.handle) for number in NUMBERS}
    except ValueError:  # not the main thread
        yield requests
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    waiting = threading.Thread(target=_wait, args=(receiver, requests), daemon=True)
    waiting.start()
    try:
        yield requests
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.close()  # the thread reads an end of file and returns
        waiting.join(timeout=1)
        receiver.close()


def _wait(receiver: socket.socket, requests: StopRequests) -> None:
    arrived = 0
    with contextlib.suppress(OSError):
        while data := receiver.recv(16):
            for number in data:
                if number in NUMBERS:
                    arrived += 1
                    requests.answer(arrived)


def _say(text: str) -> None:
    # Straight to the file: the main thread may hold the lock of a console or of logging.
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"rvpo: {text}\n".encode())
