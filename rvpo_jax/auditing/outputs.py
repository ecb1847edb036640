"""Where an audit is written, and what it may replace there."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..basics.refusals import Refusal
from ..basics.text import printable

FILES = ("audit.json", "audit.html")


def audit_folder(logs: Sequence[Path], out: Path | None, *, force: bool = False) -> Path:
    """The folder for ``audit.json`` and ``audit.html``, checked before any work.

    A run's own folder holds its own audit, which is replaced; so is an earlier audit of the same
    log. Any other file of that name stays.

    Args:
      logs: paths of the audited logs.
      out: the folder that was asked for; None: that of the run, else the current one.
      force: whatever is there may be replaced.

    Returns:
      The folder, which need not exist yet.

    Raises:
      Refusal: if it is no folder, cannot be written to, or holds another audit.
    """
    own = logs[0] if len(logs) == 1 and (logs[0] / "config.json").is_file() else None
    folder = out or own or Path()
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise Refusal(
            f"--out must be a folder that can be written to, got {printable(folder, keep='')}.",
            "Name another folder.",
        )
    if force or (own is not None and folder.resolve() == own.resolve()):
        return folder
    there = [name for name in FILES if (folder / name).exists()]
    if there and _source_of(folder / FILES[0]) != source_id(logs):
        raise Refusal(
            f"{printable(folder / there[0], keep='')} is not from an audit of this log and would "
            "be overwritten.",
            "Choose another folder with --out, or add --force.",
        )
    return folder


def source_id(logs: Sequence[Path]) -> str:
    """Tells the audits of different logs apart, without saying where they are.

    Args:
      logs: paths of the audited logs.

    Returns:
      16 hexadecimal digits.
    """
    places = "\n".join(os.fspath(path.resolve()) for path in logs)
    return hashlib.sha256(os.fsencode(places)).hexdigest()[:16]


def _source_of(path: Path) -> str | None:
    """The id that an audit.json holds; None where it is none of ours."""
    try:
        report = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return report.get("source_id") if isinstance(report, dict) else None
