"""Which files of a folder make up one log: the writer's own paths first, else all of one kind."""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...basics.refusals import Refusal
from .log import Note, listing, shown
from .trainers import TRAINERS

KINDS = {
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
}
TEXT_KINDS = ("JSON lines", "JSON", "CSV", "TSV")
# What lies beside a log in the folder of a run.
NO_LOG = re.compile(
    r"(?:.*_)?(?:config|metadata|state|info|args|tokenizer|index|map|vocab|summary|results_[\d\-T.]+)"
    r"\.json|tokenizer_config\.json|wandb-.*\.json|(?:metrics|logging|aggregated_results)\.jsonl",
    re.DOTALL,
)
# Names of files that a run is writing just now, as many writers call them.
UNFINISHED = re.compile(
    r".+\.(?:tmp|temp|part|partial|incomplete|inprogress|writing)(?:[-._].*)?|.+~", re.DOTALL
)
# One that is called like a log is a log before it is renamed.
HIDDEN_LOG = re.compile(
    rf"\..*\.(?:{'|'.join(suffix.removeprefix('.') for suffix in KINDS)})(?:\..*)?", re.DOTALL
)
STEP = re.compile(r"(?:.*[/_.-])?(?:global_?)?step[_-]?(?P<step>\d+)(?:[/_.-].*)?", re.DOTALL)
# Pieces of one run that several processes write.
SHARD = re.compile(r"(?:rank|process|proc|worker|node|shard|host)[-_=]?\d+/")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The files of a log."""

    paths: tuple[str, ...]
    """In the folder, in natural order."""
    format: str | None = None
    """The trainer whose paths they have."""
    home: str = ""
    """The folder that the trainer keeps them in."""
    notes: tuple[Note, ...] = ()


def suffix_of(name: str) -> str:
    """The ending that says the kind of a file.

    Args:
      name: Of the file.

    Returns:
      The ending in lower case, without .gz; empty where it is none of ``KINDS``.

    >>> suffix_of("log.JSONL.gz"), suffix_of("log.parquet.gz"), suffix_of("a.txt")
    ('.jsonl', '', '')
    """
    lower = name.lower()
    suffix = PurePosixPath(lower.removesuffix(".gz")).suffix
    if lower.endswith(".gz") and KINDS.get(suffix) not in TEXT_KINDS:
        return ""
    return suffix if suffix in KINDS else ""


def step_in_path(format: str, folder: str, path: str) -> int | None:
    """The step that a writer put into the path of a file.

    Args:
      format: Of the log.
      folder: Of the log; only a trainer whose paths are known is looked for in its name.
      path: In the folder.

    Returns:
      The step, or None where there is none.

    >>> step_in_path("nemo", "logs", "train_data_step12.jsonl")
    12
    >>> step_in_path("columns", "logs", "step_3/a.csv")
    3
    """
    own = TRAINERS[format].path
    known = [own.fullmatch(f"{folder}/{path}")] if own else []
    for match in (*known, STEP.fullmatch(path)):
        step = match.groupdict().get("step") if match else None
        if step and len(step) < 16:
            return int(step)
    return None


def choose_files(folder: Path, format: str) -> Choice:
    """The files of a folder that make up one log; folders in it are looked through.

    Args:
      folder: It exists.
      format: A format, or auto.

    Returns:
      At least one file.

    Raises:
      ValueError: if there are none, or those of several runs or kinds.
    """
    every = _walk(folder)
    found = [path for path in every if suffix_of(path) and not _is_unfinished(path)]
    choice = next((some for some in _choices(folder, found, format) if some.paths), None)
    if choice is None:
        names = [path for path in every if "/" not in path]
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise Refusal(
            f"the folder {shown(folder)} must hold files ending in {', '.join(KINDS)}, "
            f"got {listing(names, 5)}.",
            f"It has the folders: {listing(folders, 5)}. Name the one with the log.",
        )
    paths = _without_packed(choice.paths)
    kinds = {KINDS[suffix_of(path)] for path in paths}
    if len(kinds) != 1:
        raise Refusal(
            f"the folder {shown(folder)} must hold files of one kind, got "
            f"{', '.join(sorted(kinds))}.",
            "Name one file, or move the files of the log into a folder of their own.",
        )
    notes = (*choice.notes, *_notes(every, paths, choice.home))
    return dataclasses.replace(choice, paths=paths, notes=notes)


def _walk(folder: Path) -> list[str]:
    """All files in a folder by their path, in natural order; links to folders are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [Path(place, name) for name in names]
        found += [path.relative_to(folder).as_posix() for path in files if path.is_file()]
    return sorted(found, key=_natural)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Order in which 2.jsonl comes before 10.jsonl."""
    pieces = re.split(r"(\d+)", path)
    return [(1, int(p), "") if p.isdecimal() and len(p) < 20 else (0, 0, p) for p in pieces]


def _choices(folder: Path, found: list[str], format: str) -> Iterator[Choice]:
    """What may be the log, the likeliest first."""
    first = [name for name, trainer in TRAINERS.items() if trainer.search == "first"]
    for name in first if format == "auto" else [format]:
        yield _of_trainer(folder, found, name)
    logs = [path for path in found if not NO_LOG.fullmatch(PurePosixPath(path).name)] or found
    top = [path for path in logs if "/" not in path]
    last = [name for name, trainer in TRAINERS.items() if trainer.search == "last"]
    own = [_of_trainer(folder, top, name) for name in last]
    yield from (choice for choice in own if len(choice.paths) == len(top))
    yield Choice(tuple(top))
    for name in last if format == "auto" else []:
        yield _of_trainer(folder, found, name)
    yield Choice(tuple(logs), notes=_joined(logs))


def _of_trainer(folder: Path, found: list[str], format: str) -> Choice:
    """The files that lie where a trainer puts them, which must be those of one run."""
    trainer = TRAINERS[format]
    if trainer.path is None:
        return Choice(())
    root = f"{folder.resolve().as_posix()}/"
    matches = {path: trainer.path.fullmatch(f"{root}{path}") for path in found}
    # The user may have named a folder inside of the run.
    runs = {
        path: match["run"].removeprefix(root) if match["run"].startswith(root) else ""
        for path, match in matches.items()
        if match
    }
    names = sorted({SHARD.sub("", run) for run in runs.values()})
    if len(names) > 1 and not trainer.several_runs:
        raise Refusal(
            f"the folder {shown(folder)} must hold the log of one run, got those of "
            f"{len(names)}: {listing(names, 5)}.",
            "Name the folder of one of them, or give several to compare them.",
        )
    home = os.path.commonpath([os.path.dirname(run) for run in runs.values()] or [""])
    return Choice(_trained_on(list(runs), root), format, home)


def _trained_on(paths: list[str], root: str) -> tuple[str, ...]:
    """Of all rollouts of prime-rl the batches that were trained on, where there are some."""
    batches = [path for path in paths if "/train/effective/" in f"{root}{path}"]
    return tuple(batches or paths)


def _without_packed(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Without files that are there unpacked too: a writer deletes those a little later."""
    there = set(paths)
    return tuple(p for p in paths if not (p.endswith(".gz") and p.removesuffix(".gz") in there))


