"""The audit page for a busy person: what one screen and one printout hold, and what opens."""

import re
from functools import partial

import audit_report
import pytest

from rvpo_jax.auditing.page.forms import number, percent
from rvpo_jax.auditing.page.page import SECTIONS

SCREEN = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SIZES = (3, 6, 41)


def many(count):
    """A report of so many channels; the last one has the alarm."""
    names = [*audit_report.NAMES[:2], *(f"rubric_number_{index}" for index in range(count))]
    names = (*names[: count - 1], audit_report.NAMES[2])
    return audit_report.make_report(names=names, num_steps=12, num_windows=12, num_cases=40)


@pytest.fixture(scope="module")
def reports():
    return {count: many(count) for count in SIZES}


@pytest.fixture
def visit(visit):
    """The page as it opens, with its sections closed."""
    return partial(visit, opened=False)


def bottom(page, selector):
    box = page.locator(selector).last.bounding_box()
    return box["y"] + box["height"]


@pytest.mark.parametrize("count", SIZES)
def test_one_screen_holds_verdict_sentences_picture_and_three_cases(visit, reports, count):
    page = visit(count, viewport=SCREEN).page
    for selector in (".verdict", ".sentences li", ".overview svg", ".glimpse .excerpt"):
        assert 0 < bottom(page, selector) <= 800, selector
    assert page.locator(".glimpses-title").inner_text().startswith("Cases of safety")
    for glimpse, case in zip(page.locator(".excerpt").all(), reports[count]["cases"], strict=False):
        assert case["completion"].split(":")[0] in glimpse.inner_text()
    assert page.evaluate("document.documentElement.scrollHeight") < 1600


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_a_sentence_opens_its_section(visit, reports, javascript):
    page = visit(3, viewport=SCREEN, java_script_enabled=javascript).page
    for sentence in reports[3]["sentences"]:
        link = page.locator(".sentences a", has_text=sentence["topic"])
        section = page.locator(link.get_attribute("href"))
        assert not section.is_visible()
        link.click()
        section.wait_for(state="visible")
        assert section.locator(".lead").first.inner_text() == sentence["text"]
        assert -1 < section.bounding_box()["y"] < 800
        page.evaluate("scrollTo(0, 0)")


def test_a_case_of_the_first_screen_opens_its_card(visit):
    page = visit(3, viewport=SCREEN).page
    page.locator(".glimpse a").nth(2).click()
    assert page.locator("#case-list details.card").nth(2).get_attribute("open") is not None
    assert page.locator("#case-2").is_visible()


def test_sections_open_by_keyboard_and_all_at_once(visit):
    page = visit(3, viewport=SCREEN).page
    assert page.locator("details.section[open]").count() == 0
    page.locator("details.section > summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.section[open]").count() == 1
    button = page.locator("#open-all")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.section[open]").count() == len(SECTIONS) - 1  # no comparison
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.locator("details.section[open]").count() == 0


@pytest.mark.parametrize("count", (3, 41))
def test_the_slider_moves_the_table(visit, reports, count):
    report = reports[count]
    page = visit(count, viewport=SCREEN).page
    page.locator("a.all").click()
    assert bottom(page, "#controls") - page.locator("#cases").bounding_box()["y"] < 250
    for place in (1, 7):
        page.locator("#k").fill(str(place))
        for name, form in (("rate", percent), ("weight", percent)):
            cells = page.locator(f"td.swept[data-sweep={name}]").all_inner_texts()
            assert cells == [form(value) for value in report["sweep"][name][place]]
        gaps = page.locator("td.swept[data-sweep=gap]").all_inner_texts()
        assert gaps == [number(value, "+.2f") for value in report["sweep"]["gap"][place]]
    page.locator("#rule").select_option("grpo")
    rows = [row for row in report["quiet_failures"] if row["rule"] == "grpo"]
    cells = page.locator("td.swept[data-sweep=of_failures]").all_inner_texts()
    assert cells == [percent(row["of_failures"]["value"]) for row in rows]


@pytest.mark.parametrize("count", SIZES)
def test_it_prints_on_six_pages_at_most_and_not_over_their_side(visit, count):
    page = visit(count, viewport={"width": 720, "height": 1020}).page  # A4 without its margins
    paper = page.pdf(format="A4", print_background=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page[^s]", paper)) <= 6
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720


@pytest.mark.parametrize("count", SIZES)
def test_on_a_phone_nothing_is_cut(visit, count):
    opened = visit(count, viewport=PHONE)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Tables scroll in frames of their own; pictures are shown whole.
    widths = page.evaluate(
        "[...document.images].map((i) => [i.getBoundingClientRect().right, i.clientWidth])"
    )
    assert all(right <= 390 and width > 250 for right, width in widths)
    frames = page.evaluate("[...document.querySelectorAll('.plot')].map((e) => e.scrollWidth)")
    assert max(frames) <= 390
    assert opened.console == []
