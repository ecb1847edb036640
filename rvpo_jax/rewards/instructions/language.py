"""IFEval's instructions about the language, judged by langdetect (extra ``rvpo-jax[ifeval]``).

langdetect draws at random; here always from the same seed, so that a text has one verdict. It reads
10,000 characters. A text without letters has no language and counts as following, as in the
original: a policy may find that hole.
"""

import functools
from typing import Any

LANGUAGES = frozenset(
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr "
    "ne nl no pa pl pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh-cn zh-tw".split()
)
"""The codes that langdetect may answer."""


def is_in_language(text: str, *, language: str) -> bool:
    """``language:response_language``: langdetect finds the language, or none at all.

    Args:
      text: A completion.
      language: One of ``LANGUAGES``.

    Returns:
      The verdict.
    """
    return _language_of(text) in (language, None)


def is_english_capital(text: str) -> bool:
    """``change_case:english_capital``: English, and no lower-case letter.

    Args:
      text: A completion.

    Returns:
      The verdict.
    """
    return text.isupper() and is_in_language(text, language="en")


def is_english_lowercase(text: str) -> bool:
    """``change_case:english_lowercase``: English, and no capital letter.

    Args:
      text: A completion.

    Returns:
      The verdict.
    """
    return text.islower() and is_in_language(text, language="en")


# Strict and loose verdicts and the share ask for the same texts, several milliseconds each.
@functools.lru_cache(maxsize=1 << 10)
def _language_of(text: str) -> str | None:
    from langdetect import LangDetectException

    detector = _factory().create()
    detector.append(text)
    try:
        return detector.detect()
    except LangDetectException:
        return None


@functools.cache
def _factory() -> Any:
    from langdetect import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()  # of our own: the seed of langdetect's stays as it is
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory
