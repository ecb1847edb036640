"""What a user's code raised, told in text that is short, escaped and says where.

The code and its exception are untrusted: ``str`` of an exception may raise, and a name may hold
terminal codes.
"""

import sysconfig
import traceback
from pathlib import Path

from .text import printable

_PACKAGE = str(Path(__file__).parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_MAX_FRAMES = 3


def excerpt(value: object, limit: int = 80) -> str:
    """A short escaped quotation of untrusted text, on one line.

    Args:
      value: anything; its ``str`` is taken.
      limit: characters that are quoted.

    Returns:
      The text in quotes.

    >>> excerpt("a" + chr(10) + "b" * 100, limit=4)
    "'a\\\\nbb'..."
    """
    text = _text(value)
    return repr(text[:limit]) + ("..." if len(text) > limit else "")


def name_of(error: BaseException) -> str:
    """The class of an exception, escaped.

    Args:
      error: the exception.

    Returns:
      Its name.

    >>> name_of(KeyError("x"))
    'KeyError'
    """
    return _short(type(error).__name__, 60)


def message_of(error: BaseException) -> str:
    """What an exception says, on one line, escaped and short.

    Args:
      error: the exception.

    Returns:
      Its message.

    >>> message_of(ValueError("two" + chr(10) + "lines"))
    'two lines'
    """
    return _short(" ".join(_text(error).split()), 300)


def frames_of(error: BaseException) -> list[str]:
    """Where an exception was raised: the innermost frames of the user's code, innermost last.

    A library in which it was raised adds its own innermost frame; where no frame is the user's, as
    for an installed package of rewards, the innermost ones of all are shown. A syntax error, which
    has no frame of its own, gives the place in the file.

    Args:
      error: an exception that was caught.

    Returns:
      A line per frame, at most 4: file, line number, function and the source line.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return [_line(error.filename, error.lineno, "", error.text)]
    walked = traceback.walk_tb(error.__traceback__)
    frames = [
        frame
        for frame in traceback.StackSummary.extract(walked, lookup_lines=False)
        if not frame.filename.startswith("<frozen ")
    ]
    own = [f for f in frames if not f.filename.startswith((_PACKAGE, *_LIBRARIES))]
    shown = own[-_MAX_FRAMES:] or frames[-_MAX_FRAMES:]
    if shown and frames[-1] is not shown[-1]:
        shown.append(frames[-1])
    return [_line(f.filename, f.lineno, f", in {_short(f.name, 60)}", f.line) for f in shown]


def _line(file: str, number: int | None, function: str, source: str | None) -> str:
    text = (source or "").strip()
    # Of a long path the end tells more than the beginning.
    place = f"{printable(file, keep='')[-200:]}, line {number}{function}"
    return f"{place}: {_short(text, 100)}" if text else place


def _text(value: object) -> str:
    try:
        return value if isinstance(value, str) else str(value)
    except (Exception, SystemExit):  # whatever a user's __str__ may do
        return f"<{type(value).__name__} whose text cannot be had>"


def _short(text: str, limit: int) -> str:
    return printable(text[:limit], keep="") + ("..." if len(text) > limit else "")
