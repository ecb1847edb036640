"""The one way to refuse bad input: argument, rule, what came; next line: what to do."""


class Refusal(ValueError):
    """Something that a user gave cannot be used.

    Raised as ``if not fits: raise Refusal(problem, remedy)``, so that the message is formatted only
    where it is needed.

    Args:
      problem: The argument as the user typed it, the rule, and what came. Ends with a full stop.
      remedy: What to do. Ends with a full stop.

    >>> raise Refusal("steps must be > 0, got 0.", "Give a positive number.")
    Traceback (most recent call last):
    ...
    rvpo_jax.basics.refusals.Refusal: steps must be > 0, got 0.
      Give a positive number.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n  {remedy}")


class Failure(RuntimeError):
    """A run or a check failed for a reason that can be said in one message; exit code 1."""
