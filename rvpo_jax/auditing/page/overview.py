"""The picture of the first screen: the channels in focus drawn out, the others behind them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...basics.palette import COLORS
from .contents import floats, has_trajectory
from .frame import RIGHT, Frame, fitting, left_of, over_steps
from .legend import Key, legend
from .lettering import plot_label, text_width
from .scales import Scale, limits, round_ticks, written
from .svg import INK, SMALL, WIDTH, Drawing

SHARES = (-0.02, 1.02)  # limits of an axis of pass rates: a line at 0 % or 100 % keeps its width
BEHIND = "#8b95a3"  # stands out from both grounds, and not from the lines in focus
FOCUS_COLORS = (COLORS[4], COLORS[0], COLORS[3])
_HEIGHT = 320.0
_NAMED = 6  # so many channels have room for their names beside the lines
_APART = 18.0  # pixels between two names
_MAX_DOTS = 10
_ROW = 28.0


def draw_overview(report: Mapping[str, Any]) -> Drawing:
    """Pass rates over steps; without steps the failure gap of the first channel by rule.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The drawing.
    """
    kind = overview_kind(report)
    if kind == "steps":
        return _over_steps(report)
    return _gaps(report) if kind == "gaps" else draw_dots(report, _MAX_DOTS)


def overview_kind(report: Mapping[str, Any]) -> str:
    """What the first picture shows: ``steps``, ``gaps`` or ``rates``.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      One of the three.
    """
    if has_trajectory(report):
        return "steps"
    return "gaps" if _gap_rows(report) else "rates"


def focus_looks(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Color, and class of the name, of the channels in focus.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      By channel. Without an alarm none has the color of one.
    """
    looks = [(color, f"focus-{place}") for place, color in enumerate(FOCUS_COLORS, 1)]
    first = 1 if any(entry["why"] == "closest" for entry in report["focus"]) else 0
    names = [entry["channel"] for entry in report["focus"]]
    return dict(zip(names, looks[first:], strict=False))


def _over_steps(report: Mapping[str, Any]) -> Drawing:
    trajectory, steps = report["trajectory"], floats(report["trajectory"]["step"])
    focus = focus_looks(report)
    names = [channel["name"] for channel in report["channels"]]
    others = [name for name in names if name not in focus]
    few = len(names) <= _NAMED
    drawn: list[tuple[Key, list[float], str | None]] = []  # with the class of the name
    for name in others:
        key = Key(plot_label(name), BEHIND, width=1.0, opacity=0.9 if few else 0.5)
        drawn.append((key, floats(trajectory["pass_rate"][name]["rate"]), "behind"))
    joint = Key("all channels met", INK, width=1.4, dash="6 3")
    drawn.append((joint, floats(trajectory["joint"]["rate"]), None))
    for name, (color, css) in focus.items():
        key = Key(plot_label(name), color, width=2.8)
        drawn.append((key, floats(trajectory["pass_rate"][name]["rate"]), css))

    named = [(key, rates, css) for key, rates, css in drawn if few or css != "behind"]
    widest = max(_name_width(key, css) for key, _, css in named)
    drawing = Drawing(_HEIGHT + (0 if few else 22))
    title = "completions that meet it"
    right = WIDTH - widest - 14
    frame = over_steps(drawing, steps, SHARES, title, bottom=272, right=right)
    for name, (color, _) in focus.items():
        curve = trajectory["pass_rate"][name]
        frame.band(steps, floats(curve["low"]), floats(curve["high"]), color, 0.18)
    for key, rates, _ in drawn:
        frame.line(steps, rates, key)
    if not few:
        key = Key(f"{len(others)} other channels", BEHIND, width=1.0)
        legend(drawing, [key], 318, left=frame.x.start)
    _name_ends(frame, named)
    return drawing


def _name_width(key: Key, css: str | None) -> float:
    """Pixels of a name beside its line; bold is wider."""
    return text_width(key.label, SMALL) * (1.16 if css and css.startswith("focus") else 1)


def _name_ends(frame: Frame, named: Sequence[tuple[Key, Sequence[float], str | None]]) -> None:
    """Names at the ends of their lines, moved apart where they would lie on each other."""
    ends = []
    for key, rates, css in named:
        known = [rate for rate in rates if math.isfinite(rate)]
        if known:
            ends.append((frame.y(known[-1]), key.label, css))
    ends.sort(key=lambda end: end[0])
    for (_, label, css), level in zip(ends, _apart([end[0] for end in ends], frame), strict=True):
        bold = css is not None and css.startswith("focus")
        frame.drawing.text((frame.x.end + 8, level), label, size=SMALL, bold=bold, css=css)


