"""What a test is about, and so is its alarm."""

from collections.abc import Mapping
from typing import NamedTuple


class About(NamedTuple):
    """The statement that a test rejects when it raises an alarm."""

    test: str  # paid, dead_fail, fall or outcome
    channel: str  # "" for the outcome
    slice: str | None = None  # None: the whole log


Alarms = Mapping[About, bool]
