"""The rule interface: statistics of the batch, dropped completions, memory, who decided."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest

from rvpo_jax import AdvantageConfig, Channel, compute_advantages
from rvpo_jax.config import LossConfig
from rvpo_jax.method import aggregators, levels
from rvpo_jax.method.rules import Rule, RuleOutput
from rvpo_jax.method.step import init_state, make_train_step
from tests.toys import BATCH_LAYOUTS, bigram_logprobs, bigram_params, layout_of, ragged_batch

# The batch of DARA's public unit test: two groups of four; the second channel is dead in group 2.
REWARDS = np.array(
    [[[-3, 0], [-1, 1], [1, 0], [3, 1]], [[0, 0], [1, 0], [2, 0], [3, 0]]], np.float32
)
METHODS = aggregators.METHODS | {"rvpo_level": levels.METHODS["rvpo_level"]}
SGD = optax.sgd(0.5)


def gd2po(scores):
    """A rule that drops: completions whose channels disagree."""
    conflict = jnp.any(scores > 1e-8, axis=-1) & jnp.any(scores < -1e-8, axis=-1)
    return RuleOutput(aggregate=jnp.sum(scores, axis=-1), keep=~conflict)


def lagrangian(rate, target):
    """A rule that remembers: a multiplier on each further channel, moved before it is used."""

    def init(num_channels):
        return jnp.zeros(num_channels - 1)

    def apply(scores, rule_state, *, rewards, where):
        count = jnp.maximum(jnp.sum(where, axis=(0, 1)), 1)
        mean = jnp.sum(rewards, axis=(0, 1), where=where) / count
        multiplier = jnp.maximum(rule_state + rate * (target - mean[1:]), 0.0)
        constrained = jnp.sum(scores[..., 1:] * multiplier.reshape(1, 1, -1), axis=-1)
        return RuleOutput(aggregate=scores[..., 0] + constrained, state=multiplier)

    return Rule(init, apply)


def batch_centered(scores, rewards):
    """A rule that looks at the whole batch."""
    return jnp.mean(scores * jnp.std(rewards, axis=(0, 1), keepdims=True), axis=-1)


# Dropped completions


def test_a_dropped_completion_has_advantage_0_and_leaves_the_statistics():
    # Z = -+0.707 per group; the first completion of group 1 is dropped: the mean and the deviation
    # are those of the other three values 1, -1, 1 times 0.707: mean 1/3, variance 4/3.
    def rule(scores):
        keep = jnp.ones(scores.shape[:2], bool).at[0, 0].set(False)
        return RuleOutput(aggregate=jnp.sign(scores[..., 0]), keep=keep)

    rewards = np.array([[[0.0], [1.0]], [[0.0], [1.0]]])
    out = compute_advantages(rewards, config=AdvantageConfig(method=rule, whiten_eps=0.0))
    expected = np.array([0, 2 / 3, -4 / 3, 2 / 3]) / np.sqrt(4 / 3)
    np.testing.assert_allclose(out.advantages.ravel(), expected, rtol=1e-6)
    assert float(out.advantages[0, 0]) == 0.0
    assert out.keep.tolist() == [[False, True], [True, True]]


def test_tokens_of_dropped_completions_stay_in_the_denominator_unless_it_asks_for_keep():
    batch = ragged_batch(num_channels=2)

    def kept_tokens(completion_mask, keep):
        weights = (completion_mask & keep[..., None]).astype(jnp.float32)
        return weights, jnp.sum(weights)

    def moved(loss):
        step = make_train_step(bigram_logprobs, gd2po, SGD, loss=loss)
        state = init_state(bigram_params(), SGD, jax.random.key(0))
        new, judged, _ = jax.jit(step)(state, batch)
        return new.params["table"] - state.params["table"], judged.keep

    all_tokens, keep = moved(LossConfig())
    only_kept, _ = moved(LossConfig(denominator=kept_tokens))
    lengths = np.asarray(batch.completion_mask).sum(-1)
    assert 0 < np.asarray(keep).sum() < keep.size
    ratio = lengths.sum() / lengths[np.asarray(keep)].sum()
    np.testing.assert_allclose(only_kept, all_tokens * ratio, rtol=1e-4, atol=1e-6)


# The batch on several devices


RULES = {"batch": batch_centered, "drops": gd2po, "remembers": lagrangian(0.5, 0.9)}


@pytest.mark.slow
@pytest.mark.parametrize("shape", BATCH_LAYOUTS)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_looks_at_the_batch_is_the_same_on_one_device_and_on_eight(shape, name):
    batch = ragged_batch(num_channels=2)
    # Devices differ in level and in what is live: local statistics would show.
    scale = jnp.arange(16.0).reshape(16, 1, 1) * jnp.array([1.0, 0.1]).reshape(1, 1, 2)
    rewards = batch.rewards * scale
    batch = dataclasses.replace(batch, rewards=rewards.at[3:9, :, 1].set(0.5))
    config = AdvantageConfig(method=RULES[name], whiten="token")
    step = make_train_step(bigram_logprobs, config, SGD)
    state = init_state(bigram_params(), SGD, jax.random.key(0), rule=config, num_channels=2)
    one, judged, metrics = jax.jit(step)(state, batch)
    layout = layout_of(shape)
    eight, judged_8, metrics_8 = layout.step(step)(layout.place(state), batch)
    chex.assert_trees_all_close(eight.params, one.params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(eight.rule_state, one.rule_state, rtol=1e-6)
    chex.assert_trees_all_close(judged_8, judged, atol=1e-5)
    chex.assert_trees_all_close(metrics_8, metrics, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_step_judges_once_and_returns_the_whole_batch(monkeypatch):
    from rvpo_jax.method import step as module

    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return compute_advantages(*args, **kwargs)

    monkeypatch.setattr(module, "compute_advantages", counted)
    loss = LossConfig(num_minibatches=2, num_epochs=3, microbatch_size=1)
    step = make_train_step(bigram_logprobs, AdvantageConfig(), SGD, loss=loss)
    state = init_state(bigram_params(), SGD, jax.random.key(0))
    layout = layout_of(None, 4)
    _, judged, _ = layout.step(step)(layout.place(state), ragged_batch())
    assert len(calls) == 1
    expected = compute_advantages(ragged_batch().rewards, ragged_batch().where)
    chex.assert_trees_all_close(judged, expected, atol=1e-6)


# Memory


def test_a_multiplier_moves_once_per_step_whatever_the_minibatches_and_epochs():
    # Rewards of the constraint have mean 0.25 and target 0.75: +0.5 * rate a step.
    rewards = jnp.zeros((16, 4, 2)).at[:, 0, 1].set(1.0)
    batch = dataclasses.replace(
        ragged_batch(num_channels=2), rewards=rewards, where=jnp.ones((16, 4, 2), bool)
    )
    rule = lagrangian(rate=0.2, target=0.75)
    loss = LossConfig(num_minibatches=4, num_epochs=3)
    step = jax.jit(make_train_step(bigram_logprobs, rule, SGD, loss=loss))
    state = init_state(bigram_params(), SGD, jax.random.key(0), rule=rule, num_channels=2)
    seen = []
    for _ in range(3):
        state, _, metrics = step(state, batch)
        seen.append(float(state.rule_state[0]))
    assert seen == pytest.approx([0.1, 0.2, 0.3])
    # One multiplier for two channels: no number of each channel, so it is no metric.
    assert not [name for name in metrics if name.startswith("rule/")]


def test_what_a_rule_remembers_of_each_channel_is_a_metric():
    rewards = jnp.zeros((16, 4, 2)).at[:, 0, 1].set(1.0)
    batch = dataclasses.replace(
        ragged_batch(num_channels=2), rewards=rewards, where=jnp.ones((16, 4, 2), bool)
    )
    channels = [Channel(name="a"), Channel(name="b", target=0.75)]
    rule = AdvantageConfig(method="lagrangian", options={"rate": 0.2})
    step = jax.jit(make_train_step(bigram_logprobs, rule, SGD, channels=channels))
    state = init_state(bigram_params(), SGD, jax.random.key(0), rule=rule, num_channels=2)
    _, _, metrics = step(state, batch)
    np.testing.assert_allclose(metrics["rule/multiplier"], [0.0, 0.1], atol=1e-6)


def test_calls_without_a_state_start_afresh_and_with_one_go_on():
    config = AdvantageConfig(method=lagrangian(rate=1.0, target=1.0), whiten="none")
    first = compute_advantages(REWARDS, config=config)
    again = compute_advantages(REWARDS, config=config)
    second = compute_advantages(REWARDS, config=config, rule_state=first.rule_state)
    # The mean of format is 2/8: the multiplier is 3/4, then 3/2.
    assert float(first.rule_state[0]) == float(again.rule_state[0]) == 0.75
    assert float(second.rule_state[0]) == 1.5
    z = oracle.compute_advantages(REWARDS, whiten_scope="none").scores
    np.testing.assert_allclose(second.aggregate, z[..., 0] + 1.5 * z[..., 1], atol=1e-5)


def test_a_rule_may_ask_for_the_step():
    def apply(scores, rule_state, *, step):
        return RuleOutput(aggregate=scores[..., 0] * step, state=rule_state)

    rule = Rule(lambda num_channels: (), apply)
    config = AdvantageConfig(method=rule, whiten="none")
    once, twice = (compute_advantages(REWARDS, config=config, step=k).aggregate for k in (1, 2))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param(
            Rule(lambda m: (), lambda z, s: RuleOutput(aggregate=z[..., 0], state=jnp.zeros(2))),
            r"must return a state like the one it was given",
            id="another state",
        ),
        pytest.param(
            lambda z: RuleOutput(aggregate=z[..., 0], keep=jnp.ones(4, bool)),
            r"keep \[B, G\] = \(2, 4\), got \(4,\)",
            id="shape of keep",
        ),
        pytest.param(
            lambda z: jnp.log(z[..., 0]),
            r"<lambda> must return finite numbers, got nan at \[b, g\] = \(0, 0\)",
            id="NaN",
        ),
        pytest.param(
            Rule(lambda m: (), lambda z, s, *, temperature: z), "asks for temperature", id="name"
        ),
    ],
)
def test_what_a_rule_must_not_do_is_refused_by_name(rule, message):
    with pytest.raises(ValueError, match=message):
        compute_advantages(REWARDS, config=AdvantageConfig(method=rule))


def test_a_rule_with_memory_needs_a_state_made_for_it():
    rule = lagrangian(0.1, 1.0)
    step = make_train_step(bigram_logprobs, rule, SGD)
    state = init_state(bigram_params(), SGD, jax.random.key(0))
    with pytest.raises(ValueError, match=r"init_state\(\.\.\., rule=RULE, num_channels=M\)"):
        jax.jit(step)(state, ragged_batch(num_channels=2))


# Who decided


def mean_of_scores(scores):
    return jnp.mean(scores, axis=-1)


def mean_less_group_mean(scores):
    mean = mean_of_scores(scores)
    return mean - jnp.mean(mean, axis=1, keepdims=True)


def raw_mean(scores, rewards):
    return jnp.mean(rewards, axis=-1)


def raw_mean_less_batch_mean(scores, rewards):
    return raw_mean(scores, rewards) - jnp.mean(rewards)


def test_mean_less_group_mean_has_the_weights_of_the_mean():
    out = compute_advantages(REWARDS, config=AdvantageConfig(method=mean_less_group_mean))
    np.testing.assert_allclose(out.weights, 0.5, rtol=1e-6)


def test_weights_of_a_rule_on_raw_rewards_are_in_scores():
    # R = mean + (std + eps) Z, so d mean(R) / dZ_m = (std_m + eps) / 2; a dead channel has none.
    out = compute_advantages(REWARDS, config=AdvantageConfig(method=raw_mean, eps=0.1))
    expected = (REWARDS.std(axis=1, ddof=1) + 0.1) / 2
    expected[1, 1] = 0.0
    np.testing.assert_allclose(out.weights, np.repeat(expected[:, None], 4, axis=1), rtol=1e-5)


def test_weights_are_the_diagonal_of_the_jacobian_less_the_mean_of_the_other_rows():
    def rule(scores):  # coupled within groups and over the batch, not linear
        mean = jnp.mean(scores**2, axis=-1)
        return mean * jnp.max(mean, axis=1, keepdims=True) + jnp.sum(jnp.sin(scores)) * mean

    out = compute_advantages(REWARDS, config=AdvantageConfig(method=rule))
    jacobian = np.asarray(jax.jacobian(rule)(out.scores))  # [B, G, B, G, M]
    for b, g in np.ndindex(2, 4):
        others = [jacobian[b, i, b, g] for i in range(4) if i != g]
        expected = jacobian[b, g, b, g] - np.mean(others, axis=0)
        np.testing.assert_allclose(out.weights[b, g], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_batch_in_blocks_has_the_weights_of_the_batch(monkeypatch):
    from rvpo_jax.method import rules

    config = AdvantageConfig(method=raw_mean_less_batch_mean)
    whole = compute_advantages(ragged_batch().rewards, ragged_batch().where, config)
    monkeypatch.setattr(rules, "MAX_ELEMENTS", 4 * ragged_batch().rewards.size * 3)
    parts = compute_advantages(ragged_batch().rewards, ragged_batch().where, config)
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].pointwise])
def test_a_named_rule_as_a_users_function_has_the_weights_of_the_name(name):
    channels = [Channel(name=c, low=-3, high=3, pass_at=1) for c in "ab"]
    where = np.ones(REWARDS.shape, bool)
    where[0, 1, 1] = False
    named = compute_advantages(REWARDS, where, AdvantageConfig(method=name), channels=channels)
    own = AdvantageConfig(method=METHODS[name].rule)
    general = compute_advantages(REWARDS, where, own, channels=channels)
    np.testing.assert_allclose(general.weights, named.weights, atol=1e-5)


def test_weights_that_were_not_asked_for_are_nan_and_change_nothing_else():
    config = AdvantageConfig(method=mean_less_group_mean)
    full = compute_advantages(REWARDS, config=config)
    bare = compute_advantages(REWARDS, config=config, with_weights=False)
    assert np.isnan(bare.weights).all()
    chex.assert_trees_all_equal(dataclasses.replace(bare, weights=full.weights), full)


@pytest.mark.parametrize(
    ("every", "expected"),
    [(2, [True, False, True, False]), (1, [True] * 4), (0, [False] * 4)],
)
def test_a_step_computes_the_weights_of_a_users_rule_at_the_interval_only(every, expected):
    rule = AdvantageConfig(method=mean_less_group_mean)
    step = jax.jit(make_train_step(bigram_logprobs, rule, SGD, weights_every=every))
    state = init_state(bigram_params(), SGD, jax.random.key(0))
    known = []
    for _ in range(4):
        state, judged, _ = step(state, ragged_batch())
        known.append(bool(np.isfinite(judged.weights).all()))
    assert known == expected


# Numbers of any size


@pytest.mark.parametrize("method", METHODS)
def test_float64_rewards_keep_their_digits(method):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 4, 2))
    channels = [Channel(name=c, low=-5, high=5, pass_at=1) for c in "ab"]
    far = [Channel(name=c, low=1e8 - 5, high=1e8 + 5, pass_at=1e8) for c in "ab"]
    config = AdvantageConfig(method=method, level_coef=0.0)
    near = compute_advantages(noise, config=config, channels=channels)
    offset = compute_advantages(noise + 1e8, config=config, channels=far)
    # float64 keeps eight digits of the noise beside 1e8.
    np.testing.assert_allclose(offset.advantages, near.advantages, atol=1e-5)


@pytest.mark.parametrize("method", ["grpo", "gdpo", "rvpo", "hard_min"])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("eps_on", ["std", "variance"])
def test_rewards_of_any_scale_equal_the_oracle(method, scale, eps_on):
    rng = np.random.default_rng(1)
    rewards = np.float32(rng.normal(size=(3, 4, 2)) * scale)
    fields = dict(method=method, eps=0.0 if scale < 1 else 1e-6)
    config = AdvantageConfig(**fields, whiten_eps_on=eps_on)
    out = compute_advantages(rewards, config=config)
    expected = oracle.compute_advantages(rewards.astype(np.float64), **fields, whiten_eps_on=eps_on)
    np.testing.assert_allclose(out.advantages, expected.advantages, atol=2e-5)


def test_the_sum_keeps_small_channels_beside_a_large_offset():
    rng = np.random.default_rng(2)
    rewards = np.float32(rng.normal(size=(3, 8, 2)) * 1e-3)
    rewards[..., 1] += np.float32(1e4)  # what float32 holds of it is the reward
    where = np.ones(rewards.shape, bool)
    config = AdvantageConfig(method="grpo", whiten="none")
    expected = oracle.compute_advantages(
        rewards.astype(np.float64), method="grpo", whiten_scope="none"
    )
    out = compute_advantages(rewards, where, config)
    np.testing.assert_allclose(out.advantages, expected.advantages, atol=1e-3)


def test_a_completion_without_a_channel_lacks_it_in_the_sum():
    # Sums 10 + 1, 10 + 2, 1 (not scored in the first channel), 10 + 4.
    rewards = np.array([[[10.0, 1], [10, 2], [np.nan, 1], [10, 4]]])
    out = compute_advantages(rewards, config=AdvantageConfig(method="grpo", whiten="none", eps=0.0))
    sums = np.array([11.0, 12, 1, 14])
    np.testing.assert_allclose(
        out.advantages[0], (sums - sums.mean()) / sums.std(ddof=1), rtol=1e-6
    )


@pytest.mark.parametrize("k", [1e-45, 1e-39, 1e-38])
def test_a_tiny_risk_coef_is_the_mean(k):
    tiny = compute_advantages(REWARDS, config=AdvantageConfig(risk_coef=k))
    mean = compute_advantages(REWARDS, config=AdvantageConfig(method="gdpo"))
    np.testing.assert_allclose(tiny.advantages, mean.advantages, atol=1e-6)


@pytest.mark.parametrize("k", [np.float32(-1.0), jnp.float32(-1.0)])
def test_a_negative_array_as_risk_coef_is_refused(k):
    with pytest.raises(ValueError, match="risk_coef must be >= 0"):
        compute_advantages(REWARDS, risk_coef=k)


def test_rewards_beyond_float32_are_refused():
    rewards = REWARDS.astype(np.float64)
    rewards[1, 2, 0] = 1e39
    with pytest.raises(ValueError, match=r"must fit float32, got 1e\+39 at .* = \(1, 2, 0\)"):
        compute_advantages(rewards)


def test_a_config_in_the_place_of_where_is_refused_with_its_place():
    with pytest.raises(ValueError, match="Pass it as config="):
        compute_advantages(REWARDS, AdvantageConfig())