def _apart(levels: Sequence[float], frame: Frame) -> list[float]:
    """Levels from top to bottom, moved down, and those that reach the axis up again."""
    places = list(levels)
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + _APART)
    floor = frame.y.start
    for index in reversed(range(len(places))):
        places[index] = min(places[index], floor)
        floor = places[index] - _APART
    return places


def _gap_rows(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    first = [entry["channel"] for entry in report["focus"]][:1]
    return [
        row
        for row in report["quiet_failures"]
        if row["channel"] in first and row["gap"]["value"] is not None
    ]


def _gaps(report: Mapping[str, Any]) -> Drawing:
    rows = _gap_rows(report)
    labels = {rule["name"]: rule["label"] for rule in report["rules"]}
    marks = {report["rule_in_use"]: "\nin use"}
    names = [plot_label(labels[row["rule"]]) + marks.get(row["rule"], "") for row in rows]
    ticks = [(float(place), name) for place, name in enumerate(names)]
    gaps = [floats([row["gap"][key] for key in ("value", "low", "high")]) for row in rows]
    span = limits([0.0, *(number for gap in gaps for number in gap)])
    bottom = 14 + max(_HEIGHT - 84, 36.0 * len(rows))
    drawing, left = Drawing(bottom + 66), left_of(ticks)
    frame = Frame(drawing, Scale(*span, left, RIGHT), _row_scale(len(rows), bottom))
    title = [f"failure gap of {plot_label(rows[0]['channel'])}:", "right of 0, failing is paid"]
    frame.x_axis(fitting(*span, RIGHT - left), title, grid=True)
    frame.y_axis(ticks)
    zero = [(frame.x(0.0), bottom), (frame.x(0.0), frame.y.end)]
    drawing.line(zero, INK, 1.2)
    for place, gap in enumerate(gaps):
        frame.interval(place, gap, FOCUS_COLORS[0 if gap[0] > 0 else 1], 2.6, 4.5)
    return drawing


def _row_scale(num_rows: int, bottom: float, top: float = 14.0) -> Scale:
    """Rows 0, 1, ... from top to bottom."""
    return Scale(num_rows - 0.5, -0.5, bottom, top)


def share_rows(
    labels: Sequence[str],
    row: float,
    title: str,
    *,
    shares: tuple[float, float] = SHARES,
    top: float = 14.0,
) -> Frame:
    """A frame with a row for each label and shares on its x axis.

    Args:
      labels: of the rows, from top to bottom.
      row: height of a row, pixels.
      title: of the x axis.
      shares: limits of the x axis.
      top: of the plot, pixels.

    Returns:
      The frame, with its axes, in a drawing of its own.
    """
    bottom = top + row * max(len(labels), 1)
    ticks = [(float(place), label) for place, label in enumerate(labels)]
    drawing, left = Drawing(bottom + 50), left_of(ticks)
    rows = _row_scale(max(len(labels), 1), bottom, top)
    frame = Frame(drawing, Scale(*shares, left, RIGHT), rows)
    frame.x_axis(written(round_ticks(*shares), percent=True), [title], grid=True)
    frame.y_axis(ticks)
    return frame


def draw_dots(report: Mapping[str, Any], limit: int | None = None) -> Drawing:
    """Pass rates with intervals, a row for each channel.

    Args:
      report: what ``audit.json`` holds.
      limit: at most so many channels, those that are met least; None: all.

    Returns:
      The drawing.
    """
    rows = [(plot_label(c["name"]), c["pass_rate"]) for c in report["channels"]]
    if limit is not None and len(rows) > limit:
        known = [row for row in rows if row[1]["value"] is not None]
        rows = sorted(known, key=lambda row: row[1]["value"])[:limit]
    rows.append(("all channels met", report["joint_pass_rate"]))
    title = "completions that meet it, with 95 % interval"
    frame = share_rows([label for label, _ in rows], _ROW, title)
    for place, (_, rate) in enumerate(rows):
        color = INK if place == len(rows) - 1 else COLORS[place % len(COLORS)]
        ends = floats([rate["value"], rate["low"], rate["high"]])
        frame.interval(place, ends, color, 2.2, 3.5)
    return frame.drawing
