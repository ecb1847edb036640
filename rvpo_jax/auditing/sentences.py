"""The sentences of a report: on a topic, how bad it is and what was seen."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..basics.intervals import percent
from .alarms import About, Alarms
from .phrases import distance, label_of, names, plural, share_text
from .slice_sentences import slice_sentences
from .tables import DEAD_FAIL_TOLERANCE
from .trends import rising_and_falling

SILENT_SHARE = 0.5  # of the groups: so many without any difference are named
SWAMPED = 0.9  # of the sum's variance: a channel with so much is named
MAX_NOTICED = 4  # findings of the cheap checks in one sentence
UNUSUAL_RATE = 0.01  # an assumed pass mark that gives less, or more than the rest to 1, is named
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
    "outlier",
    "out_of_range",
    "duplicate_rows",
    "repeated_groups",
    "unsliced",
    "asked",
)
IGNORED = ("turned", "ignored_column", "label", "memory")


def write_sentences(
    report: Mapping[str, Any], judged: Sequence[str], alarms: Alarms, error_rate: float
) -> list[dict[str, str]]:
    """Quiet failures, blind spots, neglect, who decides, what else was noticed, what was read.

    Outcome and slices come in where the user named them.

    Args:
      report: its tables.
      judged: names of the channels whose failure counts as one.
      alarms: whether a test rejects, by what it is about.
      error_rate: that the alarms keep together.

    Returns:
      ``topic``, ``level`` (problem, watch, ok or unclear) and ``text`` of each.
    """
    return [
        _quiet(report, judged, alarms),
        _dead(report, alarms),
        _neglect(report, alarms, error_rate),
        _deciders(report),
        *_outcome(report, alarms),
        *slice_sentences(report, alarms),
        _noticed(report),
        _data(report),
    ]


def _sentence(topic: str, level: str, text: str) -> dict[str, str]:
    return {"topic": topic, "level": level, "text": text}


def _quiet(report: Mapping, judged: Sequence[str], alarms: Alarms) -> dict[str, str]:
    topic = "Quiet failures"
    rows = [
        row
        for row in report["quiet_failures"]
        if row["rule"] == report["rule_in_use"] and row["channel"] in judged
    ]
    label = label_of(report, report["rule_in_use"])
    paid = [row for row in rows if alarms.get(About("paid", row["channel"]))]
    if paid:
        return _sentence(topic, "problem", _paid(report, paid, f"is paid ({label})"))
    if not any(row["failures"] for row in rows):
        return _sentence(
            topic, "ok", "No completion fails a channel that counts, so no failure is hidden."
        )
    known = [row for row in rows if row["gap"]["value"] is not None]
    if all(row["p_value"] is None for row in known):
        text = "Too few groups hold both failing and passing completions to tell what is paid."
        return _sentence(topic, "unclear", text)
    likely = [row for row in known if (row["gap"]["low"] or 0) > 0]
    if likely:
        words = f"may be paid ({label}), which is not beyond doubt for all tests here"
        return _sentence(topic, "watch", _paid(report, likely, words))
    most = max(known, key=lambda row: row["gap"]["value"])
    text = (
        f"Failing a channel is not paid ({label}). Closest to it is {most['channel']}: in the "
        f"{plural(most['groups'], 'group')} with both, completions that fail it get an advantage "
        f"{distance(most['gap'])} than those that meet it."
    )
    return _sentence(topic, "ok", text)


def _paid(report: Mapping, rows: Sequence[Mapping], how: str) -> str:
    """The sentence on channels whose failures are paid, the worst one first."""
    worst = max(rows, key=lambda row: row["gap"]["value"])
    also = names([row["channel"] for row in rows if row is not worst])
    return (
        f"Failing {worst['channel']} {how}: in the {plural(worst['groups'], 'group')} with both, "
        f"completions that fail it get an advantage {distance(worst['gap'])} than those that meet "
        f"it.{_payer(report, worst['channel'])}{_remedy(report, worst['channel'])}"
        + (f" The same holds for {also}." if also else "")
    )


def _payer(report: Mapping, channel: str) -> str:
    """Which other channel adds most to the gap of a channel."""
    rows = [row for row in report["payers"] if row["channel"] == channel]
    if not rows or rows[0]["part"]["value"] <= 0:
        return ""
    return (
        f" {rows[0]['payer']} pays for it: it adds {rows[0]['part']['value']:.2f}, and does so in "
        f"{percent(rows[0]['conflict'], unit=' %')} of these groups."
    )


def _remedy(report: Mapping, channel: str) -> str:
    """Which of the other rules would not pay for the failures of a channel."""
    gaps = {
        row["rule"]: row["gap"]["value"]
        for row in report["quiet_failures"]
        if row["channel"] == channel and row["rule"] != report["rule_in_use"]
        if row["gap"]["value"] is not None
    }
    if not gaps:
        return ""
    ordered = sorted(gaps, key=lambda rule: gaps[rule])
    helping = [rule for rule in ordered if gaps[rule] <= 0]
    words = [f"{label_of(report, rule)} ({gaps[rule]:+.2f})" for rule in helping or ordered[:1]]
    if helping:
        return f" It would not be paid by {names(words)}."
    return f" None of the other rules here stops that; the least is {words[0]}."


def _dead(report: Mapping, alarms: Alarms) -> dict[str, str]:
    topic = "Blind spots"
    silent = _silent(report)
    blind = [row for row in report["dead"] if alarms.get(About("dead_fail", row["channel"]))]
    present = [row for row in report["dead"] if row["groups"]]
    if blind:
        parts = [
            f"{row['channel']} in {share_text(row['dead_fail_share'])} of its "
            f"{row['groups']:,} groups"
            for row in sorted(blind, key=lambda row: -row["dead_fail_share"]["value"])
        ]
        text = (
            f"Every completion of the group fails {names(parts)}: there the channel has no "
            "variance, and no group-relative rule, RVPO included, can see it. It needs easier "
            f"prompts, partial credit or a gate.{silent}"
        )
        return _sentence(topic, "problem", text)
    if not present:
        return _sentence(topic, "unclear", "No group was scored by any channel.")
    most = max(present, key=lambda row: row["dead_fail_share"]["value"])
    solved = [row["channel"] for row in present if row["dead_pass"] > 0.9 * row["groups"]]
    also = f" All completions meet {names(solved)} in over 90 % of the groups." if solved else ""
    share = f"{most['channel']} with {share_text(most['dead_fail_share'])}"
    if most["dead_fail_share"]["value"] > DEAD_FAIL_TOLERANCE:
        blind_share = most["dead_fail_share"]
        text = (
            f"All completions of a group fail {most['channel']} in {share_text(blind_share)} of "
            "the groups, where no group-relative rule can see it; with "
            f"{blind_share['n']} prompts this is not beyond doubt.{also}{silent}"
        )
        return _sentence(topic, "watch", text)
    text = f"No channel is failed by whole groups in a fifth of them; the most is {share}.{also}"
    if all(row["p_value"] is None for row in present):
        return _sentence(topic, "unclear", f"Too few prompts for a test. {text}{silent}")
    return _sentence(topic, "watch" if silent else "ok", text + silent)


def _silent(report: Mapping) -> str:
    """That most groups teach nothing, where it is so."""
    signal = report["signal"]
    share = signal["share"]
    if share["value"] is None or share["value"] > 1 - SILENT_SHARE:
        return ""
    without = {"value": 1 - share["value"], "low": None, "high": None}
    if share["low"] is not None:
        without |= {"low": 1 - share["high"], "high": 1 - share["low"]}
    return (
        f" No channel varies in {share_text(without)} of the groups: no rule learns from them, and "
        f"what is said here rests on the other {signal['live']:,}."
    )


def _neglect(report: Mapping, alarms: Alarms, error_rate: float) -> dict[str, str]:
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
    falling = [row for row in rows if alarms.get(About("fall", row["channel"]))]
    rising, _ = rising_and_falling(rows, error_rate)
    up = [_move(row) for row in rows if row["channel"] in rising]
    if falling:
        down = names([_move(row) for row in falling])
        verb = "falls" if len(falling) == 1 else "fall"
        while_text = f" while {names(up)} rise{'s' if len(up) == 1 else ''}" if up else ""
        text = f"{down} {verb}{while_text} (first to last third of the steps)"
        if any(row["returns"] for row in falling):
            text += ", also where a prompt that comes back is compared with itself."
            return _sentence(topic, "problem", text)
        text += ". Prompts do not come back here: ones that became harder would look the same."
        return _sentence(topic, "watch", text)
    return _no_clear_fall(rows, up)


def _no_clear_fall(rows: Sequence[Mapping], up: Sequence[str]) -> dict[str, str]:
    """What is said where no test of a trend alarms; ``up``: the moves of channels that rise."""
    topic = "Neglect"
    lower = [row for row in rows if _clearly_lower(row["change"])]
    sinking = [row for row in lower if not row["returns"] or _clearly_lower(row["own_change"])]
    if sinking:
        down = names([_move(row) for row in sinking])
        text = (
            f"{down} may be falling: the thirds differ, but pass rates wander, and for all tests "
            "here this is not beyond doubt."
        )
        return _sentence(topic, "watch", text)
    rises = f"; {names(up)} rise{'s' if len(up) == 1 else ''}" if up else ", and none clearly rises"
    late = [row for row in rows if row["late"] and row not in lower]
    if late:
        lost = names([_move(row["late"] | row, "before", "after") for row in late])
        text = (
            f"{lost} fell late: from the first two thirds of the steps to the last tenth. No "
            f"channel clearly falls from the first to the last third{rises}."
        )
        return _sentence(topic, "watch", text)
    text = f"No channel clearly falls over the steps{rises}."
    if lower:
        down = names([_move(row) for row in lower])
        text += f" {down} fell with the prompts: those that came back did not get worse."
    return _sentence(topic, "ok", text)


def _clearly_lower(change: Mapping) -> bool:
    return (change["high"] or 0) < 0 and change["value"] <= -0.05


def _move(row: Mapping, start: str = "first", end: str = "last") -> str:
    first, last = (percent(row[part]["value"], unit=" %") for part in (start, end))
    return f"{row['channel']} ({first} to {last})"


def _deciders(report: Mapping) -> dict[str, str]:
    topic = "Who decides"
    part = report["bottleneck"]
    if part["reversals"]:
        first = part["reversals"][0]
        a, b = first["channels"]
        more = len(part["reversals"]) - 1
        text = (
            f"The bottleneck oscillates between {a} and {b}: which of them is met less often "
            f"changes {first['count']} times, each time clearly, first around step "
            f"{first['steps'][0]}"
            + (f" ({more} more pair{'s do' if more > 1 else ' does'} so)" if more else "")
            + ". A smaller k or a schedule that starts low is the usual cure."
        )
        return _sentence(topic, "problem", text)
    if part["effective_channels"] is None:
        return _sentence(
            topic, "unclear", "No group has two scored completions, so nothing is decided."
        )
    if len(part["channels"]) == 1:
        return _sentence(topic, "ok", "One channel only: it decides alone.")
    top = max(part["channels"], key=lambda row: row["weight"])
    switching = part["switch_rate"]["value"]
    text = (
        f"{top['channel']} decides most: {percent(top['weight'], unit=' %')} of the soft minimum's "
        f"weight; {part['effective_channels']:.1f} of {len(part['channels'])} channels share a "
        "decision on average"
    )
    if switching is not None:
        text += (
            f"; the bottleneck changes between {part['switch_unit']} in "
            f"{percent(switching, unit=' %')} of cases "
            f"({percent(part['switch_chance'], unit=' %')} if it were drawn anew each time)"
        )
    swamping = _swamping(part["channels"])
    return _sentence(topic, "watch" if swamping else "ok", f"{text}.{swamping}")


def _swamping(channels: Sequence[Mapping]) -> str:
    """That one channel is nearly all of the sum, where it is so."""
    for row in channels:
        share = row["variance_share"]
        if len(channels) > 1 and share is not None and share > SWAMPED:
            return (
                f" {row['channel']} carries {percent(share, digits=1, unit=' %')} of the sum's "
                "variance within groups: a sum hardly sees the others. Is it a reward, and on "
                "their scale?"
            )
    return ""


def _outcome(report: Mapping, alarms: Alarms) -> list[dict[str, str]]:
    """Whether what the rewards stand for falls while they rise; nothing without an outcome."""
    row, topic = report["outcome"], "Outcome"
    if row is None:
        return []
    move = f"({percent(row['first']['value'])} to {percent(row['last']['value'])} of its range)"
    if row["p_fall"] is None:
        text = f"Too few steps to tell a trend of the outcome {move} from noise (six are needed)."
        return [_sentence(topic, "unclear", text)]
    if alarms.get(About("outcome", "")) and row["rewards"] > 0:
        text = f"The outcome falls {move} while the rewards rise: they are over-optimised"
        if row["returns"]:
            return [_sentence(topic, "problem", f"{text}.")]
        text += ", or prompts became harder, which do not come back here."
        return [_sentence(topic, "watch", text)]
    falls = alarms.get(About("outcome", "")) or _clearly_lower(row["change"])
    if falls:
        return [_sentence(topic, "watch", f"The outcome may be falling {move}.")]
    return [_sentence(topic, "ok", f"The outcome does not fall {move}.")]


def _noticed(report: Mapping) -> dict[str, str]:
    topic = "Also noticed"
    checks = report["checks"]
    if not checks:
        text = (
            "Nothing else: no channels that say the same, change sides, jump or teach nothing "
            "more; no length that is paid, no text that is repeated, no rare success that comes "
            "with a rare failure."
        )
        return _sentence(topic, "ok", text)
    more = len(checks) - MAX_NOTICED
    text = " ".join(check["text"] for check in checks[:MAX_NOTICED])
    rest = f" {plural(more, 'more finding')} of this kind in the report." if more > 0 else ""
    return _sentence(topic, "watch", text + rest)


def _data(report: Mapping) -> dict[str, str]:
    topic = "What was read"
    counts = report["counts"]
    text = (
        f"{counts['completions']:,} completions of {plural(counts['prompts'], 'prompt')} in "
        + plural(counts["groups"], "group")
        + (f" over {plural(counts['steps'], 'step')}" if counts["steps"] else "")
        + f", {plural(counts['channels'], 'channel')}"
    )
    lost = [note["text"] for note in report["notes"] if note["kind"] in LOSSES and note["count"]]
    ignored = [note["text"] for note in report["notes"] if note["kind"] in IGNORED]
    doubtful = _doubtful_marks(report["channels"])
    more = " ".join([*lost[:3], *doubtful, *ignored])
    if lost or doubtful:
        return _sentence(topic, "watch", f"{text}. {more}")
    if counts["prompts"] < 20:
        few = f"{text}: few prompts, so the intervals are wide."
        return _sentence(topic, "unclear", f"{few} {more}".strip())
    return _sentence(topic, "ok", f"{text}. {more}" if more else f"{text}; nothing was left out.")


def _doubtful_marks(channels: Sequence[Mapping]) -> list[str]:
    """Pass marks that nobody gave and that nearly all, or nearly no, completions reach."""
    found = []
    for channel in channels:
        rate = channel["pass_rate"]["value"]
        usual = rate is None or UNUSUAL_RATE <= rate <= 1 - UNUSUAL_RATE
        if channel["assumed_pass"] and not usual:
            found.append(
                f"{channel['name']} counts as met from {channel['pass_at']:g} on, which is assumed "
                f"and makes {percent(rate, digits=1, unit=' %')} pass: give it with --pass."
            )
    return found
