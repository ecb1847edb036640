"""The audit page without a browser: policy, escaping, size, redaction, figures."""

import base64
import hashlib
import html.parser
import json
import re

import audit_report
import numpy as np
import pytest
from planted import PROBLEMS, make_log
from rich.console import Console

import rvpo_jax
from rvpo_jax.auditing import show_audit
from rvpo_jax.auditing.page import page as audit_page
from rvpo_jax.auditing.page.page import render_page, script_json
from rvpo_jax.auditing.page.picture import Picture
from rvpo_jax.auditing.page.visible import marked
from rvpo_jax.auditing.page.what_if import what_if_data
from rvpo_jax.auditing.report import _report
from rvpo_jax.basics.text import printable

SEVENTEEN = tuple(f"channel_{index}" for index in range(17))


@pytest.fixture(scope="module")
def report():
    return audit_report.make_report(names=audit_report.HOSTILE_NAMES, comparison=True)


@pytest.fixture(scope="module")
def page(report):
    return render_page(report)


@pytest.fixture
def without_pictures(monkeypatch):
    """For what does not concern them."""
    monkeypatch.setattr(audit_page, "make_figures", lambda report: {})


class Elements(html.parser.HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def sha256(content):
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def test_the_policy_names_the_hashes_of_the_one_style_and_the_one_script(page):
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    [style] = re.findall(r"<style>(.*?)</style>", page, re.S)
    [script] = re.findall(r"<script>(.*?)</script>", page, re.S)
    directives = dict(part.split(" ", 1) for part in policy.replace("&#39;", "'").split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": f"'{sha256(script)}'",
        "style-src": f"'{sha256(style)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_page_has_no_style_or_event_attributes_and_names_nothing_outside(page):
    elements = Elements(page).found
    names = {name for _, attributes in elements for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}
    links = [value for _, a in elements for name, value in a.items() if name in ("src", "href")]
    assert all(link.startswith("#") for link in links)
    assert [tag for tag, _ in elements].count("script") == 2  # the numbers and the program
    assert not re.search(r"@import|url\(|http://|https://", page)


def test_every_picture_is_part_of_the_page_and_has_an_alternative_text(page):
    elements = Elements(page).found
    pictures = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(pictures) == 6
    assert all(p["role"] == "img" and len(p["aria-label"]) > 40 for p in pictures)
    assert not {tag for tag, _ in elements} & {"img", "picture", "source", "object", "image"}


def test_the_most_urgent_sentence_is_read_first(capsys):
    report = audit_report.make_report()
    report["sentences"].reverse()
    order = ["Quiet failures", "Who decides", "What was read", "Neglect", "Blind spots"]
    [listed] = re.findall(r'<ol class="sentences">(.*?)</ol>', render_page(report), re.S)
    assert re.findall(r'<a href="#\w+">(?:<bdi>)?([\w ]+)', listed) == order
    show_audit(report, Console(width=100))
    assert re.findall(rf"({'|'.join(order)}): ", capsys.readouterr().out) == order


def test_without_an_alarm_nothing_has_the_color_of_one():
    report = audit_report.make_report()
    assert "focus-1" in render_page(report).partition("</style>")[2]
    report["focus"][0]["why"] = "closest"
    page = render_page(report).partition("</style>")[2]
    assert "Closest to being paid: cases of <bdi>safety</bdi>" in page
    assert "focus-1" not in page and "focus-2" in page


def test_the_style_of_the_page_knows_the_classes_of_its_pictures(page):
    [style] = re.findall(r"<style>(.*?)</style>", page, re.S)
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    used = set(re.findall(r'class="([^"]*)"', pictures))
    assert {"rvpo-picture", "grid", "focus-1"} <= used
    ruled = set(re.findall(r"\.rvpo-picture \.([\w-]+)", style)) | {"rvpo-picture"}
    assert used <= ruled
    # A picture alone has the same rules, and its ground.
    [alone] = re.findall(r"<style>(.*?)</style>", Picture(1, 1, "", "")._repr_svg_())
    assert set(re.findall(r" \.([\w-]+)", alone)) | {"rvpo-picture"} == ruled | {"ground"}


def test_hostile_texts_are_escaped(page):
    assert page.encode("utf-8")  # no lone surrogates
    hidden = re.compile(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
    )
    assert not hidden.search(page)
    assert "<script>window" not in page and "<img src=x" not in page and "<svg/onload" not in page
    assert "{{ 7 * 191 }} {% for x in range(9) %}boom{% endfor %}" in page
    assert "<i>\\x1b</i>[31mred" in page and "<i>\\u202e</i>right" in page
    assert "<i>\\ud800</i>" in page and "<i>\\U000e0041</i>" in page


def test_a_written_escape_differs_from_a_real_one():
    assert marked("\\x1b \x1b") == "\\x1b <i>\\x1b</i>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\nb\tc", "a\\nb\\tc", id="line feed and tab"),
        pytest.param("\u202ea\u2069", "\\u202ea\\u2069", id="bidi marks"),
        pytest.param("\0\x7f\x9b", "\\x00\\x7f\\x9b", id="controls"),
        pytest.param("\udc80", "\\udc80", id="lone surrogate"),
        pytest.param("\U000e0001", "\\U000e0001", id="tag character"),
        pytest.param("na\N{COMBINING DIAERESIS}ive \N{GRINNING FACE}", None, id="letters stay"),
    ],
)
def test_plain_shows_what_cannot_be_seen(text, expected):
    assert printable(text, keep="") == (text if expected is None else expected)


