"""What a reward channel is, for a run and for the audit of a log."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from .bounds import Checked
from .refusals import Refusal
from .text import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel(Checked):
    """What a reward channel is: its name, the range of its values and when it counts as met."""

    name: str
    """Name in logs and plots."""
    low: float = 0.0
    """Smallest possible raw value, in the unit of the channel."""
    high: float = 1.0
    """Largest possible raw value, in the unit of the channel."""
    pass_at: float = 1.0
    """Raw value from which the channel counts as met."""
    kind: Literal["quality", "constraint"] = "quality"
    """A constraint must be met; a quality is better when it is higher."""
    target: float | None = None
    """Mean raw value that rules with targets or multipliers aim for; others do not look at it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refusal(
                f"channel {self.name} must have a finite range with low < high, "
                f"got ({self.low}, {self.high}).",
                "Declare the smallest and the largest value that the reward function can return.",
            )
        if not self.low < self.pass_at <= self.high:
            raise Refusal(
                f"pass_at of channel {self.name} must lie in ({self.low}, {self.high}], "
                f"got {self.pass_at}.",
                "With pass_at = low every completion would pass.",
            )
        if self.target is not None and not self.low <= self.target <= self.high:
            raise Refusal(
                f"target of channel {self.name} must lie in [{self.low}, {self.high}], "
                f"got {self.target}.",
                "It is in the unit of the channel, as its rewards are.",
            )

    def _user_name(self, field: str) -> str:
        return f"{field} of channel {self.name}"


Needs = Literal["", "ranges", "targets", "multipliers", "constraints"]
"""What a rule must be told of the channels: the ``ranges`` of their rewards; ``targets`` of all;
``multipliers``, targets of some; which of them are ``constraints``."""


def lacking(needs: Needs, channels: Sequence[Channel]) -> str | None:
    """What channels do not say that a rule needs; ranges they always have.

    Args:
      needs: what it needs.
      channels: M channels.

    Returns:
      The end of a sentence that begins with "it needs"; None where nothing is lacking.

    >>> lacking("targets", [Channel(name="a", target=0.5), Channel(name="b")])
    'the target of every channel, got none of b'
    """
    without = [channel.name for channel in channels if channel.target is None]
    if needs == "targets" and without:
        return f"the target of every channel, got none of {printable(', '.join(without))}"
    if needs == "multipliers" and len(without) in (0, len(channels)):
        return (
            "channels with a target, which it constrains, and others, which it raises, got "
            f"{len(without)} of {len(channels)} without"
        )
    kinds = {channel.kind for channel in channels}
    if needs == "constraints" and len(kinds) < 2:
        return f"constraints and other channels, got only {kinds.pop()} channels"
    return None
