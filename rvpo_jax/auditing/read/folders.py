"""Which files of a folder make up one log: the writer's own paths first, else all of one kind."""

import dataclasses
import os
import re
from collections.abc import Iterable
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
    r"\.json|tokenizer_config\.json|wandb-.*\.json|metrics\.jsonl",
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

    paths: dict[str, Path]
    """By their path in the folder, in natural order."""
    format: str | None
    """The trainer whose paths they have."""
    notes: tuple[Note, ...]


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


def step_in_path(format: str, path: str) -> int | None:
    """The step that a writer put into the path of a file.

    Args:
      format: Of the log.
      path: In the folder of the log.

    Returns:
      The step, or None where there is none.

    >>> step_in_path("nemo", "train_data_step12.jsonl"), step_in_path("columns", "step_3/a.csv")
    (12, 3)
    """
    own = TRAINERS[format].path
    for pattern in (own, STEP) if own else (STEP,):
        match = pattern.fullmatch(path)
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
    found = {path: file for path, file in every.items() if suffix_of(file.name)}
    own, chosen, home = _of_a_trainer(folder, list(found), format)
    if not chosen:
        logs = [path for path in found if not NO_LOG.fullmatch(found[path].name)] or list(found)
        chosen = [path for path in logs if "/" not in path] or logs
        home = os.path.commonpath([os.path.dirname(path) for path in chosen] or [""])
    if not chosen:
        names = [path for path in every if "/" not in path]
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
        raise Refusal(
            f"the folder {shown(folder)} must hold files ending in {', '.join(KINDS)}, "
            f"got {listing(names, 5)}.",
            f"It has the folders: {listing(folders, 5)}. Name the one with the log.",
        )
    kinds = {KINDS[suffix_of(path)] for path in chosen}
    if len(kinds) != 1:
        raise Refusal(
            f"the folder {shown(folder)} must hold files of one kind, got "
            f"{', '.join(sorted(kinds))}.",
            "Name one file, or move the files of the log into a folder of their own.",
        )
    return Choice({path: found[path] for path in chosen}, own, _notes(every, chosen, home))


def _walk(folder: Path) -> dict[str, Path]:
    """All files in a folder by their path, in natural order; links to folders are not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = path
    return {path: found[path] for path in sorted(found, key=_natural) if found[path].is_file()}


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Order in which 2.jsonl comes before 10.jsonl."""
    pieces = re.split(r"(\d+)", path)
    return [(1, int(p), "") if p.isdecimal() and len(p) < 20 else (0, 0, p) for p in pieces]


def _of_a_trainer(folder: Path, paths: list[str], format: str) -> tuple[str | None, list[str], str]:
    """The trainer, its files where it puts them, and the folder that it keeps them in."""
    for name, trainer in TRAINERS.items():
        if trainer.path is None or not (trainer.certain if format == "auto" else name == format):
            continue
        visible = [path for path in paths if not _is_unfinished(path)]
        matches = {path: match for path in visible if (match := trainer.path.fullmatch(path))}
        if not matches:
            continue
        runs = {SHARD.sub("", match["run"]) for match in matches.values()}
        if len(runs) > 1 and not trainer.several_runs:
            raise Refusal(
                f"the folder {shown(folder)} must hold the log of one run, got those of "
                f"{len(runs)}: {listing(sorted(runs), 5)}.",
                "Name the folder of one of them, or give several to compare them.",
            )
        home = os.path.commonpath([os.path.dirname(run) for run in runs])
        return name, _trained_on(list(matches)), home
    return None, [], ""


def _trained_on(paths: list[str]) -> list[str]:
    """Of all rollouts of a step of prime-rl, the batch that was trained on where there is one."""
    effective = [path for path in paths if "/train/effective/" in f"/{path}"]
    return effective or paths


def _is_unfinished(path: str) -> bool:
    name = PurePosixPath(path).name
    return UNFINISHED.fullmatch(name) is not None or HIDDEN_LOG.fullmatch(name) is not None


def _notes(every: Iterable[str], chosen: list[str], home: str) -> tuple[Note, ...]:
    """What lies beside the files of a log and is not read."""
    taken = set(chosen)
    inside = [path for path in every if home == "" or path.startswith(f"{home}/")]
    beside = [path for path in inside if path not in taken]
    unfinished = [path for path in beside if _is_unfinished(path)]
    hidden = {path for path in beside if PurePosixPath(path).name.startswith(".")}
    others = [path for path in beside if path not in unfinished and path not in hidden]
    texts = [
        (
            "unfinished_file",
            unfinished,
            "{count} file(s) are being written just now, by their names, and were left out: "
            "{names}.",
        ),
        ("other_files", others, "{count} other file(s) of the folder were not read: {names}."),
    ]
    return tuple(
        Note(
            kind=kind,
            count=len(paths),
            text=text.format(count=len(paths), names=listing(paths, 5)),
        )
        for kind, paths, text in texts
        if paths
    )
