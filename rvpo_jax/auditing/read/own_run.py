"""What a run of ours says about itself in the metadata of its files."""

from collections.abc import Sequence
from typing import Any

from .directions import turned
from .log import Note, ReadOptions
from .parts import Part
from .tables import ParquetPart, TablePart


def metadata_of(parts: tuple[Part, ...]) -> list[dict[str, Any]]:
    """What a run of ours wrote into its files.

    Args:
      parts: Of the log.

    Returns:
      One dictionary per part that has any, in order.
    """
    found = [part.metadata() for part in parts if isinstance(part, (ParquetPart, TablePart))]
    return [about for about in found if about]


def declared_fields(
    about: Sequence[dict[str, Any]], options: ReadOptions
) -> dict[str, dict[str, Any]]:
    """The channels of a run of ours; the last file counts.

    Args:
      about: See ``metadata_of``.
      options: Of the user; a channel that they turn is not what the run declared.

    Returns:
      Channel to its fields, which need not be valid.
    """
    channels = about[-1].get("channels") if about else None
    return {
        str(channel["name"]): channel
        for channel in (channels if isinstance(channels, list) else [])
        if isinstance(channel, dict) and "name" in channel
        if not turned(str(channel["name"]), options)
    }


def run_of(about: Sequence[dict[str, Any]]) -> tuple[str | None, float | None, list[Note]]:
    """Method and risk coefficient of a run of ours.

    Args:
      about: See ``metadata_of``.

    Returns:
      The method; the last risk coefficient; a note of kind risk_coef_varies under a schedule.
    """
    if not about:
        return None, None, []
    method = about[-1].get("method")
    values = list(dict.fromkeys(_as_float(run.get("risk_coef")) for run in about))
    notes = []
    if len(values) > 1:
        text = f"The risk coefficient takes {len(values)} values; the last one is shown."
        notes.append(Note(kind="risk_coef_varies", count=len(values), text=text))
    return str(method) if method is not None else None, values[-1], notes


def _as_float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if number != number else number
