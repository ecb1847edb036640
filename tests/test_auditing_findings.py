"""What the audit says: planted problems are named, a log without any raises no alarm."""

import dataclasses

import numpy as np
import pytest
from planted import CHANNELS, make_log

from rvpo_jax.auditing import check_condition, findings, trends
from rvpo_jax.auditing.alarms import About
from rvpo_jax.auditing.compare import compare
from rvpo_jax.auditing.replay import replay
from rvpo_jax.auditing.report import _report
from rvpo_jax.auditing.rules import base_rules

QUIET, BLIND, NEGLECT, DECIDES, NOTICED, READ = range(6)


def report_of(problems=(), **shape):
    return _report(make_log(problems, **shape), None, (), True)


def levels(report):
    return [sentence["level"] for sentence in report["sentences"]]


@pytest.fixture(scope="module")
def clean():
    return report_of()


def test_of_a_log_without_problems_is_said_what_was_looked_for(clean):
    assert levels(clean) == ["ok"] * 6
    assert clean["verdict"]["level"] == "no_alarm"
    assert clean["verdict"]["headline"] == (
        "No alarm. Looked for and not found in 768 groups of 32 prompts over 48 steps: failures "
        "that are paid (1 channel), channels that whole groups fail (4 channels) and pass rates "
        "that fall (4 channels)."
    )
    assert "probability 1 % at most" in clean["verdict"]["certainty"]


@pytest.mark.parametrize(
    ("problem", "place", "words"),
    [
        ("paid", QUIET, ["Failing safety is paid", "sum (GRPO)", "correctness pays for it"]),
        ("dead_fail", BLIND, ["fails format in", "groups", "no group-relative rule"]),
        ("neglect", NEGLECT, ["safety (", "falls while correctness (", "rise"]),
        ("oscillation", DECIDES, ["oscillates between format and brevity"]),
    ],
)
def test_a_planted_problem_is_named_and_nothing_else_is(problem, place, words):
    report = report_of((problem,))
    sentence = report["sentences"][place]
    assert sentence["level"] == "problem"
    assert all(word in sentence["text"] for word in words)
    assert [i for i, level in enumerate(levels(report)) if level == "problem"] == [place]
    assert report["verdict"]["headline"].startswith("1 problem: ")


def test_several_problems_at_once_are_all_named():
    report = report_of(("paid", "dead_fail", "neglect"))
    assert levels(report)[:3] == ["problem"] * 3
    assert report["verdict"]["headline"].startswith(
        "3 problems: quiet failures (safety), blind spots (format) and neglect (safety)."
    )


def test_the_headline_names_three_channels_of_a_problem_and_counts_the_others():
    alarms = {About("fall", name): name != "c" for name in "abcdef"} | {About("paid", "z"): True}
    assert findings._problem("Neglect", alarms) == "neglect (a, b, d and 2 more)"
    assert findings._problem("Neglect", {About("fall", "a", "law"): True}) == "neglect"


@pytest.mark.slow
def test_a_clean_log_raises_alarms_at_most_at_the_stated_rate():
    plain = tuple(dataclasses.replace(channel, kind="quality") for channel in CHANNELS)
    alarms = 0
    for seed in range(200):
        channels = plain if seed % 2 else CHANNELS
        log = make_log(seed=1000 + seed, steps=18, num_prompts=8, channels=channels)
        played_rules = base_rules(1.0, False)
        played = replay(log, played_rules, 1.0)
        report = audit_module_tables(played)
        alarms += findings.write_findings(report, names_of(channels))["verdict"]["level"] == (
            "problem"
        )
    assert alarms <= 200 * findings.ERROR_RATE


def audit_module_tables(played):
    """The tables that findings read, without pages, cases and texts."""
    from rvpo_jax.auditing.report import _tables

    return _tables(played, 1.0)


def names_of(channels):
    constraints = [channel.name for channel in channels if channel.kind == "constraint"]
    return constraints or [channel.name for channel in channels]


def test_the_rule_in_use_is_the_one_that_is_judged():
    # The trainer's own advantages punish unsafe answers: no alarm, although the sum would pay.
    log = make_log(("paid",))
    safe = np.where(log.rewards[:, 2] >= 1, 1.0, -1.0).astype(np.float32)
    report = _report(dataclasses.replace(log, advantage=safe), None, (), True)
    assert report["rule_in_use"] == "logged"
    assert report["sentences"][QUIET]["level"] == "ok"


def test_too_little_data_is_said_to_be_too_little():
    report = report_of(steps=1, num_prompts=2, group_size=4)
    assert report["verdict"]["level"] == "unclear"
    assert report["trajectory"] is None and report["neglect"] == []
    assert "no steps" in report["sentences"][NEGLECT]["text"]


def test_a_log_of_one_constant_channel_is_read_to_its_end():
    log = make_log(steps=3)
    log = dataclasses.replace(
        log, channels=CHANNELS[1:2], rewards=np.zeros((len(log.rewards), 1), np.float32)
    )
    report = _report(log, None, (), True)
    assert report["sentences"][BLIND]["level"] == "problem"  # everything fails, everywhere
    assert report["quiet_failures"][0]["count"] == 0


def test_trends_are_not_seen_in_noise_and_are_seen_in_one_channel(clean):
    rising, falling = trends.rising_and_falling(clean["neglect"], 0.01)
    assert set(rising) == {"correctness", "format"} and falling == []
    shares = [row["gain_share"] for row in clean["neglect"]]
    assert sum(shares) == pytest.approx(1.0)


