"""What the pictures of an audit are made of: scales, ticks, elements of SVG, names, files."""

import math
import xml.etree.ElementTree as ElementTree

import audit_report
import pytest

from rvpo_jax.auditing.page.heat import heat_color, ink_on
from rvpo_jax.auditing.page.lettering import plot_label, text_width
from rvpo_jax.auditing.page.picture import Picture, finish
from rvpo_jax.auditing.page.scales import Scale, limits, round_ticks, written
from rvpo_jax.auditing.page.svg import Drawing, element, number
from rvpo_jax.basics.files import WriteError
from rvpo_jax.basics.refusals import Refusal

NAN = math.nan


def parsed(drawing):
    """The elements of a drawing: tag and attributes."""
    root = ElementTree.fromstring(f"<svg>{''.join(drawing.elements)}</svg>")
    return [(node.tag, node.attrib | {"text": node.text}) for node in root]


@pytest.mark.parametrize(
    ("scale", "value", "pixel"),
    [
        pytest.param(Scale(0, 10, 100, 300), 2.5, 150, id="a quarter"),
        pytest.param(Scale(-1, 1, 200, 0), 0.5, 50, id="upwards"),
        pytest.param(Scale(2.5, -0.5, 90, 0), 1, 45, id="rows"),
        pytest.param(Scale(3, 3, 0, 80), 3, 40, id="one value: the middle"),
    ],
)
def test_a_scale_is_a_straight_line(scale, value, pixel):
    assert scale(value) == pytest.approx(pixel)


@pytest.mark.parametrize(
    ("ends", "options", "expected"),
    [
        pytest.param((-0.02, 1.02), {}, [0, 0.2, 0.4, 0.6, 0.8, 1], id="shares"),
        pytest.param((0, 0.3), {}, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3], id="floats are exact"),
        pytest.param((-7, 12), {}, [-5, 0, 5, 10], id="fives"),
        pytest.param((3, 70), {"most": 4}, [20, 40, 60], id="at most four steps"),
        pytest.param((0.2, 3.4), {"whole": True}, [1, 2, 3], id="whole"),
        pytest.param((0.2, 0.8), {"whole": True}, [], id="no whole one inside"),
        pytest.param((0, 8e9), {"most": 4}, [0, 2e9, 4e9, 6e9, 8e9], id="large"),
        pytest.param((0, 3e-7), {"most": 3}, [0, 1e-7, 2e-7, 3e-7], id="small"),
        pytest.param((1, 1), {}, [], id="no span"),
        pytest.param((NAN, 1), {}, [], id="unknown"),
        pytest.param((-1.7e308, 1.7e308), {}, [], id="a span beyond floats"),
    ],
)
def test_ticks_are_round(ends, options, expected):
    assert round_ticks(*ends, **options) == expected


@pytest.mark.parametrize(
    ("values", "percent", "labels"),
    [
        pytest.param([0, 0.2, 0.4], True, ["0 %", "20 %", "40 %"], id="whole percent"),
        pytest.param([0, 0.005], True, ["0.0 %", "0.5 %"], id="parts of one percent"),
        pytest.param([-0.5, 0, 0.5], False, ["−0.5", "0.0", "0.5"], id="a minus"),
        pytest.param([-0.1 + 0.1 - 1e-17, 1], False, ["0", "1"], id="no minus before zero"),
        pytest.param([10, 20], False, ["10", "20"], id="integers"),
        pytest.param([2e9, 4e9], False, ["2e+09", "4e+09"], id="large"),
        pytest.param([1e-9, 2e-9], False, ["1e−09", "2e−09"], id="small"),
        pytest.param([7], False, ["7"], id="one"),
        pytest.param([], False, [], id="none"),
    ],
)
def test_ticks_of_one_axis_have_the_same_digits(values, percent, labels):
    assert [label for _, label in written(values, percent=percent)] == labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([0, 10], (-0.5, 10.5), id="a twentieth on both sides"),
        pytest.param([None, NAN, math.inf], (0, 1), id="nothing known"),
        pytest.param([0.0, 0.0], (-0.5, 0.5), id="zero alone"),
        pytest.param([20, 20], (18, 22), id="one value"),
    ],
)
def test_limits_hold_the_values_and_some_room(values, expected):
    assert limits(values) == pytest.approx(expected)


def test_a_line_has_gaps_and_a_lone_point_is_a_dot():
    drawing = Drawing(10)
    drawing.line(
        [(0, 0), (1, 1.25), (2, NAN), (3, 3), (NAN, 4), (5, 5), (6, math.inf), (7, 7), (8, 8)],
        "#123456",
        2.0,
    )
    lines = [attributes["points"] for tag, attributes in parsed(drawing) if tag == "polyline"]
    dots = [(a["cx"], a["cy"], a["r"]) for tag, a in parsed(drawing) if tag == "circle"]
    assert lines == ["0,0 1,1.2", "7,7 8,8"]
    assert dots == [("3", "3", "2"), ("5", "5", "2")]


def test_a_band_is_there_where_both_of_its_curves_are():
    drawing = Drawing(10)
    lower = [(0, 9), (1, 9), (2, 9), (3, NAN), (4, 9), (5, 9)]
    drawing.band(lower, [(0, 1), (1, 2), (2, NAN), (3, 3), (4, 4), (5, 5)], "#123456", 0.25)
    bands = [attributes["points"] for _, attributes in parsed(drawing)]
    assert bands == ["0,9 1,9 1,2 0,1", "4,9 5,9 5,5 4,4"]


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_no_element_holds_what_is_not_finite(value):
    with pytest.raises(ValueError, match="finite"):
        number(value)
    with pytest.raises(ValueError, match="finite"):
        element("circle", cx=value)


