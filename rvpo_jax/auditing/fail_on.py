"""Conditions for CI: ``quiet_failures[safety] > 0.02``."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..basics.refusals import Refusal

_CONDITION = re.compile(
    r"\s*(?P<quantity>[a-z_]+)\s*(?:\[(?P<inside>[^\]]*)\])?\s*(?P<sign><=|>=|<|>)\s*(?P<limit>\S+)\s*"
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _quiet(column: str) -> Callable[[Mapping, str, str], float | None]:
    def read(report: Mapping, channel: str, rule: str) -> float | None:
        return next(
            row[column]["value"]
            for row in report["quiet_failures"]
            if row["channel"] == channel and row["rule"] == rule
        )

    return read


def _row(table: str, column: str, key: str = "channel") -> Callable[[Mapping, str, str], Any]:
    def read(report: Mapping, channel: str, rule: str) -> float | None:
        rows = [row for row in report[table] if row[key] == channel]
        return rows[0][column]["value"] if rows else None

    return read


# Quantities of one channel; the first three also take a rule: quiet_failures[safety, grpo].
CHANNEL_QUANTITIES: dict[str, Callable[[Mapping, str, str], float | None]] = {
    "quiet_failures": _quiet("rate"),
    "quiet_failures_of_failures": _quiet("of_failures"),
    "failure_gap": _quiet("gap"),
    "pass_rate": _row("channels", "pass_rate", "name"),
    "dead_fail": _row("dead", "dead_fail_share"),
    "change": _row("neglect", "change"),
}
WHOLE_QUANTITIES: dict[str, Callable[[Mapping], float | None]] = {
    "joint_pass_rate": lambda report: report["joint_pass_rate"]["value"],
    "problems": lambda report: sum(s["level"] == "problem" for s in report["sentences"]),
}


def check_condition(condition: str, report: Mapping[str, Any]) -> str | None:
    """Whether a condition holds for a report.

    Args:
      condition: ``QUANTITY[CHANNEL] SIGN NUMBER``, ``QUANTITY[CHANNEL, RULE] SIGN NUMBER`` or
        ``QUANTITY SIGN NUMBER``; the rule is the one in use where none is named.
      report: of an audit.

    Returns:
      A sentence saying that it holds, with the value; None where it does not. A quantity that the
      log cannot give holds: a check in CI must not pass because nothing was measured.

    Raises:
      ValueError: on a condition that cannot be read, or names what is not there.
    """
    found = _CONDITION.fullmatch(condition)
    if not found:
        raise _unreadable(condition)
    try:
        limit = float(found["limit"])
    except ValueError:
        raise _unreadable(condition) from None
    value = _value(condition, found, report)
    if value is None:
        return f"{condition.strip()}: the log does not tell this quantity."
    if _SIGNS[found["sign"]](value, limit):
        return f"{condition.strip()}: it is {value:.4g}."
    return None


def _unreadable(condition: str) -> Refusal:
    names = ", ".join([*CHANNEL_QUANTITIES, *WHOLE_QUANTITIES])
    return Refusal(
        f"--fail-on must read like 'quiet_failures[safety] > 0.02', got {condition!r}.",
        f"Quantities: {names}; signs: {' '.join(_SIGNS)}.",
    )


def _value(condition: str, found: re.Match, report: Mapping[str, Any]) -> float | None:
    quantity, inside = found["quantity"], found["inside"]
    if quantity in WHOLE_QUANTITIES and inside is None:
        return WHOLE_QUANTITIES[quantity](report)
    if quantity not in CHANNEL_QUANTITIES or inside is None:
        raise _unreadable(condition)
    channels = [channel["name"] for channel in report["channels"]]
    rules = [rule["name"] for rule in report["rules"]]
    channel, rule = inside.strip(), report["rule_in_use"]
    if channel not in channels and "," in channel:
        channel, _, rule = (part.strip() for part in channel.rpartition(","))
    for kind, name, known in (("channel", channel, channels), ("rule", rule, rules)):
        if name not in known:
            raise Refusal(
                f"--fail-on {condition!r} names the {kind} {name!r}, which the log does not have.",
                f"It has: {', '.join(known)}.",
            )
    return CHANNEL_QUANTITIES[quantity](report, channel, rule)
