"""The page of an audit: a report dict in, one self-contained HTML file out.

The page opens from disk, loads nothing and runs one script, ours: a Content-Security-Policy names
the hashes of its style and its script. All texts are treated as hostile.
"""

import base64
import hashlib
import importlib.resources
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from ...basics.files import jsonable
from ...basics.text import printable
from .plots import has_trajectory, make_figures
from .visible import marked
from .what_if import what_if_data

# The badges: a sign, so that the level is not told by color alone.
LEVELS = {"problem": "✕", "watch": "!", "ok": "✓", "no_alarm": "✓", "unclear": "?"}
_MAX_LABEL = 72
_MAX_PROSE = 2000
_PREVIEW = 110
_MAX_TEXT_BYTES = 16_000
_HEAT = (0.005, 0.02, 0.1, 0.25)


def render_page(report: Mapping[str, Any]) -> str:
    """The report as one HTML page without outside parts.

    The same report gives the same page, byte for byte.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      The page; it has no lone surrogates, so it can be written as UTF-8.
    """
    style, script = _file("audit.css"), _file("audit.js")
    data = what_if_data(report)
    template = _environment().get_template("audit.html.jinja")
    return template.render(
        report=report,
        labels={rule["method"]: rule["label"] for rule in report["rules"]},
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
        data=script_json(data if report["cases"] else None),
        statistics=data["cases"],
        pictures=_pictures(report),
        quiet=_quiet_grid(report),
        level_grid=_by_channel(report["level"]["cells"]),
        levels=LEVELS,
    )


def content_security_policy(style: str, script: str) -> str:
    """A policy that allows this style, this script and embedded pictures, and nothing else.

    Args:
      style: content of the style element, to the letter.
      script: content of the script element, to the letter.

    Returns:
      The content of the meta element.
    """
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def script_json(value: Any) -> Markup:
    r"""JSON that is safe inside a script element.

    Args:
      value: numbers, strings, lists, dicts; what is not finite becomes null.

    Returns:
      ASCII in which ``<``, ``>`` and ``&`` are escaped, so that no text closes the element.

    >>> print(script_json({"a": "</script>", "b": float("nan")}))
    {"a":"\u003c/script\u003e","b":null}
    """
    text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _file(name: str) -> str:
    folder = importlib.resources.files(__package__) / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": _label,
        "prose": lambda text: _label(text, _MAX_PROSE),
        "long_text": _long_text,
        "preview": lambda text: printable(text[:_PREVIEW].replace("\n", " ")),
        "plain": lambda text: printable(text, keep=""),
        "percent": percent,
        "number": number,
        "heat": lambda rate: sum(rate >= edge for edge in _HEAT) if rate is not None else 0,
    }
    return environment


def _label(text: object, limit: int = _MAX_LABEL) -> Markup:
    """A name, isolated from its surroundings; of a long one the middle is left out."""
    text = str(text)
    if len(text) > limit:
        text = f"{text[: 2 * limit // 3]}…{text[-limit // 3 :]}"
    return Markup("<bdi>{}</bdi>").format(marked(text))


def _long_text(text: str) -> Markup:
    """A prompt or completion; where escapes make it several times as long, its beginning."""
    shown, size = marked(text, keep="\n\t"), len(text)
    while (num_bytes := len(shown.encode())) > _MAX_TEXT_BYTES:
        size = int(0.95 * size * _MAX_TEXT_BYTES / num_bytes)
        shown = marked(text[:size], keep="\n\t")
    if size == len(text):
        return shown
    return shown + Markup("\n[{} more characters]").format(f"{len(text) - size:,}")


