"""The audit's NumPy rules against ``compute_advantages`` and the diagnostics, and without JAX."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from planted import make_log
from test_architecture import loaded_by

from rvpo_jax import AdvantageConfig, compute_advantages
from rvpo_jax.auditing import formulas, judge, rules
from rvpo_jax.method import diagnostics
from rvpo_jax.method.aggregators import METHODS

WEIGHTS = {
    "equal": None,
    "unequal": (3.0, 0.5, 1.0, 2.0),
    "one of no weight": (1.0, 0.0, 2.0, 1e-9),
}
DECIDED = ("grpo", *(f"rvpo:k={k}" for k in ("0", "1e-7", "0.5", "20", "inf")))
# Beyond float32 k is infinite for JAX, where equal minima share alike whatever they weigh.
RULES = (*DECIDED, "gdpo", "gdpo_sum", "hard_min", "variance:k=1", "variance:k=0", "rvpo:k=1e40")


def groups_of(holes, seed=0):
    """Groups of six over four channels in units of their own, from hardly ever met to nearly
    always, with dead channels of either kind, a channel that a whole group lacks, and holes."""
    rng = np.random.default_rng(seed)
    rates = np.array([0.02, 0.3, 0.7, 0.98])
    rewards = (rng.random((48, 6, 4)) < rates).astype(np.float32)
    rewards += rng.normal(size=rewards.shape).astype(np.float32) * [0, 0, 0.3, 1e-4]
    rewards = (rewards * [1, 100, 0.01, 1] + [0, 0, 0, 1000]).astype(np.float32)
    rewards[:8, :, 0] = 0.0
    rewards[4:12, :, 1] = 100.0
    if holes:
        rewards[rng.random(rewards.shape) < 0.2] = np.nan
        rewards[12:16, :, 2] = np.nan
        rewards[16, 1] = np.nan
        rewards[17] = np.nan
    return rewards


def configured(rule, **fields):
    """The rule for ``compute_advantages``, not whitened."""
    if rule.method == "variance":
        fields["variance_coef"] = rule.risk_coef / 2
    if rule.method == "rvpo":
        fields["risk_coef"] = rule.risk_coef
    return AdvantageConfig(method=rule.method, whiten="none", **fields)


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("text", RULES)
def test_a_rule_is_that_of_compute_advantages(text, weights, holes):
    rule, rewards = rules.parse_rule(text), groups_of(holes)
    config = configured(rule, weights=WEIGHTS[weights])
    expected = compute_advantages(rewards, config=config, with_weights=False)
    groups = formulas.group_scores(rewards)
    k = 1.0 if rule.risk_coef is None else rule.risk_coef
    aggregate = rule.formula.aggregate(groups, k, WEIGHTS[weights])
    np.testing.assert_array_equal(groups.live, expected.live)
    np.testing.assert_allclose(groups.scores, expected.scores, atol=2e-5)
    np.testing.assert_allclose(aggregate, expected.aggregate, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("text", DECIDED)
def test_who_decides_is_what_compute_advantages_says(text, weights, holes):
    rule, rewards = rules.parse_rule(text), groups_of(holes)
    expected = compute_advantages(rewards, config=configured(rule, weights=WEIGHTS[weights]))
    groups = formulas.group_scores(rewards)
    if rule.method == "grpo":
        ours = formulas.sum_weights(groups, WEIGHTS[weights])
    else:
        ours = formulas.soft_minimum_weights(
            groups.scores, groups.where, rule.risk_coef, WEIGHTS[weights]
        )
    # A weight is the slope of a minimum: k times what float32 leaves of a score.
    np.testing.assert_allclose(ours, expected.weights, rtol=1e-4, atol=2e-4)


def test_dead_channels_may_be_dropped_like_absent_ones():
    rewards, groups = groups_of(True), formulas.group_scores(groups_of(True))
    config = AdvantageConfig(whiten="none", dead_channels="drop")
    expected = compute_advantages(rewards, config=config, with_weights=False).aggregate
    where = groups.where & groups.live[:, None, :]
    ours = formulas.soft_minimum(groups.scores, where, 1.0)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize("holes", [False, True], ids=["full", "holes"])
@pytest.mark.parametrize("k", [0.0, 1.0, math.inf])
def test_what_channels_do_in_groups_is_what_the_diagnostics_say(k, holes):
    rewards = groups_of(holes)
    pass_at = np.array([1.0, 100.0, 0.01, 1001.0], np.float32)
    ours = judge.judge_groups(rewards, pass_at, {}, k)
    config = AdvantageConfig(whiten="none", risk_coef=k)
    soft = compute_advantages(rewards, config=config)
    where = ~np.isnan(rewards)
    filled = jnp.where(where, rewards, 0.0)
    live, dead_pass, dead_fail = diagnostics.group_status(filled, where, pass_at)
    np.testing.assert_array_equal(ours["status"], live * 1 + dead_pass * 2 + dead_fail * 3)
    opposite, both = diagnostics.conflict(soft.scores, live, where)
    np.testing.assert_array_equal(ours["opposite"], opposite.sum((0, 1)))
    np.testing.assert_array_equal(ours["both"], both.sum((0, 1)))
    spread, to_mean, to_min = diagnostics.between_mean_and_minimum(
        soft.scores, soft.aggregate, where
    )
    effective = diagnostics.effective_channels(soft.weights)
    expected = {"spread": spread, "to_mean": to_mean, "to_min": to_min, "effective": effective}
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, atol=2e-5, err_msg=name)
    minima = diagnostics.bottleneck(soft.scores, where)
    np.testing.assert_allclose(ours["minima"], minima, atol=1e-6)


def test_gaps_worked_by_hand():
    # Group 0: fails with 3 and 1, meets with -1, and one that a rule is silent about. Group 1: all
    # fail. Group 2: an unscored one does not count.
    advantages = np.array([3.0, 1.0, -1.0, np.nan, 1.0, 2.0, 4.0, 1.0, 9.0], np.float32)
    group = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    met = np.array([0, 0, 1, 1, 0, 0, 1, 0, 0], bool)[:, None]
    where = np.array([1] * 8 + [0], bool)[:, None]
    gaps = judge.failure_gaps({"rule": advantages}, met, where, group)["rule"]
    np.testing.assert_allclose(gaps, [[3.0], [np.nan], [-3.0]])


def test_labels_and_colors_are_those_of_the_methods():
    assert {name: (f.label, f.color, f.whitened) for name, f in formulas.FORMULAS.items()} == {
        name: (record.label, record.color, record.whitened)
        for name, record in METHODS.items()
        if name != "rvpo_level"
    }


def test_a_rule_without_formula_is_refused_with_the_package_that_has_it():
    with pytest.raises(ValueError, match="rvpo_level.*\n.*package rvpo-jax"):
        rules.parse_rule("rvpo_level")


def test_an_audit_of_the_base_rules_loads_no_jax(tmp_path):
    log = make_log(("paid",), steps=4)
    columns = {channel.name: log.rewards[:, i] for i, channel in enumerate(log.channels)}
    np.savez(tmp_path / "log.npz", step=log.step, group=log.prompt, **columns)
    program = f"""import numpy, pyarrow, rvpo_jax
log = pyarrow.table(dict(numpy.load({str(tmp_path / "log.npz")!r})))
found = rvpo_jax.audit(log, group="group", what_if=("gdpo_sum", "variance:k=2"))
found.save({str(tmp_path)!r})
assert found.report["counts"]["steps"] == 4"""
    assert loaded_by(program, ["jax", "flax", "optax", "orbax", "tensorflow"]) == []
    assert (tmp_path / "audit.html").exists()
