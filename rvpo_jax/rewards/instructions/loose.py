"""IFEval's loose reading: an answer also counts without its first or last line or its asterisks."""


def loose_texts(text: str) -> list[str]:
    r"""The text and what is left of it without its first line, its last line, asterisks.

    Models like to open with a line such as "Sure!" and to write in Markdown; loosely judged, an
    instruction is followed if any of these texts follows it.

    Args:
      text: A completion.

    Returns:
      1 to 8 different texts with more than white space, the text itself first.

    Source:
      IFEval, arXiv:2311.07911, section 2.3.

    >>> loose_texts("Sure!\n*Yes*")
    ['Sure!\n*Yes*', '*Yes*', 'Sure!', 'Sure!\nYes', 'Yes']
    """
    lines = text.split("\n")
    parts = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    cut = [text, *parts]
    texts = dict.fromkeys([*cut, *(part.replace("*", "") for part in cut)])
    return [part for part in texts if part.strip()]
