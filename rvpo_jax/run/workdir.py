"""The folder of a run: may it be used, does it hold another run, what describes the run."""

import contextlib
import hashlib
import json
import logging
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock, Timeout

from rvpo_jax.basics.files import read_object, to_json, write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.metrics import read_rows
from rvpo_jax.run.parallel import processes

SHARED_WITHIN = 10  # seconds
_LOG = logging.getLogger(__name__)
# Fields that may differ between a run and its continuation: they change no number of the training.
HARMLESS = ("steps", "log.", "checkpoint.", "eval.", "parallel.", "data.reward_threads")


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the same folder; created if absent.

    The kernel holds the lock, so it goes with its process, however that ends. Reading commands do
    not ask for it.

    Args:
      workdir: Folder of the run.

    Yields:
      None; the lock is held until the block ends.

    Raises:
      ValueError: if another process, which is named, trains there, or the folder cannot be used.
    """
    _make_writable(workdir)
    lock = FileLock(workdir / ".lock")
    holder = workdir / ".lock.json"  # beside: filelock may empty the locked file when it opens it
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Refusal(
            f"workdir {workdir} is in use by {_holder(holder)}.",
            "Wait until it has ended, or choose another --workdir.",
        ) from None
    try:
        write_text(holder, to_json({"process": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def claim_workdir(config: Config, workdir: Path) -> Iterator[None]:
    """``lock_workdir`` and ``check_workdir`` for all processes of a run; the first one does both.

    Args:
      config: the run.
      workdir: its folder.

    Yields:
      None; the lock is held until the block ends.

    Raises:
      ValueError: see the two; and if the processes do not see the same folder.
    """
    with contextlib.ExitStack() as held:
        if processes.is_first():
            held.enter_context(lock_workdir(workdir))
            check_workdir(config, workdir)
        _check_shared(workdir)
        yield


def _check_shared(workdir: Path) -> None:
    """A folder on a disk of its own for each machine would hold a part of every checkpoint."""
    if processes.count() == 1:
        return
    note = workdir / ".shared"
    number = secrets.randbelow(2**31)
    if processes.is_first():
        write_text(note, str(number))
    first = int(processes.gather(np.array([number], np.int32))[0])
    for _ in range(SHARED_WITHIN):  # network file systems show a new file a little later
        seen = note.is_file() and note.read_text() == str(first)
        if seen:
            break
        time.sleep(1)
    absent = np.flatnonzero(~processes.gather(np.array([seen])))
    if processes.is_first():
        note.unlink(missing_ok=True)
    if absent.size:
        raise Refusal(
            f"workdir {workdir} must be one folder that all processes see; process "
            f"{', '.join(map(str, absent))} sees another than process 0.",
            "Put it on a shared file system.",
        )


def check_workdir(config: Config, workdir: Path) -> None:
    """Refuses a folder that cannot be used, holds another run, or lost its checkpoints.

    Where config.json is absent beside checkpoints, the config inside the newest one counts.

    Args:
      config: the run.
      workdir: its folder.

    Raises:
      ValueError: naming the folder or the differing fields.
      CheckpointError: if config.json is absent and no checkpoint can be read.
    """
    _make_writable(workdir)
    if not (workdir / "checkpoints").exists() and read_rows(workdir / "metrics.jsonl"):
        raise Refusal(  # a run makes the folder before its first step
            f"workdir {workdir} holds the logs of a run without its folder checkpoints.",
            "Starting again would overwrite them: restore checkpoints, or choose another "
            "--workdir.",
        )
    path = workdir / "config.json"
    if path.exists():
        check_same_config(read_config(path), config, workdir)
        return
    stored = _config_of_checkpoints(workdir)
    if stored is not None:
        check_same_config(stored, config, workdir)
        _LOG.warning("%s is missing; the config in the newest checkpoint is the same.", path)


def check_same_config(stored: Mapping[str, Any], config: Config, workdir: Path) -> None:
    """Refuses to go on with a run that has another config.

    Args:
      stored: fields of the run in the folder; one that it lacks had today's default.
      config: of this command.
      workdir: the folder, for the message.

    Raises:
      ValueError: naming the differing fields.
    """
    lines = differing_fields(_filled(stored, Config().to_dict()), config.to_dict())
    if lines:
        listed = "\n    ".join(map(printable, lines))
        raise Refusal(
            f"workdir {workdir} holds a run with another config; differing fields "
            f"(there -> here):\n    {listed}",
            "Choose another --workdir, or give the same values.",
        )


def read_config(path: Path) -> dict[str, Any]:
    """The fields in a config.json.

    Args:
      path: the file.

    Returns:
      Nested dictionaries; no field is checked.

    Raises:
      ValueError: if it is no file that can be read, or holds no JSON object.
    """
    stored, problem = read_object(path)
    if stored is None:
        raise Refusal(
            f"config.json must be a file with the fields of a run, got {path}, {problem}.",
            "Restore it, remove it (its checkpoints have a copy), or choose another --workdir.",
        )
    return stored


def write_config(config: Config, workdir: Path) -> None:
    """Writes config.json, all or nothing.

    Args:
      config: the run.
      workdir: its folder.

    Raises:
      WriteError: when it could not be written.
    """
    write_text(workdir / "config.json", to_json(config.to_dict(), indent=2) + "\n")


def differing_fields(stored: Mapping, current: Mapping, prefix: str = "") -> list[str]:
    """Fields that differ between two config dictionaries, harmless ones left out.

    Args:
      stored: of the workdir.
      current: of this command.
      prefix: path of the two in the whole.

    Returns:
      One line per field: ``name: stored -> current``.

    >>> differing_fields({"seed": 0, "steps": 5}, {"seed": 1, "steps": 9})
    ['seed: 0 -> 1']
    """
    lines = []
    if prefix == "loss.":
        stored, current = _spelled_out(stored), _spelled_out(current)
    for name in sorted({*stored, *current}):
        path = f"{prefix}{name}"
        old, new = stored.get(name), current.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and path != "advantage.weights":
            lines += differing_fields(old, new, f"{path}.")
        elif old != new and not path.startswith(HARMLESS):
            lines.append(f"{path}: {old} -> {new}")
    return lines


def _spelled_out(loss: Mapping) -> dict[str, Any]:
    """The loss with what None means, which older runs stored by name."""
    loss = {"objective": "clipped", **loss}
    if loss["objective"] == "clipped":
        for name in ("denominator", "ratio_level"):
            loss[name] = loss.get(name) or "token"
    return loss


def _filled(stored: Mapping, defaults: Mapping) -> dict[str, Any]:
    """The stored config with today's default where it lacks a field."""
    filled = {**defaults, **stored}
    for name, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(stored.get(name), Mapping):
            filled[name] = _filled(stored[name], value)
    return filled