def percent(share: float | None, sign: str = "") -> str:
    """A share in percent; two digits where it is small.

    Args:
      share: 0 to 1, or negative for a change.
      sign: ``"+"`` for a change, which then always has a sign.

    Returns:
      The text of a cell.

    >>> percent(0.1234), percent(0.00042), percent(-0.5), percent(0.5, "+"), percent(None)
    ('12.3%', '0.042%', '−50.0%', '+50.0%', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    # Below one in a million it is the rounding of a 0.
    form = ".2g" if 1e-6 <= abs(share) < 0.001 else ".1f"
    digits = format(100 * share, sign + form)
    return _minus(digits) + "%"


def number(value: float | None, form: str = ".2f") -> str:
    """A number with a real minus sign.

    Args:
      value: the number.
      form: format specification.

    Returns:
      The text of a cell.

    >>> number(-0.125, "+.3f"), number(None)
    ('−0.125', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return _minus(format(value, form))


def _minus(digits: str) -> str:
    """A real minus sign, and none before what rounds to 0."""
    if not digits.strip("+-0."):
        digits = digits.replace("-", "+" if "+" in digits else "")
    return digits.replace("-", "−")


def _by_channel(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["channel"], []).append(row)
    return grouped


def _quiet_grid(report: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[Any]]]:
    """Per channel the rows of the quiet failures in the order of the rules; None: no such row."""
    found = {(row["channel"], row["rule"]): row for row in report["quiet_failures"]}
    rules = [rule["name"] for rule in report["rules"]]
    return [
        (channel, [found.get((channel["name"], rule)) for rule in rules])
        for channel in report["channels"]
    ]


def _pictures(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Light and dark data URIs, pixel sizes and alternative texts by name of the figure."""
    light, dark = (make_figures(report, dark=dark) for dark in (False, True))
    texts = _alternative_texts(report)
    pictures = {}
    for name, figure in light.items():
        width, height = (round(float(inches) * 100) for inches in figure.get_size_inches())
        pictures[name] = {
            "light": _data_uri(figure),
            "dark": _data_uri(dark[name]),
            "width": width,
            "height": height,
            "alt": texts[name],
        }
    return pictures


def _data_uri(figure: Figure) -> str:
    content = io.BytesIO()
    # Ids and date of the file would differ from call to call.
    with matplotlib.rc_context({"svg.hashsalt": "rvpo", "svg.fonttype": "path"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode()}"


def _alternative_texts(report: Mapping[str, Any]) -> dict[str, str]:
    channels = [channel["name"] for channel in report["channels"]]
    short = [printable(name, keep="")[:60] for name in channels]
    rates = [channel["pass_rate"]["value"] for channel in report["channels"]]
    weights = [row["weight"] for row in report["bottleneck"]["channels"]]
    trajectory, points = report["trajectory"], report["scatter"]
    paid = sum(f and y > 0 for f, y in zip(points["failed"], points["y"], strict=True))

    def listing(values: Sequence[Any]) -> str:
        return ", ".join(f"{n} {percent(v)}" for n, v in zip(short, values, strict=True))

    texts = {
        "pass_rates": f"Dots with intervals: pass rate by channel. {listing(rates)}.",
        "weights": f"Bars: share of the soft minimum's weight by channel. {listing(weights)}.",
        "conditional": f"Heat map of {len(short)} by {len(short)} channels: pass rate of the row "
        "among completions that meet the column. The numbers are in the table below it.",
        "compensation": f"Scatter of {len(points['x'])} completions, mean score against advantage "
        f"under the rule in use; {paid} of {sum(points['failed'])} failing ones lie above 0.",
    }
    if has_trajectory(report):
        first, last = (number(trajectory["step"][at], "g") for at in (0, -1))
        span = f"from step {first} to {last}"
        curves = [trajectory["pass_rate"][name]["rate"] for name in channels]
        ends = [
            f"{n} {percent(c[0])} to {percent(c[-1])}" for n, c in zip(short, curves, strict=True)
        ]
        texts["pass_rates"] = f"Lines with bands: pass rate by channel {span}. {', '.join(ends)}."
        texts["weights"] = (
            f"Ribbon: share of the soft minimum's weight by channel {span}. "
            f"At the end: {listing([trajectory['weight'][name][-1] for name in channels])}."
        )
        texts["quiet"] = f"Lines: quiet failures by channel under the rule in use, {span}."
    return texts
