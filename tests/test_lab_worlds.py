"""Worlds and their training: hand-worked scores, exact gradients, many runs = single runs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax import AdvantageConfig, Channel, compute_advantages
from rvpo_jax.lab import training, worlds
from rvpo_jax.method.aggregators import softmin_aggregate

OPTIONS = {"steps": 6, "learning_rate": 0.5, "num_groups": 4, "group_size": 8}


def bandit_expected(world, probs):
    """Exact expected rewards of a policy in a ``table_world``."""
    table = np.asarray(world.settings["table"], np.float64)
    return np.einsum("...nra,nam->...nm", np.asarray(probs, np.float64), table)


def budget_expected(world, probs):
    """Exact expected rewards of a policy in a ``budget_bandit``, without sampling.

    The count of a channel is a sum of independent draws, one per slot; its distribution is
    built slot by slot.
    """
    needs = np.asarray(world.settings["needs"], np.float64)
    rows = np.broadcast_to(np.asarray(probs, np.float64)[0], (world.num_slots, probs.shape[-1]))
    count = np.zeros((len(needs), world.num_slots + 1))
    count[:, 0] = 1.0
    for row in rows:
        p = row[: len(needs), None]
        count = count * (1 - p) + np.roll(count, 1, axis=1) * p
    earned = np.minimum(np.arange(world.num_slots + 1) / needs[:, None], 1.0)
    return (count * earned).sum(1)


def raw_rewards(scores, *, rewards):
    """A user's rule: the reward itself, so that the update is the gradient of its mean."""
    return rewards[..., 0] + 0.0 * scores[..., 0]


RAW = AdvantageConfig(method=raw_rewards, whiten="none")


def one_hot(choices, num_choices):
    return jnp.asarray(np.eye(num_choices, dtype=np.float32)[np.asarray(choices)])


def test_scores_of_the_conflict_bandit_are_those_worked_by_hand():
    # Each arm once. Channel 1 is (1, .45, 0): mean .4833, population deviation .4089, so
    # Z = (1.263, -.082, -1.182); channel 2 is the same in reverse. Means of the pairs: .041, -.082,
    # .041. Soft minima at k = 1: X and W -log((exp(-1.263) + exp(1.182)) / 2) = -.572, Y -.082.
    world = worlds.conflict_bandit()
    every_arm = one_hot([[[0], [1], [2]]], 3)  # [1, 3, 1, 3]
    rewards = world.reward_fn(world.settings, every_arm, jnp.zeros(1, int))
    np.testing.assert_array_equal(rewards[0], np.float32([[1, 0], [0.45, 0.45], [0, 1]]))
    plain = AdvantageConfig(ddof=0, whiten="none")
    mean = compute_advantages(rewards, config=dataclasses.replace(plain, method="gdpo"))
    softmin = compute_advantages(rewards, config=plain)
    np.testing.assert_allclose(softmin.scores[0, :, 0], [1.263, -0.082, -1.182], atol=1e-3)
    np.testing.assert_allclose(mean.advantages[0], [0.041, -0.082, 0.041], atol=1e-3)
    np.testing.assert_allclose(softmin.advantages[0], [-0.572, -0.082, -0.572], atol=1e-3)


def test_the_budget_pays_count_over_need_up_to_one():
    world = worlds.budget_bandit(needs=(1, 2, 4), num_slots=5)
    choices = one_hot([[[0, 0, 1, 2, 2]]], 3)  # counts 2, 1, 2
    rewards = world.reward_fn(world.settings, choices, jnp.zeros(1, int))
    np.testing.assert_allclose(rewards[0, 0], [1.0, 0.5, 0.5])


