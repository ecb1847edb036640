r"""IFEval's instructions about words, letters and commas.

Each function judges one text, in time linear in its length: keywords are plain texts, so what a
row asks for cannot become a slow regular expression.
"""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def compare(count: int, relation: str, threshold: int) -> bool:
    """Whether a count stands in IFEval's relation to a threshold.

    Args:
      count: What was counted.
      relation: ``at least`` or ``less than``.
      threshold: The number that the prompt names.

    Returns:
      True where it does.

    >>> compare(3, "at least", 3), compare(3, "less than", 3)
    (True, False)
    """
    return count < threshold if relation == "less than" else count >= threshold


def has_keywords(text: str, *, keywords: Sequence[str]) -> bool:
    """``keywords:existence``: every keyword stands somewhere in the text, in any case.

    Also inside a longer word. The original reads a keyword as a regular expression; none of
    IFEval's has a character that would matter.

    Args:
      text: A completion.
      keywords: Plain texts.

    Returns:
      The verdict.

    >>> has_keywords("Unrelated STORIES", keywords=["related", "stories"])
    True
    """
    folded = text.casefold()
    return all(keyword.casefold() in folded for keyword in keywords)


def repeats_keyword(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """``keywords:frequency``: how often a keyword stands in the text, in any case.

    Occurrences do not overlap; those inside a longer word count.

    Args:
      text: A completion.
      keyword: A plain text; white space around it does not count.
      frequency: The threshold.
      relation: ``at least`` or ``less than``.

    Returns:
      The verdict.

    >>> repeats_keyword("Tea, teapot", keyword="tea", frequency=2, relation="at least")
    True
    """
    return compare(text.casefold().count(keyword.strip().casefold()), relation, frequency)


def avoids_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """``keywords:forbidden_words``: none of the words stands in the text as a whole word.

    Args:
      text: A completion.
      forbidden_words: Plain texts, in any case.

    Returns:
      The verdict.

    >>> avoids_words("A rocky road", forbidden_words=["rock"])
    True
    """
    folded = text.casefold()
    return not any(_has_whole(word.casefold(), folded) for word in forbidden_words)


def repeats_letter(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """``keywords:letter_frequency``: how often a letter stands in the text, in either case.

    Four of IFEval's prompts ask for a sign such as ``#``: it is counted, where older versions of
    the original draw a random letter instead.

    Args:
      text: A completion.
      letter: One character.
      let_frequency: The threshold.
      let_relation: ``at least`` or ``less than``.

    Returns:
      The verdict.

    >>> repeats_letter("Banana", letter="A", let_frequency=4, let_relation="less than")
    True
    """
    return compare(text.lower().count(letter.lower()), let_relation, let_frequency)


def has_words(text: str, *, num_words: int, relation: str) -> bool:
    """``length_constraints:number_words``: runs of letters, digits and underscores.

    Args:
      text: A completion.
      num_words: The threshold.
      relation: ``at least`` or ``less than``.

    Returns:
      The verdict.

    >>> has_words("don't", num_words=2, relation="at least")
    True
    """
    return compare(len(_WORD.findall(text)), relation, num_words)


def has_no_comma(text: str) -> bool:
    """``punctuation:no_comma``: no comma anywhere.

    Args:
      text: A completion.

    Returns:
      The verdict.

    >>> has_no_comma("One; two")
    True
    """
    return "," not in text


def _has_whole(word: str, text: str) -> bool:
    """The original's two ``\\b``, but for words that begin or end with a sign, such as C++."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
