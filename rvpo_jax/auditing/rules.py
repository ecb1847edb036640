"""The rules that an audit compares: how several rewards become one advantage.

What a rule is called, its color and what it reads stand in its record in ``METHODS``. That table
is looked at when a rule is made, not when this module is imported: it needs JAX.
"""

import dataclasses
import math
import re
from typing import Any

from ..basics.refusals import Refusal
from ..config import AdvantageConfig

LOGGED = "logged"
LOGGED_COLOR = "#888888"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule; without a method it is whatever the trainer logged."""

    name: str
    label: str
    color: str = LOGGED_COLOR
    method: Any = None
    """Name of a method, or a function as ``AdvantageConfig.method`` takes it."""
    risk_coef: float | None = None
    whitened: bool = True
    """Whether it is standardised over the rollout batch: all but GRPO's sum are."""
    by_group: bool = True
    """Whether no completion of another group matters to its aggregate."""

    def config(self, *, whiten: bool = False) -> AdvantageConfig:
        """The rule for ``compute_advantages``.

        Args:
          whiten: as in training; False: before whitening.

        Returns:
          The config.

        Raises:
          ValueError: if the rule is the logged one, which nobody can recompute.
        """
        if self.method is None:
            raise Refusal("the logged rule has no formula.", "Name another rule.")
        fields: dict[str, Any] = {"method": self.method, "whiten": "none"}
        if whiten and self.whitened:
            fields["whiten"] = "batch"
        coefficient = _coefficient(self.method)
        if coefficient is not None and self.risk_coef is not None:
            fields[coefficient] = self.risk_coef * _COEFFICIENTS[coefficient]
        return AdvantageConfig(**fields)


# The setting that ``k`` means, by what a method reads, in units of k: a variance penalty with
# beta = k/2 matches the soft minimum to second order.
_COEFFICIENTS = {"risk_coef": 1.0, "variance_coef": 0.5}
_NAME = re.compile(r"(?P<method>[^:]+)(:k=(?P<k>[0-9.eE+-]+|inf))?")


def parse_rule(text: str) -> Rule:
    """A rule from its name on the command line.

    Args:
      text: the name of a method, with ``:k=NUMBER`` after one that takes k, such as ``rvpo:k=2``
        or ``variance:k=2`` (the explicit penalty with beta = k/2); without it, k is 1.

    Returns:
      The rule.

    Raises:
      ValueError: on anything else.

    >>> parse_rule("rvpo:k=2").label
    'soft minimum, k = 2'
    """
    found = _NAME.fullmatch(text)
    method = found["method"] if found else ""
    if method not in _methods() or not found:
        raise _unknown(text)
    _check_replayable(method)
    record = _methods()[method]
    coefficient = _coefficient(method)
    fields: dict[str, Any] = {
        "method": method,
        "color": record.color,
        "whitened": not record.standardized,
        "by_group": record.pointwise or record.standardized,
    }
    if coefficient is None:
        if found["k"]:
            raise _unknown(text)
        return Rule(name=method, label=record.label, **fields)
    k = _number(found["k"] or "1", text, finite=coefficient != "risk_coef")
    label = f"{record.label}, k = {k:g}"
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


def _methods() -> dict[str, Any]:
    from ..method.aggregators import METHODS

    return METHODS


def _coefficient(method: Any) -> str | None:
    """The field of the config that k sets for a method; None: it takes no k."""
    record = _methods().get(method)  # none of a user's function
    return next((name for name in _COEFFICIENTS if record and name in record.reads), None)


def _obstacle(method: str) -> str | None:
    """Why a log cannot be replayed under a method; None where it can."""
    record = _methods()[method]
    if "levels" in record.reads:
        return "it needs the range of every channel, which a log does not hold"
    if hasattr(record.rule, "init"):
        return "it remembers earlier steps, and a log may hold any part of a run"
    return None


def _check_replayable(method: str) -> None:
    obstacle = _obstacle(method)
    if obstacle:
        raise Refusal(
            f"{method} cannot be replayed: {obstacle}.", "Name another rule, such as rvpo:k=1."
        )


def _number(text: str, rule: str, *, finite: bool) -> float:
    try:
        k = float(text)
    except ValueError:
        raise _unknown(rule) from None
    if not k >= 0 or (finite and not math.isfinite(k)):
        raise _unknown(rule)
    return k


def _unknown(text: str) -> Refusal:
    known = [name for name in _methods() if _obstacle(name) is None]
    with_k = [name for name in known if _coefficient(name)]
    return Refusal(
        f"a rule must be one of {', '.join(known)}, with :k=NUMBER after {' or '.join(with_k)}, "
        f"got {text!r}.",
        "For example rvpo:k=2.",
    )
