"""Starts the processes of a run and watches over them: all go on, or all end, with one message.

Nothing here loads JAX: a process that holds no device outlives those that are killed.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rvpo_jax.basics.refusals import Failure
from rvpo_jax.basics.text import printable
from rvpo_jax.config import ParallelConfig
from rvpo_jax.run import pulse
from rvpo_jax.run.bucket import is_complete

POLL = 0.2  # seconds
GRACE = 5.0  # seconds between the end of one process and that of the others, to say why they end
BUS = Path("/sys/bus/pci/devices")
LOST = 75  # exit code of a process that has lost another one (EX_TEMPFAIL)
HOST = "127.0.0.1"
# PCI's numbers of Google, and of its TPUs from v2 to 7x, as JAX knows them.
GOOGLE, TPUS = "0x1ae0", {"0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}


@dataclasses.dataclass
class Watched:
    """One process of the run.

    Attributes:
      rank: its number; None: it learns it by itself.
      process: itself.
      errors: what it writes to standard error, where that is kept back.
      pulse: where its signs of life arrive.
      step: of the last one; -1 before the first.
      done: what of that step.
      since: when it came.
      heard: when anything was heard of it.
      untimed: whether it compiles or audits, which may take long.
      lost: what the runtime said of a process that it lost.
    """

    rank: int | None
    process: subprocess.Popen[bytes]
    errors: IO[bytes] | None
    pulse: socket.socket
    step: int = -1
    done: str = ""
    since: float = dataclasses.field(default_factory=time.monotonic)
    heard: float = dataclasses.field(default_factory=time.monotonic)
    untimed: bool = False
    lost: str = ""
    _heard: bytes = b""

    @property
    def name(self) -> str:
        """In words."""
        return "the process of this machine" if self.rank is None else f"process {self.rank}"

    def place(self) -> str:
        """How far it came, in words."""
        if self.step < 0:
            return "before the end of its first rollout"
        return f"after the {self.done} of step {self.step}"

    def hear(self) -> None:
        """Takes what has arrived of its signs of life."""
        with contextlib.suppress(OSError):
            self._heard += self.pulse.recv(1 << 16, socket.MSG_DONTWAIT)
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, report: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        if "alive" in report:
            return
        self.since = self.heard
        self.untimed = bool(report.get("untimed", self.untimed))
        self.step = int(report.get("step", self.step))
        self.done = str(report.get("done", self.done))
        self.lost = str(report.get("lost", self.lost))


def is_needed(options: ParallelConfig) -> bool:
    """Whether processes are to be started, by a command that is not itself one of them.

    Args:
      options: of the run.

    Returns:
      True for several processes, and on a machine with TPUs, which may be one of several.
    """
    if pulse.is_watched():
        return False
    several = (options.processes or 1) > 1 or options.coordinator is not None
    return several or (options.processes is None and _has_tpus())


def launch(arguments: Sequence[str], options: ParallelConfig, workdir: Path) -> int:
    """Runs ``rvpo train`` in the processes of this machine, until the last one has ended.

    Args:
      arguments: of the command, as they were given.
      options: how many, where, and after how long without progress they are ended.
      workdir: folder of the run, for the message.

    Returns:
      0.

    Raises:
      Failure: when one of them fails, is killed or stops making progress; all have ended then.
    """
    with _started(arguments, options) as watched, _passing_on_signals(watched):
        running = True
        while running:
            _listen(watched)
            running = any(one.process.poll() is None for one in watched)
            failed = [one for one in watched if one.process.returncode not in (0, None)]
            if failed:
                return _end(watched, failed, workdir)
            stalled = _stalled(watched, options.stall_timeout)
            if stalled is not None:
                raise Failure(
                    f"{stalled.name} has made no progress for {options.stall_timeout:g} s, "
                    f"{stalled.place()}: all processes are ended.\n  {_resume(workdir)}"
                )
    return 0


@contextlib.contextmanager
def _started(arguments: Sequence[str], options: ParallelConfig) -> Iterator[list[Watched]]:
    """The processes, which are killed at the end of the block."""
    watched: list[Watched] = []
    try:
        if options.coordinator is None and (options.processes or 1) > 1:
            address = f"{HOST}:{_free_port()}"
            for rank in range(options.processes or 1):
                given = ["--parallel.coordinator", address, "--parallel.rank", str(rank)]
                watched.append(_start([*arguments, *given], rank))
        else:
            given = [] if options.coordinator else ["--parallel.coordinator", "auto"]
            watched.append(_start([*arguments, *given], options.rank))
        yield watched
    finally:
        for one in watched:
            with contextlib.suppress(OSError):
                one.process.kill()
            one.process.wait()
            one.pulse.close()


def _start(arguments: Sequence[str], rank: int | None) -> Watched:
    here, there = socket.socketpair()
    # What the others say is what the first one says, or the consequence of another's end.
    errors = tempfile.TemporaryFile() if rank else None
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "rvpo_jax", "train", *arguments],
            env={**os.environ, pulse.SOCKET: str(there.fileno())},
            stderr=errors,
            pass_fds=[there.fileno()],
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on once
        )
    return Watched(rank=rank, process=process, errors=errors, pulse=here)


@contextlib.contextmanager
def _passing_on_signals(watched: Sequence[Watched]) -> Iterator[None]:
    def pass_on(number: int, _frame: Any) -> None:
        for one in watched:
            with contextlib.suppress(OSError):
                one.process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(watched: Sequence[Watched]) -> None:
    """Waits a moment for signs of life, and takes them."""
    with selectors.DefaultSelector() as selector:
        for one in watched:
            if one.process.poll() is None:
                selector.register(one.pulse, selectors.EVENT_READ, one)
        for key, _ in selector.select(POLL):
            key.data.hear()
    time.sleep(0.01)  # the socket of a process that has just ended is always ready


def _stalled(watched: Sequence[Watched], timeout: float) -> Watched | None:
    """The process that has been silent for too long, or is furthest behind where none moves.

    One that waits for another does not move either. Before the first step, and while one of them
    compiles or audits, nobody is behind.
    """
    running = [one for one in watched if one.process.poll() is None]
    now = time.monotonic()
    silent = min(running, key=lambda one: one.heard, default=None)
    if silent is None or now - silent.heard > timeout:
        return silent
    if any(one.untimed or one.step < 0 for one in running):
        return None
    moved = max(one.since for one in running)
    return min(running, key=_progress) if now - moved > timeout else None


def _end(watched: Sequence[Watched], failed: Sequence[Watched], workdir: Path) -> int:
    """What has failed, once all have ended; one that was killed is not another's consequence."""
    first = min(failed, key=lambda one: one.process.returncode)
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(one.process.poll() is None for one in watched):
        time.sleep(POLL)
    first.hear()
    code, said = first.process.returncode, _said(first)
    if code not in (LOST, -signal.SIGABRT):
        return _own_end(first, said, workdir)
    # The runtime ends a process that waits for one which is gone, or no longer answers.
    behind = min((one for one in watched if one is not first), key=_progress, default=None)
    raise Failure(
        f"{first.name} lost touch with "
        + ("another machine's" if behind is None else f"{behind.name}, {behind.place()}")
        + f", and was itself {first.place()}: all processes are ended.\n  {_resume(workdir)}"
        + (f"\n  {printable(first.lost)}" if first.lost else "")
    )


