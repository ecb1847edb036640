"""The rules that others published: golden values, float64 oracles, properties, what they refuse.

Golden values are those of an independent float64 script; rows marked by DARA's name were
cross-checked by its authors' own test on the same batch.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import published_oracle as oracle
import pytest

from rvpo_jax import AdvantageConfig, Channel, compute_advantages
from rvpo_jax.config.method import PRESETS
from rvpo_jax.method import aggregators
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.published.gates import conditioned
from rvpo_jax.method.rules import Rule, RuleOutput, apply_rule, init_rule
from rvpo_jax.method.step import init_state, make_train_step
from tests.toys import BATCH_LAYOUTS, bigram_logprobs, bigram_params, layout_of, ragged_batch

# The batch of DARA's public unit test: two groups of four; the second channel is dead in group 2.
REWARDS = np.array(
    [[[-3, 0], [-1, 1], [1, 0], [3, 1]], [[0, 0], [1, 0], [2, 0], [3, 0]]], np.float32
)
LENGTHS = np.array([[1, 2, 4, 3], [5, 2, 1, 4]])
TOKEN = dict(whiten="token", whiten_eps=1e-8, whiten_eps_on="variance")
NONE = dict(whiten="none")
CORRECTNESS = Channel(name="correctness", low=-3, high=3, pass_at=1, kind="constraint")
PAIR = (CORRECTNESS, Channel(name="format"))


def golden(method, conventions, *expected, **fields):
    fields = dict(method=method, **conventions, **fields)
    return pytest.param(fields, expected, id=" ".join(map(str, (method, *conventions.values()))))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        golden(
            "dara_sym",
            TOKEN,
            *(-1.791925, 0.559391, -0.662102, 1.689214, -0.898723, -0.333811, 0.231100, 0.796011),
        ),
        golden(
            "dara_asym",
            TOKEN,
            *(-1.673944, 0.526404, -0.484300, 1.716048, -1.008913, -0.414091, 0.180731, 0.775552),
        ),
        golden(
            "dara_asym",
            {},
            *(-1.515076, 0.535003, -0.406676, 1.643402, -0.895462, -0.341263, 0.212937, 0.767136),
        ),
        golden(
            "gdpo_saw",
            TOKEN,
            *(-1.754039, 1.041715, -1.101076, 1.694679, -0.519402, -0.192921, 0.133561, 0.460042),
        ),
        golden(
            "sa_mrpo",
            {},
            *(-1.583950, 0.736026, -0.736026, 1.583950, -0.635943, -0.211981, 0.211981, 0.635943),
            options={"gamma": 1.0},
        ),
        golden(
            "gd2po_hard",
            TOKEN,
            *(-0.989378, 0, 0, 0.932662, -1.129589, -0.395435, 0.338719, 1.072873),
        ),
        golden(
            "dvao",
            NONE,
            *(-1.279208, -0.182744, 0.182744, 1.279208, -1.341641, -0.447214, 0.447214, 1.341641),
        ),
        golden(
            "corrgrpo",
            NONE,
            *(-2.057248, -0.293893, 0.293893, 2.057248, -1.5, -0.5, 0.5, 1.5),
        ),
        golden(
            "tchebycheff_running",
            NONE,
            *(-1.161894, -0.387298, 0.387298, 1.161894, -1.305580, -0.261116, 0.783348, 0.783348),
        ),
        golden(
            "gated",
            {},
            *(-1.190213, -0.635463, -0.080714, 1.906390, -0.832124, -0.277375, 0.277375, 0.832124),
        ),
    ],
)
def test_a_published_rule_has_its_golden_values(fields, expected):
    # gated: the golden row gates format only by correctness, whose own rewards stay.
    config = AdvantageConfig(**fields)
    out = compute_advantages(REWARDS, config=config, lengths=LENGTHS, channels=PAIR)
    np.testing.assert_allclose(out.advantages.ravel(), expected, atol=2e-6)


def test_gdpo_corr_has_its_golden_values_where_lengths_are_not_known():
    out = compute_advantages(REWARDS, config=AdvantageConfig(method="gdpo_corr", **NONE))
    expected = [-1.249884, 0.295057, -0.295057, 1.249884, -0.716120, -0.238707, 0.238707, 0.716120]
    np.testing.assert_allclose(out.advantages.ravel(), expected, atol=2e-6)


def test_gdpo_corr_takes_the_mean_over_tokens_where_lengths_are_known():
    out = compute_advantages(
        REWARDS, config=AdvantageConfig(method="gdpo_corr", **NONE), lengths=LENGTHS
    )
    assert float(jnp.sum(out.advantages * LENGTHS)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("least", "dropped"), [(0.2, []), (0.8, [1, 2])])
def test_gd2po_snr_drops_conflicts_below_its_ratio(least, dropped):
    # The ratios are 1, 0.38, -0.38, 1 | 1 ...; below 0.8 the second and the third conflict.
    config = AdvantageConfig(method="gd2po_snr", options={"least_ratio": least})
    keep = compute_advantages(REWARDS, config=config).keep.ravel()
    assert np.flatnonzero(~keep).tolist() == dropped


def test_dara_on_its_authors_second_batch():
    # Two prompts with the same correctness; length varies in the second only: pi = (1, 1/2).
    rewards = np.array([[[0, 0], [1, 0], [0, 0], [1, 0]], [[0, 0], [1, 1], [0, 0], [1, 1]]], float)
    asym = compute_advantages(rewards, config=AdvantageConfig(method="dara_asym"))
    gdpo = compute_advantages(rewards, config=AdvantageConfig(method="gdpo_sum"))
    np.testing.assert_allclose(
        np.ravel(asym.advantages)[[0, 4, 1, 5]],
        [-0.601385, -1.146338, 0.488521, 1.259201],
        atol=2e-6,
    )
    np.testing.assert_allclose(
        np.ravel(gdpo.advantages)[[0, 4, 1, 5]],
        [-0.591608, -1.183215, 0.591608, 1.183215],
        atol=2e-6,
    )


def test_opposed_channels_under_dvao_corrgrpo_and_gd2po():
    rewards = np.array([[[0, 1], [1, 0], [0, 0], [1, 1]]], float)

    def under(method):
        return compute_advantages(rewards, config=AdvantageConfig(method=method, **NONE))

    np.testing.assert_allclose(under("dvao").advantages[0], [0, 0, -1, 1], atol=2e-6)
    corr = under("corrgrpo").advantages[0]
    np.testing.assert_allclose(corr, [0, 0, -0.707107, 0.707107], atol=2e-6)
    assert under("gd2po_hard").keep[0].tolist() == [False, False, True, True]


def test_ctwa_has_its_golden_statistic():
    # The covariances of the rewards with GRPO's advantages are 1.436749 and 0.129904; ours are in
    # units of the ranges, 6 and 1.
    config = AdvantageConfig(method="ctwa", **NONE)
    first = compute_advantages(REWARDS, config=config, channels=PAIR)
    np.testing.assert_allclose(
        np.array(first.rule_state["trend"]) * [6, 1], [1.436749, 0.129904], atol=2e-6
    )
    # Both move more than 0.05: no weight grows. What aims for more grows by what it lacks.
    assert first.rule_state["log_weights"].tolist() == [0.0, 0.0]
    config = dataclasses.replace(config, options={"least_trend": 0.2, "rate": 0.5})
    state = compute_advantages(REWARDS, config=config, channels=PAIR).rule_state
    np.testing.assert_allclose(state["log_weights"], [0, 0.5 * (0.2 - 0.129904)], atol=1e-6)
    again = compute_advantages(REWARDS, config=config, channels=PAIR, rule_state=state).rule_state
    assert float(again["trend"][1]) != float(state["trend"][1])  # the weights moved the total
    np.testing.assert_allclose(
        again["log_weights"][1], 0.5 * (0.4 - 0.129904 - again["trend"][1]), rtol=1e-5
    )


def test_constrained_grpo_with_a_fixed_multiplier():
    # The cost is 1 - format: its scores are those of format, negated; lambda = 0.5.
    channels = (CORRECTNESS, Channel(name="format", target=0.9))
    config = AdvantageConfig(method="constrained_grpo", options={"rate": 0.1}, **NONE)
    out = compute_advantages(
        REWARDS, config=config, channels=channels, rule_state={"multiplier": jnp.array([0.0, 0.5])}
    )
    np.testing.assert_allclose(out.advantages.ravel()[:2], [-1.594907, 0.045714], atol=2e-6)
    # 6 of 8 violate, 0.1 may: the multiplier grows by 0.1 * (0.75 - 0.1).
    np.testing.assert_allclose(out.rule_state["multiplier"], [0.0, 0.565], atol=1e-6)


@pytest.mark.slow
def test_conditioned_is_eq_8_for_any_pair_of_channels():
    rule = conditioned({"format": ("correctness", 1.0)})
    channels = [dataclasses.replace(channel, kind="quality") for channel in PAIR]
    out = compute_advantages(REWARDS, config=AdvantageConfig(method=rule), channels=channels)
    by_name = compute_advantages(REWARDS, config=AdvantageConfig(method="gated"), channels=PAIR)
    np.testing.assert_allclose(out.advantages, by_name.advantages, atol=1e-6)
    with pytest.raises(ValueError, match=r"conditioned names unknown channel\(s\): tone"):
        compute_advantages(
            REWARDS,
            config=AdvantageConfig(method=conditioned({"tone": ("format", 1.0)})),
            channels=channels,
        )


# By hand


def test_soft_and_by_hand():
    # log sigmoid(0) = -log 2 and, far above the target, 0: S is -2 log 2, -log 2; standardised
    # +-0.7071.
    channels = [Channel(name=n, low=-100, high=100, pass_at=1, target=0.0) for n in "ab"]
    rewards = np.array([[[0.0, 0.0], [0.0, 90.0]]])
    out = compute_advantages(
        rewards, config=AdvantageConfig(method="soft_and", eps=0.0, **NONE), channels=channels
    )
    np.testing.assert_allclose(out.advantages[0], [-0.707107, 0.707107], atol=1e-6)
    # Who decided: sigmoid(target - R) of each reward, here 1/2 and 0.
    assert float(out.weights[0, 1, 1]) == pytest.approx(0.0, abs=1e-6)


def test_tchebycheff_by_hand():
    # Gaps to the ideal 1, halved: (0.5, 0), (0.25, 0.25), (0, 0): the worst are 0.5, 0.25, 0.
    rewards = np.array([[[0.0, 1.0], [0.5, 0.5], [1.0, 1.0]]])
    channels = [Channel(name="a"), Channel(name="b")]
    config = AdvantageConfig(method="tchebycheff", options={"smoothing": 0.0}, eps=0.0, **NONE)
    out = compute_advantages(rewards, config=config, channels=channels)
    np.testing.assert_allclose(out.advantages[0], [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(("method", "used"), [("lagrangian", 0.2), ("lagrangian_after", 0.0)])
def test_the_two_orders_of_moving_a_multiplier(method, used):
    # The mean of format is 2/8 and its target 0.65: 0.5 * 0.4 = 0.2 a step.
    channels = (CORRECTNESS, Channel(name="format", target=0.65))
    config = AdvantageConfig(method=method, options={"rate": 0.5}, **NONE)
    out = compute_advantages(REWARDS, config=config, channels=channels)
    np.testing.assert_allclose(out.rule_state["multiplier"], [0.0, 0.2], atol=1e-7)
    total = REWARDS[..., 0] + used * REWARDS[..., 1]
    expected = (total - total.mean(1, keepdims=True)) / total.std(1, ddof=1, keepdims=True)
    np.testing.assert_allclose(out.advantages, expected, atol=2e-6)


def test_utility_softmin_is_the_gradient_of_a_concave_utility_of_levels():
    # d/dm of (1 - exp(-c m)) / c is exp(-c m): at k = 0 the aggregate is sum exp(-c m) (R - m)
    # over sum s exp(-c m). Levels 0.5 and 0.25 of two channels in four completions.
    rewards = np.array([[[1, 1], [1, 0], [0, 0], [0, 0]]], float)
    channels = [Channel(name="a"), Channel(name="b")]
    config = AdvantageConfig(
        method="rvpo_utility", risk_coef=0.0, eps=0.0, options={"trust": 2.0}, **NONE
    )
    out = compute_advantages(rewards, config=config, channels=channels)
    slope = np.exp(-2 * np.array([0.5, 0.25]))
    std = np.array([np.sqrt(1 / 3), 0.5])
    expected = ((rewards - [0.5, 0.25]) * slope).sum(-1) / (std * slope).sum()
    np.testing.assert_allclose(out.advantages, expected, rtol=1e-5)


def test_a_channel_that_hardly_moves_hardly_weighs_in_a_utility_softmin():
    # Under the level rule its scores are as large as any; here its share falls with its spread.
    rewards = np.array([[[1.0, 0], [0, 1e-4], [1, 0], [0, 0]]])
    channels = [Channel(name="a"), Channel(name="b")]
    out = compute_advantages(
        rewards, config=AdvantageConfig(method="rvpo_utility"), channels=channels
    )
    assert float(out.weights[0, :, 1].max()) < 0.01
    by_level = compute_advantages(
        rewards, config=AdvantageConfig(method="rvpo_level"), channels=channels
    )
    assert float(by_level.weights[0, :, 1].min()) > 0.9


# Against float64 oracles


SPANS = [(-6.0, 6.0), (-8.0, 4.0), (-5.0, 7.0)]
WEIGHTS = (1.0, 2.0, 0.5)


def channels_for(method, order=(0, 1, 2), scale=(1.0, 1.0, 1.0), kept=(0, 1, 2)):
    """Three channels that tell every rule what it needs; ranges of different places."""
    made = []
    for m in order:
        if m in kept:
            low, high = (end * scale[m] for end in SPANS[m])
            aims = METHODS[method].needs == "targets" or m == 2
            kind = "constraint" if m == 2 else "quality"
            target = 0.25 * scale[m] if aims else None
            pass_at = 0.5 * scale[m]
            made.append(
                Channel(name=f"{m}", low=low, high=high, pass_at=pass_at, kind=kind, target=target)
            )
    return tuple(made)


def batch(seed=0, masked=True):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(5, 4, 3))
    rewards[1, :, 1] = 0.5  # a dead channel
    where = rng.random(rewards.shape) > (0.2 if masked else -1)
    return rewards.astype(np.float32), where


STATE = [0.0, 0.0, 0.3]
TARGETS = [None, None, 0.25]
ORACLES = {
    "mo_grpo": lambda r, w: oracle.mo_grpo(r, w),
    "cvar": lambda r, w: oracle.cvar(r, w, 0.4, WEIGHTS),
    "soft_and": lambda r, w: oracle.soft_and(r, w, [0.25] * 3),
    "tchebycheff": lambda r, w: oracle.tchebycheff(r, w, [6.0, 4.0, 7.0], 0.3, WEIGHTS),
    "rvpo_utility": lambda r, w: oracle.utility(r, w, SPANS, 1.0, 3.0, WEIGHTS),
    "lagrangian": lambda r, w: oracle.lagrangian(r, w, TARGETS, STATE, 0.1, 2.0, False),
    "lagrangian_after": lambda r, w: oracle.lagrangian(r, w, TARGETS, STATE, 0.1, 2.0, True),
    "constrained_grpo": lambda r, w: oracle.constrained_grpo(
        r, w, TARGETS, SPANS, [0.5] * 3, STATE, 0.1, 2.0
    ),
}
OPTIONS = {
    "cvar": {"tail": 0.4},
    "tchebycheff": {"smoothing": 0.3},
    "rvpo_utility": {"trust": 3.0},
    **dict.fromkeys(("lagrangian", "lagrangian_after", "constrained_grpo"), {"rate": 0.1}),
}
WEIGHTED = ("cvar", "tchebycheff", "rvpo_utility")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ORACLES)
def test_a_rule_agrees_with_its_formula_in_float64(method, seed):
    rewards, where = batch(seed)
    options = OPTIONS.get(method, {})
    if "rate" in options:
        options = options | {"largest": 2.0}
    config = AdvantageConfig(
        method=method, options=options, weights=WEIGHTS if method in WEIGHTED else None, **NONE
    )
    has_memory = isinstance(METHODS[method].rule, Rule)
    out = compute_advantages(
        rewards,
        where,
        config,
        channels=channels_for(method),
        rule_state={"multiplier": jnp.array(STATE)} if has_memory else None,
    )
    expected = ORACLES[method](rewards.astype(np.float64), where)
    if has_memory:
        expected, state = expected
        np.testing.assert_allclose(out.rule_state["multiplier"], state, atol=1e-6)
    np.testing.assert_allclose(out.advantages, expected, atol=2e-5)


def test_a_preset_has_the_whitening_of_its_source():
    for name, method in METHODS.items():
        if name in PRESETS:
            whiten = AdvantageConfig.preset(name).whiten
            assert (whiten == "none") == (not method.whitened), name
    assert {name for name in METHODS if name not in PRESETS} == {*aggregators.METHODS} | {
        *("rvpo_level", "rvpo_utility", "cvar", "gated")
    }


# Properties of all rules


@functools.cache
def compiled(order, scale, kept, twice, with_weights):
    """All rules in one program: ``(rewards, where) -> {name: Advantages}``."""

    def channels_of(name):
        channels = channels_for(name, order, scale, kept)
        again = [dataclasses.replace(c, name=f"{c.name} again") for c in channels]
        return (*channels, *again) if twice else channels

    def run(rewards, where):
        return {
            name: compute_advantages(
                rewards,
                where,
                AdvantageConfig(method=name, **NONE),
                channels=channels_of(name),
                with_weights=with_weights and METHODS[name].tells_weights,
            )
            for name in METHODS
        }

    return jax.jit(run)


def under_all(rewards, where, order=(0, 1, 2), **variant):
    known = dict(scale=(1.0, 1.0, 1.0), kept=(0, 1, 2), twice=False, with_weights=not variant)
    # Of some rules weights take a backward pass for each completion, which is tested elsewhere.
    run = compiled(tuple(order), **(known | variant))
    return run(jnp.asarray(rewards), jnp.asarray(where))


@pytest.mark.slow
def test_the_order_of_prompts_completions_and_channels_does_not_matter():
    rewards, where = batch()
    whole = under_all(rewards, where)
    places = np.ix_([2, 0, 4, 1, 3], [3, 1, 0, 2])
    order = [2, 0, 1]
    moved = under_all(rewards[places], where[places])
    turned = under_all(rewards[..., order], where[..., order], order)
    for name, out in whole.items():
        close = functools.partial(np.testing.assert_allclose, atol=2e-5, err_msg=name)
        close(moved[name].advantages, out.advantages[places])
        if METHODS[name].tells_weights:
            close(moved[name].weights, out.weights[places], atol=2e-4)
            close(turned[name].weights, out.weights[..., np.array(order)], atol=2e-4)
        close(turned[name].advantages, out.advantages)


def test_an_absent_channel_is_a_removed_channel_whatever_stands_there():
    rewards, where = batch()
    where[..., 1] = False
    masked = under_all(np.where(where, rewards, np.float32(1e30)), where)
    removed = under_all(rewards[..., [0, 2]], where[..., [0, 2]], kept=(0, 2))
    for name, out in masked.items():
        np.testing.assert_allclose(
            out.advantages, removed[name].advantages, atol=2e-5, err_msg=name
        )
        if METHODS[name].tells_weights:
            assert not np.any(out.weights[..., 1]), name
        chex.assert_tree_all_finite((out.advantages, out.aggregate, out.rule_state))


def test_where_nothing_varies_or_nothing_was_scored_nobody_has_an_advantage():
    flat = np.broadcast_to(np.float32([0.1, 0.7, -1e5 / 3]), (5, 4, 3))
    everywhere = np.ones(flat.shape, bool)
    fewer = everywhere.copy()
    fewer[:2, :, 1] = False
    fewer[3, 2] = False
    for where in (everywhere, fewer, ~everywhere):
        for name, out in under_all(flat, where).items():
            np.testing.assert_array_equal(out.advantages, np.zeros((5, 4)), err_msg=name)
            chex.assert_tree_all_finite((out.advantages, out.aggregate, out.rule_state))


# Scaling a channel and its range by 10 changes these: they see how large rewards are.
SCALE_MATTERS = {
    *("grpo", "dvao", "corrgrpo", "soft_and", "tchebycheff", "tchebycheff_running"),
    *("lagrangian", "lagrangian_after", "ctwa"),
}


@pytest.mark.slow
def test_the_scale_of_a_channel_matters_to_the_rules_that_see_raw_rewards():
    rewards, where = batch(3)
    scale = (10.0, 1.0, 1.0)
    whole = under_all(rewards, where)
    scaled = under_all(rewards * np.float32(scale), where, scale=scale)
    differ = {
        name
        for name, out in whole.items()
        if not np.allclose(scaled[name].advantages, out.advantages, atol=1e-4)
    }
    assert differ == SCALE_MATTERS


# Every channel twice: a mean, a minimum and a total on its own scale stay; sums of scores double.
DOUBLES = {"gdpo_sum", "mo_grpo", "dara_sym", "dara_asym", "gdpo_saw", "sa_mrpo", "gated"}
DOUBLES |= {"gd2po_hard", "gd2po_snr", "constrained_grpo"}
# It weighs a channel by its share inside an exponential.
NEITHER = {"tchebycheff"}


def test_every_channel_twice_leaves_or_doubles_the_advantages():
    rewards, where = batch(4, masked=False)
    once = under_all(rewards, where)
    twice = under_all(
        np.concatenate([rewards] * 2, -1), np.concatenate([where] * 2, -1), twice=True
    )

    def times(factor):
        return {
            name
            for name, out in once.items()
            if np.allclose(twice[name].advantages, factor * out.advantages, atol=1e-4)
        }

    assert times(2.0) == DOUBLES
    assert times(1.0) == set(METHODS) - DOUBLES - NEITHER


def all_rules(num_prompts, group_size):
    """One rule that runs all named ones and remembers what each said, and their memories."""

    def init(num_channels):
        said = {name: jnp.zeros((num_prompts, group_size)) for name in METHODS}
        return {
            "said": said,
            "states": {name: init_rule(method, num_channels) for name, method in METHODS.items()},
        }

    def apply(scores, rule_state, **available):
        said, states = {}, {}
        for name, method in METHODS.items():
            options = {key: option.default for key, option in method.options.items()}
            known = available | options | {"channels": channels_for(name)}
            out = apply_rule(method, scores, rule_state["states"][name], known)
            said[name], states[name] = out.aggregate, out.state
        total = sum(said.values())
        return RuleOutput(aggregate=total, state={"said": said, "states": states})

    return Rule(init, apply)


@pytest.mark.slow
@pytest.mark.parametrize("shape", BATCH_LAYOUTS)
def test_every_rule_is_the_same_on_one_device_and_on_eight(shape):
    rollout = ragged_batch()
    # Devices differ in level and in what is live: local statistics would show.
    rewards = rollout.rewards * jnp.arange(16.0).reshape(16, 1, 1) / 8
    rollout = dataclasses.replace(rollout, rewards=rewards.at[3:9, :, 1].set(0.5))
    config = AdvantageConfig(method=all_rules(16, 4))
    step = make_train_step(
        bigram_logprobs, config, optax.sgd(0.5), channels=channels_for("soft_and"), weights_every=0
    )
    state = init_state(
        bigram_params(), optax.sgd(0.5), jax.random.key(0), rule=config, num_channels=3
    )
    one, _, _ = jax.jit(step)(state, rollout)
    layout = layout_of(shape)
    eight, _, _ = layout.step(step)(layout.place(state), rollout)
    chex.assert_trees_all_close(eight.rule_state, one.rule_state, rtol=1e-5, atol=1e-5)
    assert all(np.any(said) for said in one.rule_state["said"].values())


# What is refused


@pytest.mark.parametrize(
    ("method", "channels", "message"),
    [
        ("sa_mrpo", None, "sa_mrpo needs the ranges of its channels, got no channels"),
        ("soft_and", PAIR, "soft_and needs the target of every channel, got none of correctness"),
        ("lagrangian", PAIR, "lagrangian needs channels with a target, .* got 2 of 2 without"),
        (
            "constrained_grpo",
            [Channel(name=name, target=0.5) for name in "ab"],
            "constrained_grpo needs channels with a target, .* got 0 of 2 without",
        ),
        (
            "gated",
            [Channel(name=name) for name in "ab"],
            "gated needs constraints and other channels, got only quality channels",
        ),
    ],
)
def test_a_rule_without_what_it_needs_of_the_channels_is_refused(method, channels, message):
    with pytest.raises(ValueError, match=message):
        compute_advantages(REWARDS, config=AdvantageConfig(method=method), channels=channels)


def test_a_record_stands_where_its_name_does():
    config = AdvantageConfig(method=METHODS["cvar"], options={"tail": 1.0})
    assert hash(config) == hash(dataclasses.replace(config))
    out = compute_advantages(REWARDS, config=config)
    expected = compute_advantages(REWARDS, config=AdvantageConfig(method="gdpo"))
    np.testing.assert_allclose(out.advantages, expected.advantages, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            dict(method="cvar", options={"tale": 0.5}),
            r"advantage.options of cvar must be among tail, got tale",
        ),
        (
            dict(method="cvar", options={"tail": 0.0}),
            r"advantage.options tail of cvar must lie in \(0, 1\], got 0.0",
        ),
        (dict(options={"tail": 0.5}), "advantage.options of rvpo must be among none, got tail"),
        (
            dict(method=lambda scores: scores[..., 0], options={"tail": 0.5}),
            "bind its numbers with functools.partial",
        ),
        (dict(method="sa_mrpo", options={"gamma": float("nan")}), "gamma of sa_mrpo must be >= 0"),
    ],
)
def test_options_that_a_rule_does_not_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        compute_advantages(REWARDS, config=AdvantageConfig(**fields), channels=PAIR)


def test_a_target_outside_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"target of channel a must lie in \[0.0, 1.0\], got 2"):
        Channel(name="a", target=2.0)
