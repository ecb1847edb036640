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
    digits = 0 if value >= 0.1 or value == 0 else 1
    return percent(value, estimate["low"], estimate["high"], digits=digits, unit=" %")


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
