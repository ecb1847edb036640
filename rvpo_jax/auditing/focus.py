"""Which channels a report shows first: those with an alarm, else the one its sentence is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from .alarms import About

MAX_FOCUS = 3


def focus_channels(report: Mapping[str, Any], judged: Sequence[str]) -> list[dict[str, Any]]:
    """The channels that a busy person should look at, the most urgent one first.

    Args:
      report: its tables, and the ``alarms`` of its findings.
      judged: names of the channels whose failure counts as one.

    Returns:
      At most ``MAX_FOCUS`` of ``channel``, ``why`` (paid, dead_fail, fall, oscillation, or
      closest: to being paid, without an alarm) and ``slice`` (of which alone the alarm is; None:
      the whole log). Empty where no channel fails.
    """
    places = _places(report)
    alarms = sorted((About(**alarm) for alarm in report["alarms"]), key=lambda a: places[a])
    found = {about.channel: about for about in reversed(alarms)}
    ordered = list(dict.fromkeys(about.channel for about in alarms))
    for swing in report["bottleneck"]["reversals"][:1] if not ordered else ():
        found = {channel: About("oscillation", channel) for channel in swing["channels"]}
        ordered = list(found)
    if not ordered:
        gaps = {
            row["channel"]: row["gap"]["value"]
            for row in report["quiet_failures"]
            if row["rule"] == report["rule_in_use"] and row["channel"] in judged
            if row["gap"]["value"] is not None
        }
        ordered = [max(gaps, key=lambda name: gaps[name])] if gaps else []
        found = {channel: About("closest", channel) for channel in ordered}
    return [
        {"channel": name, "why": found[name].test, "slice": found[name].slice}
        for name in ordered[:MAX_FOCUS]
    ]


def _places(report: Mapping[str, Any]) -> dict[About, tuple[bool, int, float]]:
    """A place for every test, in the order of the sentences: slices last; worst first."""
    places = {}
    for row in report["quiet_failures"]:
        if row["rule"] == report["rule_in_use"]:
            places[About("paid", row["channel"])] = (False, 0, -(row["gap"]["value"] or 0.0))
    for row in report["dead"]:
        share = row["dead_fail_share"]["value"]
        places[About("dead_fail", row["channel"])] = (False, 1, -(share or 0.0))
    for row in report["neglect"]:
        places[About("fall", row["channel"])] = (False, 2, row["change"]["value"] or 0.0)
    for row in report["slices"]:
        channel, where = row["channel"], row["slice"]
        gap, share = row["gap"]["value"], row["dead_fail_share"]["value"]
        places[About("paid", channel, where)] = (True, 0, -(gap or 0.0))
        places[About("dead_fail", channel, where)] = (True, 1, -(share or 0.0))
        if row["change"] is not None:
            places[About("fall", channel, where)] = (True, 2, row["change"]["value"] or 0.0)
    return places
