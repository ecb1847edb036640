"""The audit's page in a browser: nothing hostile runs, controls work, everybody can read it."""

import html
import json
import math

import audit_report
import numpy as np
import pytest

from rvpo_jax.auditing.page.page import render_page

# Smallest WCAG contrast of all visible texts, and the text that has it.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) =>
      c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  let count = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    // A number in a heat map has a cell for its ground, and a test of its own.
    if (!own || !element.checkVisibility() || element.matches("text[fill]")) continue;
    const ink = element.matches("text") ? "fill" : "color";
    const [a, b] = [light(parse(getComputedStyle(element)[ink])), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    count += 1;
    if (ratio < worst[0]) worst = [ratio, `${element.tagName} ${element.className}`];
  }
  return [...worst, count];
}"""
# Whether each picture is as high as it is wide, and its texts are where it is.
PICTURES = """() => [...document.querySelectorAll("svg.rvpo-picture")].map((picture) => {
  const [box, own] = [picture.getBoundingClientRect(), picture.viewBox.baseVal];
  const texts = [...picture.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
  const inside = (t) => t.left >= box.left - 1 && t.right <= box.right + 1
    && t.top >= box.top - 1 && t.bottom <= box.bottom + 1;
  return texts.length > 5 && texts.every(inside) && Math.abs(
    box.width / box.height - own.width / own.height) < 0.02;
})"""
VALUES = """() => [...document.querySelectorAll("#case-list > article")].map((card) => ({
  index: Number(card.dataset.case),
  aggregate: Number(card.dataset.aggregate),
  advantage: card.querySelector("td.advantage").dataset.value,
  weights: [...card.querySelectorAll("td.weight")].map((cell) => cell.dataset.value ?? null),
  flips: card.classList.contains("flips"),
}))"""


@pytest.fixture(scope="module")
def reports():
    return {
        "plain": audit_report.make_report(num_steps=8, num_cases=40, comparison=True),
        "hostile": audit_report.make_report(names=audit_report.HOSTILE_NAMES, comparison=True),
    }


@pytest.fixture(scope="module")
def shared(open_page):
    """One visit of the plain page for tests that only move its controls."""
    with open_page("plain") as opened:
        yield opened.page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_hostile_page_opens_from_disk_and_nothing_of_it_runs(visit, scheme):
    opened = visit("hostile", color_scheme=scheme)
    page = opened.page
    page.locator("#open-texts").click()
    page.locator("#k").fill("3")
    assert page.locator("#case-list article").count() == 12
    assert (opened.console, opened.dialogs) == ([], [])
    assert page.evaluate("window.__violations") == []
    assert page.evaluate("window.__pwned") is None
    assert {url.split(":")[0] for url in opened.requests} == {"file"}
    assert page.evaluate(PICTURES) == [True] * 6
    light = page.evaluate("getComputedStyle(document.querySelector('.grid')).stroke")
    assert (light == "rgb(217, 222, 229)") == (scheme == "light")


def test_the_policy_stops_what_would_get_past_the_escaping(visit, paths, tmp_path):
    broken = tmp_path / "broken.html"
    text = paths["plain"].read_text(encoding="utf-8")
    attack = "<script>window.__pwned = 7</script><b style='color:red' onclick='x()'>x</b>"
    broken.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    page = visit(broken).page
    assert page.evaluate("window.__pwned") is None
    assert {v.split("-")[0] for v in page.evaluate("window.__violations")} == {"script", "style"}


def test_a_page_without_cases_runs_without_an_error(visit, tmp_path):
    path = tmp_path / "empty.html"
    path.write_text(render_page(audit_report.make_report(num_cases=0)), encoding="utf-8")
    opened = visit(path)
    assert opened.console == []
    assert "No completion was chosen" in opened.page.locator("#cases").inner_text()
    assert opened.page.locator(".glimpse").count() == 0


def test_in_the_frame_of_a_notebook_links_and_controls_work(visit, paths, tmp_path):
    frame = tmp_path / "notebook.html"
    page = html.escape(paths["plain"].read_text(encoding="utf-8"), quote=True)
    frame.write_text(
        f'<iframe srcdoc="{page}" sandbox="allow-scripts" width="900" height="600"></iframe>',
        encoding="utf-8",
    )
    opened = visit(frame)
    inside = opened.page.frames[1]
    inside.locator("nav a").last.click()
    assert (
        inside.evaluate("document.getElementById('definitions').getBoundingClientRect().top") < 600
    )
    inside.locator("a[href='#cases']").first.click()
    inside.locator("#k").fill("1")
    assert inside.locator("#k-value").inner_text() == "0.1"
    assert opened.console == []


def expected_what_if(report, method, k):
    """Aggregate, advantage and weights of every case, float64, by the formulas of the report."""
    result = []
    for case in report["cases"]:
        group = np.array(
            [[math.nan if v is None else v for v in row] for row in case["group_rewards"]]
        )
        own = case["index"]
        aggregate = audit_report.group_aggregates(group, method, k)[own]
        batch = report["batches"][case["batch"]]
        advantage = audit_report.whitened(aggregate, batch, method, k)
        weights = audit_report.group_weights(group, method, k)[own]
        weights = np.where(np.isnan(group[own]), math.nan, weights)
        result.append((aggregate, advantage, weights))
    return result


CHOICES = [("gdpo", 1.0), ("grpo", 1.0), ("hard_min", 1.0)]
CHOICES += [("rvpo", math.inf if k == "inf" else k) for k in audit_report.GRID]


def test_the_cases_hold_what_is_hard_for_the_what_if(reports):
    groups = [case["group_rewards"] for case in reports["plain"]["cases"]]
    assert len({len(group) for group in groups}) > 2
    assert any(None in row for group in groups for row in group)
    assert any(len(set(column)) == 1 for group in groups for column in zip(*group, strict=True))


@pytest.mark.parametrize(("method", "k"), CHOICES)
def test_the_what_if_agrees_with_float64_numpy(shared, reports, method, k):
    report = reports["plain"]
    shared.locator("#rule").select_option(method)
    if method == "rvpo":
        place = audit_report.GRID.index("inf" if math.isinf(k) else k)
        shared.locator("#k").fill(str(place))
    values = sorted(shared.evaluate(VALUES), key=lambda value: value["index"])
    assert len(values) == 40
    flips = 0
    for value, case, (aggregate, advantage, weights) in zip(
        values, report["cases"], expected_what_if(report, method, k), strict=True
    ):
        got = [math.nan if w is None else float(w) for w in value["weights"]]
        np.testing.assert_allclose(got, weights, atol=1e-6)
        np.testing.assert_allclose(value["aggregate"], aggregate, atol=1e-6)
        np.testing.assert_allclose(float(value["advantage"]), advantage, atol=1e-6)
        flips += value["flips"]
        assert value["flips"] == ((advantage > 1e-5) != (case["advantages"]["logged"] > 1e-5))
    assert shared.locator("#flips").inner_text().startswith(f"{flips} of the 40 completions")


def test_a_flip_is_told_in_words(shared, reports):
    shared.locator("#rule").select_option("hard_min")
    marks = shared.locator(".flip-mark:visible")
    assert marks.count() > 0
    assert set(marks.all_inner_texts()) <= {"⇄ would be reinforced", "⇄ would not be reinforced"}


def order_of(page):
    return page.evaluate(
        "[...document.querySelectorAll('#case-list > article:not([hidden])')]"
        ".map((card) => Number(card.dataset.case))"
    )


@pytest.mark.parametrize(
    ("by", "key"),
    [
        pytest.param("step", lambda case: case["step"], id="step"),
        pytest.param("row", lambda case: case["row"], id="row"),
        pytest.param("0", lambda case: case["advantages"]["logged"], id="rule in use"),
        pytest.param("4", lambda case: case["advantages"]["hard_min"], id="hard minimum"),
        pytest.param("what-if", lambda case: case["advantages"]["gdpo"], id="what if"),
    ],
)
def test_cases_are_sorted(shared, reports, by, key):
    page = shared
    page.locator("#rule").select_option("gdpo")
    page.locator("#sort").select_option(by)
    for direction in (1, -1):
        page.locator("#direction").select_option(str(direction))
        keys = [round(key(reports["plain"]["cases"][index]), 9) for index in order_of(page)]
        assert keys == sorted(keys, reverse=direction < 0)
    page.locator("#sort").select_option("")
    page.locator("#direction").select_option("1")
    assert order_of(page) == list(range(40))


def test_cases_are_filtered_by_failed_channel_and_by_text(visit, reports):
    page = visit("plain").page
    cases = reports["plain"]["cases"]
    page.locator("#failed").select_option("2")
    failing = [index for index, case in enumerate(cases) if "safety" in case["failed"]]
    assert 0 < len(failing) < 40 and order_of(page) == failing
    page.locator("#search").fill("ALERT(1)")
    both = [index for index in failing if "alert(1)" in cases[index]["completion"]]
    assert 0 < len(both) < len(failing) and order_of(page) == both
    assert page.locator("#shown").inner_text() == f"{len(both)} of 40 completions shown."
    page.locator("#search").fill("no such text")
    assert order_of(page) == []


def test_the_page_is_operated_by_keyboard_alone(visit):
    page = visit("plain", opened=False).page

    def tab_to(condition):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate(
                f"(() => {{ const e = document.activeElement; return {condition}; }})()"
            ):
                return
        raise AssertionError(f"Tab does not lead to {condition}")

    tab_to("e.tagName === 'SUMMARY' && e.textContent.includes('What if')")
    assert not page.locator("#k").is_visible()
    page.keyboard.press("Enter")
    tab_to("e.id === 'k'")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = page.locator("#flips").inner_text()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#k-value").inner_text() == "8"  # from 1 over 2 and 4
    assert page.locator("#k").get_attribute("aria-valuetext") == "k = 8"
    assert page.locator("#flips").inner_text() != before
    tab_to("e.tagName === 'SUMMARY' && e.closest('details.text')")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.locator("pre:visible").count() == 1


def test_controls_and_pictures_have_names_and_status_is_announced(shared):
    unnamed = shared.evaluate(
        "[...document.querySelectorAll('#controls :is(input, select, button)')]"
        ".filter((e) => !(e.labels?.length || e.textContent.trim())).length"
    )
    assert unnamed == 0
    assert shared.locator("#flips").get_attribute("aria-live") == "polite"
    assert shared.locator("svg[role=img][aria-label]").count() == shared.locator("svg").count() == 6
    assert shared.locator("table:not(:has(caption))").count() == 0
    assert shared.locator("th:not([scope])").count() == 0


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_nothing_runs_over_the_side_of_a_phone(visit, javascript):
    page = visit(
        "hostile", viewport={"width": 360, "height": 740}, java_script_enabled=javascript
    ).page
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.body.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_stand_out_from_their_ground(visit, scheme):
    page = visit("hostile").page
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    page.locator("#rule").select_option("hard_min")
    ratio, element, count = page.evaluate(CONTRAST)
    assert count > 500
    assert ratio >= 4.5, element
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground.split("(")[1].split(",")[0]) < 60) == (scheme == "dark")


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_on_paper_are_the_alarms_and_what_was_opened(visit, javascript):
    page = visit("plain", opened=False, color_scheme="dark", java_script_enabled=javascript).page
    page.evaluate("document.getElementById('level').closest('details').open = true")
    page.emulate_media(media="print", color_scheme="dark")
    seen = page.evaluate(
        "[...document.querySelectorAll('details.section > section')]"
        ".filter((e) => e.getBoundingClientRect().height > 20).map((e) => e.id)"
    )
    assert seen == ["quiet", "bottleneck", "level"]  # a problem, a mark, and the open one
    assert page.locator(".excerpt:visible").count() == 3
    assert not page.locator("#controls").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ratio, element, _ = page.evaluate(CONTRAST)
    assert ratio >= 4.5, element
    grid = page.evaluate("getComputedStyle(document.querySelector('.grid')).stroke")
    assert grid == "rgb(217, 222, 229)"  # as on light ground


def test_without_a_script_everything_but_the_controls_can_be_read(visit):
    page = visit("plain", java_script_enabled=False).page
    assert not page.locator("#controls").is_visible()
    assert page.locator("th.what-if:visible").count() == 0
    assert page.locator("#case-list article:visible").count() == 40
    page.locator("#case-list details.text > summary").nth(1).click()
    assert page.locator("#case-list pre").nth(1).is_visible()


def test_texts_are_shown_as_they_are_with_hidden_characters_written_out(visit, reports):
    page = visit("plain").page
    page.locator("#open-texts").click()
    completions = page.locator("#case-list details.text:nth-of-type(2) pre").all_inner_texts()
    case = next(i for i, c in enumerate(reports["plain"]["cases"]) if "\x1b" in c["completion"])
    assert completions[case].endswith("\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x9b2J \\x00 NUL")
    assert json.dumps(completions).count("<script>") > 3


def test_the_page_of_a_real_audit_computes_what_python_computed(visit, tmp_path):
    """Standardising, aggregating and whitening from the log's raw rewards, all in the browser."""
    from planted import make_log

    from rvpo_jax.auditing.report import _report
    from rvpo_jax.auditing.rules import parse_rule

    report = _report(make_log(("paid",), steps=6), None, (parse_rule("rvpo:k=2"),), False)
    path = tmp_path / "audit.html"
    path.write_text(render_page(report), encoding="utf-8")
    page = visit(path).page
    grid = report["batches"][0]["k"]
    for rule in report["rules"]:
        page.locator("#rule").select_option(rule["method"])
        if rule["method"] == "rvpo":
            page.locator("#k").fill(str(grid.index(rule["risk_coef"])))
        for value in page.evaluate(VALUES):
            expected = report["cases"][value["index"]]["advantages"][rule["name"]]
            # The audit is float32: an advantage of 3 has a resolution of 2.4e-7 at every step.
            assert float(value["advantage"]) == pytest.approx(expected, abs=2e-6)
