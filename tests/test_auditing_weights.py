"""Channels of an audit count with the weights of the run, or with those that the user gives."""

import dataclasses

import numpy as np
import pytest
from test_auditing_replay import ragged_log

from rvpo_jax import AdvantageConfig, audit, compute_advantages, what_if
from rvpo_jax.auditing import read_log, replay, rules, sweep
from rvpo_jax.auditing.payers import payer_table
from rvpo_jax.auditing.read import ReadOptions
from rvpo_jax.basics.channel import Channel
from rvpo_jax.run.rollout_log import write_rollouts

WEIGHTS = (1.0, 2.5, 0.0, 0.5)
RULES = ("grpo", "gdpo", "gdpo_sum", "rvpo:k=2", "hard_min", "variance:k=1")


def weighted(log, weights=WEIGHTS):
    """The log with weights of its channels."""
    return dataclasses.replace(log, weights=np.array(weights))


def config_of(rule):
    """What trains under a rule with the weights."""
    fields = {"method": rule.method, "weights": WEIGHTS}
    if rule.method == "rvpo":
        fields["risk_coef"] = rule.risk_coef
    if rule.method == "variance":
        fields["variance_coef"] = rule.risk_coef / 2
    whiten = "batch" if rule.whitened else "none"
    return AdvantageConfig(**fields, whiten=whiten)


@pytest.mark.parametrize("text", RULES)
def test_a_replay_with_weights_is_what_training_with_them_does(text):
    log, rule = ragged_log(), rules.parse_rule(text)
    own = replay.replay(weighted(log), [rule], 1.0).advantages[rule.name]
    handed_in = dataclasses.replace(rule, formula=what_if.further_rules()[rule.method])
    theirs = replay.replay(weighted(log), [handed_in], 1.0).advantages[rule.name]
    trained = np.full(len(own), np.nan)
    for step in np.unique(log.step):
        groups = [np.flatnonzero(log.group == g) for g in np.unique(log.group[log.step == step])]
        groups = [rows for rows in groups if len(rows) > 1]
        padded = np.full((len(groups), 9, 4), np.nan, np.float32)
        for place, rows in enumerate(groups):
            padded[place, : len(rows)] = log.rewards[rows]
        found = np.asarray(compute_advantages(padded, config=config_of(rule)).advantages)
        for place, rows in enumerate(groups):
            trained[rows] = found[place, : len(rows)]
    there = np.isfinite(own)
    np.testing.assert_allclose(own[there], trained[there], atol=2e-5)
    np.testing.assert_allclose(theirs[there], trained[there], atol=2e-5)


@pytest.mark.parametrize("text", RULES)
def test_weight_0_is_absence_for_every_rule(text):
    log, rule = ragged_log(), rules.parse_rule(text)
    others = [0, 1, 3]
    without = dataclasses.replace(
        log, channels=tuple(log.channels[m] for m in others), rewards=log.rewards[:, others]
    )
    ours = replay.replay(weighted(log, (1, 1, 0, 1)), [rule], 2.0)
    theirs = replay.replay(without, [rule], 2.0)
    # A completion that only the third channel scored counts in the one log and not in the other.
    rows = np.isin(log.group, log.group[ours.usable & ~theirs.usable], invert=True) & theirs.usable
    np.testing.assert_allclose(ours.weights[:, others][rows], theirs.weights[rows], atol=1e-6)
    np.testing.assert_allclose(ours.minima[:, others][rows], theirs.minima[rows], atol=1e-6)
    assert not ours.weights[:, 2].any()
    assert not ours.minima[:, 2].any()
    if not rule.whitened:  # else those completions move the mean of the batch
        there = theirs.advantages[rule.name][rows]
        np.testing.assert_allclose(ours.advantages[rule.name][rows], there, atol=1e-6)


def test_the_sweep_has_the_weights_of_the_replay_at_its_k():
    log = weighted(ragged_log())
    played = replay.replay(log, [rules.parse_rule("rvpo:k=2")], 2.0)
    table = sweep.sweep_table(played)
    rows = played.usable
    expected = played.weights[rows].mean(0)
    np.testing.assert_allclose(table["weight"][table["k"].index(2.0)], expected, atol=1e-5)
    decided = (played.where[rows] & (log.weights > 0)).any(-1).mean()
    np.testing.assert_allclose(np.sum(table["weight"], axis=1), decided, atol=1e-6)