def test_the_policy_gradient_is_that_of_the_expected_reward():
    # One completion per arm with the advantage A p_a r_a: their mean is the expectation, so the
    # gradient must be that of sum_a p_a r_a, here by central differences in double precision.
    logits, reward = np.array([0.3, -0.5, 1.1]), np.array([2.0, -1.0, 0.5])

    def expected(logits):
        p = np.exp(logits) / np.exp(logits).sum()
        return p @ reward

    slope = [(expected(logits + d) - expected(logits - d)) / 2e-5 for d in 1e-5 * np.eye(3)]
    probs = np.exp(logits) / np.exp(logits).sum()
    gradient = training.policy_gradient(
        jnp.asarray(probs, jnp.float32).reshape(1, 1, 3),
        one_hot([[[0], [1], [2]]], 3),
        jnp.asarray(3 * probs * reward, jnp.float32).reshape(1, 3),
    )
    np.testing.assert_allclose(gradient[0, 0], slope, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3], ids=["slots share a row", "a row per slot"])
def test_the_policy_gradient_is_the_derivative_of_the_log_probability(rows):
    num_contexts, num_groups, group_size, num_slots, num_choices = 2, 4, 5, 3, 4
    keys = jax.random.split(jax.random.key(0), 3)
    logits = jax.random.normal(keys[0], (num_contexts, rows, num_choices))
    picked = jax.random.randint(keys[1], (num_groups, group_size, num_slots), 0, num_choices)
    advantages = jax.random.normal(keys[2], (num_groups, group_size))
    choices = one_hot(picked, num_choices)

    def objective(logits):
        total = 0.0
        for b, g, s in itertools.product(range(num_groups), range(group_size), range(num_slots)):
            row = jax.nn.log_softmax(logits[b % num_contexts, s if rows > 1 else 0])
            total = total + advantages[b, g] * row[picked[b, g, s]]
        return total / (num_groups * group_size)

    gradient = training.policy_gradient(jax.nn.softmax(logits), choices, advantages)
    np.testing.assert_allclose(gradient, jax.grad(objective)(logits), atol=1e-6)


def test_one_step_moves_the_logits_along_the_expected_gradient():
    # Two arms that pay 1 and 0, at p = 1/2: d E[r] / d logit = p (r - E[r]) = (1/4, -1/4). From
    # 64,000 completions; the deviation of the mean of r (1[a] - p) is 0.25 / sqrt(64,000) = 0.001.
    world = worlds.table_world([[1.0], [0.0]])
    history = training.train_many(
        world, RAW, [0], steps=1, learning_rate=2.0, num_groups=4000, group_size=16
    )
    np.testing.assert_allclose(history.logits[0, 0, 0, 0], [0.5, -0.5], atol=0.01)


@pytest.mark.slow
def test_many_runs_in_one_program_are_the_single_runs():
    bandits = [worlds.conflict_bandit(0.45), worlds.conflict_bandit(0.2)]
    k = [0.5, 2.0]
    many = training.train_many(bandits, AdvantageConfig(), [3, 5], risk_coefs=k, **OPTIONS)
    options = {name: value for name, value in OPTIONS.items() if name != "steps"}
    train = jax.jit(
        lambda world, keys, k: training.train(
            world, AdvantageConfig(), keys, risk_coef=k, **options
        )
    )
    for w, s in itertools.product(range(2), range(2)):
        keys = training.step_keys(jnp.asarray([3, 5][s]), OPTIONS["steps"])
        single = train(bandits[w], keys, jnp.float32(k[w]))
        for field in dataclasses.fields(single):
            one = getattr(single, field.name)
            np.testing.assert_allclose(
                getattr(many, field.name)[w, s], one, atol=1e-5, err_msg=field.name
            )


def test_rules_by_name_are_the_same_runs_as_one_by_one():
    rules = {"a": AdvantageConfig(risk_coef=0.5), "b": AdvantageConfig(risk_coef=2.0)}
    found = training.train_rules(worlds.conflict_bandit(), rules, [3, 5], **OPTIONS)
    alone = training.train_many(
        worlds.conflict_bandit(), AdvantageConfig(), [3, 5], risk_coefs=[0.5, 2.0], **OPTIONS
    )
    np.testing.assert_allclose(found["b"].logits, alone.logits[1], atol=1e-6)
    assert list(found) == ["a", "b"]


