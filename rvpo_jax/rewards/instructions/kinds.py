"""The 25 kinds of instruction of IFEval: how each is judged, what it takes and what it needs.

Source:
  IFEval, arXiv:2311.07911, and its code, google-research/instruction_following_eval (Apache-2.0).
"""

import functools
import importlib.util
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from rvpo_jax.rewards.instructions import ends, language, layout, sentences, words
from rvpo_jax.rewards.instructions.arguments import (
    COUNT,
    LANGUAGE,
    LETTER,
    PLACE,
    RELATION,
    TEXT,
    TEXTS,
    Argument,
)


class Kind(NamedTuple):
    """One kind of instruction."""

    check: Callable[..., bool]  # of a text and, by name, the arguments
    arguments: Mapping[str, Argument] = MappingProxyType({})  # all of them are required
    library: str | None = None  # the module that judges it, of the extra ifeval


KINDS: Mapping[str, Kind] = {
    "change_case:capital_word_frequency": Kind(
        sentences.has_capital_words,
        {"capital_frequency": COUNT, "capital_relation": RELATION},
        library="nltk",
    ),
    "change_case:english_capital": Kind(language.is_english_capital, library="langdetect"),
    "change_case:english_lowercase": Kind(language.is_english_lowercase, library="langdetect"),
    "combination:repeat_prompt": Kind(ends.repeats_prompt, {"prompt_to_repeat": TEXT}),
    "combination:two_responses": Kind(ends.has_two_responses),
    "detectable_content:number_placeholders": Kind(
        layout.has_placeholders, {"num_placeholders": COUNT}
    ),
    "detectable_content:postscript": Kind(layout.has_postscript, {"postscript_marker": TEXT}),
    "detectable_format:constrained_response": Kind(layout.has_constrained_answer),
    "detectable_format:json_format": Kind(layout.is_json),
    "detectable_format:multiple_sections": Kind(
        layout.has_sections, {"section_spliter": TEXT, "num_sections": COUNT}
    ),
    "detectable_format:number_bullet_lists": Kind(layout.has_bullets, {"num_bullets": COUNT}),
    "detectable_format:number_highlighted_sections": Kind(
        layout.has_highlights, {"num_highlights": COUNT}
    ),
    "detectable_format:title": Kind(layout.has_title),
    "keywords:existence": Kind(words.has_keywords, {"keywords": TEXTS}),
    "keywords:forbidden_words": Kind(words.avoids_words, {"forbidden_words": TEXTS}),
    "keywords:frequency": Kind(
        words.repeats_keyword, {"keyword": TEXT, "frequency": COUNT, "relation": RELATION}
    ),
    "keywords:letter_frequency": Kind(
        words.repeats_letter,
        {"letter": LETTER, "let_frequency": COUNT, "let_relation": RELATION},
    ),
    "language:response_language": Kind(
        language.is_in_language, {"language": LANGUAGE}, library="langdetect"
    ),
    "length_constraints:nth_paragraph_first_word": Kind(
        layout.paragraph_starts_with,
        {"num_paragraphs": PLACE, "nth_paragraph": PLACE, "first_word": TEXT},
    ),
    "length_constraints:number_paragraphs": Kind(layout.has_paragraphs, {"num_paragraphs": COUNT}),
    "length_constraints:number_sentences": Kind(
        sentences.has_sentences, {"num_sentences": COUNT, "relation": RELATION}, library="punkt"
    ),
    "length_constraints:number_words": Kind(
        words.has_words, {"num_words": COUNT, "relation": RELATION}
    ),
    "punctuation:no_comma": Kind(words.has_no_comma),
    "startend:end_checker": Kind(ends.ends_with, {"end_phrase": TEXT}),
    "startend:quotation": Kind(ends.is_quoted),
}
"""By the name that IFEval gives in ``instruction_id_list``."""


def why_not_scored(kind: str) -> str | None:
    """Why no text can be judged by a kind here, or None where it can.

    A kind is judged for all texts or for none: a missing library must not favour an answer.

    Args:
      kind: A key of ``KINDS``.

    Returns:
      The reason and what to do about it.

    >>> why_not_scored("punctuation:no_comma") is None
    True
    """
    library = KINDS[kind].library
    if library is None or _is_installed(library):
        return None
    return f"{kind} needs {library}: pip install 'rvpo-jax[ifeval]'"


@functools.cache
def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
