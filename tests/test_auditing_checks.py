"""The cheap checks: each names what was planted, and is silent about a log without it."""

import dataclasses

import numpy as np
import pytest
from planted import CHANNELS, make_log, make_rewards

from rvpo_jax.auditing import checks
from rvpo_jax.auditing.replay import replay
from rvpo_jax.auditing.report import _report
from rvpo_jax.auditing.rules import base_rules

NAMES = [channel.name for channel in CHANNELS]


def found(check, rewards):
    log = make_log(steps=rewards.shape[0])
    log = dataclasses.replace(log, rewards=rewards.reshape(-1, 4).astype(np.float32))
    return check(replay(log, base_rules(1.0, False), 1.0))


@pytest.mark.parametrize("check", checks.CHECKS)
def test_a_check_is_silent_where_nothing_is_planted(check):
    assert [found(check, make_rewards(seed=seed)) for seed in range(3)] == [[], [], []]


def test_channels_that_say_the_same_are_named_as_a_pair():
    rewards = make_rewards()
    rewards[..., 3] = rewards[..., 1]
    [finding] = found(checks.twins, rewards)
    assert finding["channels"] == ["format", "brevity"]
    assert "correlation 1.000" in finding["text"]


def test_channels_that_change_sides_are_named_with_both_correlations():
    rewards = make_rewards()
    rng = np.random.default_rng(0)
    agree = rng.random(rewards.shape[:3]) < 0.8
    early = (np.arange(48) < 24)[:, None, None]
    rewards[..., 3] = np.where(agree == early, rewards[..., 1], 1 - rewards[..., 1])
    [finding] = found(checks.flips, rewards)
    assert finding["channels"] == ["format", "brevity"]
    assert "agreed at first and are in conflict in the end" in finding["text"]


def test_a_change_of_scale_is_dated_and_measured():
    rewards = make_rewards()
    rewards[30:, ..., 0] *= 10
    [finding] = found(checks.jumps, rewards)
    assert finding["channels"] == ["correctness"]
    assert "scale of correctness changes at step 30" in finding["text"]
    times = float(finding["text"].split(" to ")[1].split(" times")[0])
    assert times == pytest.approx(10, rel=0.2)


def test_a_change_of_mean_is_dated_and_measured_and_a_spike_is_none():
    rewards = make_rewards()
    rewards[12:, ..., 0] += 2
    [finding] = found(checks.jumps, rewards)
    assert "mean of correctness jumps at step 12" in finding["text"]
    assert float(finding["text"].split("by ")[1].split(":")[0]) == pytest.approx(2, abs=0.4)
    spike = make_rewards()
    spike[12, ..., 0] += 2
    assert found(checks.jumps, spike) == []


def test_a_channel_that_becomes_solved_is_named():
    rewards = make_rewards()
    rewards[30:, ..., 1] = 1.0
    [finding] = found(checks.saturated, rewards)
    assert finding["channels"] == ["format"]
    assert "by whole groups in 100 % of the last third" in finding["text"]


def test_what_the_checks_find_is_a_sentence_and_no_alarm():
    log = make_log()
    rewards = log.rewards.copy()
    rewards[:, 3] = rewards[:, 1]
    report = _report(dataclasses.replace(log, rewards=rewards), None, (), True)
    sentence = report["sentences"][4]
    assert sentence["level"] == "watch" and "format and brevity say the same" in sentence["text"]
    assert report["verdict"]["level"] == "watch"