@pytest.mark.slow
def test_a_users_function_and_a_schedule_train_like_the_method_they_imitate():
    def soft_minimum(scores, *, risk_coef):
        return softmin_aggregate(scores, risk_coef=risk_coef)

    world = worlds.budget_bandit(needs=(1, 2), num_slots=2)
    named = training.train_many(world, AdvantageConfig(risk_coef=2.0), [0], **OPTIONS)
    function = AdvantageConfig(method=soft_minimum)
    constant = [[2.0] * OPTIONS["steps"]]
    own = training.train_many(world, function, [0], risk_coefs=constant, **OPTIONS)
    np.testing.assert_allclose(own.logits, named.logits, atol=1e-6)
    rising = [np.linspace(0.0, 2.0, OPTIONS["steps"])]
    annealed = training.train_many(world, function, [0], risk_coefs=rising, **OPTIONS)
    assert np.abs(annealed.logits - own.logits).max() > 1e-3


@pytest.mark.slow
def test_an_absent_channel_changes_nothing():
    table = np.array([[1.0, 0.0, 7.0], [0.4, 0.4, -3.0], [0.0, 1.0, 2.0]])
    world = worlds.table_world(table)
    absent = dataclasses.replace(world, present=jnp.array([True, True, False]))
    with_three = training.train_many(absent, AdvantageConfig(), [0], **OPTIONS)
    without = training.train_many(
        worlds.table_world(table[:, :2]), AdvantageConfig(), [0], **OPTIONS
    )
    np.testing.assert_allclose(with_three.logits, without.logits, atol=1e-6)
    np.testing.assert_allclose(with_three.channel_mean[..., :2], without.channel_mean, atol=1e-6)


@pytest.mark.slow
def test_channels_absent_in_one_context_only_change_nothing_there():
    # Context 0 has the first two channels, context 1 all three. Whitening in the group keeps the
    # contexts apart, so each must train as it does in a world of its own with the same choices.
    table = np.array([[1.0, 0.0, 7.0], [0.4, 0.4, -3.0], [0.0, 1.0, 2.0]])
    rule = AdvantageConfig(whiten="group")
    both = worlds.table_world(np.stack([table, table]))
    present = jnp.array([[True, True, False], [True, True, True]])
    ragged = dataclasses.replace(both, present=present)
    found = training.train_many(ragged, rule, [0], **OPTIONS)
    without = dataclasses.replace(both, present=present[0])
    first = training.train_many(without, rule, [0], **OPTIONS)
    second = training.train_many(both, rule, [0], **OPTIONS)
    np.testing.assert_allclose(found.logits[..., 0, :, :], first.logits[..., 0, :, :], atol=1e-6)
    np.testing.assert_allclose(found.logits[..., 1, :, :], second.logits[..., 1, :, :], atol=1e-6)
    assert np.abs(found.logits[..., 0, :, :] - second.logits[..., 0, :, :]).max() > 1e-2


@pytest.mark.slow
def test_contexts_can_share_one_table_and_still_have_their_own_rewards():
    # Context 0 pays the first choice, context 1 the second, in equally many groups: a shared policy
    # stays where it is, tables of their own part.
    table = [[[1.0], [0.0]], [[0.0], [1.0]]]
    present = jnp.ones((2, 1), bool)
    own = dataclasses.replace(worlds.table_world(table), present=present)
    shared = dataclasses.replace(own, logits=jnp.zeros((1, 1, 2)))
    options = {**OPTIONS, "num_groups": 64, "steps": 20}
    apart = training.train_many(own, RAW, [0], **options).policy[0, 0, -1, :, 0]
    together = training.train_many(shared, RAW, [0], **options).policy[0, 0, -1, :, 0]
    assert apart[0, 0] > 0.8 and apart[1, 1] > 0.8
    np.testing.assert_allclose(together, 0.5, atol=0.1)


def test_present_for_other_contexts_than_the_policys_is_refused():
    world = worlds.table_world(np.zeros((2, 3, 1)))
    world = dataclasses.replace(world, present=jnp.ones((3, 1), bool))
    with pytest.raises(ValueError, match="3 for 2 tables"):
        training.train_many(world, RAW, [0], **OPTIONS)


