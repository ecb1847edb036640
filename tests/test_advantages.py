"""compute_advantages: the oracle, published worked examples, invariances, traps and messages."""

import functools
import math

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method import aggregators, levels
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.standardize import WHITENINGS, standardize

INF = float("inf")
NAN = float("nan")

# peers.md 1.2: two prompts, four completions, correctness and format; in prompt 2 format is dead.
REWARDS = np.float32(
    [[[3, 0], [3, 1], [-3, 1], [0, 1]], [[1, 1], [2, 1], [3, 1], [-1, 1]]],
)
LENGTHS = np.array([[100, 400, 50, 200], [100, 100, 300, 100]])


# Eager JAX compiles each operation once per shape: most tests keep to REWARDS' shape and to
# (3, 4, 3). One compilation per configuration serves tests of other shapes.
compiled = functools.partial(jax.jit, static_argnames=("config", "channels"))(compute_advantages)
# Of all channels of these tests; only rvpo_level looks at it.
SPAN = (-30.0, 30.0)


METHODS = aggregators.METHODS | levels.METHODS


def spanned(num_channels, method=None, span=SPAN):
    """Channels for the rule that needs them."""
    if method not in levels.METHODS:
        return None
    low, high = span
    return tuple(
        Channel(name=f"{m}", low=low, high=high, pass_at=high) for m in range(num_channels)
    )


def advantages(rewards, where=None, lengths=None, risk_coef=None, **fields):
    channels = spanned(rewards.shape[-1], fields.get("method"))
    compute = compute_advantages if rewards.shape in ((2, 4, 2), (3, 4, 3)) else compiled
    return compute(
        rewards,
        where,
        config=AdvantageConfig(**fields),
        channels=channels,
        lengths=lengths,
        risk_coef=risk_coef,
    )


def slow(rewards, where=None, lengths=None, **fields):
    fields["whiten_scope"] = fields.pop("whiten", "batch")
    spans = [SPAN] * np.shape(rewards)[-1]
    return oracle.compute_advantages(rewards, where, lengths=lengths, spans=spans, **fields)


def rollout(seed, num_prompts=3, group=4, num_channels=3):
    """Rewards with ties, dead channels and other scales; a mask with holes; lengths."""
    rng = np.random.default_rng(seed)
    shape = (num_prompts, group, num_channels)
    rewards = rng.integers(-2, 3, shape) * rng.choice([0.25, 1.0, 10.0], (1, 1, num_channels))
    rewards = np.where(rng.random((num_prompts, 1, num_channels)) < 0.25, 0.1, rewards)
    where = rng.random(shape) < rng.choice([0.4, 0.8, 1.0])
    lengths = rng.integers(1, 60, (num_prompts, group))
    return rewards.astype(np.float32), where, lengths


# Published numbers


@pytest.mark.parametrize(
    ("fields", "expected", "average"),
    [
        pytest.param(
            dict(method="grpo", whiten="none"),
            [[0.57, 0.94, -1.32, -0.19], [-0.15, 0.44, 1.02, -1.32]],
            0.0,
            id="sum then z, ddof 1: Tunix, TRL default",
        ),
        pytest.param(
            dict(method="grpo", whiten="none", ddof=0),
            [[0.65, 1.09, -1.53, -0.22], [-0.17, 0.51, 1.18, -1.52]],
            0.0,
            id="sum then z, ddof 0: EasyDeL, lmpo",
        ),
        pytest.param(
            dict(method="gdpo_sum", eps=1e-4, whiten_eps=1e-4),
            [[-0.78, 1.40, -0.88, 0.26], [-0.16, 0.48, 1.12, -1.44]],
            0.0,
            id="GDPO, TRL",
        ),
        pytest.param(
            dict(method="gdpo_sum", whiten="token", whiten_eps=1e-8, whiten_eps_on="variance"),
            [[-1.43, 0.95, -1.54, -0.29], [-0.75, -0.05, 0.64, -2.15]],
            -0.58,
            id="GDPO, verl",
        ),
        pytest.param(
            dict(method="gdpo", ddof=0, whiten="none"),
            [[-0.41, 0.74, -0.47, 0.14], [-0.08, 0.25, 0.59, -0.76]],
            0.0,
            id="mean of z, ddof 0",
        ),
        pytest.param(
            dict(risk_coef=1.0, whiten="none"),
            [[-0.90, 0.63, -0.76, 0.05], [-0.08, 0.20, 0.39, -0.86]],
            -0.17,
            id="RVPO k=1",
        ),
        pytest.param(
            dict(risk_coef=2.0, whiten="none"),
            [[-1.16, 0.62, -0.97, -0.01], [-0.08, 0.17, 0.29, -1.01]],
            -0.27,
            id="RVPO k=2",
        ),
        pytest.param(
            dict(risk_coef=2.0, whiten="none", ddof=0),
            [[-1.39, 0.71, -1.17, -0.03], [-0.09, 0.19, 0.30, -1.20]],
            -0.33,
            id="RVPO k=2, ddof 0",
        ),
        pytest.param(
            dict(risk_coef=2.0),
            [[-1.31, 1.31, -1.04, 0.38], [0.28, 0.65, 0.82, -1.09]],
            0.0,
            id="RVPO k=2, whitened over completions",
        ),
        pytest.param(
            dict(risk_coef=2.0, whiten="token"),
            [[-2.08, 0.97, -1.76, -0.12], [-0.23, 0.20, 0.39, -1.82]],
            -0.56,
            id="RVPO k=2, whitened over tokens",
        ),
    ],
)
def test_the_worked_example_has_its_published_numbers(fields, expected, average):
    out = advantages(REWARDS, lengths=LENGTHS, **fields)
    # Two printed decimals, each rounded: half a unit of the last one, and float32.
    np.testing.assert_allclose(out.advantages, expected, atol=5.01e-3)
    assert float(out.advantages.mean()) == pytest.approx(average, abs=5.01e-3)


