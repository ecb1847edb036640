"""What a report shows first, and what its slider knows."""

import numpy as np
import pytest
from planted import make_log

from rvpo_jax.auditing import sweep, tables
from rvpo_jax.auditing.replay import replay
from rvpo_jax.auditing.report import _report
from rvpo_jax.auditing.rules import base_rules, parse_rule


def sweep_entry(table, k, name):
    return table[name][table["k"].index(k)]


@pytest.mark.parametrize("risk_coef", [0.0, 0.7, 2.0, float("inf")])
def test_the_slider_knows_what_the_what_if_of_a_report_says(risk_coef):
    log = make_log(("paid",), steps=6)
    log.rewards[::7, 1] = np.nan  # some are not scored
    k = "inf" if risk_coef == float("inf") else risk_coef
    rule = parse_rule(f"rvpo:k={k}")
    played = replay(log, (*base_rules(1.0, False), rule), risk_coef)
    table = sweep.sweep_table(played)
    assert table["completions"] == len(log.rewards)
    rows = [row for row in tables.quiet_failure_table(played) if row["rule"] == rule.name]
    for name in ("rate", "of_failures"):
        assert sweep_entry(table, k, name) == [row[name]["value"] for row in rows]
    gaps = [row["gap"]["value"] for row in rows]
    np.testing.assert_allclose(sweep_entry(table, k, "gap"), gaps, atol=1e-5)
    weights = [row["weight"] for row in tables.bottleneck_table(played)["channels"]]
    np.testing.assert_allclose(sweep_entry(table, k, "weight"), weights, atol=1e-6)


def test_of_a_long_log_whole_steps_are_swept(monkeypatch):
    played = replay(make_log(("paid",), steps=6), base_rules(1.0, False), 1.0)
    monkeypatch.setattr(sweep, "MAX_CELLS", played.log.rewards.size // 3)
    rows = sweep._swept_rows(played)
    assert set(played.batch[rows].tolist()) == {0, 3}
    assert np.isin(played.batch[rows], [0, 3]).sum() == np.isin(played.batch, [0, 3]).sum()
    assert sweep.sweep_table(played)["completions"] == len(rows)


@pytest.mark.parametrize(
    ("problems", "channel", "why", "reason"),
    [
        (("paid",), "safety", "paid", "fails safety and is reinforced"),
        (("dead_fail",), "format", "dead_fail", "all of its group fail format"),
        (("neglect",), "safety", "fall", "fails safety"),
        (("oscillation",), "format", "oscillation", "fails format"),
    ],
)
def test_the_first_cases_are_of_the_channel_with_the_alarm(problems, channel, why, reason):
    report = _report(make_log(problems), None, (), False)
    assert report["focus"][0] == {"channel": channel, "why": why, "slice": None}
    first = report["cases"][:3]
    assert all(channel in case["failed"] and case["why"].startswith(reason) for case in first)
    assert len({case["group"] for case in first}) == 3


def test_without_an_alarm_the_first_cases_are_of_the_channel_that_the_first_sentence_names():
    report = _report(make_log(), None, (), False)
    assert not report["alarms"]
    [focus] = report["focus"]
    assert focus["why"] == "closest"
    assert f"Closest to it is {focus['channel']}" in report["sentences"][0]["text"]
    assert focus["channel"] in report["cases"][0]["failed"]
