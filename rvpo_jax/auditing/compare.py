"""Two logs side by side: did the second neglect less than the first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..basics.refusals import Refusal
from .estimates import Estimate, difference, from_plain, weighted_sum
from .phrases import names as listed
from .phrases import share_text
from .slices import MIN_COVERED


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison part of a report.

    Pass rates are those of the last third of the steps where both logs have steps. The logs count
    as independent; where both saw the same prompts the intervals are therefore too wide, not too
    narrow.

    Args:
      a: report of the first log.
      b: report of the second log.

    Returns:
      Rows of quantities with estimates and their difference b - a, and a headline.

    Raises:
      ValueError: if the two have no channel in common.
    """
    names = _shared_channels(a, b)
    late = bool(a["neglect"]) and bool(b["neglect"])
    label = "pass rate, last third" if late else "pass rate"
    rates = {name: (_pass_rate(a, name, late), _pass_rate(b, name, late)) for name in names}
    raw = [_row(label, name, *pair, better=1) for name, pair in rates.items()]
    mixed = _rows_at_one_mix(a, b, label, late)
    rows = [*raw, *mixed]
    rows.append(
        _row("all channels met", None, a["joint_pass_rate"], b["joint_pass_rate"], better=1)
    )
    for name in names:
        pair = (_quiet(a, name), _quiet(b, name))
        rows.append(_row("quiet failures, rule in use", name, *pair, better=-1))
    for name in names:
        rows.append(
            _row("groups in which all fail", name, _dead(a, name), _dead(b, name), better=-1)
        )
    known = [(va, vb) for va, vb in rates.values() if None not in (va["value"], vb["value"])]
    worst = None
    if known:
        worst_a, worst_b = (min((p[i] for p in known), key=lambda e: e["value"]) for i in (0, 1))
        worst = _row(f"worst channel, {label}", None, worst_a, worst_b, better=1)
        rows.insert(0, worst)
    headline = _headline(a, b, worst) + _paradox(raw, mixed, a["sliced_by"])
    return {"a": a["title"], "b": b["title"], "rows": rows, "headline": headline}


def _shared_channels(a: Mapping, b: Mapping) -> list[str]:
    theirs = [[channel["name"] for channel in report["channels"]] for report in (a, b)]
    names = [name for name in theirs[0] if name in theirs[1]]
    if not names:
        raise Refusal(
            f"two logs must share a channel to be compared; {a['title']} has "
            f"{', '.join(theirs[0])} and {b['title']} has {', '.join(theirs[1])}.",
            "Name the rewards of each alike.",
        )
    return names


def _rows_at_one_mix(a: Mapping, b: Mapping, label: str, late: bool) -> list[dict[str, Any]]:
    """Pass rates as they would be if both logs held as much of every slice."""
    if not a["slices"] or a["sliced_by"] != b["sliced_by"]:
        return []
    part = "last" if late else "pass_rate"
    rows = []
    for name in dict.fromkeys(row["channel"] for row in a["slices"]):
        sides = [
            {
                row["slice"]: row
                for row in report["slices"]
                if row["channel"] == name and row[part] and row[part]["value"] is not None
            }
            for report in (a, b)
        ]
        shared = [where for where in sides[0] if where in sides[1]]
        totals = [sum(row["scored"] for row in side.values()) for side in sides]
        shares = [
            sum(side[where]["scored"] / total for side, total in zip(sides, totals, strict=True))
            for where in shared
        ]
        # Of what either log holds in slices that the other one lacks nothing can be said.
        if len(shared) < 2 or sum(shares) < 2 * MIN_COVERED:
            continue
        weights = [share / sum(shares) for share in shares]
        pair = (
            weighted_sum([from_plain(side[where][part]) for where in shared], weights).plain()
            for side in sides
        )
        rows.append(_row(f"{label}, at one mix of {a['sliced_by']}", name, *pair, better=1))
    return rows


def _paradox(raw: Sequence[Mapping], mixed: Sequence[Mapping], column: str | None) -> str:
    """That a difference turns round at one mix of slices, where it does."""
    readings = {row["channel"]: row["reading"] for row in raw}
    turned = [
        row["channel"]
        for row in mixed
        if {row["reading"], readings[row["channel"]]} == {"b is better", "b is worse"}
    ]
    if not turned:
        return ""
    verb = "is" if len(turned) == 1 else "are"
    return (
        f" Simpson's paradox: at one mix of {column}, {listed(turned)} {verb} the other way round."
    )


def _pass_rate(report: Mapping, name: str, late: bool) -> Mapping[str, Any]:
    if late:
        return next(row["last"] for row in report["neglect"] if row["channel"] == name)
    return next(row["pass_rate"] for row in report["channels"] if row["name"] == name)


def _quiet(report: Mapping, name: str) -> Mapping[str, Any]:
    rule = report["rule_in_use"]
    rows = report["quiet_failures"]
    return next(r["rate"] for r in rows if r["channel"] == name and r["rule"] == rule)


def _dead(report: Mapping, name: str) -> Mapping[str, Any]:
    return next(row["dead_fail_share"] for row in report["dead"] if row["channel"] == name)


def _row(
    quantity: str, channel: str | None, a: Mapping, b: Mapping, *, better: int
) -> dict[str, Any]:
    change = difference(from_plain(a), from_plain(b))
    return {
        "quantity": quantity,
        "channel": channel,
        "a": dict(a),
        "b": dict(b),
        "difference": change.plain(),
        "reading": _reading(change, better),
    }


def _reading(change: Estimate, better: int) -> str:
    if not math.isfinite(change.low):
        return "unknown"
    if change.low <= 0 <= change.high:
        return "no clear difference"
    return "b is better" if change.value * better > 0 else "b is worse"


def _headline(a: Mapping, b: Mapping, worst: Mapping | None) -> str:
    if worst is None:
        return "The two logs share no scored channel."
    say = {
        "b is better": f"{b['title']} neglects less than {a['title']}",
        "b is worse": f"{b['title']} neglects more than {a['title']}",
    }.get(worst["reading"], f"No clear difference in neglect between {a['title']} and {b['title']}")
    rates = f"{share_text(worst['b'])} against {share_text(worst['a'])}"
    return f"{say}: the worst channel's pass rate is {rates}."