def test_json_for_the_script_closes_nothing_and_keeps_the_values():
    value = {"a": "</script><!-- & \u2028\u2029 \ud800", "b": [1.5, None, True]}
    text = script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert text.isascii()
    assert json.loads(text) == value


def test_the_page_is_the_same_for_the_same_report(report, page):
    assert render_page(report) == page


def test_a_redacted_page_has_no_texts_even_where_the_report_holds_some(without_pictures, report):
    page = render_page(report | {"redacted": True})
    cases = page[page.index('id="case-list"') : page.index('id="between"')]
    assert "<pre" not in cases and 'class="text"' not in cases and "NUL" not in page
    assert "case 0" not in page and "prompt &lt;" not in page
    assert len(re.findall("<article", cases)) == len(report["cases"])


@pytest.fixture(scope="module")
def large_report():
    report = audit_report.make_report(
        names=SEVENTEEN,
        num_steps=60,
        groups_per_step=2,
        num_windows=60,
        num_cases=60,
        text_size=4000,
    )
    points = np.random.default_rng(0).normal(size=(2, 1500)).tolist()
    report["scatter"] |= {"x": points[0], "y": points[1], "failed": [True, False] * 750}
    return report


def test_a_large_page_stays_under_five_megabytes(large_report):
    assert len(large_report["cases"]) == 60
    assert len(render_page(large_report).encode()) < 5_000_000


@pytest.mark.slow
@pytest.mark.parametrize("worst", ["a\U000e0001", "\N{GRINNING FACE}"])
def test_texts_that_grow_when_escaped_are_cut(without_pictures, large_report, worst):
    case = dict.fromkeys(("prompt", "completion"), (worst * 4000)[:4000])
    page = render_page(large_report | {"cases": [old | case for old in large_report["cases"]]})
    # What the pictures of this report add is measured in the test above: below 0.3 MB.
    assert len(page.encode()) < 3_500_000


def test_the_page_does_not_grow_with_the_size_of_a_group(without_pictures):
    report = audit_report.make_report()
    size = len(render_page(report))
    for case in report["cases"]:
        case["group_rewards"] = case["group_rewards"] * 500
    assert len(render_page(report)) < 1.01 * size


