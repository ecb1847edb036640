"""What a worker hears and says: one line in per step, one line out. Standard library only."""

import json
import os
import sys
from typing import Any


class Requests:
    """The driver's end of a worker; ``work``, what to do, is the worker's only argument."""

    def __init__(self) -> None:
        self.work: dict[str, Any] = json.loads(sys.argv[1])
        # Libraries that print must not be taken for an answer.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def next(self) -> Any:
        """Sleeps until a step is asked for.

        Returns:
          The token of each completion, from 1, that is its end, prompt by prompt; None for ours,
          which is asked first.
        """
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        return json.loads(line)

    def answer(self, **figures: Any) -> None:
        """Says that the step is done."""
        print(json.dumps(figures), file=self._answers, flush=True)
