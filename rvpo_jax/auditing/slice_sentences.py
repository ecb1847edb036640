"""The sentence on slices: what one of them shows and the whole log does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..basics.intervals import percent
from .alarms import About, Alarms
from .phrases import distance, names, plural, share_text

TESTS = ("paid", "dead_fail", "fall")
MAX_NAMED = 3


def slice_tests(report: Mapping[str, Any], judged: Sequence[str]) -> dict[About, Any]:
    """The p-values of all slices, as the tests of the whole log have them.

    Args:
      report: its tables.
      judged: names of the channels whose failure counts as one.

    Returns:
      By what they are about; None where a test has too little.
    """
    found: dict[About, Any] = {}
    for row in report["slices"]:
        channel, where = row["channel"], row["slice"]
        if channel in judged:
            found[About("paid", channel, where)] = row["p_paid"]
        found[About("dead_fail", channel, where)] = row["p_dead_fail"]
        if row["change"] is not None:
            fell = (row["change"]["value"] or 0.0) <= -0.02 or row["p_fall"] is None
            found[About("fall", channel, where)] = row["p_fall"] if fell else 1.0
    return found


def slice_sentences(report: Mapping[str, Any], alarms: Alarms) -> list[dict[str, str]]:
    """Alarms of a slice that the whole log does not raise, and Simpson's paradox.

    Args:
      report: its tables.
      alarms: whether a test rejects, by what it is about.

    Returns:
      One sentence, none without slices.
    """
    rows = report["slices"]
    if not rows:
        return []
    hidden = [
        (test, row)
        for row in rows
        for test in TESTS
        if alarms.get(About(test, row["channel"], row["slice"]))
        and not alarms.get(About(test, row["channel"]))
    ]
    texts = [_words(test, row) for test, row in hidden[:MAX_NAMED]]
    if len(hidden) > MAX_NAMED:
        texts[-1] += f", and {plural(len(hidden) - MAX_NAMED, 'more alarm')} of this kind"
    parts = [f"The whole log does not show that {names(texts)}."] if texts else []
    parts += [_paradox(report, found) for found in report["paradoxes"]]
    problem = any(test != "fall" or row["returns"] for test, row in hidden)
    level = "problem" if problem else "watch" if parts else "ok"
    text = " ".join(parts or [_spread(report, alarms)])
    return [{"topic": "Slices", "level": level, "text": text}]


def _words(test: str, row: Mapping[str, Any]) -> str:
    channel, where = row["channel"], row["slice"]
    if test == "paid":
        return (
            f"failing {channel} is paid in {where} (an advantage {distance(row['gap'])} than those "
            "that meet it)"
        )
    if test == "dead_fail":
        return f"whole groups fail {channel} in {where} ({share_text(row['dead_fail_share'])})"
    first, last = (percent(row[end]["value"], unit=" %") for end in ("first", "last"))
    return f"{channel} falls in {where} ({first} to {last})"


def _paradox(report: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    points = f"{100 * abs(found['within']['value']):.0f} points"
    falls = found["within"]["value"] < 0
    as_a_whole, within = ("rises", "falls") if falls else ("falls", "rises")
    return (
        f"Simpson's paradox: {found['channel']} {as_a_whole} as a whole "
        f"({100 * found['change']['value']:+.0f} points), but at a constant mix of "
        f"{report['sliced_by']} it {within} by {points}, in {found['agree']} of "
        f"{found['slices']} slices: the mix changed over the steps."
    )


def _spread(report: Mapping[str, Any], alarms: Alarms) -> str:
    """Where the slices differ most, in what the first sentences are about."""
    rows = report["slices"]
    paid = [about.channel for about, on in alarms.items() if about.test == "paid" and on]
    gaps = [row for row in rows if row["channel"] in paid and row["gap"]["value"] is not None]
    if gaps:
        worst = max(gaps, key=lambda row: row["gap"]["value"])
        own = [row for row in gaps if row["channel"] == worst["channel"]]
        least = min(own, key=lambda row: row["gap"]["value"])
        count = sum(row["gap"]["value"] > 0 for row in own)
        return (
            f"Failing {worst['channel']} is paid in {count} of {len(own)} slices of "
            f"{report['sliced_by']}: from {least['slice']} ({least['gap']['value']:+.2f}) to "
            f"{worst['slice']} ({worst['gap']['value']:+.2f})."
        )
    rates = {
        channel: [row for row in own if row["pass_rate"]["value"] is not None]
        for channel in dict.fromkeys(row["channel"] for row in rows)
        for own in [[row for row in rows if row["channel"] == channel]]
    }
    ends = [(min(own, key=_rate), max(own, key=_rate)) for own in rates.values() if len(own) > 1]
    if not ends:
        return f"No channel was scored in two slices of {report['sliced_by']}."
    low, high = max(ends, key=lambda pair: _rate(pair[1]) - _rate(pair[0]))
    parts = names([f"{percent(_rate(row), unit=' %')} of {row['slice']}" for row in (low, high)])
    return (
        f"No slice of {report['sliced_by']} raises an alarm that the whole log does not; they "
        f"differ most in {low['channel']}: {parts} meet it."
    )


def _rate(row: Mapping[str, Any]) -> float:
    return row["pass_rate"]["value"]
