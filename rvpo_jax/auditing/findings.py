"""When an audit raises an alarm, and its verdict.

An alarm ("problem") is the rejection of a statement such as "failing this channel is not paid" by
a test. All tests of a report together raise an alarm for a log without problems with probability
at most ``ERROR_RATE`` (Holm's correction over them).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .alarms import About, Alarms
from .estimates import holm
from .phrases import names, plural
from .sentences import write_sentences
from .slice_sentences import slice_tests

ERROR_RATE = 0.01
TESTS = {"Quiet failures": "paid", "Blind spots": "dead_fail", "Neglect": "fall"}  # by topic
MAX_NAMED = 3  # channels in the headline, of each problem
LOOKED_FOR = {
    "paid": "failures that are paid",
    "dead_fail": "channels that whole groups fail",
    "fall": "pass rates that fall",
    "outcome": "an outcome that falls",
}


def write_findings(report: Mapping[str, Any], judged: Sequence[str]) -> dict[str, Any]:
    """The verdict and the sentences of a report.

    Args:
      report: its tables.
      judged: names of the channels whose failure counts as one.

    Returns:
      ``verdict``, ``sentences``, ``alarms`` (``test``, ``channel``, ``slice``) and ``error_rate``.
    """
    p_values = _p_values(report, judged)
    alarms = {key: p < ERROR_RATE for key, p in holm(p_values).items()}
    sentences = write_sentences(report, judged, alarms, ERROR_RATE)
    return {
        "verdict": _verdict(report, p_values, sentences, alarms),
        "sentences": sentences,
        "alarms": [about._asdict() for about, on in alarms.items() if on and about.channel],
        "error_rate": ERROR_RATE,
    }


def _p_values(report: Mapping[str, Any], judged: Sequence[str]) -> dict[About, float]:
    """By what they are about; NaN where a test has too little."""
    p_values: dict[About, Any] = {}
    for row in report["quiet_failures"]:
        if row["rule"] == report["rule_in_use"] and row["channel"] in judged:
            p_values[About("paid", row["channel"])] = row["p_value"]
    for row in report["dead"]:
        p_values[About("dead_fail", row["channel"])] = row["p_value"]
    for row in report["neglect"]:
        change = row["change"]["value"]
        small = change is None or change > -0.02  # a fall of less than 2 points is no neglect
        p_values[About("fall", row["channel"])] = (
            1.0 if small and row["p_fall"] is not None else row["p_fall"]
        )
    if report["outcome"] is not None:
        fell = report["outcome"]["change"]["value"] <= -0.02
        p_values[About("outcome", "")] = report["outcome"]["p_fall"] if fell else 1.0
    p_values |= slice_tests(report, judged)
    return {key: math.nan if p is None else p for key, p in p_values.items()}


def _verdict(
    report: Mapping[str, Any],
    p_values: Mapping[About, float],
    sentences: Sequence[Mapping[str, str]],
    alarms: Alarms,
) -> dict[str, str]:
    """The worst level, in a headline, and how sure that is."""
    sure = (
        f"A log without problems raises an alarm with probability {100 * ERROR_RATE:.0f} % at most."
    )
    problems = [_problem(s["topic"], alarms) for s in sentences if s["level"] == "problem"]
    if problems:
        headline = f"{plural(len(problems), 'problem')}: {names(problems)}."
        return {"level": "problem", "headline": headline, "certainty": sure}
    looked = _looked_for(report, p_values)
    if report["counts"]["channels"] == 1:
        headline = f"One channel only: nothing can be paid for by another. {looked}"
        return {"level": "unclear", "headline": headline, "certainty": sure}
    if "unclear" in (sentences[0]["level"], sentences[1]["level"]):
        headline = f"Too little data to say: no alarm, but no all-clear either. {looked}"
        return {"level": "unclear", "headline": headline, "certainty": sure}
    if any(s["level"] == "watch" for s in sentences):
        headline = f"No alarm, but look at what is marked below. {looked}"
        return {"level": "watch", "headline": headline, "certainty": sure}
    return {"level": "no_alarm", "headline": f"No alarm. {looked}", "certainty": sure}


def _problem(topic: str, alarms: Alarms) -> str:
    """A topic, and the channels that it is about where it has alarms of the whole log."""
    channels = [
        about.channel
        for about, on in alarms.items()
        if on and about.slice is None and about.test == TESTS.get(topic)
    ]
    if len(channels) > MAX_NAMED:
        channels = [*channels[:MAX_NAMED], f"{len(channels) - MAX_NAMED} more"]
    return topic.lower() + (f" ({names(channels)})" if channels else "")


def _looked_for(report: Mapping[str, Any], p_values: Mapping[About, float]) -> str:
    """What was looked for and not found, and over how much."""
    counts = report["counts"]
    tested = {
        test: sum(
            not math.isnan(p)
            for about, p in p_values.items()
            if about.test == test and about.slice is None
        )
        for test in LOOKED_FOR
    }
    parts = [
        LOOKED_FOR[test] + ("" if test == "outcome" else f" ({plural(number, 'channel')})")
        for test, number in tested.items()
        if number
    ]
    over = f"{plural(counts['groups'], 'group')} of {plural(counts['prompts'], 'prompt')}"
    if counts["steps"]:
        over += f" over {plural(counts['steps'], 'step')}"
    if not parts:
        return f"In {over}, there was too little for any test."
    return f"Looked for and not found in {over}: {names(parts)}."
