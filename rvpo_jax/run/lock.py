"""The lock on a run's folder: one process trains there at a time."""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.run.bucket import in_bucket

_LOG = logging.getLogger(__name__)
RENEW_S = 20.0  # between two signs of life of a lock's holder in a bucket
LEASE_S = 60.0  # without one, after which it counts as dead


class LostLockError(Failure):
    """The lock on the folder is no longer this process's, or may not be."""


class Lock:
    """A lock that is held; the kernel's goes only with its process."""

    def check(self) -> None:
        """Raises where the lock may be another's by now: call it before what must not be lost."""


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[Lock]:
    """Keeps other processes from training in the same folder; created if absent.

    On a disk the kernel holds the lock, so it goes with its process, however that ends; for a
    bucket see ``Lease``. Reading commands do not ask for it.

    Args:
      workdir: Folder of the run.

    Yields:
      The lock, held until the block ends.

    Raises:
      Refusal: if another process, which is named, trains there, or the folder cannot be used.
    """
    make_writable(workdir)
    with _lease(workdir) if in_bucket(workdir) else _file_lock(workdir) as lock:
        yield lock


def make_writable(workdir: Path) -> None:
    """Creates the folder of a run, if absent, and sees whether it can be written to.

    Args:
      workdir: The folder; of one in a bucket only the name is looked at.

    Raises:
      Refusal: if it cannot be used.
    """
    if set("[]*?") & set(str(workdir if in_bucket(workdir) else workdir.resolve())):
        raise Refusal(
            f"workdir must be a path without [, ], * and ?, got {printable(workdir, keep='')}.",
            "Orbax takes them for patterns and would lose the checkpoints: choose another "
            "--workdir.",
        )
    if in_bucket(workdir):
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".write_test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Refusal(
            f"workdir must be a folder that can be written to, got {workdir}: {error.strerror}.",
            "Choose another --workdir.",
        ) from None


@contextlib.contextmanager
def _file_lock(workdir: Path) -> Iterator[Lock]:
    lock = FileLock(workdir / ".lock")
    note = workdir / ".lock.json"  # beside: filelock may empty the locked file when it opens it
    try:
        lock.acquire(blocking=False)
    except Timeout:
        held = note.read_bytes() if note.is_file() else b""
        raise _in_use(workdir, held) from None
    try:
        write_text(note, to_json(_me()))
        yield Lock()
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _lease(workdir: Path) -> Iterator[Lock]:
    try:
        lease = Lease(workdir)
        lease.acquire()
    except Refusal:
        raise
    except Exception as error:  # of Google's client, its credentials, or the network
        raise Refusal(
            f"workdir must be a folder that can be written to, got {workdir}: "
            f"{_first_line(error)}.",
            "Create the bucket and let this account read and write its objects; on a machine of "
            "your own: gcloud auth application-default login.",
        ) from None
    try:
        yield lease
    finally:
        lease.release()


class Lease(Lock):
    """The lock on a folder in a bucket: an object that one process creates and keeps renewing.

    An object store has no lock that goes with its process. So the holder writes the object
    ``.lock`` anew every ``RENEW_S`` seconds, each time on the condition that it is the one that it
    wrote last. Where it has not changed for ``LEASE_S`` seconds, by the clock of the one who waits,
    it is replaced, on the condition that it is still the one that was seen.

    Args:
      folder: Made by ``run_folder``.
    """

    def __init__(self, folder: Path) -> None:
        from google.cloud import storage

        self._folder = folder
        bucket, _, name = str(folder).removeprefix("gs://").partition("/")
        self._blob = storage.Client().bucket(bucket).blob(f"{name}/.lock")
        self._generation = 0  # of no object
        self._renewed = 0.0
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._note = to_json({**_me(), "token": secrets.token_hex(8)})

    def acquire(self) -> None:
        """Takes the lock, or waits until the one who has it proves to be dead.

        Raises:
          Refusal: if the one who has it, who is named, is alive.
        """
        seen, since = None, 0.0
        while not self._put():
            found = self._look()
            if found is None:
                self._generation = 0  # released just now
                continue
            generation, note = found
            if seen is None:
                seen, since = generation, time.monotonic()
                _LOG.warning(
                    "%s was in use by %s. Waiting for up to %.0f s for a sign of life.",
                    *(self._folder, _holder(note), LEASE_S),
                )
            if generation != seen:
                raise _in_use(self._folder, note)
            if time.monotonic() - since >= LEASE_S:
                self._generation = generation
            else:
                time.sleep(min(1.0, LEASE_S / 4))
        threading.Thread(target=self._keep_renewing, name="rvpo lock", daemon=True).start()

    def check(self) -> None:
        """Raises where the lock may be another's by now: call it before what must not be lost.

        Raises:
          LostLockError: if this process gave no sign of life for ``LEASE_S`` and cannot renew it.
        """
        with self._writing:
            silent = time.monotonic() - self._renewed
            if silent < LEASE_S:
                return
            reason = "another process took it over"
            try:
                if self._put():
                    return
            except Exception as error:  # of Google's client or the network
                reason = f"it cannot be reached: {_first_line(error)}"
            raise LostLockError(
                f"{self._folder} heard nothing of this process for {silent:.0f} s, and {reason}.\n"
                "  Nothing more is written; the last checkpoint is intact. Start again when no "
                "other process trains there."
            )

    def release(self) -> None:
        """Removes the object, if it is still this process's; the others need not wait then."""
        self._ended.set()
        with self._writing, contextlib.suppress(Exception):  # it expires anyway
            self._blob.delete(if_generation_match=self._generation)

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_S):
            with self._writing, contextlib.suppress(Exception):  # tried again, and see check
                if self._ended.is_set() or not self._put():
                    return

    def _put(self) -> bool:
        """Writes the object in place of the one that is known; False where that is another now."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        try:
            self._blob.upload_from_string(self._note, if_generation_match=self._generation)
        except PreconditionFailed:
            try:  # it may be our own: then the answer to an earlier attempt was lost
                self._blob.reload()
                if self._blob.download_as_text() != self._note:
                    return False
            except NotFound:
                return False
        self._generation = self._blob.generation
        self._renewed = time.monotonic()
        return True

    def _look(self) -> tuple[int, bytes] | None:
        """Generation and content of the object; None where it is gone."""
        from google.api_core.exceptions import NotFound

        try:
            self._blob.reload()
            return self._blob.generation, self._blob.download_as_bytes()
        except NotFound:
            return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0]:.200}".rstrip(".")


def _me() -> dict[str, object]:
    return {"process": os.getpid(), "host": socket.gethostname()}


def _in_use(workdir: Path, note: bytes) -> Refusal:
    return Refusal(
        f"workdir {workdir} is in use by {_holder(note)}.",
        "Wait until it has ended, or choose another --workdir.",
    )


def _holder(note: bytes) -> str:
    """Who holds the lock, as far as its note tells."""
    try:
        found = json.loads(note)
        return f"process {int(found['process'])} on host {printable(found['host'], keep='')}"
    except (ValueError, RecursionError, TypeError, LookupError):
        return "another process"
