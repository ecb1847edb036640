"""The rules that an audit compares: how several rewards become one advantage.

What a rule is called, its color and what it computes stand in its record: those of ``formulas``,
and of the further ones that a caller brings along.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..basics.bounds import Bound
from ..basics.channel import lacking
from ..basics.refusals import Refusal
from .formulas import FORMULAS, Formula
from .read.log import RewardLog, listing, shown

LOGGED = "logged"
LOGGED_COLOR = "#888888"
Further = Callable[[], Mapping[str, Formula]]
"""Loads the records of rules that are not in ``FORMULAS``, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule; without a formula it is whatever the trainer logged."""

    name: str
    label: str
    color: str = LOGGED_COLOR
    method: str | None = None
    risk_coef: float | None = None
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """All numbers that it was given, k among them."""
    formula: Formula | None = None

    @property
    def whitened(self) -> bool:
        """Whether it is standardised over the rollout batch."""
        return self.formula is None or self.formula.whitened

    def plain(self) -> dict[str, Any]:
        """The rule as the report has it."""
        return {
            "name": self.name,
            "label": self.label,
            "color": self.color,
            "method": self.method,
            "risk_coef": "inf" if self.risk_coef == math.inf else self.risk_coef,
            "whitened": self.whitened,
        }


_NAME = re.compile(r"(?P<method>[^:]+)(:(?P<numbers>.+))?")


def parse_rule(text: str, further: Further | None = None) -> Rule:
    """A rule from its name on the command line.

    Args:
      text: the name of a method, with ``:NAME=NUMBER,...`` after one that takes numbers, such as
        ``rvpo:k=2``, ``variance:k=2`` (the explicit penalty with beta = k/2) or ``cvar:tail=0.3``;
        without it, k is 1 and other numbers are their defaults.
      further: asked for any name that is not in ``FORMULAS``.

    Returns:
      The rule.

    Raises:
      ValueError: on anything else.

    >>> parse_rule("rvpo:k=2").label
    'soft minimum, k = 2'
    """
    found = _NAME.fullmatch(text)
    method = found["method"] if found else ""
    known = FORMULAS
    if method not in known and further is not None:
        known = {**known, **further()}
    formula = known.get(method)
    if found is None or formula is None:
        raise _unknown(text, known, further)
    bounds = dict(formula.options)
    if formula.takes_k:
        largest = None if math.isinf(formula.largest_k) else formula.largest_k
        bounds["k"] = Bound(ge=0, le=largest, finite=False)
    given = _given_numbers(text, found["numbers"] or "", bounds)
    settings = ({"k": 1.0} if formula.takes_k else {}) | given
    shown_numbers = ",".join(f"{name}={number:g}" for name, number in settings.items())
    spelled = "".join(f", {name} = {number:g}" for name, number in settings.items())
    return Rule(
        name=f"{method}:{shown_numbers}" if settings else method,
        label=formula.label + spelled,
        color=formula.color,
        method=method,
        risk_coef=settings.get("k"),
        settings=settings,
        formula=formula,
    )


def _given_numbers(text: str, numbers: str, bounds: Mapping[str, Bound]) -> dict[str, float]:
    """What stands after the colon of a rule, checked."""
    method, given = text.partition(":")[0], {}
    for part in filter(None, numbers.split(",")):
        name, _, number = (piece.strip() for piece in part.partition("="))
        given[name] = _number(number)
        if name not in bounds:
            raise Refusal(
                f"a rule must be a name and the numbers that it takes, got {shown(part)} in "
                f"{shown(text)}.",
                f"{method} takes these: {', '.join(bounds) or 'none'}.",
            )
        broken = bounds[name].broken_by(given[name])
        if broken:
            raise Refusal(
                f"a rule must be a name and the numbers that it takes: {name} of {method} "
                f"{broken}, got {shown(number)}.",
                "For example rvpo:k=2.",
            )
    return given


def base_rules(risk_coef: float, has_logged: bool) -> tuple[Rule, ...]:
    """The rules of every audit: as logged, sum, mean, soft minimum, minimum.

    Args:
      risk_coef: k of the soft minimum, 1/score.
      has_logged: whether the log holds the trainer's own advantages.

    Returns:
      Four or five rules; the first is the one in use: as logged, else the sum, which is what
      trainers compute unless told otherwise.
    """
    logged = (Rule(name=LOGGED, label="as logged"),) if has_logged else ()
    names = ("grpo", "gdpo", f"rvpo:k={risk_coef:g}", "hard_min")
    return (*logged, *(parse_rule(name) for name in names))


def check_rules(rules: Sequence[Rule], log: RewardLog) -> None:
    """Raises where a log does not say what a rule needs to know.

    Args:
      rules: that the log is to be replayed under.
      log: the log.

    Raises:
      ValueError: naming the first such rule, what is missing and how to give it.
    """
    for rule in rules:
        if rule.formula is None:
            continue
        needs = rule.formula.needs
        unknown = sorted(log.observed_range)
        if needs == "ranges" and unknown:
            raise Refusal(
                f"{rule.method} needs the range of every channel, got none of {listing(unknown)}.",
                f"Give it with --range {shown(unknown[0])}=LOW,HIGH: what its values can be, not "
                "what they are.",
            )
        lack = lacking(needs, log.channels)
        if lack is not None:
            how = "--constraint NAME" if needs == "constraints" else "--target NAME=VALUE"
            raise Refusal(f"{rule.method} needs {lack}.", f"Say so with {how}.")
        if rule.formula.remembers and log.step is None:
            raise Refusal(
                f"{rule.method} remembers earlier steps, got a log without steps.",
                "Name the column with --step.",
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which is in no range


def _unknown(text: str, known: Mapping[str, Formula], further: Further | None) -> Refusal:
    with_k = [name for name, formula in known.items() if formula.takes_k]
    return Refusal(
        f"a rule must be one of {', '.join(known)}, with :k=NUMBER after {' or '.join(with_k)}, "
        f"got {text!r}.",
        "For example rvpo:k=2."
        if further
        else "For example rvpo:k=2. Further rules need the package rvpo-jax: its rvpo audit and "
        "rvpo_jax.audit know them.",
    )
