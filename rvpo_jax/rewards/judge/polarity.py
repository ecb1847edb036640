"""Whether meeting a pitfall is good or bad, from its wording; and what was decided for a data set.

RaR's items with negative weight mean opposite things: ``should avoid X`` is met by a good answer,
``does not mention X`` by a bad one. A wrong sign trains the item backwards, and under a soft
minimum a backward channel is soon the worst one; so what the wording does not tell stays undecided,
and such an item is not asked.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rvpo_jax.basics.text import printable

# Words before the predicate, which do not matter.
_SUBJECT = frozenset(
    "the a an this that it its response responses answer answers explanation solution reply text "
    "output model student assistant author writer user final overall discussion analysis".split()
)
_NORMS = frozenset("should must ought shall needs".split())
_AUXILIARIES = frozenset("does do did is are was were has have had will would can could".split())
_NEGATIONS = frozenset("not never no".split())
_AVOIDS = ("avoid", "refrain", "abstain", "prevent", "steer", "eschew")
# The predicate names a failure: meeting it is bad; not meeting it ("does not confuse") is good.
_FAILS = (
    "fail", "neglect", "omit", "omission", "overlook", "ignor", "miss", "lack", "forget", "skip",
    "confus", "misinter", "misstat", "mistak", "mislead", "misus", "misattrib", "misapp", "misrep",
    "contradict", "conflat", "fabricat", "invent", "exaggerat", "oversimpl", "overcomplic",
    "overstat", "understat", "deviat", "violat", "hallucinat", "incorrect", "wrong", "false",
    "erroneous", "improper", "inaccura", "unnecessar", "assum",
)  # fmt: skip
# Not doing it is an omission: the answer lacks what it should have.
_WANTED = (
    "mention", "state", "identif", "explain", "includ", "address", "discuss", "describ", "recogni",
    "consider", "acknowledg", "clarif", "specif", "provid", "note", "emphasi", "highlight",
    "indicat", "account", "conclud", "distinguish", "differentiat", "justif", "cite", "defin",
    "demonstrat", "name", "list", "detail", "refer", "answer", "warn", "advis", "show", "offer",
    "connect", "link", "relate", "verif", "check", "cover", "convey", "correctly", "clearly",
    "explicitly", "adequately", "properly", "accurately",
)  # fmt: skip
_GOOD = ("distinguish", "clarif", "ensur", "differentiat", "acknowledg", "caution", "warn")
_STOP = frozenset("that this with from about into than then they them their should must".split())


class Decision(NamedTuple):
    """Whether meeting an item is good, and why; ``None`` where that is not known."""

    met_is_good: bool | None
    reason: str


UNDECIDED = Decision(None, "wording does not tell")


def decide(text: str, title: str = "", others: Sequence[str] = ()) -> Decision:
    """Reads a pitfall.

    By its predicate: what an answer should do or avoid is good; what it fails or omits to do, or an
    error that it makes, is bad. Where the predicate leaves it open (``does not suggest X``), its
    title decides, then whether an item with positive points of the same rubric is what it denies.

    Args:
      text: the description, without its category.
      title: RaR's title of the item.
      others: descriptions of the rubric's items with positive points.

    Returns:
      The decision.

    Source:
      Ours, from the phrasings that the data sets are known to have; tested on synthetic rows only.

    >>> decide("The response should avoid dividing time by distance.").met_is_good
    True
    >>> decide("Does not mention filling the oil cup.").met_is_good
    False
    """
    words = _words(text)
    while words and words[0] in _SUBJECT:
        words = words[1:]
    found = _by_predicate(words)
    if found is not UNDECIDED:
        return found
    found = _by_title(_words(title))
    if found is not UNDECIDED:
        return found
    if words[1:2] == ["not"] and any(_same_matter(text, other) for other in others):
        return Decision(False, "denies another item")
    return UNDECIDED


def _by_predicate(words: Sequence[str]) -> Decision:
    if not words:
        return UNDECIDED
    first = words[0]
    if first in _NORMS or first.startswith(_AVOIDS):
        return Decision(True, "says what to do or avoid")
    if first in _NEGATIONS or words[:2] == ["do", "not"]:
        return Decision(True, "says what not to do")
    if first in _AUXILIARIES and words[1:2] and words[1] in _NEGATIONS:
        return _of_negated([word for word in words[2:5] if word not in ("even", "also", "fully")])
    if first.startswith(_FAILS):
        return Decision(False, "names a failure")
    if first.startswith(_GOOD) or first in _AUXILIARIES:
        return UNDECIDED
    if first.endswith("s") and not first.endswith("ss"):
        return Decision(False, "says what a bad answer does")
    return UNDECIDED


def _of_negated(predicate: Sequence[str]) -> Decision:
    """Of ``does not``: the denial of a failure is good, that of something wanted bad."""
    for word in predicate[:2]:  # an adverb may stand before the verb
        if word.startswith(_FAILS):
            return Decision(True, "denies a failure")
        if word.startswith(_WANTED):
            return Decision(False, "names an omission")
        if not word.endswith("ly"):
            break
    return UNDECIDED


def _by_title(words: Sequence[str]) -> Decision:
    if words and (words[0].startswith(_AVOIDS) or words[0] in ("no", "not", "never")):
        return Decision(True, "its title says avoid")
    if any(word.startswith(_FAILS) for word in words):
        return Decision(False, "its title names a failure")
    return UNDECIDED


def _same_matter(text: str, other: str) -> bool:
    """Most of what a text is about is in the other, which forbids nothing itself."""
    others = _words(other)
    if _NEGATIONS & set(others) or any(word.startswith(("avoid", "warn")) for word in others):
        return False
    ours = {word[:5] for word in _words(text)[2:] if len(word) > 3 and word not in _STOP}
    theirs = {word[:5] for word in others}
    return bool(ours) and len(ours & theirs) >= 0.6 * len(ours)


def _words(text: str) -> list[str]:
    lowered = text[:400].lower().replace("\u2019", "'")
    expanded = lowered.replace("can't", "can not").replace("cannot", "can not")
    return re.findall(r"[a-z]+", expanded.replace("n't", " not"))


class PolarityReport(NamedTuple):
    """How often each decision was taken in a data set, with an example of each."""

    counts: dict[tuple[str, str], int]  # by (met is good / met is bad / left out, reason)
    examples: dict[tuple[str, str], str]

    def lines(self) -> list[str]:
        """A table for a reader, the most frequent decision first."""
        ranked = sorted(self.counts, key=lambda key: -self.counts[key])
        return [
            f"{self.counts[key]:>7}  {key[0]:<11}  {key[1]:<28}  {self.examples[key]}"
            for key in ranked
        ]


def tally(decided: Iterable[tuple[str, bool | None, str]]) -> PolarityReport:
    """Counts decisions.

    Args:
      decided: text, ``met_is_good`` and reason of each item.

    Returns:
      The report.

    >>> print(tally([("Avoids harm.", True, "says what to do or avoid")]).lines()[0])
          1  met is good  says what to do or avoid      Avoids harm.
    """
    counts: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], str] = {}
    words = {True: "met is good", False: "met is bad", None: "left out"}
    for text, met_is_good, reason in decided:
        key = (words[met_is_good], reason)
        counts[key] = counts.get(key, 0) + 1
        examples.setdefault(key, printable(text[:100], keep=""))
    return PolarityReport(counts, examples)
