"""What a worker must reach before a run: its folder or bucket, its coordinator, the right time."""

import contextlib
import dataclasses
import datetime
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable

PROBE_BYTES = 2**19  # gcsfs warns of a body of a MiB
CONNECT_S = 5.0
# Google refuses a token that is five minutes off; half a minute already makes logs unreadable.
MAX_CLOCK_S = 30.0
CLOCK_REMEDY = "set it: sudo systemctl restart chrony (or systemd-timesyncd)"
# File systems whose server stamps the files, with its own clock. Others are this machine's.
SHARED = ("nfs", "cifs", "smb", "9p", "fuse", "lustre", "ceph", "glusterfs", "gpfs", "beegfs")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
      what: the thing.
      found: what it is, or that it was not looked at.
      remedy: what to do, where there is something.
      missing: a run needs it and it is not there.
    """

    what: str
    found: str
    remedy: str = ""
    missing: bool = False


def find_storage(workdir: str | None) -> list[Finding]:
    """Writes a file into the folder of a run, reads it back, removes it, and compares clocks.

    Args:
      workdir: a folder, created if absent, or ``gs://BUCKET/FOLDER``.

    Returns:
      What was found of the folder, of the space in it and of the clock.
    """
    if workdir is None:
        return [
            Finding("workdir", "not looked at", "name it with --workdir"),
            Finding(
                "clock", "not looked at", "a --workdir in a bucket or on a shared disk has one"
            ),
        ]
    return _find_bucket(workdir) if workdir.startswith("gs://") else _find_folder(Path(workdir))


def find_coordinator(address: str | None) -> Finding:
    """Whether a TCP connection to the coordinator of several processes can be made.

    Args:
      address: ``HOST:PORT``.

    Returns:
      What was found.

    Raises:
      ValueError: if it is none.
    """
    if address is None:
        return Finding("coordinator", "not looked at", "several processes: --coordinator HOST:PORT")
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise Refusal(
            f"--coordinator must read HOST:PORT, got {printable(address, keep='')}.",
            "For example 10.0.0.2:8476, the machine of process 0.",
        )
    start = time.perf_counter()
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
            took = 1e3 * (time.perf_counter() - start)
    except OSError as error:
        reason = f"no answer within {CONNECT_S:.0f} s" if isinstance(error, TimeoutError) else error
        remedy = "start process 0, which opens the port, and allow it in the firewall"
        return Finding("coordinator", f"{address}: {reason}", remedy, True)
    return Finding("coordinator", f"{address} answers in {took:.0f} ms")


def _find_folder(folder: Path) -> list[Finding]:
    probe = folder / f".doctor_{secrets.token_hex(8)}"

    def write(data: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    remedy = "name a folder on a disk with room that you may write to"
    stored = _written_and_read(str(folder), write, probe.read_bytes, remedy)
    if stored.missing:
        with contextlib.suppress(OSError, ValueError):  # it may be there in part
            probe.unlink()
        return [stored, Finding("clock", "not looked at: there is no file to compare with")]
    now, stamp = time.time(), probe.stat().st_mtime
    probe.unlink()
    free = shutil.disk_usage(folder).free / 2**30
    space = Finding("disk", f"{free:.1f} GiB free, {_kind_of(folder) or 'kind unknown'}")
    return [stored, space, _folder_clock(folder, now - stamp)]


def _folder_clock(folder: Path, ahead: float) -> Finding:
    kind = _kind_of(folder)
    if kind is None:
        return Finding("clock", f"not looked at: the kind of {folder}'s disk is unknown")
    if not kind.startswith(SHARED):
        return Finding("clock", f"not looked at: {folder} ({kind}) has this machine's own")
    return _clock(ahead, f"{folder} ({kind})")


def _find_bucket(address: str) -> list[Finding]:
    unknown = Finding("clock", "not looked at: there is no object to compare with")
    try:
        import gcsfs
    except ModuleNotFoundError:
        lacks = "the package gcsfs is missing"
        remedy = "pip install 'rvpo-jax[gcs]'"
        return [Finding("workdir", f"{address}: {lacks}", remedy, True), unknown]
    place = f"{address.removeprefix('gs://').rstrip('/')}/.doctor_{secrets.token_hex(8)}"
    remedy = "give this worker's account the role storage.objectUser of the bucket"
    try:
        bucket = gcsfs.GCSFileSystem(use_listings_cache=False, skip_instance_cache=True)
        before = time.time()
        stored = _written_and_read(
            address,
            lambda data: bucket.pipe_file(place, data),
            lambda: bucket.cat_file(place),
            remedy,
        )
        if stored.missing:
            return [stored, unknown]
        stamp = datetime.datetime.fromisoformat(str(bucket.info(place)["timeCreated"]))
        bucket.rm_file(place)
    except Exception as error:  # of the network and of accounts, each with a class of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return [Finding("workdir", f"{address}: {reason}", remedy, True), unknown]
    return [stored, _clock(before - stamp.timestamp(), f"{address}, when its object was made")]


def _written_and_read(
    place: str, write: Callable[[bytes], object], read: Callable[[], bytes], remedy: str
) -> Finding:
    """Bytes that nobody has seen before, there and back."""
    data, start = secrets.token_bytes(PROBE_BYTES), time.perf_counter()
    try:
        write(data)
        same = read() == data
    except Exception as error:  # clients of buckets have errors of their own
        lines = str(getattr(error, "strerror", None) or error).splitlines()
        return Finding("workdir", f"{place}: {(lines or [type(error).__name__])[0]}", remedy, True)
    if not same:
        return Finding("workdir", f"{place}: read back otherwise than written", remedy, True)
    seconds = time.perf_counter() - start
    return Finding("workdir", f"{place}: 512 KiB written and read back in {seconds:.2f} s")


def _clock(ahead: float, compared_with: str) -> Finding:
    wrong = abs(ahead) > MAX_CLOCK_S
    side = "ahead of" if ahead > 0 else "behind"
    found = f"{abs(ahead):.1f} s {side} that of {compared_with}"
    return Finding("clock", found, CLOCK_REMEDY if wrong else "", wrong)


def _kind_of(folder: Path) -> str | None:
    """The kind of file system that a folder lies on, as Linux calls it."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    place = folder.resolve()
    mounts = [[_unescaped(part) for part in line.split()[1:3]] for line in lines]
    holding = [(path, kind) for path, kind in mounts if place.is_relative_to(path)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", None))[1]


def _unescaped(text: str) -> str:
    """A path as it is: a space in it is written as ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
