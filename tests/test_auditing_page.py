"""The audit page without a browser: policy, escaping, size, redaction, figures."""

import base64
import hashlib
import html.parser
import io
import json
import re

import audit_report
import matplotlib.colors
import numpy as np
import pytest
from planted import PROBLEMS, make_log
from rich.console import Console

from rvpo_jax.auditing import show_audit
from rvpo_jax.auditing.page import page as audit_page
from rvpo_jax.auditing.page.page import render_page, script_json
from rvpo_jax.auditing.page.plots import make_figures
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
    """For what does not concern them: drawing takes nine tenths of the time."""
    monkeypatch.setattr(audit_page, "make_figures", lambda report, dark: {})


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
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_page_has_no_style_or_event_attributes_and_names_nothing_outside(page):
    elements = Elements(page).found
    names = {name for _, attributes in elements for name in attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}
    links = [value for _, a in elements for name, value in a.items() if name in ("src", "href")]
    assert all(link.startswith(("data:image/svg+xml;base64,", "#")) for link in links)
    assert [tag for tag, _ in elements].count("script") == 2  # the numbers and the program
    assert not re.search(r"@import|url\(", page)


def test_every_picture_has_a_dark_variant_and_an_alternative_text(page):
    elements = Elements(page).found
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert len(images) == 6
    assert all(len(image["alt"]) > 40 for image in images)
    sources = [attributes for tag, attributes in elements if tag == "source"]
    assert all("prefers-color-scheme: dark" in source["media"] for source in sources)
    assert [s["srcset"] != i["src"] for s, i in zip(sources, images, strict=True)] == [True] * 6


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


@pytest.mark.parametrize("worst", ["a\U000e0001", "\N{GRINNING FACE}"])
def test_texts_that_grow_when_escaped_are_cut(without_pictures, large_report, worst):
    case = dict.fromkeys(("prompt", "completion"), (worst * 4000)[:4000])
    page = render_page(large_report | {"cases": [old | case for old in large_report["cases"]]})
    # What the pictures of this report add is measured in the test above: below 1.5 MB.
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


def emptied(value):
    """The same report with None for every number that may be unknown."""
    if isinstance(value, dict):
        return {k: v if k in ("k", "batches", "counts") else emptied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [emptied(item) for item in value]
    return None if isinstance(value, float) else value


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
        steps = report["trajectory"] and report["trajectory"]["step"]
        edges, scatter = report["level"]["edges"], report["scatter"]
        report = emptied(report)
        report["error_rate"], report["level"]["edges"] = 0.01, edges
        report["scatter"] = scatter | {"x": [], "y": [], "failed": []}
        for channel in report["channels"]:
            channel |= {"low": 0.0, "high": 1.0, "pass_at": 1.0}
        if steps:
            report["trajectory"]["step"] = steps
    page = render_page(report)
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    for figure in make_figures(report, dark=True).values():
        figure.savefig(io.BytesIO(), format="svg")
    assert "None" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)


def test_figures_are_named_and_quiet_failures_have_one_only_over_steps():
    names = ["overview", "pass_rates", "weights", "conditional", "compensation"]
    assert list(make_figures(audit_report.make_report())) == [*names, "quiet"]
    assert list(make_figures(audit_report.make_report(num_windows=0))) == names


def test_the_compensation_plot_counts_failures_that_are_reinforced():
    report = audit_report.make_report()
    report["scatter"] |= {"x": [0.0] * 4, "y": [1, -1, 2, 0], "failed": [True, True, False, True]}
    axes = make_figures(report)["compensation"].axes[0]
    labels = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
    assert labels["fails one and is reinforced (1)"] == 1
    assert labels["fails one, pushed down (2)"] == 2


def test_the_weight_ribbon_stacks_the_weights_to_one():
    report = audit_report.make_report()
    axes = make_figures(report)["weights"].axes[0]
    top = axes.collections[-1].get_paths()[0].vertices[:, 1].max()
    total = np.sum([weights for weights in report["trajectory"]["weight"].values()], axis=0)
    np.testing.assert_allclose(top, total.max(), rtol=1e-9)


def renamed(report):
    """The report of a package in which every rule has another label and color."""
    colors = ("#111111", "#222222", "#333333", "#444444", "#555555")
    rules = [
        rule | {"label": f"r{place} (X)", "color": color}
        for place, (rule, color) in enumerate(zip(report["rules"], colors, strict=True))
    ]
    return report | {"rules": rules}


def test_labels_and_colors_of_rules_are_those_of_the_report(without_pictures):
    report = renamed(audit_report.make_report(num_windows=1))
    places = {rule["method"]: place for place, rule in enumerate(report["rules"])}
    [axes] = make_figures(report)["weights"].axes
    bars = {bars.get_label(): bars.patches[0].get_facecolor() for bars in axes.containers}
    for method in ("rvpo", "grpo"):
        rule = report["rules"][places[method]]
        assert bars[rule["label"]] == matplotlib.colors.to_rgba(rule["color"])
    page = render_page(report)
    for method in ("gdpo", "grpo", "hard_min"):
        assert f'<option value="{method}">r{places[method]} (X)</option>' in page


def test_the_terminal_heads_a_column_with_the_rules_label_or_its_k(capsys):
    report = renamed(audit_report.make_report(num_windows=1))
    show_audit(report, Console(width=200))
    [heads] = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "failures" in line and "k=1" in line
    ]
    assert heads.split() == "channel failures groups logged* r1 r2 k=1 r4".split()


def test_without_steps_the_first_picture_is_the_gap_of_the_channel_in_focus_by_rule():
    report = audit_report.make_report(num_windows=0)
    [axes] = make_figures(report)["overview"].axes
    gaps = [row for row in report["quiet_failures"] if row["channel"] == "safety"]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [row["gap"]["value"] for row in gaps])
    assert "safety" in axes.get_xlabel()


def test_the_first_picture_draws_out_the_channel_in_focus():
    [axes] = make_figures(audit_report.make_report(names=SEVENTEEN))["overview"].axes
    named = {text.get_text() for text in axes.texts}
    assert named == {"channel_16", "all channels met"}
    assert [line.get_linewidth() for line in axes.lines].count(2.8) == 1
    [other] = axes.get_legend().get_texts()
    assert other.get_text() == "16 other channels"


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