@pytest.mark.slow
def test_a_recorded_point_is_the_mean_over_its_steps():
    fine = training.train_many(worlds.conflict_bandit(), AdvantageConfig(), [0], **OPTIONS)
    coarse = training.train_many(
        worlds.conflict_bandit(), AdvantageConfig(), [0], record_every=3, **OPTIONS
    )
    pairs = fine.channel_mean.reshape(1, 1, 2, 3, 2).mean(3)
    np.testing.assert_allclose(coarse.channel_mean, pairs, atol=1e-6)
    np.testing.assert_allclose(coarse.logits, fine.logits, atol=1e-6)


@pytest.mark.slow
def test_the_mean_leaves_the_balanced_arm_and_the_soft_minimum_keeps_it():
    rules = {"mean": AdvantageConfig(method="gdpo"), "softmin": AdvantageConfig()}
    found = training.train_rules(
        worlds.conflict_bandit(), rules, range(4), steps=60, learning_rate=0.5
    )
    balanced = {name: history.policy[:, -1, 0, 0, 1] for name, history in found.items()}
    assert balanced["mean"].max() < 0.05
    assert balanced["softmin"].min() > 0.95
    # X and W fail one channel each. The mean reinforces them from the start; the soft minimum does
    # so only where a group happens to hold few of one of them, and soon not at all.
    assert found["mean"].quiet_any[:, 0].min() > 0.4
    assert found["softmin"].quiet_any[:, 0].max() < 0.4
    assert found["softmin"].quiet_any[:, 20:].max() == 0


def test_choices_are_one_hot_and_follow_the_probabilities():
    probs = jnp.array([[[0.2, 0.5, 0.3]], [[0.0, 0.0, 1.0]]])
    choices = training.sample_choices(
        probs, jax.random.key(0), num_slots=4, num_groups=2, group_size=5000
    )
    np.testing.assert_array_equal(choices.sum(-1), 1.0)
    # 20,000 draws: the standard deviation of a frequency is below 0.0036.
    np.testing.assert_allclose(choices[0].mean((0, 1)), probs[0, 0], atol=0.015)
    np.testing.assert_array_equal(choices[1].mean((0, 1)), probs[1, 0])


def test_what_rounding_leaves_of_the_probabilities_goes_to_the_last_choice():
    probs = jnp.array([[[0.2, 0.3, 0.1]]])  # as if the sum were rounded far below 1
    choices = training.sample_choices(
        probs, jax.random.key(0), num_slots=1, num_groups=1, group_size=200
    )
    np.testing.assert_array_equal(choices.sum(-1), 1.0)


def test_the_same_key_draws_common_random_numbers():
    def first_choice(p):
        probs = jnp.array([[[p, 1 - p]]])
        draw = training.sample_choices(
            probs, jax.random.key(1), num_slots=1, num_groups=1, group_size=500
        )
        return np.asarray(draw[..., 0]) > 0

    # A larger probability keeps every completion that the smaller one chose.
    assert not np.any(first_choice(0.3) & ~first_choice(0.4))


def test_the_exact_expectation_of_a_budget_is_the_sum_over_all_completions():
    world = worlds.budget_bandit(needs=(1, 2, 3), num_slots=4, rows=4)
    probs = np.asarray(jax.nn.softmax(jax.random.normal(jax.random.key(0), (1, 4, 3))))
    expected = np.zeros(3)
    for picked in itertools.product(range(3), repeat=4):
        chance = np.prod([probs[0, slot, choice] for slot, choice in enumerate(picked)])
        counts = np.bincount(picked, minlength=3)
        expected += chance * np.minimum(counts / np.array([1, 2, 3]), 1)
    np.testing.assert_allclose(budget_expected(world, probs), expected, atol=1e-6)


def test_the_exact_expectation_of_a_bandit_weighs_its_table():
    expected = bandit_expected(worlds.conflict_bandit(), [[[0.5, 0.2, 0.3]]])
    np.testing.assert_allclose(expected, [[0.59, 0.39]], atol=1e-6)