def _is_unfinished(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return HIDDEN_LOG.fullmatch(parts[-1]) is not None or any(map(UNFINISHED.fullmatch, parts))


def _joined(paths: list[str]) -> tuple[Note, ...]:
    """That files of several folders, which neither steps nor processes explain, are one log."""
    homes = {re.sub(r"\d+|[^/]+=[^/]*", "", os.path.dirname(path)) for path in paths}
    folders = sorted({os.path.dirname(path) for path in paths})
    if len(homes) < 2:
        return ()
    text = f"The files of {len(folders)} folders were read as one log: {listing(folders, 5)}."
    return (Note(kind="joined_folders", count=len(folders), text=text),)


def _notes(every: list[str], paths: tuple[str, ...], home: str) -> tuple[Note, ...]:
    """What lies beside the files of a log and is not read."""
    taken = set(paths)
    beside = [path for path in every if path.startswith(f"{home}/" if home else "")]
    beside = [path for path in beside if path not in taken]
    unfinished = [path for path in beside if _is_unfinished(path)]
    seen = {*unfinished, *(path for path in beside if PurePosixPath(path).name.startswith("."))}
    others = [path for path in beside if path not in seen]
    texts = {
        "unfinished_file": f"{len(unfinished)} file(s) are being written just now, by their names, "
        f"and were left out: {listing(unfinished, 5)}.",
        "other_files": f"{len(others)} other file(s) of the folder were not read: "
        f"{listing(others, 5)}.",
    }
    counts = {"unfinished_file": len(unfinished), "other_files": len(others)}
    return tuple(
        Note(kind=kind, count=counts[kind], text=text)
        for kind, text in texts.items()
        if counts[kind]
    )
