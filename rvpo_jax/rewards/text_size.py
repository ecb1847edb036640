"""Rewards for how much a completion says: its length within bounds, and how little it repeats.

``N`` completions.
"""

import re
from collections.abc import Sequence

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example, reward_channel

BOUNDS: tuple[str, ...] = ("min_words", "max_words", "min_characters", "max_characters")
"""Columns that bound the length of a completion; a row has those that it needs."""
NGRAM_SIZE = 3
# Runs of letters and digits. Scripts without spaces, from U+2E80 on, count by character; a long
# run counts in pieces, so that gluing words together does not hide that they repeat.
_WORD = re.compile("[\u2e80-\U0003ffff]|[^\\W_\u2e80-\U0003ffff]{1,32}")


@reward_channel()
def length(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 for a completion within the bounds of its row; outside, how far it is from them.

    Below a least number m, n words or characters give n / m; above a greatest number m, m / n; the
    smallest of them counts. An empty completion scores 0.0: leaving it out never pays. Words stand
    between spaces, characters are code points without the spaces around the text.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with any of ``BOUNDS``, integers > 0.

    Returns:
      ``[N]`` float64, 0 to 1; NaN for rows without a bound.

    Raises:
      Refusal: when a bound is no positive integer, or a least number is above the greatest.

    Source:
      Ours.

    >>> length(["one two three", "one", ""], [{"min_words": 2, "max_words": 4}] * 3)
    array([1. , 0.5, 0. ])
    """
    return np.array(
        [
            _share_of_bounds(text.strip(), example, i)
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


@reward_channel(pass_at=0.9)
def repetition(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """Share of the completion's runs of three words that are different: 1.0 repeats nothing.

    Nine of ten pass: ordinary prose repeats a few. A text without a word scores 0.0.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 to 1.

    Source:
      The complement of the repetition penalty of Open-R1 (github.com/huggingface/open-r1,
      Apache-2.0).

    >>> repetition(["so it is", "no no no no no", "!"], [{}] * 3).round(2)
    array([1.  , 0.33, 0.  ])
    """
    del examples  # this channel needs no reference
    return np.array([distinct_ngrams(text, NGRAM_SIZE) for text in completions], np.float64)


def distinct_ngrams(text: str, size: int) -> float:
    """Share of a text's runs of ``size`` words that are different.

    Args:
      text: Any text. Upper and lower case are alike.
      size: Words in a run, at least 1.

    Returns:
      0 to 1; 1 for a text of fewer than ``size`` words, 0 for one without any.

    >>> distinct_ngrams("a b a b", 2)
    0.6666666666666666
    """
    words = _WORD.findall(text.casefold())
    if len(words) < size:
        return float(bool(words))
    runs = list(zip(*(words[start:] for start in range(size)), strict=False))
    return len(set(runs)) / len(runs)


def _share_of_bounds(text: str, example: Example, index: int) -> float:
    given = {name: example[name] for name in BOUNDS if example.get(name) is not None}
    if not given:
        return np.nan
    for name, bound in given.items():
        if type(bound) is not int or bound < 1:
            raise Refusal(
                f"{name} of example {index} must be an integer > 0, got {excerpt(bound)}.",
                "Leave the column out, or empty, where there is no bound.",
            )
    share = 1.0
    for unit, size in (("words", len(text.split())), ("characters", len(text))):
        least, most = given.get(f"min_{unit}", 1), given.get(f"max_{unit}", max(size, 1))
        if f"min_{unit}" in given and f"max_{unit}" in given and least > most:
            raise Refusal(
                f"min_{unit} of example {index} must be at most max_{unit}, "
                f"got {least} and {most}.",
                "No completion can lie between them.",
            )
        share = min(share, size / least, most / max(size, 1))
    return share
