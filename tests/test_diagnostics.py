"""What channels do: small tables worked by hand, with holes."""

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax import diagnostics

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
