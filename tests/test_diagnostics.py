"""What channels do: small tables worked by hand, with holes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.method import diagnostics

NAN = float("nan")
PASS_AT = jnp.array([1.0, 0.5])

# Three prompts, two completions, two channels; x is not scored.
#            channel 0      channel 1
# prompt 0   0, 1  live     0.5, 0.5  all met
# prompt 1   0, 0  all fail x, 0.7    met by the one that was scored
# prompt 2   1, x  met      x, x      absent
REWARDS = jnp.array([[[0.0, 0.5], [1.0, 0.5]], [[0.0, NAN], [0.0, 0.7]], [[1.0, NAN], [NAN, NAN]]])
WHERE = ~jnp.isnan(REWARDS)


def test_group_status_worked_by_hand():
    live, dead_pass, dead_fail = diagnostics.group_status(REWARDS, WHERE, PASS_AT)
    assert live.tolist() == [[True, False], [False, False], [False, False]]
    assert dead_pass.tolist() == [[False, True], [False, True], [True, False]]
    assert dead_fail.tolist() == [[False, False], [True, False], [False, False]]


def test_a_channel_is_in_at_most_one_state_and_absent_channels_in_none():
    rng = np.random.default_rng(0)
    rewards = rng.integers(0, 2, (50, 3, 4)).astype(np.float32)
    where = rng.random(rewards.shape) < 0.6
    states = diagnostics.group_status(jnp.asarray(rewards), jnp.asarray(where), jnp.ones(4))
    count = sum(np.asarray(state).astype(int) for state in states)
    np.testing.assert_array_equal(count, where.any(1).astype(int))


def test_a_live_channel_is_live_below_and_above_its_threshold():
    rewards = jnp.array([[[0.1, 0.8], [0.2, 0.9]]])
    live, _, _ = diagnostics.group_status(rewards, rewards >= 0, PASS_AT)
    assert live.tolist() == [[True, True]]


def test_joint_pass_worked_by_hand():
    # Met: (1, 0.5) of prompt 0 and the lone 1 of prompt 2; nothing scored is not a pass.
    passed = diagnostics.joint_pass(REWARDS, WHERE, PASS_AT)
    assert passed.tolist() == [[False, True], [False, False], [True, False]]


def test_joint_pass_of_single_completions():
    assert bool(diagnostics.joint_pass(jnp.array([1.0, 0.5]), jnp.ones(2, bool), PASS_AT))


def test_channel_metrics_worked_by_hand():
    metrics = diagnostics.channel_metrics(REWARDS, WHERE, PASS_AT)
    # Channel 0: 0, 1, 0, 0, 1, squares about 0.4: 2 * 0.36 + 3 * 0.16 = 1.2. Channel 1: 0.5, 0.5,
    # 0.7, mean 17/30, squares 2 / 225 / ... = (1/15)^2 * 2 + (2/15)^2 = 6/225.
    expected = {
        "mean": [0.4, 17 / 30],
        "std": [np.sqrt(1.2 / 5), np.sqrt(6 / 225 / 3)],
        "pass_rate": [0.4, 1.0],
        "scored_frac": [5 / 6, 3 / 6],
        "live_frac": [1 / 3, 0.0],
        "dead_pass_frac": [1 / 3, 1.0],
        "dead_fail_frac": [1 / 3, 0.0],
        "joint_pass_rate": 2 / 6,
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_metrics_of_a_batch_where_nothing_was_scored_are_0():
    metrics = diagnostics.channel_metrics(
        jnp.full((2, 3, 2), NAN), jnp.zeros((2, 3, 2), bool), PASS_AT
    )
    assert all(not np.any(value) for value in jax.tree.leaves(metrics))


def test_metrics_compile():
    eager = diagnostics.channel_metrics(REWARDS, WHERE, PASS_AT)
    compiled = jax.jit(diagnostics.channel_metrics)(REWARDS, WHERE, PASS_AT)
    for name in eager:
        np.testing.assert_allclose(compiled[name], eager[name], rtol=1e-6)


# One group of three completions, two channels, the second a constraint; B = 1, G = 3.
GROUP = jnp.array([[[3.0, 0.0], [1.0, 1.0], [2.0, NAN]]])
SCORED = ~jnp.isnan(GROUP)
MARKS = jnp.array([2.0, 1.0])


def test_quiet_failures_worked_by_hand():
    # The first fails the constraint and is reinforced; the second fails channel 0 and is not; the
    # third is reinforced and was not scored by the constraint.
    quiet = diagnostics.quiet_failures(jnp.array([[1.0, -1.0, 0.5]]), GROUP, SCORED, MARKS)
    assert quiet.tolist() == [[[False, True], [False, False], [False, False]]]


@pytest.mark.parametrize("advantage", [0.0, 1e-6, -1.0, NAN])
def test_a_residue_of_float32_is_no_reinforcement(advantage):
    value = jnp.full((1, 3), advantage)
    assert not diagnostics.quiet_failures(value, GROUP, SCORED, MARKS).any()


def test_failure_gap_worked_by_hand():
    # Channel 0: met by 3 and 2 (advantages 1 and 0.5), failed by 1 (-1): -1 - 0.75 = -1.75.
    # Constraint: failed by the first (1), met by the second (-1): 2.
    gap, defined = diagnostics.failure_gap(jnp.array([[1.0, -1.0, 0.5]]), GROUP, SCORED, MARKS)
    np.testing.assert_allclose(gap, [[-1.75, 2.0]])
    assert defined.tolist() == [[True, True]]


def test_failure_gap_ignores_a_baseline_and_is_undefined_without_both_kinds():
    advantage = jnp.array([[1.0, -1.0, 0.5]])
    gap, _ = diagnostics.failure_gap(advantage, GROUP, SCORED, MARKS)
    moved, _ = diagnostics.failure_gap(advantage + 7, GROUP, SCORED, MARKS)
    np.testing.assert_allclose(gap, moved, atol=1e-5)
    gap, defined = diagnostics.failure_gap(advantage, GROUP, SCORED, jnp.array([0.0, 9.0]))
    assert gap.tolist() == [[0.0, 0.0]] and defined.tolist() == [[False, False]]


def test_bottleneck_shares_ties_and_leaves_out_what_was_not_scored():
    scores = jnp.array([[-1.0, -1.0, 3.0], [0.0, -2.0, -5.0], [1.0, 2.0, 3.0]])
    where = jnp.array([[True, True, True], [True, True, False], [False, False, False]])
    shares = diagnostics.bottleneck(scores, where)
    assert shares.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_effective_channels_is_one_for_a_minimum_and_m_for_a_mean():
    weights = jnp.array([[1.0, 0.0, 0.0], [1 / 3] * 3, [0.5, 0.25, 0.25]])
    # The last: entropy 1.5 ln 2, so 2^1.5.
    np.testing.assert_allclose(
        diagnostics.effective_channels(weights), [1.0, 3.0, 2**1.5], rtol=1e-6
    )


def test_conflict_counts_only_live_and_scored_pairs():
    scores = jnp.array([[[1.0, -1.0, 0.0], [-1.0, -1.0, 0.0]]])
    where = jnp.array([[[True, True, True], [True, False, True]]])
    opposite, both = diagnostics.conflict(scores, jnp.array([[True, True, False]]), where)
    assert opposite[0, 0, 0, 1] and both[0, 0, 0, 1]
    assert not both[0, 1, 0, 1]  # the second completion was not scored by channel 1
    assert not both[..., 2].any()  # dead


def test_an_aggregate_between_mean_and_minimum():
    scores, where = jnp.array([2.0, 0.0, 9.0]), jnp.array([True, True, False])
    for aggregate, to_mean, to_min in ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0)):
        spread, mean, low = diagnostics.between_mean_and_minimum(
            scores, jnp.array(aggregate), where
        )
        assert (float(spread), float(mean), float(low)) == (1.0, to_mean, to_min)


def test_diagnostics_of_nothing_scored_are_0_not_nan():
    scores, nothing = jnp.zeros((2, 3)), jnp.zeros((2, 3), bool)
    values = diagnostics.between_mean_and_minimum(scores, jnp.zeros(2), nothing)
    assert all(np.all(np.asarray(value) == 0) for value in values)
