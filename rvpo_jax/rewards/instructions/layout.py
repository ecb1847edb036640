r"""IFEval's instructions about form: sections, bullets, titles, JSON and the like.

Each function judges one text, in time linear in its length. The original's regular expressions
take quadratic time on some texts (``[[[[``, ``<<<<``, a run of empty lines); what stands here finds
the same matches line by line.
"""

import json
import re

_BULLETS = (
    # Blank lines before a bullet do not matter, so the white space is that of its own line.
    re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE),
    re.compile(r"^[^\S\n]*-", re.MULTILINE),
)
_HIGHLIGHT = re.compile(r"\*[^\n*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*([^\n*]*)\*\*")
_PLACEHOLDER = re.compile(r"\[[^\]]*\]")
_WORD_END = re.compile(r"[.,?!'\"]")
_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")


def has_placeholders(text: str, *, num_placeholders: int) -> bool:
    """``detectable_content:number_placeholders``: at least so many ``[...]`` within lines.

    Args:
      text: A completion.
      num_placeholders: The smallest number.

    Returns:
      The verdict.

    >>> has_placeholders("Dear [name], at [place]", num_placeholders=2)
    True
    """
    # Behind a line's last bracket nothing closes; without it every search would end in a match.
    closed = (line[: line.rfind("]") + 1] for line in text.split("\n"))
    return sum(len(_PLACEHOLDER.findall(line)) for line in closed) >= num_placeholders


def has_postscript(text: str, *, postscript_marker: str) -> bool:
    """``detectable_content:postscript``: the marker stands somewhere, in any case.

    ``P.S.`` and ``P.P.S`` may have one white space between their letters. Text after the marker is
    not asked for.

    Args:
      text: A completion.
      postscript_marker: What the postscript starts with.

    Returns:
      The verdict.

    >>> has_postscript("Bye. p. s. Write soon", postscript_marker="P.S.")
    True
    """
    marker = postscript_marker.strip()
    pattern = _POSTSCRIPTS.get(marker)
    if pattern is None:
        return marker.lower() in text.lower()
    return pattern.search(text.lower()) is not None


def has_bullets(text: str, *, num_bullets: int) -> bool:
    """``detectable_format:number_bullet_lists``: exactly so many lines that start with * or -.

    A line that starts with two asterisks is none, one with dashes is.

    Args:
      text: A completion.
      num_bullets: The number.

    Returns:
      The verdict.

    >>> has_bullets("* one" + chr(10) + " - two", num_bullets=2)
    True
    """
    return sum(len(bullet.findall(text)) for bullet in _BULLETS) == num_bullets


def has_constrained_answer(text: str) -> bool:
    """``detectable_format:constrained_response``: one of the three answers stands in the text.

    Args:
      text: A completion.

    Returns:
      The verdict.

    >>> has_constrained_answer("Well. My answer is no.")
    True
    """
    return any(answer in text for answer in _ANSWERS)


def has_highlights(text: str, *, num_highlights: int) -> bool:
    """``detectable_format:number_highlighted_sections``: at least so many ``*...*`` or ``**...**``.

    Within lines, and not empty.

    Args:
      text: A completion.
      num_highlights: The smallest number.

    Returns:
      The verdict.

    >>> has_highlights("*a* **b** ****", num_highlights=2)
    True
    """
    single = sum(bool(part.strip("*").strip()) for part in _HIGHLIGHT.findall(text))
    double = sum(bool(part.strip()) for part in _DOUBLE_HIGHLIGHT.findall(text))
    return single + double >= num_highlights


def has_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """``detectable_format:multiple_sections``: at least so many marks such as ``SECTION 1``.

    Args:
      text: A completion.
      section_spliter: The word before the number, as IFEval spells its argument.
      num_sections: The smallest number.

    Returns:
      The verdict.

    >>> has_sections("Day 1: rest. Day2: work.", section_spliter="Day", num_sections=2)
    True
    """
    mark = re.compile(rf"{re.escape(section_spliter.strip())}\s?\d+")
    return len(mark.findall(text)) >= num_sections


def has_title(text: str) -> bool:
    """``detectable_format:title``: a line has ``<<...>>`` with something inside.

    Args:
      text: A completion.

    Returns:
      The verdict.

    >>> has_title("<<Poem of joy>>"), has_title("<<>>")
    (True, False)
    """
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def is_json(text: str) -> bool:
    """``detectable_format:json_format``: JSON, alone or in one Markdown fence.

    Args:
      text: A completion.

    Returns:
      The verdict. JSON nested too deep to be read, or with a number of thousands of digits, is
      none.

    >>> is_json('```json [1] ```'), is_json("Here: [1]")
    (True, False)
    """
    value = text.strip()
    for fence in _FENCES:
        value = value.removeprefix(fence)
    try:
        json.loads(value.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """``length_constraints:number_paragraphs``: exactly so many parts between ``***``.

    An empty first or last part does not count, an empty one between two others is a failure.

    Args:
      text: A completion.
      num_paragraphs: The number.

    Returns:
      The verdict.

    >>> has_paragraphs("one *** two ***", num_paragraphs=2)
    True
    """
    filled = [bool(part.strip()) for part in text.split("***")]
    return all(filled[1:-1]) and sum(filled) == num_paragraphs


def paragraph_starts_with(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """``length_constraints:nth_paragraph_first_word``: so many paragraphs, and how one starts.

    Paragraphs stand between two line feeds. Empty ones are not counted, and yet they take a place
    when the n-th one is looked up: so has the original it.

    Args:
      text: A completion.
      num_paragraphs: The exact number of paragraphs with text.
      nth_paragraph: Which one, from 1.
      first_word: What it starts with, in any case, up to a punctuation mark.

    Returns:
      The verdict.

    >>> text = "One." + 2 * chr(10) + "'Two', they said."
    >>> paragraph_starts_with(text, num_paragraphs=2, nth_paragraph=2, first_word="two")
    True
    """
    paragraphs = text.split("\n\n")
    if sum(bool(paragraph.strip()) for paragraph in paragraphs) != num_paragraphs:
        return False
    if nth_paragraph > num_paragraphs:
        return False
    words = paragraphs[nth_paragraph - 1].split(maxsplit=1)
    if not words:
        return False
    word = words[0].lstrip("'").lstrip('"')
    return _WORD_END.split(word, maxsplit=1)[0].lower() == first_word.lower()
