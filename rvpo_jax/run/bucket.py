"""Run folders on a disk or in a bucket of Google Cloud Storage.

``gs://BUCKET/FOLDER`` becomes a path of etils, which has pathlib's methods, so what reads, lists
and deletes files takes either kind. In a bucket an object appears as a whole or not at all, and
nothing is renamed, grows or is locked by a kernel. What follows from that has one home each:
``basics.files.replacing``, ``json_lines``, ``lock``, and ``scratch_of`` below.
"""

import atexit
import functools
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable


def run_folder(name: str | os.PathLike) -> Path:
    """The folder of a run, or a file in it, as a path with pathlib's methods.

    Args:
      name: A local path, or ``gs://BUCKET/FOLDER``; also as a ``pathlib.Path``, which knows only
        one of the slashes.

    Returns:
      A ``pathlib.Path``; in a bucket an ``etils.epath.Path``.

    Raises:
      Refusal: for a bucket without a folder, or an address of another kind.
      ModuleNotFoundError: for a bucket where the extra gcs is not installed.

    >>> run_folder("runs/a")
    PosixPath('runs/a')
    """
    text = os.fspath(name)
    scheme = re.match(r"([a-z0-9]+):/", text)
    if scheme is None:
        return Path(text)
    place = re.fullmatch(r"gs://?([a-z0-9][a-z0-9._-]+)/+([^/].*)", text)
    if place is None:
        known = scheme[1] == "gs"
        shown = re.sub(":/+", "://", text, count=1)
        raise Refusal(
            f"workdir must be a folder, or gs://BUCKET/FOLDER, got {printable(shown, keep='')}.",
            "Name a folder in the bucket." if known else "Only Google Cloud Storage is known.",
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise ModuleNotFoundError(
            f"workdir {text} needs the package gcsfs, which is not installed.\n"
            "  Install it: pip install 'rvpo-jax[gcs]'",
            name="gcsfs",
        )
    return _bucket_path(f"gs://{place[1]}/{place[2]}")


def _bucket_path(address: str) -> Any:
    import fsspec
    from etils import epath

    # What was listed once may be of the past: another process may write there.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return epath.Path(address)


def in_bucket(folder: Path) -> bool:
    """Whether ``run_folder`` made the path of a bucket.

    Args:
      folder: Of a run.

    Returns:
      True for a bucket.
    """
    return not isinstance(folder, Path)


def scratch_of(folder: Path) -> Path:
    """A folder on this machine's disk for what only a disk can hold, such as a data cache.

    Args:
      folder: Of a run.

    Returns:
      The folder itself; for one in a bucket a temporary one, which goes with this process.
    """
    return _scratch(str(folder)) if in_bucket(folder) else folder


@functools.cache
def _scratch(address: str) -> Path:
    place = Path(tempfile.mkdtemp(prefix="rvpo-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def checkpoint_folder(directory: Path, read_only: bool) -> Path:
    """The folder of a run's checkpoints, created unless ``read_only``.

    Args:
      directory: Made by ``run_folder``, or in such a one.
      read_only: It must be there on a disk; in a bucket folders are not things.

    Returns:
      Its absolute path.

    Raises:
      Refusal: if it is not a folder that can be used.
    """
    if in_bucket(directory):
        return directory
    path = directory.absolute()
    try:
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Refusal(
            f"directory must be a folder, got {path}, where a file is in the way.",
            "Choose another folder or move the file.",
        ) from None
    except OSError as error:
        raise Refusal(
            f"directory must be a folder that can be created, got {path}: {error.strerror}.",
            "Choose a folder that you may write to.",
        ) from None
    if not path.is_dir():
        raise Refusal(
            f"directory must be an existing folder of checkpoints, got {path}.",
            "Train first, or name the folder of a run.",
        )
    if not read_only and not os.access(path, os.W_OK | os.X_OK):
        raise Refusal(
            f"directory must be writable, got {path}, which is not.",
            "Choose a folder that you may write to.",
        )
    return path


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint is one: on a disk it has its name only then, in a bucket a last object.

    Args:
      checkpoint: Its folder, named after its step.

    Returns:
      True where all of it is written.
    """
    return not in_bucket(checkpoint) or (checkpoint / "commit_success.txt").exists()


def prepare_checkpoints(directory: Any) -> None:
    """Marks a folder of checkpoints, which would else be none until there is one, and tidies it.

    What a killed save left has the name of the checkpoint. Orbax would delete it in a thread that
    outlives the manager, and with it what the next one saves under that name.

    Args:
      directory: in a bucket.
    """
    (directory / ".keep").write_bytes(b"")
    for path in directory.iterdir():
        if path.name.isdecimal() and not is_complete(path):
            path.rmtree()