def run_header(config: Config, devices: Sequence[jax.Device]) -> dict[str, Any]:
    """What the first line of metrics.jsonl says of the run.

    Args:
      config: the run.
      devices: of the run.

    Returns:
      Hash of the config, git commit of the package where it has one, versions, devices.
    """
    text = json.dumps(config.to_dict(), sort_keys=True)
    packages = ("rvpo-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "git_commit": _git_commit(),
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "devices": [str(device) for device in devices],
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip() or None
    return None


def _make_writable(workdir: Path) -> None:
    if set("[]*?") & set(str(workdir.resolve())):
        raise Refusal(
            f"workdir must be a path without [, ], * and ?, got {printable(workdir, keep='')}.",
            "Orbax takes them for patterns and would lose the checkpoints: choose another "
            "--workdir.",
        )
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


def _config_of_checkpoints(workdir: Path) -> dict[str, Any] | None:
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return None
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.read_meta()
    return None if found is None else found[0].get("config")


def _holder(path: Path) -> str:
    """Who holds the lock, as far as its note tells."""
    try:
        note = json.loads(path.read_bytes())
        return f"process {int(note['process'])} on host {printable(note['host'], keep='')}"
    except (OSError, ValueError, RecursionError, TypeError, LookupError):
        return "another process"
