"""Which channels a report shows first: those with an alarm, else the one its sentence is about."""

from collections.abc import Mapping, Sequence
from typing import Any

MAX_FOCUS = 3


def focus_channels(report: Mapping[str, Any], judged: Sequence[str]) -> list[dict[str, str]]:
    """The channels that a busy person should look at, the most urgent one first.

    Args:
      report: its tables, and the ``alarms`` of its findings.
      judged: names of the channels whose failure counts as one.

    Returns:
      At most ``MAX_FOCUS`` of ``channel`` and ``why``: paid, dead_fail, fall, oscillation, or
      closest (to being paid, without an alarm). Empty where no channel fails.
    """
    urgency = _urgency(report)
    # Those of a slice come last; they are named after the test and the slice.
    alarms = sorted(
        ((alarm["test"].partition(" in ")[0], alarm["channel"]) for alarm in report["alarms"]),
        key=lambda a: urgency[a],
    )
    found = {channel: why for why, channel in reversed(alarms)}
    ordered = list(dict.fromkeys(channel for _, channel in alarms))
    for swing in report["bottleneck"]["reversals"][:1] if not ordered else ():
        found = dict.fromkeys(swing["channels"], "oscillation")
        ordered = list(found)
    if not ordered:
        gaps = {
            row["channel"]: row["gap"]["value"]
            for row in report["quiet_failures"]
            if row["rule"] == report["rule_in_use"] and row["channel"] in judged
            if row["gap"]["value"] is not None
        }
        ordered = [max(gaps, key=lambda name: gaps[name])] if gaps else []
        found = dict.fromkeys(ordered, "closest")
    return [{"channel": name, "why": found[name]} for name in ordered[:MAX_FOCUS]]


def _urgency(report: Mapping[str, Any]) -> dict[tuple[str, str], tuple[int, float]]:
    """A place for every test of every channel, in the order of the sentences; worst first."""
    places = {}
    for row in report["quiet_failures"]:
        if row["rule"] == report["rule_in_use"]:
            places["paid", row["channel"]] = (0, -(row["gap"]["value"] or 0.0))
    for row in report["dead"]:
        places["dead_fail", row["channel"]] = (1, -(row["dead_fail_share"]["value"] or 0.0))
    for row in report["neglect"]:
        places["fall", row["channel"]] = (2, row["change"]["value"] or 0.0)
    return places
