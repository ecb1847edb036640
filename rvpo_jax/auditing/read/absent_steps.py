"""Steps of a run that a log should have and has not."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...basics.files import with_parts
from ...basics.gaps import MAX_STEPS, absent, regular_steps, spans
from .log import Note


def absent_step_notes(step: np.ndarray | None, source: Any, is_own: bool) -> list[Note]:
    """Counts the steps that are absent, between those that are there and, in a run of ours, around.

    A run of ours logs every step from 0 on, and its metrics tell how far it came. Of other logs
    the usual distance between two steps tells which ones to expect.

    Args:
      step: ``[N]`` training steps of the log; None where it has none.
      source: What the log was read from; the folder of a run, or its rollouts.
      is_own: Whether a run of ours wrote it.

    Returns:
      At most one note of kind absent_step for the log, and one for the metrics beside it.
    """
    present = [] if step is None else np.unique(step).tolist()
    if not (is_own and isinstance(source, (str, Path)) and Path(source).is_dir()):
        return _notes("The log", present, regular_steps(present))
    folder = Path(source).expanduser().resolve()
    run = folder.parent if folder.name == "rollouts" else folder
    logged = _logged_steps(run / "metrics.jsonl")
    last = max((step for step in [*present, *logged] if step < MAX_STEPS), default=-1)
    notes = _notes("rollouts/", present, range(last + 1))
    every = _log_every(run / "config.json")
    return notes + _notes("metrics.jsonl", logged, range(0, last + 1, every) if every else ())


def _notes(name: str, present: Collection[int], expected: Sequence[int]) -> list[Note]:
    missing = absent(present, expected)
    if not missing:
        return []
    text = (
        f"{name} lacks {len(missing)} of the {len(expected)} steps from {expected[0]} to "
        f"{expected[-1]}: {spans(missing, expected)}."
    )
    return [Note(kind="absent_step", count=len(missing), text=text)]


def _logged_steps(path: Path) -> list[int]:
    """Steps of a metrics.jsonl; lines that cannot be read have none."""
    try:
        lines = b"".join(part.read_bytes() for part in with_parts(path)).split(b"\n")
    except OSError:
        return []
    steps = [_field(line, "step") for line in lines]
    return [step for step in steps if type(step) is int and step >= 0]


def _log_every(path: Path) -> int:
    """Steps between two lines of metrics.jsonl, from a config.json; 0 where it does not say."""
    try:
        every = _field(json.dumps(_field(path.read_bytes(), "log")), "every")
    except OSError:
        return 0
    return every if type(every) is int and every > 0 else 0


def _field(text: str | bytes, name: str) -> Any:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row.get(name) if isinstance(row, dict) else None
