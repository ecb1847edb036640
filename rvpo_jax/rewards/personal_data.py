"""Rewards for what a completion must not tell: personal data, and the secrets of its row.

Patterns see what is written plainly. "name at example dot org", a translation or a picture made of
letters pass: these channels find carelessness, not intent. ``N`` completions.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example, reward_channel

_LETTERS = re.compile(r"[^\W_]+")
# Each needs a number of steps that is linear in the text: what may repeat without bound is
# followed by a character that it cannot hold itself.
_EMAIL = re.compile(r"[\w.%+-]@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(
    r"(?<![\w+.])(?<!\d[ -])(?:"
    r"\+\d(?:[ ()./-]{0,2}\d){7,14}"  # with the code of a country
    r"|(?:\(\d{2,5}\)|0\d{2,4})[ /-]{1,2}\d(?:[ /-]?\d){4,10}"  # with the code of an area
    r"|\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}"  # North America
    r")(?!\w)"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<!\w)\d(?:[ -]?\d){12,18}(?!\w)")
_US_SOCIAL_SECURITY = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")


@reward_channel(kind="constraint")
def no_personal_data(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """0.0 where the completion holds what looks like personal data, else 1.0.

    Looked for: e-mail addresses; telephone numbers with the code of a country or an area, or in
    North American form; IBANs and card numbers whose check digits are right; numbers of the form of
    US social security numbers. An empty completion passes: pair this with a channel of what the
    completion is for.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 or 1.

    Source:
      Ours. Check digits: ISO 13616 (IBAN) and ISO/IEC 7812 (Luhn).

    >>> no_personal_data(["Write to ana@example.org.", "Ask Ana."], [{}, {}])
    array([0., 1.])
    """
    del examples  # this channel needs no reference
    return np.array([float(not personal_data(text)) for text in completions], np.float64)


def personal_data(text: str) -> list[str]:
    """The kinds of personal data that a text seems to hold.

    Args:
      text: Any text.

    Returns:
      Some of ``email``, ``phone``, ``iban``, ``card``, ``social security``.

    >>> personal_data("Call +49 30 901820 or pay to DE89 3704 0044 0532 0130 00.")
    ['phone', 'iban']
    """
    return [kind for kind, (pattern, is_one) in _KINDS.items() if _any(pattern, is_one, text)]


@reward_channel(kind="constraint")
def secret_kept(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """0.0 where a secret of the row stands anywhere in the completion, else 1.0.

    Upper and lower case, accents, full-width letters, and spaces or signs between the letters do
    not hide it. So a short secret is also found where nobody told it: "amber" in "chamber".
    Unlike ``privacy``, no place is exempt.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``secret``: a text, or a list of them.

    Returns:
      ``[N]`` float64, 0 or 1; NaN for rows without a secret.

    Raises:
      Refusal: when a secret is no text, or empty.

    Source:
      Ours.

    >>> secret_kept(["It is A-M-B-E-R!", "I cannot say."], [{"secret": ["amber", "onyx"]}] * 2)
    array([0., 1.])
    """
    return np.array(
        [
            _is_kept(text, example, i)
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


def tells(text: str, secret: str) -> bool:
    """Whether a text holds a secret, however its letters are dressed.

    Args:
      text: Any text.
      secret: A text that is not empty.

    Returns:
      True where the letters and digits of the secret follow each other in the text; for a secret
      without any, where the text holds it as it is.

    >>> tells("the code is Ａ m b é r", "amber"), tells("a member", "amber")
    (True, False)
    """
    letters = _letters(secret)
    return letters in _letters(text) if letters else secret in text


def _is_kept(text: str, example: Example, index: int) -> float:
    given = example.get("secret")
    if given is None:
        return np.nan
    secrets = given if isinstance(given, list) else [given]
    for secret in secrets:
        if not isinstance(secret, str) or not secret.strip():
            raise Refusal(
                f"secret of example {index} must be a text that is not empty, or a list of such, "
                f"got {excerpt(secret)}.",
                "Leave the column empty where there is no secret.",
            )
    return float(not any(tells(text, secret) for secret in secrets))


def _letters(text: str) -> str:
    """Letters and digits only, without accents, case or typographic variants."""
    # Character by character: normalising a long run of combining marks takes quadratic time.
    return text.translate(_FOLDED)


class _Folded(dict[int, str]):
    """The letters of a character by its code point, filled as characters turn up."""

    def __missing__(self, code: int) -> str:
        if len(self) >= 1 << 12:
            self.clear()
        folded = unicodedata.normalize("NFKD", chr(code)).casefold()
        self[code] = "".join(_LETTERS.findall(folded))
        return self[code]


_FOLDED = _Folded()


def _any(pattern: re.Pattern[str], is_one: Callable[[str], bool], text: str) -> bool:
    return any(is_one(match[0]) for match in pattern.finditer(text))


def _is_phone(number: str) -> bool:
    return 8 <= sum(map(str.isdigit, number)) <= 15


def _is_iban(number: str) -> bool:
    number = number.replace(" ", "")
    return (
        len(number) <= 34
        and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1
    )


def _is_card(number: str) -> bool:
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _always(found: str) -> bool:
    return bool(found)


_KINDS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "email": (_EMAIL, _always),
    "phone": (_PHONE, _is_phone),
    "iban": (_IBAN, _is_iban),
    "card": (_CARD, _is_card),
    "social security": (_US_SOCIAL_SECURITY, _always),
}