def test_a_judge_may_be_crude_wrong_and_noisy():
    channels = [Channel(name="a", low=-1.0, high=3.0, pass_at=2.0)] * 3
    world = worlds.table_world(np.zeros((2, 3)), channels)
    rewards = jnp.broadcast_to(jnp.array([1.0, 2.5, 1.0]), (50, 40, 3))
    crude = worlds.with_judge(world, binary=[True, True, False], flip=[0.0, 1.0, 1.0])
    choices, contexts = jnp.zeros((50, 40, 1, 2)), jnp.zeros(50, jnp.int32)
    seen = worlds.judged(crude, choices, contexts, rewards, jax.random.key(0))
    # Below pass_at: low. Above: high, flipped to low. 1 mirrored in [-1, 3]: 1.
    np.testing.assert_array_equal(seen[0, 0], [-1.0, -1.0, 1.0])
    noisy = worlds.with_judge(world, noise=[0.0, 0.5, 0.0])
    seen = np.asarray(worlds.judged(noisy, choices, contexts, rewards, jax.random.key(0)))
    np.testing.assert_allclose(seen.std((0, 1)), [0.0, 0.5, 0.0], atol=0.03)


def test_what_a_judge_sees_may_depend_on_the_choice_and_not_on_the_true_reward():
    # The first arm is worth nothing and passes 9 of 10 times, the second the other way round.
    world = worlds.table_world([[0.0], [1.0]])
    seen_of = {"table": jnp.array([[[0.9], [0.1]]])}
    judge = worlds.Judge(
        binary=jnp.zeros(1, bool),
        flip=jnp.zeros(1),
        noise=jnp.zeros(1),
        sees=lambda settings, choices, contexts: worlds.table_rewards(seen_of, choices, contexts),
    )
    world = dataclasses.replace(world, judge=judge)
    choices = jax.nn.one_hot(jnp.broadcast_to(jnp.array([0, 1]), (5000, 2)), 2)[:, :, None]
    contexts = jnp.zeros(5000, jnp.int32)
    true = world.reward_fn(world.settings, choices, contexts)
    seen = worlds.judged(world, choices, contexts, true, jax.random.key(0))
    np.testing.assert_array_equal(true[0, :, 0], [0.0, 1.0])
    assert set(np.unique(seen)) == {0.0, 1.0}
    np.testing.assert_allclose(seen.mean(0)[:, 0], [0.9, 0.1], atol=0.015)


@pytest.mark.slow
def test_outcomes_are_counted_on_true_rewards_whatever_the_judge_says():
    world = worlds.with_judge(worlds.table_world([[1.0], [0.0]]), flip=1.0)
    history = training.train_many(
        world, AdvantageConfig(), [0], steps=60, learning_rate=0.5, record_every=3
    )
    # The judge pays for the second arm; the true reward falls to 0.
    assert history.channel_mean[0, 0, -1, 0] < 0.05


def test_outcomes_average_before_they_take_the_minimum():
    world = worlds.conflict_bandit()
    # Two points in which the channels take turns: each averages 0.5, the minima 0.2.
    points = np.array([[0.8, 0.2], [0.2, 0.8]])
    filler = {field.name: points for field in dataclasses.fields(training.History)}
    filler |= {"joint_pass": np.array([0.0, 0.4]), "quiet_any": np.array([0.1, 0.3])}
    history = training.History(**filler | {"channel_mean": points})
    end = training.outcomes(history, world, last=2)
    assert end["worst"] == pytest.approx(0.5)
    assert end["joint_pass"] == pytest.approx(0.2)
    first = training.outcomes(history, world, last=1, present=[True, False])
    assert first["worst"] == pytest.approx(0.2)
    assert first["mean"] == pytest.approx(0.2)


def test_options_that_do_not_fit_are_refused():
    bandit, budget = worlds.conflict_bandit(), worlds.budget_bandit()
    with pytest.raises(ValueError, match="multiple of record_every"):
        training.train_many(bandit, RAW, [0], steps=5, learning_rate=1.0, record_every=2)
    with pytest.raises(ValueError, match="one entry per setting"):
        training.train_many([bandit] * 3, RAW, [0], risk_coefs=[1.0, 2.0], **OPTIONS)
    with pytest.raises(ValueError, match="same channels"):
        training.train_many([bandit, budget], RAW, [0], **OPTIONS)
