"""The pictures of an audit: what they show stands where the numbers say, whatever the names."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import audit_report
import numpy as np
import pytest

from rvpo_jax.auditing.page.frame import fitting
from rvpo_jax.auditing.page.lettering import text_width
from rvpo_jax.auditing.page.plots import make_figures
from rvpo_jax.basics.palette import COLORS

FORTY_ONE = tuple(f"channel_{index}" for index in range(41))
WIDE = tuple(f"{'W' * 40}{index}" for index in range(6))
CJK = tuple("\N{CJK UNIFIED IDEOGRAPH-6B63}" * 40 + str(index) for index in range(5))
REPORTS = {
    "three": {},
    "hostile": {"names": audit_report.HOSTILE_NAMES},
    "many": {"names": FORTY_ONE},
    "wide": {"names": WIDE},
    "CJK": {"names": CJK},
    "one": {"names": ("only",)},
}
# All that a picture is made of: no scripts, links, foreign elements, styles or ids.
ELEMENTS = {"text", "line", "polyline", "polygon", "rect", "circle"}
ATTRIBUTES = (
    "x y x1 x2 y1 y2 cx cy r width height points transform class fill fill-opacity stroke "
    "stroke-width stroke-opacity stroke-dasharray stroke-linecap stroke-linejoin font-size "
    "font-weight text-anchor shape-rendering"
).split()


class Shown:
    """The elements of a picture, parsed."""

    def __init__(self, picture):
        root = ElementTree.fromstring(picture.inline())
        self.width, self.height = float(root.get("width")), float(root.get("height"))
        self.nodes = list(root)
        assert all(len(node) == 0 for node in self.nodes)

    def named(self, tag, **attributes):
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            node
            for node in self.nodes
            if node.tag == tag and all(node.get(k) == v for k, v in wanted.items())
        ]

    def texts(self):
        return [node.text for node in self.named("text")]

    def tick(self, label, **attributes):
        """The middle of a label, as (x, y)."""
        [node] = [node for node in self.named("text", **attributes) if node.text == label]
        return float(node.get("x")), float(node.get("y")) - 0.35 * float(node.get("font-size"))

    def scale(self, axis, first, second):
        """Pixels of numbers on an axis on which two labels and their values are known."""
        anchor = ("middle", "end")[axis]
        (a, at), (b, to) = (
            (value, self.tick(label, text_anchor=anchor)[axis]) for label, value in (first, second)
        )
        return lambda values: at + (np.asarray(values, float) - a) / (b - a) * (to - at)


def points(node):
    return np.array([[float(n) for n in pair.split(",")] for pair in node.get("points").split()])


SHARES = (("0 %", 0.0), ("100 %", 1.0))


def test_pictures_are_named_and_quiet_failures_have_one_only_over_steps():
    names = ["overview", "pass_rates", "weights", "conditional", "compensation"]
    assert list(make_figures(audit_report.make_report())) == [*names, "quiet"]
    assert list(make_figures(audit_report.make_report(num_windows=0))) == names
    assert list(make_figures(audit_report.make_report(num_windows=1))) == names


@pytest.mark.parametrize("windows", [6, 0], ids=["steps", "no steps"])
@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("known", [True, False], ids=["numbers", "None everywhere"])
def test_a_picture_is_made_of_few_things_and_all_of_them_are_inside(name, windows, known):
    report = audit_report.make_report(num_windows=windows, **REPORTS[name])
    report = report if known else audit_report.emptied(report)
    for picture in make_figures(report).values():
        shown = Shown(picture)
        assert {node.tag for node in shown.nodes} <= ELEMENTS
        assert {key for node in shown.nodes for key in node.attrib} <= set(ATTRIBUTES)
        numbers = " ".join(
            value for node in shown.nodes for key, value in node.attrib.items() if key != "class"
        )
        assert not re.search(r"nan|inf", numbers)
        for node in shown.named("text"):
            assert node.text.isprintable()
            left, top, right, bottom = text_box(node)
            assert 0 <= left and right <= shown.width, node.text
            assert 0 <= top and bottom <= shown.height, node.text
        for node in shown.named("polyline") + shown.named("polygon"):
            x, y = points(node).T
            assert 0 <= x.min() and x.max() <= shown.width
            assert 0 <= y.min() and y.max() <= shown.height


def text_box(node):
    """Left, top, right and bottom of a text, by the guess of its width."""
    size, x, y = (float(node.get(name)) for name in ("font-size", "x", "y"))
    width = text_width(node.text, size)
    before = {"middle": width / 2, "end": width}.get(node.get("text-anchor"), 0.0)
    corners = [(dx, dy) for dx in (-before, width - before) for dy in (-0.7 * size, 0.2 * size)]
    turn = re.match(r"rotate\((\S+) ", node.get("transform", ""))
    angle = math.radians(float(turn[1])) if turn else 0.0
    xs = [x + dx * math.cos(angle) - dy * math.sin(angle) for dx, dy in corners]
    ys = [y + dx * math.sin(angle) + dy * math.cos(angle) for dx, dy in corners]
    return min(xs), min(ys), max(xs), max(ys)


@pytest.mark.parametrize("name", REPORTS)
def test_no_label_of_an_axis_lies_on_another(name):
    """Ticks, names of rows, names at the ends of lines: all texts that are not turned."""
    for windows in (6, 0):
        report = audit_report.make_report(num_windows=windows, **REPORTS[name])
        for picture in make_figures(report).values():
            level = [n for n in Shown(picture).named("text") if n.get("transform") is None]
            boxes = np.array([text_box(node) for node in level])
            for index, (left, top, right, bottom) in enumerate(boxes):
                others = np.delete(boxes, index, axis=0)
                apart = (
                    (others[:, 0] >= right) | (others[:, 2] <= left)
                    | (others[:, 1] >= bottom) | (others[:, 3] <= top)
                )  # fmt: skip
                assert apart.all(), (level[index].text, picture.alt[:40])


def test_the_same_report_gives_the_same_bytes():
    first, second = (
        {k: p.inline() for k, p in make_figures(audit_report.make_report()).items()}
        for _ in range(2)
    )
    assert first == second


def test_pass_rates_stand_where_the_axis_says_with_a_gap_where_one_is_unknown():
    report = audit_report.make_report()
    trajectory = report["trajectory"]
    trajectory["step"] = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    trajectory["pass_rate"]["format"] |= {"rate": [0.0, 0.5, None, 1.0, 0.25, 0.75]}
    shown = Shown(make_figures(report)["pass_rates"])
    x, y = shown.scale(0, ("10", 10.0), ("40", 40.0)), shown.scale(1, *SHARES)
    _, first, second = shown.named("polyline", stroke=COLORS[1])  # behind its line in the legend
    np.testing.assert_allclose(points(first), np.transpose([x([0, 10]), y([0, 0.5])]), atol=0.1)
    np.testing.assert_allclose(
        points(second), np.transpose([x([30, 40, 50]), y([1, 0.25, 0.75])]), atol=0.1
    )


def test_a_band_lies_between_the_ends_of_the_intervals():
    report = audit_report.make_report()
    curve = report["trajectory"]["pass_rate"]["correctness"]
    shown = Shown(make_figures(report)["pass_rates"])
    y = shown.scale(1, *SHARES)
    [band] = shown.named("polygon", fill=COLORS[0])
    expected = [*y(curve["low"]), *y(curve["high"])[::-1]]
    np.testing.assert_allclose(points(band)[:, 1], expected, atol=0.1)


def test_the_first_picture_draws_out_the_channel_in_focus():
    report = audit_report.make_report(names=FORTY_ONE[:17])
    shown = Shown(make_figures(report)["overview"])
    beside = [node.text for node in shown.nodes if node.get("font-weight") == "600"]
    assert beside == ["channel_16"]
    assert {"all channels met", "16 other channels"} <= set(shown.texts())
    [line] = shown.named("polyline", stroke_width="2.8")
    rates = report["trajectory"]["pass_rate"]["channel_16"]["rate"]
    np.testing.assert_allclose(points(line)[:, 1], shown.scale(1, *SHARES)(rates), atol=0.1)


def test_names_at_the_ends_of_their_lines_are_in_the_order_of_the_lines():
    report = audit_report.make_report()
    curves = report["trajectory"]["pass_rate"]
    for name, end in (("correctness", 0.5), ("format", 0.51), ("safety", 0.49)):
        curves[name]["rate"][-1] = end
    report["trajectory"]["joint"]["rate"][-1] = None  # then its last known rate
    shown = Shown(make_figures(report)["overview"])
    names = ("format", "correctness", "safety")
    levels = [shown.tick(name)[1] for name in names]
    assert levels == sorted(levels) and min(np.diff(levels)) >= 17
    assert "all channels met" in shown.texts()


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_names_of_lines_that_end_alike_stay_beside_the_plot(end):
    report = audit_report.make_report(names=("a", "b", "c", "d", "e", "f"))
    for curve in report["trajectory"]["pass_rate"].values():
        curve["rate"][-1] = end
    shown = Shown(make_figures(report)["overview"])
    levels = sorted(shown.tick(name)[1] for name in "abcdef")
    y = shown.scale(1, *SHARES)
    assert y(1.02) - 1 <= levels[0] and levels[-1] <= y(-0.02) + 1
    assert min(np.diff(levels)) >= 17


def test_labels_of_long_numbers_are_fewer():
    ticks = fitting(0, 99_000_000, 150)
    assert sum(text_width(label, 13) for _, label in ticks) < 150
    assert len(ticks) < len(fitting(0, 99, 150))


def test_without_steps_the_first_picture_is_the_gap_of_the_channel_in_focus_by_rule():
    report = audit_report.make_report(num_windows=0)
    gaps = [row["gap"] for row in report["quiet_failures"] if row["channel"] == "safety"]
    for place, gap in enumerate(gaps):
        value = 0.1 * (place - 2)
        gap |= {"value": value, "low": value - 0.2, "high": value + 0.2}
    gaps[0] |= {"low": None}  # then there is no interval
    shown = Shown(make_figures(report)["overview"])
    x = shown.scale(0, ("−0.2", -0.2), ("0.2", 0.2))
    dots = shown.named("circle")
    np.testing.assert_allclose(
        [float(dot.get("cx")) for dot in dots], x([-0.2, -0.1, 0, 0.1, 0.2]), atol=0.1
    )
    paid = [dot.get("fill") == COLORS[4] for dot in dots]
    assert paid == [False, False, False, True, True]
    bars = [points(bar)[:, 0] for bar in shown.named("polyline", stroke_linecap="round")]
    expected = [x([value - 0.2, value + 0.2]) for value in (-0.1, 0, 0.1, 0.2)]
    np.testing.assert_allclose(bars, expected, atol=0.1)
    assert any("safety" in text for text in shown.texts())


def test_pass_rates_without_steps_are_dots_with_intervals():
    report = audit_report.make_report(num_windows=0)
    report["channels"][1]["pass_rate"] |= {"value": 0.5, "low": 0.25, "high": 0.8}
    report["channels"][2]["pass_rate"] |= {"value": None, "low": None, "high": None}
    shown = Shown(make_figures(report)["pass_rates"])
    x = shown.scale(0, *SHARES)
    [dot], [bar] = shown.named("circle", fill=COLORS[1]), shown.named("polyline", stroke=COLORS[1])
    np.testing.assert_allclose(float(dot.get("cx")), x(0.5), atol=0.1)
    np.testing.assert_allclose(points(bar)[:, 0], x([0.25, 0.8]), atol=0.1)
    np.testing.assert_allclose(points(bar)[:, 1], shown.tick("format")[1], atol=0.2)
    assert not shown.named("circle", fill=COLORS[2]) and "safety" in shown.texts()


def test_each_of_many_channels_has_a_small_plot_of_its_own():
    report = audit_report.make_report(names=FORTY_ONE)
    shown = Shown(make_figures(report)["pass_rates"])
    titles = [text for text in shown.texts() if text in FORTY_ONE]
    assert titles[0] == "channel_40" and sorted(titles) == sorted(FORTY_ONE)
    assert len(shown.named("polyline", stroke_width="1.8")) == 41
    ends = {n: c["rate"][-1] for n, c in report["trajectory"]["pass_rate"].items()}
    assert [ends[name] for name in titles[1:]] == sorted(ends[name] for name in titles[1:])


def test_the_ribbon_stacks_the_weights():
    report = audit_report.make_report(names=("a", "b", "c"))
    shares = {"a": [0.25, 0.5] * 3, "b": [0.5, 0.25] * 3, "c": [0.25, 0.125] * 3}
    report["trajectory"]["weight"] = shares
    shown = Shown(make_figures(report)["weights"])
    y = shown.scale(1, *SHARES)
    layers = [points(node)[:, 1] for node in shown.named("polygon")]
    tops = [[0.25, 0.5], [0.75, 0.75], [1.0, 0.875]]
    bottoms = [[0.0, 0.0], *tops]
    for layer, bottom, top in zip(layers, bottoms, tops, strict=False):
        np.testing.assert_allclose(layer, y(bottom * 3 + top[::-1] * 3), atol=0.1)
    assert len(layers) == 3


def test_bars_are_as_long_as_the_weights_in_the_colors_and_with_the_labels_of_the_rules():
    report = audit_report.make_report(names=("a", "b"), num_windows=1)
    colors = {"rvpo": "#111111", "grpo": "#222222"}
    for rule in report["rules"]:
        method = rule["method"]
        rule |= {"label": f"the {method} (X)", "color": colors.get(method)}
    rows = report["bottleneck"]["channels"]
    rows[0] |= {"weight": 0.25, "weight_grpo": 0.5}
    rows[1] |= {"weight": 0.75, "weight_grpo": None}
    shown = Shown(make_figures(report)["weights"])
    x = shown.scale(0, *SHARES)
    for method, shares in (("rvpo", [0.25, 0.75]), ("grpo", [0.5])):
        swatch, *bars = sorted(
            shown.named("rect", fill=colors[method]), key=lambda bar: float(bar.get("y"))
        )
        widths = [float(bar.get("width")) for bar in bars]
        np.testing.assert_allclose(widths, x(shares) - x(0), atol=0.11)
        assert f"the {method} (X)" in shown.texts() and swatch.get("width") == "24"


def test_the_heat_map_has_a_cell_for_every_known_pair():
    report = audit_report.make_report(names=("a", "b"))
    report["conditional"] = [[1.0, 0.0], [None, 0.5]]
    shown = Shown(make_figures(report)["conditional"])
    cells = [node.get("fill") for node in shown.named("rect")]
    assert cells == ["#fee838", "#00224e", "#7d7c78"]
    assert [text for text in shown.texts() if text in ("100", "0", "50", "–")] == [
        "100", "0", "–", "50",
    ]  # fmt: skip


def test_of_many_channels_the_pairs_that_differ_most_are_shown():
    report = audit_report.make_report(names=FORTY_ONE)
    report["channels"][3]["pass_rate"]["value"] = 0.95
    report["conditional"][3][5] = 0.2
    # Lower still, and as it is among all.
    report["channels"][4]["pass_rate"]["value"] = report["conditional"][4][6] = 0.1
    shown = Shown(make_figures(report)["conditional"])
    assert shown.texts().index("channel_3") + 1 == shown.texts().index("if channel_5 is met")
    x = shown.scale(0, *SHARES)
    first = shown.named("polyline")[0]
    np.testing.assert_allclose(points(first)[:, 0], x([0.95, 0.2]), atol=0.1)
    assert len(shown.named("circle")) == 24


def test_the_scatter_counts_failures_that_are_reinforced():
    report = audit_report.make_report()
    report["scatter"] |= {
        "x": [0.0, 1.0, 2.0, 3.0],
        "y": [1.0, -1.0, 2.0, 0.0],
        "failed": [True, True, False, True],
    }
    shown = Shown(make_figures(report)["compensation"])
    labels = ["meets them all (1)", "fails one, pushed down (2)", "fails one and is reinforced (1)"]
    assert set(labels) <= set(shown.texts())
    # Of each one more in the legend; a cross has two strokes.
    counts = Counter(node.tag for node in shown.nodes if node.get("fill") != "none")
    assert (counts["circle"], counts["polygon"]) == (2, 2)
    assert len(shown.named("polyline", stroke=COLORS[7])) == 2 * 3
    x, y = shown.scale(0, ("0.0", 0.0), ("2.0", 2.0)), shown.scale(1, ("−1.0", -1.0), ("2.0", 2.0))
    met = shown.named("circle")[-1]
    np.testing.assert_allclose(
        [float(met.get("cx")), float(met.get("cy"))], [x(2.0), y(2.0)], atol=0.2
    )


def test_quiet_failures_start_at_zero():
    report = audit_report.make_report()
    rates = [0.0, 0.01, None, 0.02, 0.04, 0.03]
    report["trajectory"]["quiet"]["safety"][report["rule_in_use"]] = rates
    shown = Shown(make_figures(report)["quiet"])
    y = shown.scale(1, ("0 %", 0.0), ("4 %", 0.04))
    [axis] = [line for line in shown.named("line") if line.get("x1") == line.get("x2")]
    np.testing.assert_allclose(float(axis.get("y1")), y(0.0), atol=0.1)
    lines = shown.named("polyline", stroke=COLORS[0])
    got = np.concatenate([points(line)[:, 1] for line in lines if len(points(line)) != 2])
    np.testing.assert_allclose(got, y([0.02, 0.04, 0.03]), atol=0.2)