def test_the_script_gets_mean_and_sample_std_of_each_channel_and_of_the_sums():
    report = audit_report.make_report(names=("a", "b"), num_cases=1)
    group = [[1.0, None], [2.0, 5.0], [6.0, 5.0], [None, None]]
    report["cases"][0]["group_rewards"] = group
    [case] = what_if_data(report)["cases"]
    # a: 1, 2, 6 -> mean 3, squares 4 + 1 + 9 = 14, variance 7; b is constant; sums 1, 7, 11.
    assert case["mean"] == [3.0, 5.0]
    np.testing.assert_allclose(case["std"], [7**0.5, 0.0], rtol=1e-15)
    np.testing.assert_allclose(case["sum_mean"], 19 / 3, rtol=1e-15)
    np.testing.assert_allclose(case["sum_std"], np.std([1, 7, 11], ddof=1), rtol=1e-15)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"names": audit_report.HOSTILE_NAMES, "num_windows": 0}, id="no steps"),
        pytest.param({"num_steps": 1, "num_windows": 1, "logged": False}, id="one step"),
        pytest.param({"names": ("only",)}, id="one channel"),
        pytest.param({"num_cases": 0}, id="no cases"),
        pytest.param({"names": ("$", "$$", "$\\bad{$", "_^{", "%")}, id="mathematics"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["numbers", "None everywhere"])
def test_unusual_reports_render(without_pictures, changes, known):
    report = audit_report.make_report(**changes)
    if not known:
        report = audit_report.emptied(report)
    page = render_page(report)
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "None" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)


def renamed(report):
    """The report of a package in which every rule has another label and color."""
    colors = ("#111111", "#222222", "#333333", "#444444", "#555555")
    rules = [
        rule | {"label": f"r{place} (X)", "color": color}
        for place, (rule, color) in enumerate(zip(report["rules"], colors, strict=True))
    ]
    return report | {"rules": rules}


def test_labels_of_rules_are_those_of_the_report(without_pictures):
    report = renamed(audit_report.make_report(num_windows=1))
    places = {rule["method"]: place for place, rule in enumerate(report["rules"])}
    page = render_page(report)
    for method in ("gdpo", "grpo", "hard_min"):
        assert f'<option value="{method}">r{places[method]} (X)</option>' in page


def test_the_numbers_of_a_rule_stand_below_its_name_in_the_terminal(capsys):
    table = {f"c{m}": [0.0, 1.0] * 20 for m in range(3)} | {"group": [*range(20)] * 2}
    found = rvpo_jax.audit(table, group="group", what_if=["cvar:tail=0.3"])
    show_audit(found.report, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    [head] = [n for n, line in enumerate(lines) if "failures" in line and "tail=0.3" in line]
    assert lines[head - 1].strip() == "cvar"
    assert "channel" in lines[head]


def test_the_terminal_heads_a_column_with_the_rules_label_or_its_k(capsys):
    report = renamed(audit_report.make_report(num_windows=1))
    show_audit(report, Console(width=200))
    [heads] = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "failures" in line and "k=1" in line
    ]
    assert heads.split() == "channel failures groups logged* r1 r2 k=1 r4".split()


def test_percentages_have_one_form(without_pictures):
    page = render_page(_report(make_log(PROBLEMS, steps=12), None, (), False))
    visible = re.sub(r"<(script|style).*?</\1>|<[^>]*>", "", page, flags=re.S)
    assert re.search(r"\d %", visible)
    assert not re.search(r"\d%", visible)
    # An estimate of a share: the value, then its interval without a second unit.
    assert re.search(r'class="value">\d+ %</span> <span class="interval">\[\d+, \d+\]</span>', page)


def test_every_sentence_links_to_the_section_of_its_topic():
    report = audit_report.make_report()
    page = render_page(report)
    for sentence in report["sentences"]:
        [section] = re.findall(f'<a href="#(\\w+)">(?:<bdi>){sentence["topic"]}', page)
        assert f'<h2 id="{section}-title">{sentence["topic"]}</h2>' in page


def test_of_many_channels_a_card_shows_those_that_fail_and_weigh_most(without_pictures):
    names = tuple(f"channel_{index}" for index in range(41))
    report = audit_report.make_report(names=names, num_cases=1)
    [case] = report["cases"]
    case["failed"] = ["channel_40", "channel_7"]
    page = render_page(report)
    card = page[page.index('id="case-list"') : page.index("more channels</summary>")]
    shown = [name for name in names if f"<bdi>{name}</bdi>" in card.split("<caption>Channels")[1]]
    assert len(shown) == 6 and {"channel_40", "channel_7"} <= set(shown)
    assert "35 more channels" in page
