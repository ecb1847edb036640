"""How text that nobody vouches for is shown: a policy, a judge or a log file may write anything."""

import unicodedata

# Control, format, surrogate, private, unassigned; line and paragraph separators.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object, *, keep: str = "\n") -> str:
    r"""The text with a backslash escape for every character that cannot be seen.

    Terminal codes, NULs, marks that turn the direction of writing, zero-width characters and lone
    surrogates come out as ``\x1b``, ``\u202e`` and so on: they neither act nor hide.

    Args:
      text: anything; its ``str`` is taken.
      keep: such characters that stay: line feeds, unless told otherwise.

    Returns:
      Printable text, which can be encoded as UTF-8.

    >>> print(printable("a\x1b[31m\u202e"))
    a\x1b[31m\u202e
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(escape_character(c) if is_hidden(c, keep) else c for c in text)


def is_hidden(character: str, keep: str = "\n") -> bool:
    """Whether ``printable`` escapes a character.

    Args:
      character: a string of length 1.
      keep: characters that stay.

    Returns:
      True for what cannot be seen.
    """
    return character not in keep and unicodedata.category(character) in _HIDDEN


def escape_character(character: str) -> str:
    r"""One character as Python would write it in a string.

    Args:
      character: a string of length 1.

    Returns:
      ASCII: ``\n``, ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.

    >>> print(escape_character("\u200b"), escape_character("\n"))
    \u200b \n
    """
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
