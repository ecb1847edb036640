"""Logs in a bucket of Google Cloud Storage, copied to this machine before they are read."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ...basics.refusals import Failure, Refusal

# Of a run of ours: large, and no part of its log.
NO_LOG = "checkpoints/"


@contextlib.contextmanager
def local_copy(source: Any) -> Iterator[Any]:
    """What can be read on this machine.

    Args:
      source: What the user gave. ``gs://BUCKET/PATH`` names a file or a folder, also as a
        ``pathlib.Path``, which knows only one of the slashes.

    Yields:
      For a bucket, a copy of the same name that is there until the block ends; else the source.

    Raises:
      Refusal: if nothing is there, or it may not be read.
      Failure: if gcsfs is not installed.
    """
    address = re.fullmatch(r"gs://?(.+?)/*", os.fspath(source)) if _is_path(source) else None
    if address is None:
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, PurePosixPath(address[1]).name)
        try:
            _download(address[1], target)
        except (Refusal, Failure):
            raise
        except Exception as error:  # the client, its credentials and the network have their own
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise Refusal(
                f"the log gs://{address[1]} cannot be read: {lines[0]:.200}",
                "Check its name and that your account may read it: gcloud auth "
                "application-default login.",
            ) from None
        yield target


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def _download(address: str, target: Path) -> None:
    try:
        import fsspec

        bucket = fsspec.filesystem("gs", use_listings_cache=False)
    except ImportError:
        raise Failure(
            f"the log gs://{address} needs the package gcsfs, which is not installed.\n"
            "  Install it: pip install 'rvpo-jax[gcs]' or 'rvpo-audit[gcs]'"
        ) from None
    names = bucket.find(address)
    if not names:
        raise Refusal(f"the log must exist, got gs://{address}.", "Check the bucket and the name.")
    inside = {name: name.removeprefix(address).lstrip("/") for name in names}
    wanted = {name: path for name, path in inside.items() if not path.startswith(NO_LOG)}
    files = [target / path if path else target for path in wanted.values()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    bucket.get(list(wanted), list(map(str, files)))
