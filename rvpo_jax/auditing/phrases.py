"""Parts of sentences: names, shares, gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..basics.intervals import percent


def names(items: Sequence[str]) -> str:
    """A list in words.

    Args:
      items: any number of them.

    Returns:
      ``a, b and c``.

    >>> names(["a", "b", "c"]), names(["a"]), names([])
    ('a, b and c', 'a', '')
    """
    *most, last = items or [""]
    return f"{', '.join(most)} and {last}" if most else last


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Args:
      count: how many.
      noun: of one.

    Returns:
      For example ``1,000 groups``.

    >>> plural(1, "group"), plural(1000, "group")
    ('1 group', '1,000 groups')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def worst_first(sentences: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Sentences in the order in which a busy person should read them.

    Args:
      sentences: of a report, with ``level``.

    Returns:
      Problems, what is marked, and the rest, each in the order of the report.
    """
    urgent = ("problem", "watch")
    return sorted(
        sentences, key=lambda s: urgent.index(s["level"]) if s["level"] in urgent else len(urgent)
    )


def share_text(estimate: Mapping[str, Any]) -> str:
    """A share with its interval, in words.

    Args:
      estimate: ``value``, ``low``, ``high``.

    Returns:
      For example ``12 % [9, 15]``.

    >>> share_text({"value": 0.12, "low": 0.09, "high": 0.151})
    '12 % [9, 15]'
    """
    value = estimate["value"]
    if value is None:
        return "an unknown share"
    digits = share_digits(value)
    return percent(value, estimate["low"], estimate["high"], digits=digits, unit=" %")


def share_digits(share: float) -> int:
    """Digits after the point of a share in percent: more where it is close to 0 % or 100 %.

    Args:
      share: 0 to 1, or negative for a change.

    Returns:
      0, 1, 2 or 3.

    >>> [share_digits(share) for share in (0.5, 0.012, 0.998, 0.0004, 1.0)]
    [0, 1, 1, 2, 0]
    """
    size = abs(share)
    rest = min(size, 10 * abs(1 - size))  # one digit from 99 % on
    if rest < 1e-6 or rest >= 0.0995:  # below one in a million it is the rounding of a 0
        return 0
    return 1 if rest >= 0.001 else 2 if rest >= 0.0001 else 3


def distance(estimate: Mapping[str, Any]) -> str:
    """How far above or below 0 an advantage is, with its interval.

    Args:
      estimate: ``value``, ``low``, ``high``.

    Returns:
      For example ``0.50 [0.42, 0.58] higher``.

    >>> distance({"value": -0.5, "low": -0.58, "high": -0.42})
    '0.50 [0.42, 0.58] lower'
    """
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value < 0:
        low, high = (None, None) if low is None else (-high, -low)
    span = "(one prompt)" if low is None else f"[{low:.2f}, {high:.2f}]"
    return f"{abs(value):.2f} {span} {'lower' if value < 0 else 'higher'}"


def label_of(report: Mapping[str, Any], rule: str) -> str:
    """What a rule is called.

    Args:
      report: with ``rules``.
      rule: its name.

    Returns:
      Its label.
    """
    return next(row["label"] for row in report["rules"] if row["name"] == rule)
