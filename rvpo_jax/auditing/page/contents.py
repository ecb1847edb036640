"""What the pictures of an audit ask of its report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

MANY = 12  # channels: more do not fit one plot line by line


def has_trajectory(report: Mapping[str, Any]) -> bool:
    """Whether there are two windows of steps to draw a line between.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      True for at least two windows.
    """
    return report["trajectory"] is not None and len(report["trajectory"]["step"]) > 1


def floats(values: Sequence[float | None]) -> list[float]:
    """The values with NaN where a number is unknown.

    Args:
      values: of a report.

    Returns:
      As many floats.
    """
    return [math.nan if value is None else float(value) for value in values]
