"""Which of the steps that should be there are absent, in words."""

from collections.abc import Collection, Sequence

MAX_SPANS = 6  # spelled out in a message
MAX_STEPS = 1_000_000  # a step beyond is a time stamp or damage, and nothing to count up to


def absent(present: Collection[int], expected: Sequence[int]) -> list[int]:
    """The expected steps that are not there.

    Args:
      present: Steps that are there, others too.
      expected: Steps that should be.

    Returns:
      Those of ``expected`` that are absent, in its order.
    """
    known = set(present)
    return [step for step in expected if step not in known]


def spans(missing: Collection[int], expected: Sequence[int]) -> str:
    """Absent steps as ranges of neighbours among the expected ones.

    Args:
      missing: Some of ``expected``.
      expected: All steps, ascending.

    Returns:
      At most six ranges, and how many more there are.

    >>> spans([3, 4, 5, 9], range(10))
    '3-5, 9'
    >>> spans([10, 15], range(0, 50, 5))
    '10-15'
    """
    known = set(missing)
    found: list[list[int]] = []
    open_span = False
    for step in expected:
        if step not in known:
            open_span = False
        elif open_span:
            found[-1][1] = step
        else:
            found.append([step, step])
            open_span = True
    texts = [f"{a}" if a == b else f"{a}-{b}" for a, b in found[:MAX_SPANS]]
    rest = len(found) - MAX_SPANS
    return ", ".join(texts) + (f" and {rest} more ranges" if rest > 0 else "")


def regular_steps(present: Collection[int]) -> range:
    """The steps from the first to the last in the spacing that most of them have.

    A trainer logs every so many steps, and nothing says how many. Where no spacing is that of
    more than half of the steps, nothing can be said, and only the first step is expected.

    Args:
      present: Steps that are there; those from a million on do not count.

    Returns:
      The steps one would expect; empty where there is none.

    >>> regular_steps([0, 5, 10, 25])
    range(0, 26, 5)
    >>> regular_steps([0, 7, 9, 40])
    range(0, 1)
    """
    steps = sorted({step for step in present if abs(step) < MAX_STEPS})
    if not steps:
        return range(0)
    distances = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    usual = max(set(distances), key=distances.count, default=0)
    if distances.count(usual) * 2 <= len(distances):
        return range(steps[0], steps[0] + 1)
    return range(steps[0], steps[-1] + 1, usual)
