"""The page of an audit: a report dict in, one self-contained HTML file out.

The page opens from disk, loads nothing and runs one script, ours: a Content-Security-Policy names
the hashes of its style and its script. All texts are treated as hostile.
"""

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from ...basics.files import jsonable
from ...basics.text import printable
from ...basics.version import PRODUCT
from ..phrases import worst_first
from . import forms
from .contents import MANY
from .overview import overview_kind
from .plots import make_figures
from .what_if import what_if_data

# The badges: a sign, so that the level is not told by color alone.
LEVELS = {"problem": "✕", "watch": "!", "ok": "✓", "no_alarm": "✓", "unclear": "?"}
# The sections by id: title and question. A sentence on the topic of a title links to its section.
SECTIONS = {
    "comparison": ("Comparison", "how this log differs from the first one"),
    "quiet": ("Quiet failures", "which failures each rule reinforces, and how much it pays"),
    "dead": ("Blind spots", "groups in which a channel says nothing"),
    "neglect": ("Neglect", "what rises and what falls over the steps"),
    "bottleneck": ("Who decides", "how the weight is shared between channels"),
    "cases": ("What if, and cases", "another rule, its numbers, and completions with their texts"),
    "outcome": ("Outcome", "what the rewards stand for, over the steps"),
    "slices": ("Slices", "the same numbers for each value of a column"),
    "checks": ("Also noticed", "what is worth a look and may be as it should be"),
    "between": ("Between channels", "which ones go together and which are in conflict"),
    "level": ("Level and spread", "where the weight goes as channels get easier"),
    "rules": ("Rules", "how often they disagree about a completion"),
    "notes": ("What was read", "what was counted, assumed and left out"),
    "definitions": ("Definitions", "the words of this page, exactly"),
}
_SHOWN = 6  # of many channels, a card shows so many and keeps the rest closed


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
        product=PRODUCT,
        labels={rule["method"]: rule["label"] for rule in report["rules"]},
        style=Markup(style),
        script=Markup(script),
        policy=content_security_policy(style, script),
        data=script_json(data if report["cases"] else None),
        statistics=data["cases"],
        pictures={name: Markup(p.inline()) for name, p in make_figures(report).items()},
        overview=overview_kind(report),
        sections={id: words for id, words in SECTIONS.items() if _present(report, id)},
        sentences=worst_first(report["sentences"]),
        topics=_topics(report),
        links={words[0].lower(): id for id, words in SECTIONS.items() if _present(report, id)},
        alarmed={alarm["channel"] for alarm in report["alarms"]},
        shown_channels=_shown_channels,
        many=MANY,
        quiet=_quiet_grid(report),
        level_grid=_by_channel(report["level"]["cells"]),
        slice_grid=_by_channel(report["slices"]),
        levels=LEVELS,
    )


def content_security_policy(style: str, script: str) -> str:
    """A policy that allows this style and this script, and nothing else.

    Args:
      style: content of the style element, to the letter.
      script: content of the script element, to the letter.

    Returns:
      The content of the meta element.
    """
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
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
    filters: dict[str, Callable[..., object]] = {
        "label": forms.label,
        "prose": lambda text: forms.label(text, forms.MAX_PROSE),
        "long_text": forms.long_text,
        "excerpt": forms.excerpt,
        "preview": forms.preview,
        "plain": lambda text: printable(text, keep=""),
        "percent": forms.percent,
        "interval": forms.interval,
        "number": forms.number,
        "heat": forms.heat,
    }
    environment.filters |= filters
    return environment


def _present(report: Mapping[str, Any], section: str) -> bool:
    return section not in ("comparison", "outcome", "slices", "checks") or bool(report[section])


def _topics(report: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """The sentence of each section that has one, by the section's id."""
    ids = {title.lower(): section for section, (title, _) in SECTIONS.items()}
    found = {ids.get(sentence["topic"].lower()): sentence for sentence in report["sentences"]}
    return {section: sentence for section, sentence in found.items() if section is not None}


def _shown_channels(case: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Channels that a card shows at once: all, or those that fail and those that weigh most."""
    if len(names) <= MANY:
        return list(range(len(names)))
    order = sorted(
        range(len(names)), key=lambda m: (names[m] not in case["failed"], -case["weights"][m])
    )
    return sorted(order[:_SHOWN])


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