@pytest.mark.parametrize(
    ("pair", "gdpo", "grpo"),
    [
        pytest.param([[0, 0], [1, 0]], 0.7071, 0.7071, id="totals 0 and 1"),
        pytest.param([[0, 0], [1, 1]], 1.4142, 0.7071, id="totals 0 and 2"),
        pytest.param([[1, 0], [1, 1]], 0.7071, 0.7071, id="totals 1 and 2"),
    ],
)
def test_gdpo_tells_apart_what_grpo_does_not(pair, gdpo, grpo):
    # GDPO's own example: two rollouts, two binary rewards, sample standard deviation.
    rewards = np.float32([pair])
    out = advantages(rewards, method="gdpo_sum", whiten="none")
    np.testing.assert_allclose(out.advantages, [[-gdpo, gdpo]], atol=5e-5)
    out = advantages(rewards, method="grpo", whiten="none")
    np.testing.assert_allclose(out.advantages, [[-grpo, grpo]], atol=5e-5)


def test_a_lone_failure_weighs_as_published():
    # paper.md 1.8, point 3: G = 16, M = 10, nine dead channels. A lone failure has Z = -3.75, a
    # failure where only one passes has Z = -0.25; the mean gives -0.375 and -0.025, k = 2 -2.60
    # and -0.03.
    rewards = np.zeros((2, 16, 10), np.float32)
    rewards[0, 1:, 0] = 1
    rewards[1, 0, 0] = 1
    out = advantages(rewards, risk_coef=2.0, whiten="none")
    mean = advantages(rewards, method="gdpo", whiten="none")
    np.testing.assert_allclose(out.scores[:, [0, 1], 0], [[-3.75, 0.25], [3.75, -0.25]], atol=2e-5)
    np.testing.assert_allclose(mean.advantages[[0, 1], [0, 1]], [-0.375, -0.025], atol=5e-6)
    np.testing.assert_allclose(out.advantages[[0, 1], [0, 1]], [-2.60, -0.03], atol=5.1e-3)


@pytest.mark.parametrize("group", [2, 4, 16])
def test_scores_are_bounded_by_the_group_size(group):
    # One completion differs: |Z| = (G - 1) / sqrt(G) with ddof 1, reached there and only there.
    rewards = np.zeros((1, group, 1), np.float32)
    rewards[0, 0, 0] = 1.0
    scores, _ = standardize(jnp.asarray(rewards), jnp.ones(rewards.shape, bool), eps=0.0)
    assert float(jnp.abs(scores).max()) == pytest.approx((group - 1) / math.sqrt(group), rel=1e-6)


# Other systems' formulas


def test_preset_trl_is_normalize_then_sum_with_missing_rewards():
    rng = np.random.default_rng(5)
    rewards = rng.normal(size=(3, 4, 3)) * [1.0, 5.0, 0.1]
    rewards[0, 1, 0] = rewards[1, 2, 2] = rewards[1, 0, 2] = NAN  # never a whole row
    weights = (1.0, 0.5, 2.0)
    config = AdvantageConfig.preset("trl", weights=weights)
    out = compute_advantages(rewards.astype(np.float32), config=config)
    expected = oracle.trl_normalize_then_sum(rewards, weights)
    np.testing.assert_allclose(out.advantages, expected, atol=2e-5)


def test_preset_verl_whitens_over_tokens():
    rewards = np.random.default_rng(6).normal(size=(3, 4, 3))
    lengths = rollout(6)[2]
    config = AdvantageConfig.preset("verl")
    out = compute_advantages(rewards.astype(np.float32), config=config, lengths=lengths)
    np.testing.assert_allclose(out.advantages, oracle.verl_gdpo(rewards, lengths), atol=2e-5)


