"""What a run of ours says about itself in the metadata of its files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...basics.refusals import Refusal
from .directions import turned
from .log import Note, ReadOptions, check_channels, listing, shown
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


def weights_of(
    about: Sequence[dict[str, Any]], names: Sequence[str], options: ReadOptions
) -> tuple[np.ndarray | None, list[Note]]:
    """What the rules multiply each channel with.

    Args:
      about: See ``metadata_of``; the last file counts.
      names: M channels of the log.
      options: Of the user, whose weights come before those of the run.

    Returns:
      ``[M]`` float64, or None where all are alike; a note of kind weights where they are not.

    Raises:
      ValueError: if an option names a channel that does not exist, or all weights are 0.
    """
    check_channels({"weight": options.weights}, names)
    declared = _declared_weights(about)
    values = np.array(
        [options.weights.get(name, declared.get(name, 1.0)) for name in names], np.float64
    )
    if not values.any():
        raise Refusal(
            f"the weights of the channels must not all be 0, got 0 for {listing(names)}.",
            "Give the channels that count with --weight CHANNEL=VALUE, or leave others out with "
            "--rewards.",
        )
    if (values == 1).all():
        return None, []
    pairs = [f"{shown(name)} {value:g}" for name, value in zip(names, values, strict=True)]
    text = f"Every rule multiplies the channels with their weights: {listing(pairs)}."
    return values, [Note(kind="weights", count=len(names), text=text)]


def _declared_weights(about: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Channel to its weight in a run of ours; empty where it has none that are valid."""
    channels, weights = (about[-1].get(key) if about else None for key in ("channels", "weights"))
    if not (isinstance(channels, list) and isinstance(weights, list)):
        return {}
    numbers = [_as_float(weight) for weight in weights]
    if len(numbers) != len(channels) or any(n is None or not 0 <= n < np.inf for n in numbers):
        return {}
    names = [channel.get("name") if isinstance(channel, dict) else None for channel in channels]
    return {
        str(name): number for name, number in zip(names, numbers, strict=True) if number is not None
    }


def _as_float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if number != number else number
