"""How names, texts and numbers of a report look on its page. All texts are treated as hostile."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ...basics.text import printable
from ..phrases import share_digits
from .visible import marked

MAX_PROSE = 2000
_MAX_LABEL = 72
_PREVIEW = 110
_EXCERPT = (190, 90)  # characters of the beginning and the end
_MAX_TEXT_BYTES = 16_000
_HEAT = (0.005, 0.02, 0.1, 0.25)


def label(text: object, limit: int = _MAX_LABEL) -> Markup:
    """A name, isolated from its surroundings; of a long one the middle is left out.

    Args:
      text: anything; its ``str`` is taken.
      limit: characters.

    Returns:
      Escaped markup.
    """
    text = str(text)
    if len(text) > limit:
        text = f"{text[: 2 * limit // 3]}…{text[-limit // 3 :]}"
    return Markup("<bdi>{}</bdi>").format(marked(text))


def long_text(text: str) -> Markup:
    """A prompt or completion; where escapes make it several times as long, its beginning.

    Args:
      text: of the log.

    Returns:
      Escaped markup.
    """
    shown, size = marked(text, keep="\n\t"), len(text)
    while (num_bytes := len(shown.encode())) > _MAX_TEXT_BYTES:
        size = int(0.95 * size * _MAX_TEXT_BYTES / num_bytes)
        shown = marked(text[:size], keep="\n\t")
    if size == len(text):
        return shown
    return shown + Markup("\n[{} more characters]").format(f"{len(text) - size:,}")


def preview(text: str) -> str:
    """The first characters of a text, in one line.

    Args:
      text: of the log.

    Returns:
      Text that still has to be escaped.
    """
    return printable(text[:_PREVIEW].replace("\n", " "))


def excerpt(text: str) -> Markup:
    """Beginning and end of a text, in one paragraph: what is wrong is often at either.

    Args:
      text: of the log.

    Returns:
      Escaped markup.
    """
    text = " ".join(text.split())
    first, last = _EXCERPT
    if len(text) > first + last:
        text = f"{text[:first]} … {text[-last:]}"
    return Markup("<bdi>{}</bdi>").format(marked(text))


def heat(rate: float | None) -> int:
    """How dark the cell of a share is.

    Args:
      rate: 0 to 1.

    Returns:
      0 to 4.
    """
    return 0 if rate is None else sum(rate >= edge for edge in _HEAT)


def percent(share: float | None, sign: str = "") -> str:
    """A share in percent, in the form of the sentences.

    Args:
      share: 0 to 1, or negative for a change.
      sign: ``"+"`` for a change, which then always has a sign.

    Returns:
      The text of a cell.

    >>> percent(0.1234), percent(0.00042), percent(-0.5), percent(0.5, "+"), percent(None)
    ('12 %', '0.04 %', '−50 %', '+50 %', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    return _minus(format(100 * share, f"{sign}.{share_digits(share)}f")) + " %"


def interval(estimate: Mapping[str, Any], sign: str = "") -> str:
    """The interval behind a share, with as many digits.

    Args:
      estimate: ``value``, ``low`` and ``high``, which is known.
      sign: as in ``percent``.

    Returns:
      The text.

    >>> interval({"value": 0.12, "low": 0.09, "high": 0.151})
    '[9, 15]'
    """
    form = f"{sign}.{share_digits(estimate['value'])}f"
    low, high = (_minus(format(100 * estimate[end], form)) for end in ("low", "high"))
    return f"[{low}, {high}]"


def number(value: float | None, form: str = ".2f") -> str:
    """A number with a real minus sign.

    Args:
      value: the number.
      form: format specification.

    Returns:
      The text of a cell.

    >>> number(-0.125, "+.3f"), number(None)
    ('−0.125', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return _minus(format(value, form))


def _minus(digits: str) -> str:
    """A real minus sign, and none before what rounds to 0."""
    if not digits.strip("+-0."):
        digits = digits.replace("-", "+" if "+" in digits else "")
    return digits.replace("-", "−")