def test_windows_hold_every_step_once_and_in_order():
    batch = np.repeat(np.arange(103), 2)
    window = trends.windows_of(batch, 10)
    assert window.tolist() == sorted(window) and set(window) == set(range(10))
    assert np.ptp(np.bincount(window)) <= 2


def test_the_trajectory_adds_up_to_the_totals(clean):
    # 48 steps, so one window a step of equal size: the mean of the rates is the total.
    assert len(clean["trajectory"]["steps"]) == 48
    for channel in clean["channels"]:
        path = clean["trajectory"]["pass_rate"][channel["name"]]
        assert np.mean(path["rate"]) == pytest.approx(channel["pass_rate"]["value"])
        assert all(
            lo <= r <= hi
            for lo, r, hi in zip(*(path[k] for k in ("low", "rate", "high")), strict=True)
        )
    weights = np.sum([clean["trajectory"]["weight"][c["name"]] for c in clean["channels"]], 0)
    np.testing.assert_allclose(weights, 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("quiet_failures[safety] > 0.02", True),
        ("quiet_failures[safety]>0.9", False),
        ("quiet_failures[safety, hard_min] < 0.9", True),
        ("failure_gap[safety] > 0", True),
        ("pass_rate[format] >= 1", False),
        ("dead_fail[format] > 0.5", False),
        ("joint_pass_rate < 1", True),
        ("problems >= 1", True),
    ],
)
def test_conditions_read_the_report(condition, holds):
    report = report_of(("paid",), steps=12)
    sentence = check_condition(condition, report)
    assert (sentence is not None) == holds
    if holds:
        assert sentence.startswith(condition.strip()) and "it is" in sentence


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("safety > 1", "must read like"),
        ("quiet_failures > 0.1", "must read like"),
        ("quiet_failures[safety] > much", "must read like"),
        ("quiet_failures[privacy] > 0.1", "names the channel 'privacy'"),
        ("quiet_failures[safety, median] > 0.1", "names the rule 'median'"),
        ("joint_pass_rate[safety] > 0.1", "must read like"),
    ],
)
def test_a_condition_that_cannot_be_checked_is_refused(condition, problem, clean):
    with pytest.raises(ValueError, match=problem) as error:
        check_condition(condition, clean)
    assert "\n  " in str(error.value)


def test_a_condition_on_what_the_log_does_not_tell_holds(clean):
    silent = {**clean, "neglect": []}
    assert "does not tell" in check_condition("change[safety] < -0.1", silent)


def test_two_logs_are_compared_with_intervals():
    bad, good = report_of(("neglect",)), report_of(seed=1)
    row = compare(bad, good)["rows"][0]
    assert row["quantity"] == "worst channel, pass rate, last third"
    assert row["reading"] == "b is better" and row["difference"]["low"] > 0
    assert "neglects less" in compare(bad, good)["headline"]
    assert "neglects more" in compare(good, bad)["headline"]
    assert "No clear difference" in compare(good, {**good, "title": "again"})["headline"]


def test_logs_without_a_common_channel_cannot_be_compared(clean):
    other = {**clean, "channels": [{**clean["channels"][0], "name": "else"}]}
    with pytest.raises(ValueError, match="share a channel"):
        compare(clean, other)


def test_the_function_of_the_package_takes_options_by_name():
    import rvpo_jax

    with pytest.raises(ValueError, match="audit has no option colour"):
        rvpo_jax.audit("nowhere", colour="red")


def test_only_declared_constraints_are_judged_where_there_are_any():
    # Failing safety is paid, but the one declared constraint is brevity.
    kinds = ("quality", "quality", "quality", "constraint")
    channels = tuple(
        dataclasses.replace(channel, kind=kind)
        for channel, kind in zip(CHANNELS, kinds, strict=True)
    )
    assert report_of(("paid",), channels=channels)["sentences"][QUIET]["level"] == "ok"
    plain = tuple(dataclasses.replace(channel, kind="quality") for channel in CHANNELS)
    assert report_of(("paid",), channels=plain)["sentences"][QUIET]["level"] == "problem"


def test_a_dip_that_recovers_is_no_fall():
    # Met by all for 6 steps, by none for 6, by 4 of 5 prompts for 6: the thirds differ (1 and 0.8),
    # but the steps show no trend.
    log = make_log(steps=18, num_prompts=10)
    met = np.repeat([1.0, 0.0, 1.0], 6 * 10 * 8)
    met[(log.step >= 12) & (log.group % 5 == 0)] = 0.0
    rewards = log.rewards.copy()
    rewards[:, 2] = met
    played = replay(dataclasses.replace(log, rewards=rewards), base_rules(1.0, False), 1.0)
    row = trends.neglect(played)[2]
    assert row["change"]["value"] == pytest.approx(-0.2)
    assert row["p_fall"] > findings.ERROR_RATE


def test_fewer_quiet_failures_are_better():
    rows = compare(report_of(seed=2), report_of(("paid",)))["rows"]
    row = next(r for r in rows if r["quantity"].startswith("quiet") and r["channel"] == "safety")
    assert row["difference"]["low"] > 0 and row["reading"] == "b is worse"


def test_the_soft_minimum_has_the_k_of_the_run_unless_told_otherwise():
    log = dataclasses.replace(make_log(steps=2), risk_coef=2.0)
    names = [rule["name"] for rule in _report(log, None, (), True)["rules"]]
    assert "rvpo:k=2" in names
    assert "rvpo:k=5" in [rule["name"] for rule in _report(log, 5.0, (), True)["rules"]]
