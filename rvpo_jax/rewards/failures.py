"""What a reward function did wrong, told in text that is short, escaped and says where.

The function, its exception and the completions are all untrusted: ``str`` of an exception may
raise, and a name may hold terminal codes.
"""

import sysconfig
import traceback
from pathlib import Path

from rvpo_jax.basics.refusals import Failure
from rvpo_jax.basics.text import printable

_PACKAGE = Path(__file__).parent
_OURS = ("__init__.py", "binding.py", "calling.py", "scoring.py")
_MACHINERY = tuple(str(_PACKAGE / name) for name in _OURS)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_MAX_FRAMES = 3


class RewardError(Failure):
    """A reward function raised, or returned something that is not a reward."""


def excerpt(value: object, limit: int = 80) -> str:
    """A short escaped quotation of untrusted text, on one line.

    >>> excerpt("a" + chr(10) + "b" * 100, limit=4)
    "'a\\\\nbb'..."
    """
    text = _text(value)
    return repr(text[:limit]) + ("..." if len(text) > limit else "")


def name_of(error: BaseException) -> str:
    """The class of an exception, escaped.

    >>> name_of(KeyError("x"))
    'KeyError'
    """
    return _short(type(error).__name__, 60)


def message_of(error: BaseException) -> str:
    """What an exception says, on one line, escaped and short.

    >>> message_of(ValueError("two" + chr(10) + "lines"))
    'two lines'
    """
    return _short(" ".join(_text(error).split()), 300)


def frames_of(error: BaseException) -> list[str]:
    """Where an exception was raised: the innermost frames of the user's code, innermost last.

    A library in which it was raised adds its own innermost frame; where all frames are a
    library's, as for an installed package of rewards, its innermost ones are shown.

    Args:
      error: An exception that was caught.

    Returns:
      A line per frame, at most 4: file, line number, function and the source line.
    """
    walked = traceback.walk_tb(error.__traceback__)
    frames = [
        frame
        for frame in traceback.StackSummary.extract(walked, lookup_lines=False)
        if frame.filename not in _MACHINERY and not frame.filename.startswith("<frozen ")
    ]
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    shown = own[-_MAX_FRAMES:] or frames[-_MAX_FRAMES:]
    if shown and frames[-1] is not shown[-1]:
        shown.append(frames[-1])
    return [_describe(frame) for frame in shown]


def _describe(frame: traceback.FrameSummary) -> str:
    file = printable(frame.filename, keep="")
    line = f": {_short(frame.line, 100)}" if frame.line else ""
    # Of a long path the end tells more than the beginning.
    return f"{file[-200:]}, line {frame.lineno}, in {_short(frame.name, 60)}{line}"


def _text(value: object) -> str:
    try:
        return value if isinstance(value, str) else str(value)
    except (Exception, SystemExit):  # whatever a user's __str__ may do
        return f"<{type(value).__name__} whose text cannot be had>"


def _short(text: str, limit: int) -> str:
    return printable(text[:limit], keep="") + ("..." if len(text) > limit else "")
