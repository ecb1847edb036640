"""What asking a judge came to: counts that a run can log."""

import dataclasses
import threading
from collections import Counter
from typing import Any


@dataclasses.dataclass(kw_only=True)
class Counts:
    """Of some time, in one process.

    Attributes:
      questions: requests whose verdicts were wanted; those that are alike count once.
      cached: of these, how many were answered before.
      calls: HTTP requests, tries included.
      retries: of these, how many were not the first try.
      failed: questions without an answer.
      verdicts: items wanted, over all completions.
      not_scored: of these, how many have no verdict.
      left_out: items whose polarity is not known, which were not asked.
      input_tokens: of prompts, as the endpoint counts or else by estimate.
      output_tokens: of replies, likewise.
      cost: in the unit of the prices.
      waited_s: seconds that calls waited for a limit or before another try, summed over threads.
      seconds: that scoring took.
      reasons: why questions failed.
    """

    questions: int = 0
    cached: int = 0
    calls: int = 0
    retries: int = 0
    failed: int = 0
    verdicts: int = 0
    not_scored: int = 0
    left_out: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    waited_s: float = 0.0
    seconds: float = 0.0
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Adds another count, field by field.

        Args:
          other: of another time.
        """
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def metrics(self, name: str) -> dict[str, float]:
        """The numbers by the names of metrics.

        Args:
          name: of the reward.

        Returns:
          Such as ``judge/NAME/calls``; they add up over processes.

        >>> Counts(verdicts=8, not_scored=2).metrics("rubric")["judge/rubric/not_scored"]
        2.0
        """
        return {
            f"judge/{name}/{field.name}": float(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "reasons"
        }


class Tally:
    """Counts that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def add(self, *, reason: str | None = None, **numbers: Any) -> None:
        """Adds to fields of ``Counts``.

        Args:
          reason: why a question failed.
          **numbers: by field.
        """
        with self._lock:
            for name, number in numbers.items():
                setattr(self._counts, name, getattr(self._counts, name) + number)
            if reason is not None:
                self._counts.reasons[reason] += 1

    def take(self) -> Counts:
        """The counts since the last call; they begin anew."""
        with self._lock:
            taken, self._counts = self._counts, Counts()
        return taken
