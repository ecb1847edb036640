"""What an audit says in words, and when it raises an alarm.

An alarm ("problem") is the rejection of a statement such as "failing this channel is not paid" by
a test. All tests of a report together raise an alarm for a log without problems with probability
at most ``ERROR_RATE`` (Holm's correction over them).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rvpo_jax.auditing.estimates import holm
from rvpo_jax.auditing.tables import DEAD_FAIL_TOLERANCE
from rvpo_jax.auditing.trends import rising_and_falling
from rvpo_jax.basics.intervals import percent

ERROR_RATE = 0.01
# Kinds of notes that mean that data was lost or could not be used.
LOSSES = (
    "cut_line",
    "bad_line",
    "not_object",
    "long_line",
    "ragged_row",
    "unreadable_file",
    "cut_file",
    "not_numeric",
    "not_finite",
    "group_of_one",
    "absent_step",
)


def write_findings(report: Mapping[str, Any], judged: Sequence[str]) -> dict[str, Any]:
    """The verdict and the five sentences of a report.

    Args:
      report: its tables.
      judged: names of the channels whose failure counts as one.

    Returns:
      ``verdict``, ``sentences`` and ``error_rate``.
    """
    alarms = _alarms(report, judged)
    sentences = [
        _quiet(report, judged, alarms),
        _dead(report, alarms),
        _neglect(report, alarms),
        _bottleneck(report),
        _data(report),
    ]
    return {
        "verdict": _verdict(report, judged, sentences),
        "sentences": sentences,
        "error_rate": ERROR_RATE,
    }


def _alarms(report: Mapping[str, Any], judged: Sequence[str]) -> dict[tuple[str, str], bool]:
    """Which tests reject: by (test, channel)."""
    p_values: dict[tuple[str, str], Any] = {}
    for row in report["quiet_failures"]:
        if row["rule"] == report["rule_in_use"] and row["channel"] in judged:
            p_values["paid", row["channel"]] = row["p_value"]
    for row in report["dead"]:
        p_values["dead_fail", row["channel"]] = row["p_value"]
    for row in report["neglect"]:
        change = row["change"]["value"]
        small = change is None or change > -0.02  # a fall of less than 2 points is no neglect
        p_values["fall", row["channel"]] = (
            1.0 if small and row["p_fall"] is not None else row["p_fall"]
        )
    adjusted = holm({key: math.nan if p is None else p for key, p in p_values.items()})
    return {key: p < ERROR_RATE for key, p in adjusted.items()}


def _sentence(topic: str, level: str, text: str) -> dict[str, str]:
    return {"topic": topic, "level": level, "text": text}


def _quiet(report: Mapping, judged: Sequence[str], alarms: Mapping) -> dict[str, str]:
    topic = "Quiet failures"
    rows = [
        row
        for row in report["quiet_failures"]
        if row["rule"] == report["rule_in_use"] and row["channel"] in judged
    ]
    label = _label(report, report["rule_in_use"])
    paid = [row for row in rows if alarms.get(("paid", row["channel"]))]
    if paid:
        return _sentence(topic, "problem", _paid(report, paid))
    known = [row for row in rows if row["failures"] and row["of_failures"]["value"] is not None]
    if not known:
        return _sentence(
            topic, "ok", "No completion fails a channel that counts, so no failure is hidden."
        )
    most = max(known, key=lambda row: row["of_failures"]["value"])
    share = (
        f"{share_text(most['of_failures'])} of the {most['failures']:,} failures of "
        f"{most['channel']}"
    )
    if all(row["p_value"] is None for row in known):
        text = (
            f"Too few groups hold both failing and passing completions; {label} reinforces {share}."
        )
        return _sentence(topic, "unclear", text)
    if (most["of_failures"]["low"] or 0) > 0.5:
        text = (
            f"Failing is not paid on average, but {label} reinforces more than half of a "
            "channel's failures: "
            f"{share}{_other_rule(report, most['channel'])}."
        )
        return _sentence(topic, "watch", text)
    text = (
        f"Failing a channel is not paid ({label}); the failures that are most often reinforced are "
        f"those of {most['channel']}: {share}, {share_text(most['rate'])} of all completions."
    )
    return _sentence(topic, "ok", text)


def _paid(report: Mapping, rows: Sequence[Mapping]) -> str:
    """The sentence on channels whose failures are paid, the worst one first."""
    label = _label(report, report["rule_in_use"])
    worst = max(rows, key=lambda row: row["gap"]["value"])
    also = _names([row["channel"] for row in rows if row is not worst])
    return (
        f"Failing {worst['channel']} is paid ({label}): in the same group, completions that fail "
        f"it get an advantage {worst['gap']['value']:.2f} {_span(worst['gap'])} higher than those "
        f"that meet it, and {share_text(worst['of_failures'])} of its {worst['failures']:,} "
        "failures are reinforced"
        + _other_rule(report, worst["channel"])
        + (f"; the same holds for {also}." if also else ".")
    )


def _other_rule(report: Mapping, channel: str) -> str:
    """What the soft minimum would have done with the failures of a channel."""
    soft = next(rule["name"] for rule in report["rules"] if rule["method"] == "rvpo")
    for row in report["quiet_failures"]:
        if (
            row["channel"] == channel
            and row["rule"] == soft
            and row["of_failures"]["value"] is not None
        ):
            return f" ({_label(report, soft)}: {percent(row['of_failures']['value'])})"
    return ""


def _dead(report: Mapping, alarms: Mapping) -> dict[str, str]:
    topic = "Blind spots"
    blind = [row for row in report["dead"] if alarms.get(("dead_fail", row["channel"]))]
    present = [row for row in report["dead"] if row["groups"]]
    if blind:
        parts = [
            f"{row['channel']} in {share_text(row['dead_fail_share'])} of its "
            f"{row['groups']:,} groups"
            for row in sorted(blind, key=lambda row: -row["dead_fail_share"]["value"])
        ]
        text = (
            f"Every completion of the group fails {_names(parts)}: there the channel has no "
            "variance, and no "
            "group-relative rule, RVPO included, can see it. It needs easier prompts, partial "
            "credit or a gate."
        )
        return _sentence(topic, "problem", text)
    if not present:
        return _sentence(topic, "unclear", "No group was scored by any channel.")
    most = max(present, key=lambda row: row["dead_fail_share"]["value"])
    solved = [row["channel"] for row in present if row["dead_pass"] > 0.9 * row["groups"]]
    also = f" All completions meet {_names(solved)} in over 90 % of the groups." if solved else ""
    share = f"{most['channel']} with {share_text(most['dead_fail_share'])}"
    if most["dead_fail_share"]["value"] > DEAD_FAIL_TOLERANCE:
        blind_share = most["dead_fail_share"]
        text = (
            f"All completions of a group fail {most['channel']} in {share_text(blind_share)} of "
            "the groups, where no group-relative rule can see it; with "
            f"{blind_share['n']} prompts this is not beyond doubt.{also}"
        )
        return _sentence(topic, "watch", text)
    text = f"No channel is failed by whole groups in a fifth of them; the most is {share}.{also}"
    if all(row["p_value"] is None for row in present):
        return _sentence(topic, "unclear", f"Too few prompts for a test. {text}")
    return _sentence(topic, "ok", text)


def _neglect(report: Mapping, alarms: Mapping) -> dict[str, str]:
    topic = "Neglect"
    rows = report["neglect"]
    if not rows:
        return _sentence(
            topic, "unclear", "The log has no steps, so what rises and what falls cannot be told."
        )
    if all(row["p_fall"] is None for row in rows):
        return _sentence(
            topic, "unclear", "Too few steps to tell a trend from noise (six are needed)."
        )
    falling = [row for row in rows if alarms.get(("fall", row["channel"]))]
    rising, _ = rising_and_falling(rows, ERROR_RATE)
    up = [_move(row) for row in rows if row["channel"] in rising]
    if falling:
        down = _names([_move(row) for row in falling])
        verb = "falls" if len(falling) == 1 else "fall"
        while_text = f" while {_names(up)} rise{'s' if len(up) == 1 else ''}" if up else ""
        text = f"{down} {verb}{while_text} (first to last third of the steps)."
        return _sentence(topic, "problem", text)
    sinking = [
        row for row in rows if (row["change"]["high"] or 0) < 0 and row["change"]["value"] <= -0.05
    ]
    if sinking:
        down = _names([_move(row) for row in sinking])
        text = f"{down} may be falling: the thirds differ, but not beyond doubt for all tests here."
        return _sentence(topic, "watch", text)
    text = "No channel falls over the steps"
    text += (
        f"; {_names(up)} rise{'s' if len(up) == 1 else ''}." if up else ", and none clearly rises."
    )
    return _sentence(topic, "ok", text)


def _move(row: Mapping) -> str:
    return f"{row['channel']} ({percent(row['first']['value'])} to {percent(row['last']['value'])})"


def _bottleneck(report: Mapping) -> dict[str, str]:
    topic = "Who decides"
    part = report["bottleneck"]
    switching = part["switch_rate"]["value"]
    if part["reversals"]:
        first = part["reversals"][0]
        a, b = first["channels"]
        more = len(part["reversals"]) - 1
        text = (
            f"The bottleneck oscillates between {a} and {b}: which of them is met less often "
            "changes "
            f"{first['count']} times, each time clearly, first around step {first['steps'][0]}"
            + (f" ({more} more pair{'s do' if more > 1 else ' does'} so)" if more else "")
            + ". A smaller k or a schedule that starts low is the usual cure."
        )
        return _sentence(topic, "problem", text)
    if part["effective_channels"] is None:
        return _sentence(
            topic, "unclear", "No group has two scored completions, so nothing is decided."
        )
    top = max(part["channels"], key=lambda row: row["weight"])
    text = (
        f"{top['channel']} decides most: {top['weight']:.0%} of the soft minimum's weight; "
        f"{part['effective_channels']:.1f} of {len(part['channels'])} channels share a decision "
        "on average"
    )
    if switching is not None:
        text += (
            f"; the bottleneck changes between {part['switch_unit']} in {switching:.0%} of cases "
            f"({part['switch_chance']:.0%} if it were drawn anew each time)"
        )
    return _sentence(topic, "ok", text + ".")


def _data(report: Mapping) -> dict[str, str]:
    topic = "What was read"
    counts = report["counts"]
    text = (
        f"{counts['completions']:,} completions of {counts['prompts']:,} prompts in "
        f"{counts['groups']:,} groups"
        + (f" over {counts['steps']:,} steps" if counts["steps"] else "")
        + f", {counts['channels']} channels"
    )
    lost = [note for note in report["notes"] if note["kind"] in LOSSES and note["count"]]
    if lost:
        return _sentence(topic, "watch", f"{text}. {' '.join(note['text'] for note in lost[:3])}")
    if counts["prompts"] < 20:
        return _sentence(topic, "unclear", f"{text}: few prompts, so the intervals are wide.")
    return _sentence(topic, "ok", f"{text}; nothing was left out.")


def _verdict(
    report: Mapping, judged: Sequence[str], sentences: Sequence[Mapping]
) -> dict[str, str]:
    """The worst level, in a headline, and how sure that is."""
    problems = [s for s in sentences if s["level"] == "problem"]
    sure = f"A log without problems raises an alarm with probability {ERROR_RATE:.0%} at most."
    if problems:
        topics = _names([s["topic"].lower() for s in problems])
        plural = "problem" if len(problems) == 1 else "problems"
        headline = f"{len(problems)} {plural}: {topics}."
        return {"level": "problem", "headline": headline, "certainty": sure}
    level = "healthy"
    if any(s["level"] == "watch" for s in sentences):
        level = "watch"
    if sentences[0]["level"] == "unclear" or sentences[1]["level"] == "unclear":
        level = "unclear"
    bound = max(
        (
            row["rate"]["high"] or 0.0
            for row in report["quiet_failures"]
            if row["rule"] == report["rule_in_use"] and row["channel"] in judged
        ),
        default=0.0,
    )
    headline = {
        "healthy": "Healthy: no test raises an alarm.",
        "watch": "No alarm, but look at what is marked below.",
        "unclear": "Too little data to say: no alarm, but no all-clear either.",
    }[level]
    limit = (
        f"With 95 % confidence per channel, at most {bound:.1%} of the completions fail it and are "
        "reinforced."
    )
    return {"level": level, "headline": headline, "certainty": f"{limit} {sure}"}


def _label(report: Mapping, name: str) -> str:
    return next(rule["label"] for rule in report["rules"] if rule["name"] == name)


def _names(names: Sequence[str]) -> str:
    *most, last = names or [""]
    return f"{', '.join(most)} and {last}" if most else last


def share_text(estimate: Mapping[str, Any]) -> str:
    """A share with its interval, in words.

    Args:
      estimate: ``value``, ``low``, ``high``.

    Returns:
      For example ``12 % [9, 15]``.

    >>> share_text({"value": 0.12, "low": 0.09, "high": 0.151})
    '12 % [9, 15]'
    """
    value = estimate["value"]
    if value is None:
        return "an unknown share"
    digits = 0 if value >= 0.1 or value == 0 else 1
    return percent(value, estimate["low"], estimate["high"], digits=digits, unit=" %")


def _span(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return "(one prompt)"
    return f"[{estimate['low']:.2f}, {estimate['high']:.2f}]"
