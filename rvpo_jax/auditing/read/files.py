"""From what the user names to the parts of a log: files of one kind, in order."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from ...basics.refusals import Refusal
from ...basics.rollout_format import FOLDER
from .csv_files import CsvPart
from .frames import open_frame
from .json_files import JsonPart
from .log import Note, Tally, listing, shown
from .parts import Part
from .tables import ARROW_ERRORS, ParquetPart, TablePart

KINDS = {
    ".parquet": "Parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
}
# Names that a trainer gives to its files; the number is the step.
FILE_NAMES = {
    "trl": re.compile(r"completions_(\d+)\.parquet"),
    "verl": re.compile(r"(\d+)\.jsonl(\.gz)?"),
    "tunix": re.compile(r"trajectory_log.*\.csv(\.gz)?"),
    "nemo": re.compile(r"train_data_step(\d+)\.jsonl(\.gz)?"),
}
UNMISTAKABLE = ("trl", "tunix", "nemo")  # verl's names are mere numbers


@dataclasses.dataclass(frozen=True)
class Found:
    """The parts of a log."""

    name: str
    parts: tuple[Part, ...]
    format: str | None
    """The format that names give away; None: only the columns tell."""
    tally: Tally
    notes: tuple[Note, ...]


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
        return Found(name, (part,), "rvpo" if own else None, tally, ())
    path = Path(source).expanduser()
    if not path.exists():
        raise Refusal(
            f"the log must be an existing file or folder, got {shown(source)}.",
            "Check the path; it is relative to the current directory.",
        )
    name = shown(path.name or path.resolve().name)
    if not path.is_dir() and _suffix(path) == "":
        raise Refusal(
            f"a log must end in {', '.join(KINDS)} (text also in .gz), got {name}.",
            "Save it in one of these formats, or name a folder.",
        )
    paths, notes = ([path], []) if path.is_file() else _files_in(path, format)
    hint = _format_of_names(paths)
    parts = _open_all(paths, tally)
    if any(isinstance(part, ParquetPart) and part.is_own() for part in parts):
        hint = "rvpo"
    return Found(name, tuple(parts), hint, tally, tuple(notes))


def step_in_name(format: str, name: str) -> int | None:
    """The step that a trainer wrote into the name of a file.

    Args:
      format: Of the log.
      name: Of the file.

    Returns:
      The step, or None where the format has none in its names.

    >>> step_in_name("nemo", "train_data_step12.jsonl")
    12
    """
    pattern = FILE_NAMES.get(format)
    match = pattern.fullmatch(name) if pattern else None
    step = match[1] if match and pattern and pattern.groups else None
    return int(step) if step and step.isdigit() and len(step) < 16 else None


def _files_in(folder: Path, format: str) -> tuple[list[Path], list[Note]]:
    """The files of a folder that make up one log."""
    folder = _log_folder(folder, format)
    # A hidden file is one that a run is writing just now.
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted((path for path in visible if path.is_file()), key=_natural)
    known = [path for path in files if _suffix(path)]
    for name in UNMISTAKABLE if format == "auto" else (format,):
        named = [path for path in known if name in FILE_NAMES and _is_named(name, path)]
        if named:
            known = named
            break
    if not known:
        raise Refusal(
            f"the folder {shown(folder)} must hold files ending in {', '.join(KINDS)}, "
            f"got {listing([path.name for path in files], 5)}.",
            f"It has the folders: {listing(_folders_in(folder), 5)}. Name the one with the log.",
        )
    kinds = {KINDS[_suffix(path)] for path in known}
    if len(kinds) != 1:
        raise Refusal(
            f"the folder {shown(folder)} must hold files of one kind, got "
            f"{', '.join(sorted(kinds))}.",
            "Name one file, or move the files of the log into a folder of their own.",
        )
    others = [path.name for path in files if path not in known]
    if not others:
        return known, []
    text = f"{len(others)} other file(s) of the folder were not read: {listing(others, 5)}."
    return known, [Note(kind="other_files", count=len(others), text=text)]


def _log_folder(folder: Path, format: str) -> Path:
    """The folder with the files, given the folder of a run."""
    inner = folder / "completions"
    if format in ("auto", "trl") and inner.is_dir():
        if any(_is_named("trl", path) for path in inner.iterdir()):
            return inner
    if format in ("auto", "rvpo"):
        rollouts = folder / FOLDER
        if rollouts.is_dir() and any(rollouts.glob("*.parquet")):
            return rollouts
        if _is_own_run(folder):
            raise Refusal(
                f"the run {shown(folder)} must have {FOLDER}/*.parquet, got a run without "
                "rollouts.",
                "Train with --log.rollouts texts, the default, to write them; an older run has "
                "none.",
            )
    return folder


def _is_own_run(folder: Path) -> bool:
    """Whether a folder has the config.json of a run of ours; others' have other keys."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"advantage", "rollout", "risk"} <= set(config)


def _open_all(paths: list[Path], tally: Tally) -> list[Part]:
    parts: list[Part] = []
    problem = ""
    for path in paths:
        try:
            parts.append(_open(path))
        except (*ARROW_ERRORS, EOFError) as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            tally.add("unreadable_file", f"{shown(path.name)}: {shown(problem)}")
    if not parts:
        raise Refusal(
            f"the log must have a readable file, got {listing([path.name for path in paths], 5)}: "
            f"{shown(problem).rstrip('.')}.",
            "A file that was cut, such as a Parquet file without its footer, must be written "
            "again.",
        )
    return parts


def _open(path: Path) -> Part:
    if _suffix(path) == ".parquet":
        return ParquetPart(path)
    with path.open("rb"):  # a file without permission is found here
        return CsvPart(path) if _suffix(path) == ".csv" else JsonPart(path)


def _suffix(path: Path) -> str:
    """The ending that says the kind of a file, without .gz; empty for others."""
    compressed = path.name.lower().endswith(".gz")
    suffix = Path(path.stem if compressed else path.name).suffix.lower()
    return suffix if suffix in KINDS and not (compressed and suffix == ".parquet") else ""


def _format_of_names(paths: list[Path]) -> str | None:
    for name in UNMISTAKABLE:
        if all(_is_named(name, path) for path in paths):
            return name
    return None


def _is_named(format: str, path: Path) -> bool:
    return FILE_NAMES[format].fullmatch(path.name) is not None


def _folders_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order in which 2.jsonl comes before 10.jsonl."""
    pieces = re.split(r"(\d+)", path.name)
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in pieces]