@pytest.mark.parametrize("text", [*audit_report.HOSTILE, *audit_report.HOSTILE_NAMES])
def test_a_hostile_text_is_one_text_and_nothing_else(text):
    drawing = Drawing(10)
    drawing.text((1, 2), text, css=text)
    [(tag, attributes)] = parsed(drawing)
    assert tag == "text"
    assert attributes["text"].isprintable()
    assert attributes["text"].encode()  # no lone surrogates
    assert set(attributes) == {"x", "y", "font-size", "class", "text"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("safety", "safety", id="short"),
        pytest.param("a\u202eb\0", "a\\u202eb\\x00", id="hidden characters are written out"),
        pytest.param("\ud800", "\\ud800", id="lone surrogate"),
        pytest.param("$\\frac{a}{", "$\\frac{a}{", id="text is not mathematics"),
        pytest.param("a" * 26, "a" * 26, id="as long as it may be"),
        pytest.param("a" * 18 + "b" * 9 + "c" * 8, "a" * 17 + "…" + "c" * 8, id="too long"),
    ],
)
def test_a_name_in_a_plot(name, expected):
    assert plot_label(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "\N{CJK UNIFIED IDEOGRAPH-6B63}" * 40,
        "W" * 40,
        "x" + "\N{COMBINING ACUTE ACCENT}" * 900,
        "\u202e" * 10**6,
        " ".join(audit_report.HOSTILE),
    ],
    ids=["CJK", "wide letters", "accents", "a million marks", "hostile"],
)
@pytest.mark.parametrize("ems", [15.6, 12.0, 3.0, 0.1])
def test_a_long_name_is_cut_to_its_width_and_length(name, ems):
    label = plot_label(name, ems)
    assert len(label) <= 26 and "…" in label
    assert text_width(label, 1.0) <= max(ems, text_width("…", 1.0))


def test_the_width_of_a_text_is_guessed_from_its_letters():
    assert text_width("\N{CJK UNIFIED IDEOGRAPH-6B63}" * 3, 10) > text_width("nnn", 10)
    assert text_width("nnn", 10) > text_width("iii", 10)
    assert text_width("e\N{COMBINING ACUTE ACCENT}", 10) == text_width("e", 10)
    assert text_width("safety", 20) == pytest.approx(2 * text_width("safety", 10))


@pytest.mark.parametrize(
    ("share", "color"),
    [
        pytest.param(0, "#00224e", id="dark end"),
        pytest.param(1, "#fee838", id="light end"),
        # Halfway from #7d7c78 at 0.5 to #948e77 at 0.6: (125 + 148) / 2 = 136.5, 133, 119.5.
        pytest.param(0.55, "#888578", id="between two stops"),
        pytest.param(-3, "#00224e", id="below"),
        pytest.param(7, "#fee838", id="above"),
    ],
)
def test_heat_goes_from_dark_to_light(share, color):
    assert heat_color(share) == color


@pytest.mark.parametrize("percent", range(101))
def test_numbers_in_a_heat_map_stand_out(percent):
    color = heat_color(percent / 100)
    ratio = contrast(color, ink_on(color))
    assert ratio >= 4.5
    assert ratio >= contrast(color, {"#000000": "#ffffff", "#ffffff": "#000000"}[ink_on(color)])


def contrast(first, second):
    """WCAG's ratio of two colors, written out."""

    def light(color):
        shares = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted([light(first), light(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def picture():
    drawing = Drawing(40)
    drawing.text((1, 2), "a < b")
    return finish(drawing, 'alt "text"')


def test_a_picture_is_saved_as_it_shows_itself(picture, tmp_path):
    path = picture.save(tmp_path / "weights.svg")
    assert path.read_text(encoding="utf-8") == picture._repr_svg_() + "\n"
    assert list(tmp_path.iterdir()) == [path]  # no part of a file is left
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (root.get("viewBox"), root.get("aria-label")) == ("0 0 560 40", 'alt "text"')
    style, ground, text = root
    assert "color:#1b2027" in style.text and text.text == "a < b"
    assert (ground.get("width"), ground.get("height")) == ("560", "40")


@pytest.mark.parametrize("name", ["weights.png", "weights", "weights.svg.gz"])
def test_a_picture_is_not_saved_as_something_else(picture, tmp_path, name):
    with pytest.raises(Refusal, match=rf"path must end in \.svg, got .*{name}\.\n  Name a file"):
        picture.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_in_no_folder_is_not_saved(picture, tmp_path):
    with pytest.raises(WriteError, match="could not be written"):
        picture.save(tmp_path / "missing" / "weights.svg")


def test_inside_a_page_a_picture_has_no_style_of_its_own(picture):
    assert "<style" not in picture.inline() and "http" not in picture.inline()
    assert picture.inline().startswith('<svg width="560" height="40" viewBox="0 0 560 40"')


def test_a_picture_is_short_in_words(picture):
    assert repr(picture) == "Picture(width=560.0, height=40, alt='alt \"text\"')"
    assert isinstance(picture, Picture)
