"""Rubric items of a row: ours, RaR's and HealthBench's, in one form. ``M`` items."""

import dataclasses
import difflib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example
from rvpo_jax.rewards.judge.polarity import Decision, decide

Pitfalls = Literal["detect", "met is good", "met is bad"]
CATEGORIES = ("essential", "important", "optional", "pitfall")
_PREFIX = re.compile(r"\s{0,9}([A-Za-z]{1,20})\s{1,9}[Cc]riteri(?:a|on)\s{0,9}:\s{0,9}")
_TEXTS, _POINTS = ("text", "description", "criterion"), ("points", "weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One statement about a completion, judged true or false.

    Attributes:
      text: what the judge reads.
      points: as in the data; negative for what costs points.
      met_is_good: whether a completion should meet it; None: not known, so it is not asked.
      category: RaR's category, HealthBench's axis, or empty.
      reason: how ``met_is_good`` was decided.
    """

    text: str
    points: float
    met_is_good: bool | None
    category: str
    reason: str


def read_items(
    example: Example, index: int = 0, *, pitfalls: Pitfalls = "detect"
) -> tuple[Item, ...]:
    """The rubric of a row.

    The column is ``rubric`` or ``rubrics``, a list of mappings with a text (``text``, RaR's
    ``description`` or HealthBench's ``criterion``) and a number (``points`` or ``weight``; 1 where
    there is none). Polarity, in this order: the item's own ``polarity``, ``positive`` (meeting it
    is good) or ``negative``; of RaR's pitfalls, by ``pitfalls``; the sign of the points.

    Args:
      example: the row.
      index: its position, for messages.
      pitfalls: how RaR's items of the category pitfall or with negative weight are read: each by
        its wording (see ``polarity``), or all alike.

    Returns:
      ``M`` items, at least 1.

    Raises:
      Refusal: when there is no rubric, it is empty, or an item cannot be read.

    >>> row = {"rubrics": [{"criterion": "Tells the user to wait.", "points": -6}]}
    >>> read_items(row)[0].met_is_good
    False
    """
    column = next((name for name in ("rubric", "rubrics") if example.get(name) is not None), None)
    rubric = example.get(column) if column else None
    if not isinstance(rubric, Sequence) or isinstance(rubric, (str, bytes)):
        columns = excerpt(", ".join(map(str, example)))
        raise Refusal(
            f"example {index} must have a column rubric, a list of items, got "
            f"{'none' if column is None else type(rubric).__name__} (columns: {columns}).",
            "An item is a mapping: {text: ..., points: 1, polarity: positive}.",
        )
    if not rubric:
        raise Refusal(
            f"example {index} must have at least one rubric item, got an empty list.",
            "Give the row items, or leave it out.",
        )
    texts = [_text(item, index, place) for place, item in enumerate(rubric)]
    points = [_points(item, index, place) for place, item in enumerate(rubric)]
    good = [text for text, value in zip(texts, points, strict=True) if value > 0]
    items = []
    for place, (item, text, value) in enumerate(zip(rubric, texts, points, strict=True)):
        category = category_of(item, text)
        decision = _polarity(item, place, index, text, value, category, pitfalls, good)
        items.append(
            Item(
                text=text,
                points=value,
                met_is_good=decision.met_is_good,
                category=category,
                reason=decision.reason,
            )
        )
    return tuple(items)


def category_of(item: Mapping[str, Any], text: str) -> str:
    """RaR's category from the head of the text, also misspelt, or HealthBench's axis.

    Args:
      item: the item.
      text: its text.

    Returns:
      ``essential``, ``important``, ``optional``, ``pitfall``, an axis, or an empty text.

    >>> category_of({}, "Esssential Criteria: Names a strap wrench.")
    'essential'
    """
    prefix = _PREFIX.match(text)
    if prefix:
        return next(iter(difflib.get_close_matches(prefix[1].lower(), CATEGORIES, 1, 0.8)), "")
    tags = item.get("tags")
    axes = [str(tag)[5:] for tag in tags or () if str(tag).startswith("axis:")]
    return axes[0] if axes else ""


def without_prefix(text: str) -> str:
    """The text without RaR's ``Essential Criteria:``.

    >>> without_prefix("Pitfall Criteria: Does not mention oil.")
    'Does not mention oil.'
    """
    prefix = _PREFIX.match(text)
    return text[prefix.end() :] if prefix else text


def _polarity(
    item: Mapping[str, Any],
    place: int,
    index: int,
    text: str,
    points: float,
    category: str,
    pitfalls: Pitfalls,
    good: Sequence[str],
) -> Decision:
    own = item.get("polarity")
    if own is not None:
        if own not in ("positive", "negative"):
            raise _unreadable(index, place, "polarity must be positive or negative", own)
        return Decision(own == "positive", "given by the item")
    is_pitfall = "description" in item and (points < 0 or category == "pitfall")
    if not is_pitfall:
        return Decision(points >= 0, "sign of the points")
    if pitfalls != "detect":
        return Decision(pitfalls == "met is good", "setting pitfalls")
    title = item.get("title")
    others = [without_prefix(other) for other in good]
    return decide(without_prefix(text), title if isinstance(title, str) else "", others)


def _text(item: Any, index: int, place: int) -> str:
    if not isinstance(item, Mapping):
        raise _unreadable(index, place, "it must be a mapping", type(item).__name__)
    text = next((item[name] for name in _TEXTS if item.get(name) is not None), None)
    if not isinstance(text, str) or not text.strip():
        raise _unreadable(index, place, f"it must have a {' or '.join(_TEXTS)}", text)
    return text


def _points(item: Mapping[str, Any], index: int, place: int) -> float:
    points = next((item[name] for name in _POINTS if item.get(name) is not None), 1)
    if (
        not isinstance(points, numbers.Real)
        or isinstance(points, bool)
        or not math.isfinite(points)
    ):
        raise _unreadable(index, place, f"{' or '.join(_POINTS)} must be a number", points)
    return float(points)


def _unreadable(index: int, place: int, rule: str, came: object) -> Refusal:
    return Refusal(
        f"rubric item {place} of example {index} cannot be read: {rule}, got {excerpt(came)}.",
        "An item is a mapping: {text: ..., points: 1, polarity: positive}.",
    )