def test_preset_nemo_divides_the_batch_without_eps():
    rewards = np.random.default_rng(7).normal(size=(3, 4, 3))
    rewards[1, :, 2] = 0.5  # dead
    config = AdvantageConfig.preset("nemo", weights=(1.0, 2.0, 3.0))
    out = compute_advantages(rewards.astype(np.float32), config=config)
    expected = oracle.nemo_gdpo(rewards.astype(np.float32).astype(float), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(out.advantages, expected, atol=2e-5)


def test_a_preset_lends_its_conventions_to_another_method():
    config = AdvantageConfig.preset("trl", method="rvpo", risk_coef=2.0)
    expected = slow(REWARDS, risk_coef=2.0, eps=1e-4, whiten_eps=1e-4)
    np.testing.assert_allclose(
        compute_advantages(REWARDS, config=config).advantages, expected.advantages, atol=1e-5
    )


# The oracle


COMBINATIONS = [
    dict(method="rvpo", risk_coef=1.0),
    dict(method="rvpo", risk_coef=5.0, dead_channels="drop", recenter=True, whiten="group"),
    dict(method="rvpo", risk_coef=0.0, weights=(1.0, 0.0, 3.0), whiten="token"),
    dict(method="rvpo", risk_coef=INF, ddof=0, recenter=True),
    dict(method="rvpo_level", weights=(1.0, 2.0, 4.0), whiten="token"),
    dict(method="rvpo_level", risk_coef=0.0, level_coef=4.0, dead_channels="drop", whiten="none"),
    dict(method="rvpo_level", risk_coef=3.0, level_coef=25.0, recenter=True),
    dict(method="variance", variance_coef=0.3, weights=(1.0, 2.0, 4.0), whiten="none"),
    dict(method="variance", variance_coef=1.0, dead_channels="drop", recenter=True),
    dict(method="hard_min", whiten="token", recenter=True, ddof=0),
    dict(method="hard_min", dead_channels="drop", weights=(0.0, 1.0, 1.0), whiten="group"),
    dict(method="gdpo", dead_channels="drop", whiten="none", ddof=0),
    dict(method="gdpo", weights=(5.0, 1.0, 0.5), eps=0.1, whiten_eps_on="variance"),
    dict(method="gdpo_sum", whiten="token", whiten_eps=1e-2, whiten_eps_on="variance"),
    dict(method="gdpo_sum", weights=(0.5, 1.0, 2.0), dead_channels="drop", whiten="group"),
    dict(method="grpo", whiten="batch", recenter=True),
    dict(method="grpo", weights=(1.0, 0.0, 0.5), whiten="none", ddof=0, eps=1e-2),
]


@pytest.mark.parametrize("fields", COMBINATIONS, ids=lambda f: f"{f['method']}-{len(f)}")
@settings(max_examples=8)
@given(st.integers(0, 2**20))
def test_every_method_and_convention_equals_the_oracle(fields, seed):
    rewards, where, lengths = rollout(seed)
    out = advantages(rewards, where, lengths=lengths, **fields)
    expected = slow(rewards, where, lengths=lengths, **fields)
    np.testing.assert_array_equal(out.live, expected.live)
    np.testing.assert_allclose(out.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(out.aggregate, expected.aggregate, atol=3e-5)
    # Whitening divides by the spread of the aggregates, and rewards of this kind can leave one as
    # small as 1e-3 of their size; a spread that is rounding alone has no digits to compare.
    spread = np.std(expected.aggregate[expected.mask.any(-1)]) if where.any() else 0.0
    if spread > 1e-3:
        np.testing.assert_allclose(out.advantages, expected.advantages, rtol=1e-3, atol=1e-3)
    assert np.isfinite(out.advantages).all()
    assert not np.any(np.asarray(out.advantages)[~expected.mask.any(-1)])


def test_compiled_and_eager_agree():
    rewards, where, lengths = rollout(1)
    config = AdvantageConfig(weights=(1.0, 2.0, 3.0), dead_channels="drop", recenter=True)
    eager = compute_advantages(rewards, where, config, lengths=lengths)
    chex.assert_trees_all_close(eager, compiled(rewards, where, config=config), atol=2e-6)


# Weights: who decided


@pytest.mark.parametrize("fields", COMBINATIONS[:-2], ids=lambda f: f"{f['method']}-{len(f)}")
def test_weights_are_the_gradient_of_the_aggregate(fields):
    rewards, where, lengths = rollout(12)
    out = advantages(rewards, where, lengths=lengths, **fields)
    expected = slow(rewards, where, lengths=lengths, **fields)
    for b, g in np.ndindex(*rewards.shape[:2]):
        counted = expected.mask[b, g]
        if fields.get("dead_channels") == "drop":
            counted = counted & expected.live[b]

        def aggregate(row, counted=counted, b=b):
            return oracle.aggregate(
                row,
                fields["method"],
                risk_coef=fields.get("risk_coef", 1.0),
                variance_coef=fields.get("variance_coef", 0.5),
                weights=fields.get("weights"),
                where=counted,
                row_levels=expected.levels[b],
                level_coef=fields.get("level_coef", 10.0),
            )

        row = expected.scores[b, g]
        exact = fields["method"] == "hard_min" or fields.get("risk_coef") == INF
        if exact:  # not differentiable at a tie: equal minima share
            slope = oracle.softmin_gradient(row, INF, fields.get("weights"), counted)
        else:
            slope = oracle.finite_difference(aggregate, row)
        np.testing.assert_allclose(out.weights[b, g], slope, atol=2e-5)
        if fields["method"] != "gdpo_sum" and oracle.present(row, fields.get("weights"), counted):
            assert float(out.weights[b, g].sum()) == pytest.approx(1.0, abs=2e-5)


def test_weights_of_a_custom_aggregator_are_its_gradient():
    def geometric(scores):
        return -jnp.sqrt(jnp.mean((scores - 3.0) ** 2, axis=-1))

    out = advantages(REWARDS, method=geometric, whiten="none")
    expected = slow(
        REWARDS, method=lambda row: -math.sqrt(np.mean((row - 3.0) ** 2)), whiten="none"
    )
    np.testing.assert_allclose(out.advantages, expected.advantages, atol=1e-5)
    for b, g in np.ndindex(2, 4):
        slope = oracle.finite_difference(
            lambda row: -math.sqrt(np.mean((row - 3.0) ** 2)), expected.scores[b, g]
        )
        np.testing.assert_allclose(out.weights[b, g], slope, atol=1e-5)


def test_weights_of_grpo_are_the_share_of_each_channels_scale():
    # Effective weight std_j w_j / std_sum: with Z_j = (R_j - mean) / std_j, the sum of weight * Z
    # is the advantage itself (up to eps).
    rewards = REWARDS * np.float32([1.0, 10.0])
    out = advantages(rewards, method="grpo", weights=(1.0, 0.5), whiten="none", eps=0.0)
    raw = rewards.astype(np.float64)
    std = raw.std(1, ddof=1)
    std_sum = (raw * [1.0, 0.5]).sum(-1).std(-1, ddof=1)[:, None]
    expected = np.repeat((std * [1.0, 0.5] / std_sum)[:, None, :], 4, axis=1)
    np.testing.assert_allclose(out.weights, expected, rtol=1e-5)
    np.testing.assert_allclose((out.weights * out.scores).sum(-1), out.aggregate, atol=1e-5)


def test_no_gradient_flows_through_advantages():
    def total(rewards):
        out = compute_advantages(rewards, config=AdvantageConfig(risk_coef=2.0))
        return sum(leaf.sum() for leaf in (out.advantages, out.scores, out.aggregate, out.weights))

    assert not np.any(jax.jit(jax.grad(total))(REWARDS))


# Invariances


def random_rewards(seed=0, shape=(3, 4, 3)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("method", [m for m in aggregators.METHODS if m != "grpo"])
def test_shift_and_scale_of_a_channel_do_not_matter(method):
    rewards = random_rewards()
    expected = advantages(rewards, method=method)
    # eps / std is about 1e-6 before and 1e-7 .. 1e-5 after.
    moved = rewards * np.float32([10.0, 0.1, 1.0]) + np.float32([5.0, -3.0, 100.0])
    out = advantages(moved, method=method)
    # float32 around 100 holds 8e-6, of a deviation of 1; after whitening somewhat more.
    chex.assert_trees_all_close(out, expected, atol=2e-4)


def test_a_shift_and_scale_of_a_channel_and_its_range_do_not_matter_to_levels():
    rewards = random_rewards()
    config = AdvantageConfig(method="rvpo_level")
    scale, shift = np.float32([10.0, 0.1, 1.0]), np.float32([5.0, -3.0, 100.0])

    def channels(scale, shift):
        ends = zip(-4.0 * scale + shift, 4.0 * scale + shift, strict=True)
        return [
            Channel(name=f"{m}", low=float(low), high=float(high), pass_at=float(high))
            for m, (low, high) in enumerate(ends)
        ]

    expected = compute_advantages(rewards, config=config, channels=channels(scale**0, 0 * shift))
    out = compute_advantages(
        rewards * scale + shift, config=config, channels=channels(scale, shift)
    )
    chex.assert_trees_all_close(out, expected, atol=2e-4)


def test_rvpo_level_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"level_softmin_aggregate asks for levels") as info:
        compute_advantages(REWARDS, config=AdvantageConfig(method="rvpo_level"))
    assert "levels need channels=[Channel(...), ...]" in str(info.value)


@pytest.mark.parametrize("k", [0.0, 1.0, INF])
def test_rvpo_level_with_coefficient_0_is_rvpo(k):
    rewards, where, _ = rollout(5)
    out = advantages(rewards, where, method="rvpo_level", level_coef=0.0, risk_coef=k)
    chex.assert_trees_all_equal(out, advantages(rewards, where, method="rvpo", risk_coef=k))


def test_rvpo_level_does_not_favour_prompts_of_a_high_level():
    # The same group twice, the second time 20 higher in all channels: with what whitening sees of
    # softmin(Z + c m / k) every completion of the second would be far above those of the first.
    group = random_rewards()[:1]
    out = advantages(np.concatenate([group, group + 20.0]), method="rvpo_level")
    np.testing.assert_allclose(out.aggregate[0], out.aggregate[1], atol=1e-4)


def test_grpo_is_not_invariant_to_the_scale_of_a_channel():
    rewards = random_rewards()
    out = advantages(rewards * np.float32([10.0, 1.0, 1.0]), method="grpo")
    assert np.abs(out.advantages - advantages(rewards, method="grpo").advantages).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_completions_and_of_prompts_does_not_matter(method):
    rewards, where, lengths = rollout(4)
    fields = dict(method=method, whiten="token", recenter=True)
    out = advantages(rewards, where, lengths, **fields)
    prompts, completions = [2, 0, 1], [3, 1, 0, 2]
    order = np.ix_(prompts, completions)
    moved = advantages(rewards[order], where[order], lengths[order], **fields)
    np.testing.assert_allclose(moved.advantages, out.advantages[order], atol=1e-5)
    np.testing.assert_allclose(moved.weights, out.weights[order], atol=1e-5)
    np.testing.assert_array_equal(moved.live, out.live[np.array(prompts)])


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_channels_does_not_matter(method):
    rewards, where, _ = rollout(4)
    order = [2, 0, 1]
    out = advantages(rewards, where, method=method, weights=(1.0, 2.0, 3.0))
    moved = advantages(
        rewards[..., order], where[..., order], method=method, weights=(3.0, 1.0, 2.0)
    )
    np.testing.assert_allclose(moved.advantages, out.advantages, atol=1e-5)
    np.testing.assert_allclose(moved.weights, out.weights[..., np.array(order)], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_length_of_completions_does_not_matter_unless_tokens_are_whitened(method):
    # A public implementation soft-mins Z times length; with long, unequal lengths it shows.
    rewards = random_rewards(1)
    lengths = np.random.default_rng(2).integers(10, 5000, (3, 4))
    for scope in ("batch", "group", "none"):
        out = advantages(rewards, lengths=lengths, method=method, whiten=scope)
        chex.assert_trees_all_equal(out, advantages(rewards, method=method, whiten=scope))
    out = advantages(rewards, lengths=lengths, method=method, whiten="token")
    other = advantages(rewards, lengths=lengths[::-1], method=method, whiten="token")
    chex.assert_trees_all_equal(out.aggregate, other.aggregate)
    assert np.abs(out.advantages - other.advantages).max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_long_unequal_lengths_whiten_like_repeated_tokens(method):
    rewards = random_rewards(1)
    lengths = np.random.default_rng(2).integers(10, 5000, (3, 4))
    out = advantages(rewards, lengths=lengths, method=method, whiten="token")
    values = np.asarray(out.aggregate, np.float64)
    tokens = np.repeat(values.ravel(), lengths.ravel())
    expected = (values - tokens.mean()) / (tokens.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(out.advantages, expected, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_nan_means_not_scored(method):
    rewards, where, _ = rollout(8)
    out = advantages(rewards, where, method=method)
    with_nan = advantages(np.where(where, rewards, NAN), method=method)
    both = advantages(np.where(where, rewards, NAN), where, method=method)
    chex.assert_trees_all_equal(with_nan, out)
    chex.assert_trees_all_equal(both, out)


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_where_nothing_was_scored_does_not_matter(method):
    rewards, where, _ = rollout(8)
    out = advantages(rewards, where, method=method)
    garbage = np.where(where, rewards, np.float32(1e30))
    chex.assert_trees_all_equal(advantages(garbage, where, method=method), out)


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_channel_is_a_removed_channel(method):
    rewards = random_rewards(3)
    where = np.ones(rewards.shape, bool)
    where[..., 1] = False
    masked = advantages(rewards, where, method=method)
    removed = advantages(rewards[..., [0, 2]], method=method)
    np.testing.assert_allclose(masked.advantages, removed.advantages, atol=2e-6)
    np.testing.assert_allclose(masked.weights[..., np.array([0, 2])], removed.weights, atol=2e-6)
    assert not np.any(masked.weights[..., 1])
    assert not np.any(masked.live[:, 1])


def test_an_absent_channel_is_not_a_dead_channel():
    where = np.ones(REWARDS.shape, bool)
    where[1, :, 1] = False
    absent = advantages(REWARDS, where, whiten="none")
    dead = advantages(REWARDS, whiten="none")
    dropped = advantages(REWARDS, dead_channels="drop", whiten="none")
    np.testing.assert_allclose(absent.advantages, dropped.advantages, atol=1e-6)
    # The one channel left is the advantage itself, undamped.
    np.testing.assert_allclose(absent.advantages[1], dead.scores[1, :, 0], atol=1e-6)
    assert np.abs(dead.advantages[1] - dropped.advantages[1]).max() > 0.3


def test_groups_with_different_channels_mean_is_level_and_sum_is_not():
    # Both prompts hold the same scores (+-0.7071), one in one channel and one in all three.
    rewards = np.zeros((2, 2, 3), np.float32)
    rewards[:, 1] = 1.0
    where = np.ones(rewards.shape, bool)
    where[0, :, 1:] = False
    mean = advantages(rewards, where, method="gdpo", whiten="none").advantages
    np.testing.assert_allclose(mean, [[-0.7071, 0.7071]] * 2, atol=5e-5)
    total = advantages(rewards, where, method="gdpo_sum", whiten="none").advantages
    np.testing.assert_allclose(total, [[-0.7071, 0.7071], [-2.1213, 2.1213]], atol=5e-5)


def test_recentering_makes_group_means_0_and_whitening_over_groups_too():
    rewards = random_rewards(9)
    plain = advantages(rewards, risk_coef=2.0, whiten="none").advantages
    assert np.all(plain.mean(1) < -1e-2)  # a soft minimum's group mean is negative
    centered = advantages(rewards, risk_coef=2.0, whiten="none", recenter=True).advantages
    np.testing.assert_allclose(centered.mean(1), 0.0, atol=1e-6)
    grouped = advantages(rewards, risk_coef=2.0, whiten="group").advantages
    np.testing.assert_allclose(grouped.mean(1), 0.0, atol=1e-6)
    np.testing.assert_allclose(grouped.std(1, ddof=1), 1.0, atol=1e-5)


def test_advantages_of_a_whitened_batch_have_mean_0_and_std_1():
    out = advantages(random_rewards(9), risk_coef=2.0).advantages
    assert float(out.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(out.std(ddof=1)) == pytest.approx(1.0, abs=1e-5)


# Dead channels and residues


@pytest.mark.parametrize("group", [2, 3, 5, 6, 7, 16])
def test_a_constant_channel_is_exactly_dead(group):
    # 0.1, 0.7 and 1e6 / 3 are not float32 numbers: a mean of them over 3, 5 or 7 leaves a residue.
    rewards = np.zeros((2, group, 3), np.float32) + np.float32([0.1, 0.7, 1e6 / 3])
    scores, live = standardize(jnp.asarray(rewards), jnp.ones(rewards.shape, bool), eps=0.0)
    assert not np.any(live)
    np.testing.assert_array_equal(scores, np.zeros_like(rewards))


@pytest.mark.parametrize("method", METHODS)
def test_constant_channels_give_advantages_of_exactly_0(method):
    rewards = np.zeros((3, 4, 3), np.float32) + np.float32([0.1, 0.7, 1e6 / 3])
    where = np.ones(rewards.shape, bool)
    where[:2, 3] = False  # two groups of three completions
    out = advantages(rewards, where, method=method, eps=0.0, whiten_eps=0.0)
    assert not np.any(out.live)
    for leaf in (out.scores, out.aggregate, out.advantages):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
    chex.assert_tree_all_finite(out)


@pytest.mark.parametrize("group", [3, 5, 7])
def test_a_constant_channel_stays_dead_beside_absent_completions(group):
    rewards = np.full((2, group + 1, 3), 0.1, np.float32)
    rewards[:, -1] = 99.0
    where = np.ones(rewards.shape, bool)
    where[:, -1] = False
    scores, live = standardize(jnp.asarray(rewards), jnp.asarray(where), eps=0.0)
    assert not np.any(live)
    assert not np.any(scores)


def test_a_single_scored_completion_has_no_group_to_compare_with():
    rewards = np.full((2, 4, 2), NAN, np.float32)
    rewards[0, 1, 0] = rewards[1, 3, 1] = 5.0
    out = advantages(rewards, ddof=1)
    assert not np.any(out.live)
    np.testing.assert_array_equal(out.advantages, np.zeros((2, 4)))


def test_large_nearly_equal_rewards_keep_their_digits():
    # 1e6 + {0, 1, 2, 4} / 16 are exact in float32. E[x^2] - E[x]^2 would have no digit left.
    steps = np.array([0.0, 1.0, 2.0, 4.0]) / 16
    rewards = (1e6 + steps).astype(np.float32).reshape(1, 4, 1)
    out = advantages(rewards, whiten="none", method="gdpo", eps=0.0)
    expected = (steps - steps.mean()) / steps.std(ddof=1)
    np.testing.assert_allclose(out.advantages[0], expected, rtol=1e-6)


@pytest.mark.slow
def test_a_batch_where_every_channel_is_dead_gives_zeros_under_every_method():
    rewards = np.ones((3, 4, 3), np.float32)
    for method in METHODS:
        for scope in ("batch", "group", "none"):
            out = compute_advantages(
                rewards,
                config=AdvantageConfig(
                    method=method, whiten=scope, whiten_eps=0.0, dead_channels="drop"
                ),
                channels=spanned(3, method),
            )
            assert not np.any(out.advantages)
            chex.assert_tree_all_finite(out)


def test_a_batch_where_nothing_was_scored_gives_zeros():
    rewards = np.full((3, 4, 3), NAN, np.float32)
    for method in METHODS:
        config = AdvantageConfig(method=method, recenter=True, whiten="token")
        out = compute_advantages(
            rewards, config=config, channels=spanned(3, method), lengths=np.zeros((3, 4))
        )
        chex.assert_tree_all_finite(out)
        assert not np.any(out.advantages)
        assert not np.any(out.weights)


def test_dropping_dead_channels_moves_the_weights_to_the_live_ones():
    keep = advantages(REWARDS, method="gdpo")
    drop = advantages(REWARDS, method="gdpo", dead_channels="drop")
    np.testing.assert_array_equal(keep.weights[1], [[0.5, 0.5]] * 4)
    np.testing.assert_array_equal(drop.weights[1], [[1.0, 0.0]] * 4)
    np.testing.assert_array_equal(drop.weights[0], [[0.5, 0.5]] * 4)


def test_a_completion_without_any_score_is_left_out_of_all_statistics():
    rewards = random_rewards(10)
    rewards[1, 2] = NAN
    out = advantages(rewards, recenter=True)
    assert float(out.advantages[1, 2]) == 0.0
    rest = np.delete(np.asarray(out.advantages).ravel(), 6)
    assert rest.mean() == pytest.approx(0.0, abs=1e-6)
    assert rest.std(ddof=1) == pytest.approx(1.0, abs=1e-5)


# Whitening by hand


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        # Values 0, 2, 4, 6 -> mean 3, squares 9 + 1 + 1 + 9 = 20, variance 20/3.
        pytest.param(dict(scope="batch"), np.array([-3, -1, 1, 3]) / math.sqrt(20 / 3), id="batch"),
        # Pairs (0, 2) and (4, 6): variance 2.
        pytest.param(dict(scope="group"), np.array([-1, 1, -1, 1]) / math.sqrt(2), id="group"),
        pytest.param(dict(scope="none"), np.array([0, 2, 4, 6]), id="none"),
        # Lengths 1, 1, 1, 3: mean 24 / 6 = 4, squares 16 + 4 + 0 + 3 * 4 = 32, variance 32 / 5.
        pytest.param(
            dict(scope="token", lengths=[[1, 1], [1, 3]]),
            np.array([-4, -2, 0, 2]) / math.sqrt(6.4),
            id="token",
        ),
        pytest.param(
            dict(scope="batch", eps=1.0),
            np.array([-3, -1, 1, 3]) / (math.sqrt(20 / 3) + 1),
            id="eps on std",
        ),
        pytest.param(
            dict(scope="batch", eps=1.0, eps_on="variance"),
            np.array([-3, -1, 1, 3]) / math.sqrt(20 / 3 + 1),
            id="eps on variance",
        ),
    ],
)
def test_whitening_worked_by_hand(keywords, expected):
    values, where = jnp.array([[0.0, 2.0], [4.0, 6.0]]), jnp.ones((2, 2), bool)
    if "lengths" in keywords:
        keywords = keywords | {"lengths": jnp.array(keywords["lengths"], jnp.float32)}
    scope = WHITENINGS[keywords["scope"]]
    rest = {name: value for name, value in keywords.items() if name != "scope"}
    out = scope(values, where, **({} if keywords["scope"] == "none" else {"eps": 0.0} | rest))
    np.testing.assert_allclose(out.ravel(), expected, rtol=1e-6, atol=1e-7)


def test_standardising_worked_by_hand():
    # (3, 3, -3, 0): mean 3/4, squares 2 * 5.0625 + 14.0625 + 0.5625 = 24.75.
    rewards, where = jnp.asarray(REWARDS[:1, :, :1]), jnp.ones((1, 4, 1), bool)
    for ddof, variance in ((1, 24.75 / 3), (0, 24.75 / 4)):
        scores, live = standardize(rewards, where, ddof=ddof, eps=0.5)
        expected = np.array([2.25, 2.25, -3.75, -0.75]) / (math.sqrt(variance) + 0.5)
        np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-6)
        assert live.tolist() == [[True]]


# A traced risk coefficient


def test_a_changing_risk_coef_does_not_recompile():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(rewards, k):
        return compute_advantages(rewards, risk_coef=k).advantages

    for k in (0.0, 0.5, 2.0, 1e4, INF):
        expected = slow(REWARDS, risk_coef=k).advantages
        np.testing.assert_allclose(step(REWARDS, jnp.float32(k)), expected, atol=2e-5)


def test_risk_coef_overrides_the_config_even_when_it_is_0():
    out = advantages(REWARDS, risk_coef=0.0, whiten="none")
    expected = slow(REWARDS, method="gdpo", whiten="none")
    np.testing.assert_allclose(out.advantages, expected.advantages, atol=1e-6)


def test_a_config_may_hold_a_traced_risk_coef():
    @jax.jit
    def step(k):
        return compute_advantages(REWARDS, config=AdvantageConfig(risk_coef=k)).advantages

    np.testing.assert_allclose(step(2.0), slow(REWARDS, risk_coef=2.0).advantages, atol=1e-5)


# A user's own aggregator


CHANNELS = (Channel(name="correctness", low=-3.0, high=3.0), Channel(name="format"))


def test_a_users_aggregator_sees_levels_mask_weights_and_coefficients():
    seen = {}

    def own(scores, *, levels, where, weights, risk_coef, variance_coef, rewards):
        seen.update(
            levels=levels,
            where=where,
            weights=weights,
            k=risk_coef,
            beta=variance_coef,
            raw=rewards,
        )
        return jnp.min(scores, axis=-1)

    where = np.ones(REWARDS.shape, bool)
    where[0, 0, 1] = False
    config = AdvantageConfig(method=own, weights={"format": 3.0}, variance_coef=0.25)
    compute_advantages(REWARDS, where, config, channels=CHANNELS, risk_coef=4.0, with_weights=False)
    # Correctness: means 3/4 and 5/4 on [-3, 3]; format: 1 over what was scored.
    assert seen["levels"].shape == (2, 1, 2)
    np.testing.assert_allclose(seen["levels"][:, 0], [[3.75 / 6, 1], [4.25 / 6, 1]], rtol=1e-6)
    np.testing.assert_array_equal(seen["where"], where)
    np.testing.assert_array_equal(seen["weights"], [1.0, 3.0])
    assert (seen["k"], seen["beta"]) == (4.0, 0.25)
    np.testing.assert_array_equal(seen["raw"][1], REWARDS[1])


def test_a_users_aggregator_sees_dropped_channels_as_absent():
    seen = []

    def own(scores, where):
        seen.append(np.asarray(where))
        return jnp.min(scores, axis=-1)

    for policy in ("keep", "drop"):
        config = AdvantageConfig(method=own, dead_channels=policy)
        compute_advantages(REWARDS, config=config, with_weights=False)
    assert seen[0].all()
    assert seen[1][1].tolist() == [[True, False]] * 4


@pytest.mark.slow
def test_a_users_aggregator_that_equals_a_named_method_gives_its_result():
    def own(scores, where, weights, risk_coef):
        share = where / jnp.maximum(where.sum(-1, keepdims=True), 1)
        inner = jnp.sum(share * jnp.exp(-risk_coef * scores), axis=-1)
        return jnp.where(where.any(-1), -jnp.log(jnp.where(inner > 0, inner, 1)) / risk_coef, 0.0)

    rewards, where, _ = rollout(8)
    out = advantages(rewards, where, method=own, risk_coef=2.0)
    chex.assert_trees_all_close(
        out, advantages(rewards, where, method="rvpo", risk_coef=2.0), atol=2e-5
    )


@pytest.mark.parametrize(
    ("own", "shape"),
    [
        pytest.param(lambda z: z, (2, 4, 2), id="not reduced"),
        pytest.param(lambda z: z.mean(), (), id="reduced to a scalar"),
        pytest.param(lambda z: z.mean(-1, keepdims=True), (2, 4, 1), id="axis kept"),
        pytest.param(lambda z: z.mean(1), (2, 2), id="wrong axis"),
    ],
)
def test_an_aggregator_with_the_wrong_shape_is_refused(own, shape):
    with pytest.raises(ValueError, match=r"must map \[B, G, M\]") as info:
        compute_advantages(REWARDS, config=AdvantageConfig(method=own))
    assert f"got {shape}" in str(info.value)


def test_an_aggregator_that_asks_for_levels_without_channels_is_refused():
    config = AdvantageConfig(method=lambda z, levels: z.mean(-1) + levels.mean(-1))
    with pytest.raises(ValueError, match="levels need channels="):
        compute_advantages(REWARDS, config=config)


# Messages


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param((4, 8), r"\[B, G, M\].*got \(4, 8\)\.\n  .*rewards\[\.\.\., None\]", id="2-D"),
        pytest.param((8,), r"\[B, G, M\].*got \(8,\)\.\n  Give one", id="1-D"),
        pytest.param((1, 2, 3, 4), r"\[B, G, M\].*got \(1, 2, 3, 4\)\.\n", id="4-D"),
        pytest.param((4, 1, 3), r"G >= 2 .*got G = 1\.\n  Raise rollout\.group_size", id="G = 1"),
        pytest.param((4, 2, 0), r"must not be empty, got shape \(4, 2, 0\)", id="no channel"),
        pytest.param((0, 2, 3), r"must not be empty, got shape \(0, 2, 3\)", id="no prompt"),
    ],
)
def test_rewards_of_the_wrong_shape_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        compute_advantages(np.zeros(shape, np.float32))


def test_rewards_of_the_wrong_shape_are_refused_while_tracing():
    with pytest.raises(ValueError, match="got G = 1"):
        jax.eval_shape(compute_advantages, jax.ShapeDtypeStruct((4, 1, 3), jnp.float32))


@pytest.mark.parametrize("value", [INF, -INF])
def test_an_infinite_reward_is_refused_with_its_place(value):
    rewards = REWARDS.copy()
    rewards[1, 2, 0] = value
    with pytest.raises(ValueError, match=r"finite or NaN .*at \[b, g, m\] = \(1, 2, 0\)"):
        compute_advantages(rewards)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        pytest.param(
            dict(channels=(Channel(name="correctness"),)),
            r"M = 2 channels but 1 are configured: correctness\.\n  The last axis",
            id="names",
        ),
        pytest.param(
            dict(config=AdvantageConfig(weights={"format": 2.0})),
            r"weights by name need the channels' names, got .*format",
            id="weights by name without channels",
        ),
        pytest.param(
            dict(config=AdvantageConfig(weights=(1.0, 2.0, 3.0))),
            r"weights has 3 values but rewards has M = 2",
            id="wrong count",
        ),
        pytest.param(
            dict(config=AdvantageConfig(weights=(1.0, 2.0, 3.0)), channels=CHANNELS),
            r"weights has 3 values for 2 channels: correctness, format",
            id="wrong count with channels",
        ),
        pytest.param(
            dict(config=AdvantageConfig(weights={"fromat": 2.0}), channels=CHANNELS),
            r"unknown channel\(s\): fromat\.\n  .*correctness, format",
            id="unknown channel",
        ),
        pytest.param(
            dict(config=AdvantageConfig(whiten="token")),
            r'whiten="token" needs lengths.*\n  Pass lengths=completion_mask\.sum\(-1\)',
            id="token without lengths",
        ),
        pytest.param(
            dict(where=np.ones((2, 4), bool)),
            r"where must have the shape of rewards \(2, 4, 2\), got \(2, 4\)",
            id="shape of where",
        ),
        pytest.param(dict(risk_coef=-1.0), r"risk_coef must be >= 0, got -1", id="negative k"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message):
        compute_advantages(REWARDS, **keywords)


@pytest.mark.parametrize("shape", [(4, 2), (8,), (2, 4, 2)])
def test_lengths_of_the_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match="lengths must have"):
        compute_advantages(REWARDS, config=AdvantageConfig(whiten="token"), lengths=np.ones(shape))


# Every field of the configuration does something (style.md C4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "gdpo"),
        ("risk_coef", 3.0),
        ("weights", (1.0, 4.0)),
        ("ddof", 0),
        ("eps", 0.5),
        ("dead_channels", "drop"),
        ("recenter", True),
        ("whiten", "token"),
        ("whiten_eps", 0.5),
        ("whiten_eps_on", "variance"),
    ],
)
def test_changing_a_field_changes_the_advantages(field, value):
    base = dict(whiten_eps=0.1)
    expected = advantages(REWARDS, lengths=LENGTHS, **base).advantages
    changed = advantages(REWARDS, lengths=LENGTHS, **(base | {field: value})).advantages
    assert np.abs(changed - expected).max() > 1e-3


def test_changing_variance_coef_changes_the_advantages_of_the_variance_method():
    one, two = (advantages(REWARDS, method="variance", variance_coef=b) for b in (0.5, 1.0))
    assert np.abs(one.advantages - two.advantages).max() > 1e-2
