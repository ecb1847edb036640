"""What a reward channel is, for a run and for the audit of a log."""

import dataclasses
import math
from typing import Literal

from .bounds import Checked
from .refusals import Refusal


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

    def _user_name(self, field: str) -> str:
        return f"{field} of channel {self.name}"
