"""Where a user's code raised: the innermost frames, short and escaped."""

import sysconfig
import traceback
from pathlib import Path

from rvpo_jax.basics.text import printable

_PACKAGE = str(Path(__file__).parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def innermost_frames(error: BaseException, limit: int = 3) -> list[str]:
    """The frames of the user's own code in which an exception was raised, innermost last.

    Args:
      error: an exception that was caught.
      limit: frames at most.

    Returns:
      A line per frame: file, line number, function and the line of source. A syntax error, which
      has no frame of its own, gives the place in the file.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return [_line(error.filename, error.lineno, "", error.text)]
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith((_PACKAGE, "<frozen ", *_LIBRARIES))
    ]
    return [
        _line(frame.filename, frame.lineno, f", in {frame.name}", frame.line)
        for frame in own[-limit:]
    ]


def _line(file: str, number: int | None, function: str, source: str | None) -> str:
    text = f"{file}, line {number}{function}: {(source or '').strip()[:100]}"
    return printable(text.removesuffix(": "), keep="")
