"""How wide a text will be, guessed: the reader's browser chooses the font."""

import unicodedata

from ...basics.text import printable

MAX_NAME = 26  # characters of a channel's name
_NARROW = frozenset(" !'(),.:;I[]fijlrt|")
_WIDE = frozenset("%@MWmw…−<>=+~#^")


def text_width(text: str, size: float) -> float:
    """Width of a line, rather too large than too small for common sans-serif fonts.

    Args:
      text: one line.
      size: of the font, pixels.

    Returns:
      Pixels.
    """
    return size * sum(map(_ems, text))


def _ems(character: str) -> float:
    if character in _NARROW:
        return 0.38
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in _WIDE:
        return 0.95
    # Beyond Latin, Greek and Cyrillic letters may be as wide as they like.
    return 0.85 if ord(character) > 0x52F else 0.72 if character.isupper() else 0.6


def plot_label(name: object, ems: float = 16.0) -> str:
    r"""A name in a plot: what cannot be seen is written out, and of a long one the middle left out.

    Args:
      name: anything, hostile or not.
      ems: its width at most, in sizes of the font.

    Returns:
      Printable text of 26 characters at most.

    >>> print(plot_label("a\u202eb"), plot_label("format_of_the_answer_in_task_12"))
    a\u202eb format_of_the_ans…_task_12
    """
    name = str(name)
    if len(name) > 4 * MAX_NAME:  # a huge name is not looked through
        name = name[: 2 * MAX_NAME] + name[-2 * MAX_NAME :]
    text = printable(name, keep="")
    if len(text) <= MAX_NAME and text_width(text, 1.0) <= ems:
        return text
    for kept in range(MAX_NAME - 1, 1, -1):
        short = f"{text[: kept - kept // 3]}…{text[-(kept // 3) :] if kept > 2 else ''}"
        if text_width(short, 1.0) <= ems:
            return short
    return "…"
