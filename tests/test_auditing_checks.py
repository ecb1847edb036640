"""The cheap checks: each names what was planted, and is silent about a log without it."""

import dataclasses
import re

import numpy as np
import pytest
from planted import CHANNELS, make_log, make_rewards

from rvpo_jax.auditing import checks
from rvpo_jax.auditing.read import ReadOptions, read_log
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


def test_a_channel_that_all_meet_at_first_and_few_fail_later_has_not_changed_its_scale():
    rewards = make_rewards()
    rate = np.where(np.arange(48) < 30, 0.0, 0.05)[:, None, None]
    fails = np.random.default_rng(0).random(rewards.shape[:3]) < rate
    rewards[..., 1] = np.where(fails, 0.0, 1.0)
    assert found(checks.jumps, rewards) == []


def test_a_channel_that_becomes_solved_is_named():
    rewards = make_rewards()
    rewards[30:, ..., 1] = 1.0
    [finding] = found(checks.saturated, rewards)
    assert finding["channels"] == ["format"]
    assert "by whole groups in 100 % of the last third" in finding["text"]


def with_texts(lengths, codes, rewards=None):
    rewards = make_rewards() if rewards is None else rewards
    log = make_log(steps=rewards.shape[0])
    log = dataclasses.replace(
        log,
        rewards=rewards.reshape(-1, 4).astype(np.float32),
        completion_length=np.asarray(lengths, np.float32),
        completion_code=np.asarray(codes, np.int64),
    )
    return replay(log, base_rules(1.0, False), 1.0)


@pytest.mark.parametrize(("sign", "way"), [(1, "Longer"), (-1, "Shorter")])
def test_length_that_is_paid_is_named_with_its_sign(sign, way):
    rewards = make_rewards()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=rewards.shape[:3])
    length = 500 + sign * 100 * rewards.sum(-1) + 50 * noise
    codes = np.arange(length.size)
    [finding] = checks.lengths(with_texts(length.reshape(-1), codes, rewards))
    assert finding["text"].startswith(f"{way} completions are paid")
    # Prompts whose completions are longer say nothing: only the group counts.
    of_prompt = np.repeat(rng.normal(size=length.size // 8), 8)
    assert checks.lengths(with_texts(500 + 100 * of_prompt, codes, rewards)) == []


def test_one_text_for_many_prompts_is_named_and_a_label_is_not():
    codes = np.arange(48 * 16 * 8)
    codes[::5] = 0
    [finding] = checks.repeats(with_texts(np.full(len(codes), 80), codes))
    assert "makes up 20 % of all, in answer to 32 prompts" in finding["text"]
    assert checks.repeats(with_texts(np.full(len(codes), 3), codes)) == []
    codes[::5] = np.arange(len(codes[::5]))
    assert checks.repeats(with_texts(np.full(len(codes), 80), codes)) == []


def with_exploits(share, broken, group=16, seed=0):
    """Six easy items and four hard ones; an exploit meets the hard ones and breaks easy ones."""
    rng = np.random.default_rng(seed)
    shape = (8, 16, group)
    chance = np.where(np.arange(10) < 6, 0.98, 0.05)
    rewards = rng.random((*shape, 10)) < chance
    exploit = rng.random(shape) < share
    fooled = np.where(np.arange(10) < broken, 0.02, np.where(np.arange(10) < 6, 0.98, 0.8))
    rewards = np.where(exploit[..., None], rng.random(rewards.shape) < fooled, rewards)
    table = {f"item {m}": rewards[..., m].reshape(-1).astype(float) for m in range(10)}
    step, prompt, _ = np.indices(shape)
    table |= {"step": step.ravel(), "group": prompt.ravel()}
    log = read_log(table, ReadOptions(group="group", pass_at={f"item {m}": 1.0 for m in range(10)}))
    return checks.spurious(replay(log, base_rules(1.0, False), 1.0))


def test_rare_successes_that_come_with_rare_failures_are_named_with_the_k_that_refuses_them():
    # 1 of 10 items broken in groups of 16, now and then a second: ln(10) * 4 / 15 = 0.6.
    [finding] = with_exploits(0.03, broken=1)
    assert re.search(r"failing 1\.[01] channels on average", finding["text"])
    assert "with k above 0.6 refuses" in finding["text"]


def test_exploits_that_break_nothing_and_no_exploits_are_not_named():
    assert with_exploits(0.03, broken=0) == []
    assert [with_exploits(0.0, broken=1, seed=seed) for seed in range(5)] == [[]] * 5


def test_lengths_and_equal_texts_are_read_from_any_table(tmp_path):
    import json

    texts = ["ab", "é", None, "ab"]
    messages = [[{"role": "assistant", "content": text}] if text else None for text in texts]
    rows = {"prompt": ["p", "p", "q", "q"], "r": [0.0, 1.0, 1.0, 0.0]}
    for source in ({**rows, "completion": texts}, {**rows, "completion": messages}):
        log = read_log(source)
        assert (log.completion_code >= 0).tolist() == [True, True, False, True]
        assert log.completion_code[0] == log.completion_code[3] != log.completion_code[1]
    path = tmp_path / "log.jsonl"
    columns = {**rows, "completion": texts}
    lines = [json.dumps({k: v[i] for k, v in columns.items()}) for i in range(4)]
    path.write_text("\n".join(lines))
    for source in (path, columns):
        np.testing.assert_array_equal(read_log(source).completion_length, [2, 2, np.nan, 2])
    assert read_log(rows).completion_length is None


def test_what_the_checks_find_is_a_sentence_and_no_alarm():
    log = make_log()
    rewards = log.rewards.copy()
    rewards[:, 3] = rewards[:, 1]
    report = _report(dataclasses.replace(log, rewards=rewards), None, (), True)
    sentence = report["sentences"][4]
    assert sentence["level"] == "watch" and "format and brevity say the same" in sentence["text"]
    assert report["verdict"]["level"] == "watch"
