"""What the arguments of an instruction must be: each rule says it in words and checks it."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rvpo_jax.rewards.instructions.language import LANGUAGES


class Argument(NamedTuple):
    """A rule for the value of one argument."""

    rule: str  # what it must be, to stand behind "must be"
    fits: Callable[[Any], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 0


def _are_texts(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return len(value) > 0 and all(_is_text(item) for item in value)


TEXT = Argument("a text with more than white space", _is_text)
TEXTS = Argument("a list of at least one text", _are_texts)
COUNT = Argument("a whole number >= 0", _is_count)
PLACE = Argument("a whole number >= 1", lambda value: _is_count(value) and value >= 1)
RELATION = Argument("'at least' or 'less than'", ("at least", "less than").__contains__)
LETTER = Argument("one character", lambda value: _is_text(value) and len(value) == 1)
LANGUAGE = Argument(
    f"a language code of langdetect ({', '.join(sorted(LANGUAGES))})",
    lambda value: isinstance(value, str) and value in LANGUAGES,
)
