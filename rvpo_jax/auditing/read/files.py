"""From what the user names to the parts of a log: files of one kind, in order."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...basics.refusals import Refusal
from ...basics.rollout_format import FOLDER
from .arrow_files import ArrowPart
from .csv_files import CsvPart
from .folders import KINDS, Choice, choose_files, suffix_of
from .frames import open_frame
from .json_files import JsonPart
from .log import Note, Tally, listing, shown
from .partitions import PartitionedPart, columns_in_path
from .parts import Part
from .table_json import TableJsonPart, is_table
from .tables import ARROW_ERRORS, ParquetPart, TablePart
from .trainers import TRAINERS


@dataclasses.dataclass(frozen=True)
class Found:
    """The parts of a log."""

    name: str
    parts: tuple[Part, ...]
    format: str | None
    """The format that names give away; None: only the columns tell."""
    tally: Tally
    notes: tuple[Note, ...] = ()
    folder: str = ""
    """Where its files are; steps may be in its name."""


def find_parts(source: Any, format: str) -> Found:
    """What there is to read.

    Args:
      source: Path of a file or folder, or a table in memory.
      format: A format, or auto.

    Returns:
      The parts in natural order of their names; at least one.

    Raises:
      ValueError: if there is nothing that can be read.
    """
    tally = Tally()
    if not isinstance(source, (str, Path)):
        part = open_frame(source)
        own = isinstance(part, TablePart) and part.is_own()
        name = f"{type(source).__name__} in memory"
        return Found(name, (part,), "rvpo" if own else None, tally)
    path = Path(source).expanduser()
    if not path.exists():
        raise Refusal(
            f"the log must be an existing file or folder, got {shown(source)}.",
            "Check the path; it is relative to the current directory.",
        )
    name = shown(path.name or path.resolve().name)
    if path.is_dir():
        folder = _log_folder(path, format)
        choice = choose_files(folder, format)
    elif suffix_of(path.name):
        folder, choice = path.parent, Choice((path.name,), _format_of_path(path))
    else:
        raise Refusal(
            f"a log must end in {', '.join(KINDS)} (text also in .gz), got {name}.",
            "Save it in one of these formats, or name a folder.",
        )
    parts = _open_all(folder, choice.paths, tally)
    own = any(isinstance(part, ParquetPart) and part.is_own() for part in parts)
    return Found(
        name=name,
        parts=tuple(parts),
        format="rvpo" if own else choice.format,
        tally=tally,
        notes=choice.notes,
        folder=folder.resolve().as_posix(),
    )


def _log_folder(folder: Path, format: str) -> Path:
    """The folder with the rollouts, given the folder of a run of ours."""
    if format not in ("auto", "rvpo"):
        return folder
    rollouts = folder / FOLDER
    if rollouts.is_dir() and any(rollouts.glob("*.parquet")):
        return rollouts
    if _is_own_run(folder):
        raise Refusal(
            f"the run {shown(folder)} must have {FOLDER}/*.parquet, got a run without rollouts.",
            "Train with --log.rollouts texts, the default, to write them; an older run has none.",
        )
    return folder


def _is_own_run(folder: Path) -> bool:
    """Whether a folder has the config.json of a run of ours; others' have other keys."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"advantage", "rollout", "risk"} <= set(config)


def _format_of_path(path: Path) -> str | None:
    """The trainer that calls its files so."""
    full = path.resolve().as_posix()
    for name, trainer in TRAINERS.items():
        if trainer.search == "named" or trainer.path is None:
            continue
        if trainer.path.fullmatch(full):
            return name
    return None


def _open_all(folder: Path, names: Sequence[str], tally: Tally) -> list[Part]:
    parts: list[Part] = []
    problem = ""
    for name in names:
        try:
            part = _open(folder / name, name)
        except (*ARROW_ERRORS, EOFError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            tally.add("unreadable_file", f"{shown(name)}: {shown(problem)}")
            continue
        columns = columns_in_path(name)
        parts.append(PartitionedPart(part, columns) if columns else part)
    if not parts:
        raise Refusal(
            f"the log must have a readable file, got {listing(names, 5)}: "
            f"{shown(problem).rstrip('.')}.",
            "A file that was cut, such as a Parquet file without its footer, must be written "
            "again.",
        )
    return parts


def _open(path: Path, name: str) -> Part:
    suffix = suffix_of(path.name)
    if suffix == ".parquet":
        return ParquetPart(path, name)
    if suffix in (".arrow", ".feather"):
        return ArrowPart(path, name)
    with path.open("rb"):  # a file without permission is found here
        if suffix in (".csv", ".tsv"):
            return CsvPart(path, name)
        if suffix == ".json" and is_table(path):
            return TableJsonPart(path, name)
        return JsonPart(path, name)
