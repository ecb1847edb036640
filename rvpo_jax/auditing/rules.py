"""The rules that an audit compares: how several rewards become one advantage.

What a rule is called, its color and what it computes stand in its record: those of ``formulas``,
and of the further ones that a caller brings along.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..basics.refusals import Refusal
from .formulas import FORMULAS, Formula
from .read.log import listing, shown

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


_NAME = re.compile(r"(?P<method>[^:]+)(:k=(?P<k>[0-9.eE+-]+|inf))?")


def parse_rule(text: str, further: Further | None = None) -> Rule:
    """A rule from its name on the command line.

    Args:
      text: the name of a method, with ``:k=NUMBER`` after one that takes k, such as ``rvpo:k=2``
        or ``variance:k=2`` (the explicit penalty with beta = k/2); without it, k is 1.
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
    if formula.obstacle:
        raise Refusal(
            f"{method} cannot be replayed: {formula.obstacle}.",
            "Name another rule, such as rvpo:k=1.",
        )
    fields: dict[str, Any] = {"method": method, "color": formula.color, "formula": formula}
    if not formula.takes_k:
        if found["k"]:
            raise _unknown(text, known, further)
        return Rule(name=method, label=formula.label, **fields)
    k = _number(found["k"] or "1")
    if not 0 <= k <= formula.largest_k:
        raise _unknown(text, known, further)
    label = f"{formula.label}, k = {k:g}"
    return Rule(name=f"{method}:k={k:g}", label=label, risk_coef=k, **fields)


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


def check_ranges(rules: Sequence[Rule], unknown: Sequence[str]) -> None:
    """Raises where a rule needs ranges that nobody gave.

    Args:
      rules: that a log is to be replayed under.
      unknown: names of its channels of which nobody said what their values can be.

    Raises:
      ValueError: naming the first such rule and the channels.
    """
    for rule in rules:
        if rule.formula is not None and rule.formula.needs_ranges and unknown:
            raise Refusal(
                f"{rule.method} needs the range of every channel, got none of {listing(unknown)}.",
                f"Give it with --range {shown(unknown[0])}=LOW,HIGH: what its values can be, not "
                "what they are.",
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # which is in no range


def _unknown(text: str, known: Mapping[str, Formula], further: Further | None) -> Refusal:
    names = [name for name, formula in known.items() if formula.obstacle is None]
    with_k = [name for name in names if known[name].takes_k]
    return Refusal(
        f"a rule must be one of {', '.join(names)}, with :k=NUMBER after {' or '.join(with_k)}, "
        f"got {text!r}.",
        "For example rvpo:k=2."
        if further
        else "For example rvpo:k=2. Further rules need the package rvpo-jax: its rvpo audit and "
        "rvpo_jax.audit know them.",
    )
