"""Hostile text on a page: escaped as HTML, and what cannot be seen made visible."""

import itertools

from markupsafe import Markup, escape

from ...basics.text import escape_character, is_hidden


def marked(text: object, *, keep: str = "") -> Markup:
    r"""Like ``printable``, as HTML; ``<i>`` tells an escape from a written ``\x1b``.

    Args:
      text: anything; its ``str`` is taken.
      keep: unprintable characters that stay.

    Returns:
      Escaped markup whose only tag is ``<i>``.

    >>> print(marked("<b>\0"))
    &lt;b&gt;<i>\x00</i>
    """
    text = str(text)
    if text.isprintable():
        return escape(text)
    parts = []
    for hidden, run in itertools.groupby(text, lambda c: is_hidden(c, keep)):
        if hidden:
            parts.append(Markup("<i>{}</i>").format("".join(map(escape_character, run))))
        else:
            parts.append(escape("".join(run)))
    return Markup("").join(parts)
