"""The rules that an audit compares: how several rewards become one advantage."""

import dataclasses
import math
import re

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method.aggregators import METHODS

LOGGED = "logged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule; without a method it is whatever the trainer logged."""

    name: str
    label: str
    method: str | None = None
    risk_coef: float | None = None

    def config(self) -> AdvantageConfig:
        """The rule for ``compute_advantages``, before whitening.

        Raises:
          ValueError: if the rule is the logged one, which nobody can recompute.
        """
        if self.method is None:
            raise ValueError("the logged rule has no formula.\n  Name another rule.")
        k = 1.0 if self.risk_coef is None else self.risk_coef
        if self.method == "variance":
            return AdvantageConfig(method=self.method, variance_coef=k / 2, whiten="none")
        return AdvantageConfig(method=self.method, risk_coef=k, whiten="none")

    @property
    def whitened(self) -> bool:
        """Whether the rule is standardised over the rollout batch: all but GRPO's sum are."""
        return self.method != "grpo"


_LABELS = {
    "grpo": "sum (GRPO)",
    "gdpo": "mean (GDPO)",
    "gdpo_sum": "sum of scores",
    "hard_min": "minimum",
}
# All but the rule that needs to know the range of every channel.
_REPLAYABLE = tuple(name for name in METHODS if name != "rvpo_level")
_NAME = re.compile(r"(?P<method>[a-z_]+)(:k=(?P<k>[0-9.eE+-]+|inf))?")


def parse_rule(text: str) -> Rule:
    """A rule from its name on the command line.

    Args:
      text: ``grpo``, ``gdpo``, ``gdpo_sum``, ``hard_min``, ``rvpo:k=2`` or ``variance:k=2`` (the
        explicit penalty with beta = k/2).

    Returns:
      The rule.

    Raises:
      ValueError: on anything else.

    >>> parse_rule("rvpo:k=2")
    Rule(name='rvpo:k=2', label='soft minimum, k = 2', method='rvpo', risk_coef=2.0)
    """
    found = _NAME.fullmatch(text)
    method = found["method"] if found else ""
    takes_k = method in ("rvpo", "variance")
    try:
        k = float(found["k"]) if found and found["k"] else None
    except ValueError:
        k = -1.0
    if method == "rvpo_level":
        raise ValueError(
            "rvpo_level cannot be replayed: it needs the range of every channel, which a log does "
            "not hold.\n  Name another rule, such as rvpo:k=1."
        )
    allowed = takes_k and k is not None and k >= 0 and (method == "rvpo" or math.isfinite(k))
    if method not in _REPLAYABLE or (k is not None and not allowed):
        raise ValueError(
            f"a rule must be one of {', '.join(_REPLAYABLE)}, with :k=NUMBER after rvpo or "
            f"variance, got {text!r}.\n  For example rvpo:k=2."
        )
    if not takes_k:
        return Rule(name=method, label=_LABELS[method], method=method)
    k = 1.0 if k is None else k
    kind = "soft minimum" if method == "rvpo" else "mean - variance"
    return Rule(name=f"{method}:k={k:g}", label=f"{kind}, k = {k:g}", method=method, risk_coef=k)


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