def test_what_weighs_nothing_pays_for_nothing():
    log = weighted(ragged_log())
    for name in ("grpo", "gdpo", "rvpo:k=2", "hard_min"):
        played = replay.replay(log, [rules.parse_rule(name)], 2.0)
        rows = payer_table(played, [0, 1, 3])
        parts = {row["payer"]: row["part"]["value"] for row in rows}
        assert parts[log.channels[2].name] == 0.0
        assert any(parts.values())


# A judge pays 1 for what breaks the second channel. The third is not trained on, and agrees with
# the second: with weight 1 it would refuse the failure, with weight 0 nothing does.
REWARDS = np.array([[[1.0, 0, 0], [0.2, 1, 1], [0.1, 1, 1], [0, 1, 1]]] * 6, np.float32)
CHANNELS = tuple(
    Channel(name=name, low=0, high=1, pass_at=1) for name in ("judge", "tone", "truth")
)


def write(folder, weights):
    """The rollouts of a run of ours."""
    folder.mkdir(exist_ok=True)
    for step in range(2):
        write_rollouts(
            folder,
            step,
            CHANNELS,
            REWARDS,
            np.ones(REWARDS.shape, bool),
            np.zeros(REWARDS.shape[:2], np.float32),
            prompts=[f"prompt {number}" for number in range(len(REWARDS))],
            completions=None,
            method="gdpo",
            risk_coef=1.0,
            weights=weights,
        )
    return folder


def gap(report, rule, channel):
    """The failure gap of a channel under a rule."""
    [row] = [r for r in report["quiet_failures"] if (r["rule"], r["channel"]) == (rule, channel)]
    return row["gap"]["value"]


def test_a_run_of_ours_is_replayed_with_its_weights(tmp_path):
    equal = audit(write(tmp_path / "equal", None)).report
    found = audit(write(tmp_path / "own", (1.0, 1.0, 0.0))).report
    given = audit(tmp_path / "equal", weights={"truth": 0.0}).report
    # Scores of the first completion: judge 1.48, tone -1.5, truth -1.5. Of three they sum to -1.5,
    # which no other's does; of the first two to -0.02, as much as the mean of the others' 0.01.
    assert gap(equal, "gdpo", "tone") < -1
    assert gap(found, "gdpo", "tone") > gap(equal, "gdpo", "tone") + 1
    assert gap(given, "gdpo", "tone") == gap(found, "gdpo", "tone")
    [note] = [note["text"] for note in found["notes"] if note["kind"] == "weights"]
    assert note.endswith("weights: judge 1, tone 1, truth 0.")
    assert not [note for note in equal["notes"] if note["kind"] == "weights"]


def test_the_users_weight_comes_before_the_runs(tmp_path):
    folder = write(tmp_path, (1.0, 2.0, 0.0))
    assert read_log(folder).weights.tolist() == [1, 2, 0]
    options = ReadOptions(weights={"truth": 3.0})
    assert read_log(folder, options).weights.tolist() == [1, 2, 3]
    fewer = ReadOptions(rewards=("truth", "tone"))
    assert dict(zip(["truth", "tone"], read_log(folder, fewer).weights, strict=True)) == {
        "truth": 0,
        "tone": 2,
    }


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, -1.0, 0.0), (1.0, np.inf, 1.0), (np.nan, 1.0, 1.0)]
)
def test_weights_in_a_damaged_file_are_no_weights(tmp_path, weights):
    assert read_log(write(tmp_path, weights)).weights is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": -1.0}, "--weight of channel a must be finite and >= 0, got -1"),
        ({"a": float("nan")}, "--weight of channel a must be finite and >= 0, got nan"),
        ({"z": 1.0}, "--weight must name channels of the log, got z"),
        ({"a": 0.0, "b": 0.0}, "weights of the channels must not all be 0, got 0 for a, b"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, message):
    table = {"prompt": ["p"] * 4, "a": [0.0, 1, 0, 1], "b": [0.0, 0, 1, 1]}
    with pytest.raises(ValueError, match=message):
        audit(table, weights=weights)
