"""Replaying a log: every rule against the float64 oracle, over ragged groups with holes."""

import dataclasses

import numpy as np
import oracle
import pytest
from planted import CHANNELS, make_log

from rvpo_jax.auditing import cases, replay, rules, tables
from rvpo_jax.method.diagnostics import POSITIVE

RULES = (*rules.base_rules(1.0, False), rules.parse_rule("variance:k=2"))
METHODS = {
    "grpo": {"method": "grpo", "whiten_scope": "none"},
    "gdpo": {"method": "gdpo"},
    "rvpo:k=1": {"method": "rvpo", "risk_coef": 1.0},
    "hard_min": {"method": "hard_min"},
    "variance:k=2": {"method": "variance", "variance_coef": 1.0},
}


def ragged_log(seed=0, num_groups=40):
    """A log of 5 steps whose groups have 1 to 9 completions, in any order, with holes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 10, num_groups)
    group = np.repeat(np.arange(num_groups), sizes)
    rewards = rng.integers(0, 4, (len(group), 4)).astype(np.float32)
    rewards[rng.random(rewards.shape) < 0.2] = np.nan
    rewards[group == 3, 1] = 1.0  # constant in a group
    rewards[group == 4] = np.nan  # not scored at all
    order = rng.permutation(len(group))
    return dataclasses.replace(
        make_log(steps=1, num_prompts=1),
        rewards=rewards[order],
        group=group[order],
        prompt=group[order] % 20,
        step=(group[order] // 8).astype(np.int64),
    )


def expected_advantages(log, method):
    """The oracle, step by step on groups padded to the same size with unscored completions."""
    out = np.full(len(log.rewards), np.nan)
    for step in np.unique(log.step):
        groups = [np.flatnonzero(log.group == g) for g in np.unique(log.group[log.step == step])]
        groups = [rows for rows in groups if len(rows) > 1]
        width = max(len(rows) for rows in groups)
        padded = np.full((len(groups), width, log.rewards.shape[1]), np.nan)
        for place, rows in enumerate(groups):
            padded[place, : len(rows)] = log.rewards[rows]
        value = oracle.compute_advantages(padded, **METHODS[method]).advantages
        for place, rows in enumerate(groups):
            scored = ~np.isnan(log.rewards[rows]).all(-1)
            out[rows] = np.where(scored, value[place, : len(rows)], np.nan)
    return out


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_is_that_of_the_oracle_on_ragged_groups(method):
    log = ragged_log()
    played = replay.replay(log, RULES, 1.0)
    expected = expected_advantages(log, method)
    assert 0 < np.isnan(expected).sum() < len(expected)  # groups of one, completions not scored
    np.testing.assert_allclose(played.advantages[method], expected, atol=2e-5)


def test_the_size_of_a_block_and_the_order_of_the_rows_change_nothing(monkeypatch):
    log = ragged_log()
    whole = replay.replay(log, RULES, 1.0)
    monkeypatch.setattr(replay, "BLOCK_VALUES", 64)
    order = np.random.default_rng(1).permutation(len(log.rewards))
    moved = dataclasses.replace(
        log,
        **{name: getattr(log, name)[order] for name in ("rewards", "group", "prompt", "step")},
    )
    blocks = replay.replay(moved, RULES, 1.0)
    np.testing.assert_array_equal(blocks.status, whole.status)
    for name in ("scores", "weights", "minima"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name)[order], atol=1e-6)
    for name in METHODS:
        np.testing.assert_allclose(
            blocks.advantages[name], whole.advantages[name][order], atol=1e-5
        )
        np.testing.assert_allclose(blocks.gaps[name], whole.gaps[name], atol=1e-5)
    for name, total in blocks.agreement.items():
        np.testing.assert_allclose(total, whole.agreement[name], rtol=1e-5, atol=1e-4)


def test_the_soft_minimum_at_k_infinity_is_the_minimum():
    log = ragged_log()
    played = replay.replay(log, rules.base_rules(float("inf"), False), float("inf"))
    np.testing.assert_allclose(
        played.advantages["rvpo:k=inf"], played.advantages["hard_min"], atol=1e-6
    )


def test_the_gap_and_the_counts_are_those_of_a_plain_loop():
    log = ragged_log(1)
    played = replay.replay(log, RULES, 1.0)
    advantage = played.advantages["gdpo"]
    rows = {(r["channel"], r["rule"]): r for r in tables.quiet_failure_table(played)}
    for index, channel in enumerate(CHANNELS):
        gaps, quiet = [], 0
        for group in np.unique(log.group):
            fail, meet = [], []
            for row in np.flatnonzero(log.group == group):
                if np.isnan(advantage[row]) or np.isnan(log.rewards[row, index]):
                    continue
                failed = log.rewards[row, index] < channel.pass_at
                (fail if failed else meet).append(float(advantage[row]))
                quiet += failed and advantage[row] > POSITIVE
            if fail and meet:
                gaps.append(np.mean(fail) - np.mean(meet))
        row = rows[channel.name, "gdpo"]
        assert row["count"] == quiet
        assert row["gap"]["value"] == pytest.approx(np.mean(gaps), abs=1e-4)


def test_the_logged_advantage_is_copied_and_judged_where_it_is_known():
    logged = np.linspace(-1, 1, 4 * 2 * 8).astype(np.float32)
    logged[5] = np.nan
    log = make_log(steps=4, num_prompts=2, advantage=logged)
    played = replay.replay(log, rules.base_rules(1.0, True), 1.0)
    np.testing.assert_array_equal(played.advantages["logged"], logged)
    scored = {r["rule"]: r["scored"] for r in tables.quiet_failure_table(played)[:2]}
    assert (scored["logged"], scored["grpo"]) == (63, 64)


def test_dead_groups_and_between_channel_numbers_worked_by_hand():
    # Two groups of two. Channel a: (0, 1), (0, 0) dead-fail. Channel b: (1, 0), (1, 1) dead-pass.
    rewards = np.array([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    log = dataclasses.replace(
        make_log(steps=1, num_prompts=1),
        channels=(CHANNELS[1], CHANNELS[2]),
        rewards=rewards,
        group=np.array([0, 0, 1, 1]),
        prompt=np.array([0, 0, 1, 1]),
        step=None,
    )
    played = replay.replay(log, rules.base_rules(1.0, False), 1.0)
    a, b = tables.dead_table(played)
    assert [a[k] for k in ("groups", "live", "dead_pass", "dead_fail")] == [2, 1, 0, 1]
    assert [b[k] for k in ("groups", "live", "dead_pass", "dead_fail")] == [2, 1, 1, 0]
    between = tables.between_channels(played)
    # b met in rows 0, 2, 3: a met in none of them. a met in row 1: b not.
    assert between["conditional"] == [[1.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose(between["correlation"], [[1, -1], [-1, 1]], atol=1e-6)
    assert between["conflict"] == [[0.0, 1.0], [1.0, 0.0]]
    assert tables.joint_pass_rate(played)["value"] == 0.0


def test_weights_are_reported_where_the_groups_pass_rate_puts_them():
    # One channel failed by one of 16 (pass rate 15/16), one met by one of 16.
    rewards = np.zeros((16, 2), np.float32)
    rewards[:, 0] = 1
    rewards[0, 0], rewards[5, 1] = 0, 1
    log = dataclasses.replace(
        make_log(steps=1, num_prompts=1),
        channels=(CHANNELS[1], CHANNELS[2]),
        rewards=rewards,
        group=np.zeros(16, int),
        prompt=np.zeros(16, int),
        step=None,
    )
    played = replay.replay(log, rules.base_rules(2.0, False), 2.0)
    level = tables.level_table(played)
    easy = next(c for c in level["cells"] if c["channel"] == "format" and c["groups"])
    hard = next(c for c in level["cells"] if c["channel"] == "safety" and c["groups"])
    assert (easy["low"], hard["low"]) == (0.75, 0.05)
    # Failing the easy one: Z = -3.75 against -0.25; weight 1 / (1 + exp(2 * (-3.75 + 0.25))).
    assert easy["weight_failing"] == pytest.approx(1 / (1 + np.exp(-7.0)), abs=1e-4)
    # Meeting the hard one: Z = 3.75 against +0.25 of the easy one, which it meets too.
    assert hard["weight_passing"] == pytest.approx(1 / (1 + np.exp(7.0)), abs=1e-4)


def test_the_whitening_grid_is_that_of_the_oracle():
    log = ragged_log(2)
    played = replay.replay(log, RULES, 1.0)
    entry = cases.whitening_grid(played, [1, 3])[1]
    rows = np.flatnonzero(played.usable & (played.batch == 3))
    for index, k in enumerate(entry["k"]):
        values = [
            oracle.softmin(played.scores[row], float(k), where=played.where[row]) for row in rows
        ]
        assert entry["rvpo"]["mean"][index] == pytest.approx(np.mean(values), abs=2e-6)
        assert entry["rvpo"]["std"][index] == pytest.approx(np.std(values, ddof=1), abs=3e-6)
    assert entry["gdpo"]["mean"] == entry["rvpo"]["mean"][0]
    assert entry["hard_min"]["mean"] == entry["rvpo"]["mean"][-1]


def test_cases_are_the_worst_and_carry_their_whole_group():
    log = make_log(("paid",), steps=6)
    played = replay.replay(log, rules.base_rules(1.0, False), 1.0)
    chosen = cases.select_cases(played, "grpo", "rvpo:k=1")
    shown, _ = cases.describe_cases(played, chosen, redact=False)
    quiet = (log.rewards[:, 2] < 1) & (played.advantages["grpo"] > POSITIVE)
    worst = played.advantages["grpo"][quiet].max()
    assert shown[0]["advantages"]["grpo"] == pytest.approx(worst)
    assert shown[0]["failed"].count("safety") == 1
    for case in shown:
        assert case["group_rewards"][case["index"]] == case["rewards"]
        assert len(case["group_rewards"]) == 8
        assert case["completion"] == f"completion {case['row']}"
    assert len({case["row"] for case in shown}) == len(shown) <= cases.MAX_CASES
    redacted, _ = cases.describe_cases(played, chosen, redact=True)
    assert all(case["prompt"] is case["completion"] is None for case in redacted)


@pytest.mark.parametrize(
    "text", ["rvpo:k=-1", "rvpo:k=x", "variance:k=inf", "gdpo:k=2", "median", "", "rvpo:2"]
)
def test_a_rule_that_is_none_is_refused_with_the_names(text):
    with pytest.raises(ValueError, match="a rule must be") as error:
        rules.parse_rule(text)
    assert "\n  " in str(error.value)


def test_rules_are_named_by_what_they_compute():
    assert rules.parse_rule("rvpo").name == "rvpo:k=1"
    assert rules.parse_rule("rvpo:k=inf").risk_coef == float("inf")
    assert [rule.name for rule in rules.base_rules(2.0, True)] == [
        "logged",
        "grpo",
        "gdpo",
        "rvpo:k=2",
        "hard_min",
    ]


def test_a_condition_counts_only_where_both_channels_scored():
    # b is met in rows 0, 1, 2; a scored only rows 0 and 1 of these and met row 0: 1 of 2.
    nan = float("nan")
    rewards = np.array([[1, 1], [0, 1], [nan, 1], [0, 0]], np.float32)
    log = dataclasses.replace(
        make_log(steps=1, num_prompts=1),
        channels=(CHANNELS[1], CHANNELS[2]),
        rewards=rewards,
        group=np.zeros(4, int),
        prompt=np.zeros(4, int),
        step=None,
    )
    played = replay.replay(log, rules.base_rules(1.0, False), 1.0)
    # And the other way round: a is met in row 0 alone, and b there.
    assert tables.between_channels(played)["conditional"] == [[1.0, 0.5], [1.0, 1.0]]