def _own_end(first: Watched, said: str, workdir: Path) -> int:
    code = first.process.returncode
    if code > 0:  # it has said why
        if said:
            print(printable(said), file=sys.stderr)
        return code
    raise Failure(
        f"{first.name} was ended by {signal.Signals(-code).name} {first.place()}: all processes "
        f"are ended.\n  {_resume(workdir)}"
    )


def _progress(one: Watched) -> tuple[int, float]:
    return one.step, one.since


def _said(one: Watched) -> str:
    """The end of what it wrote to standard error, where that was kept back."""
    if one.errors is None:
        return ""
    size = one.errors.seek(0, os.SEEK_END)
    one.errors.seek(max(size - 2000, 0))
    return one.errors.read().decode(errors="replace").strip()


def _resume(workdir: Path) -> str:
    """From where the same command goes on."""
    found = (workdir / "checkpoints").glob("*")
    names = [path.name for path in found if path.name.isdecimal() and is_complete(path)]
    if not names:
        return f"There is no checkpoint in {workdir} yet: the same command starts again."
    newest = workdir / "checkpoints" / max(names, key=int)
    return f"The same command goes on from {newest}."


def _has_tpus() -> bool:
    """Whether devices of Google's, which are TPUs, lie on this machine's bus and are to be used."""
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    return any(
        (device / "vendor").read_text().strip() == GOOGLE
        and (device / "device").read_text().strip() in TPUS
        for device in BUS.glob("*")
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
