"""The step: one device equals eight, parts equal the whole, padding and order change nothing."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvpo_jax.config import AdvantageConfig, Channel, LossConfig, RiskScheduleConfig
from rvpo_jax.method import losses, ratios
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.aggregators import mean_aggregate
from rvpo_jax.method.schedules import make_risk_schedule
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.run.shorten import shorten
from tests.toys import BATCH_LAYOUTS, bigram_logprobs, bigram_params, layout_of, ragged_batch

SGD = optax.sgd(0.5)


def run(batch, *, loss=LossConfig(), advantage=AdvantageConfig(), optimizer=SGD, **options):
    """Parameters and metrics after one step on one device."""
    step = make_train_step(bigram_logprobs, advantage, optimizer, loss=loss, **options)
    state = init_state(bigram_params(), optimizer, jax.random.key(0))
    state, _, metrics = jax.jit(step)(state, batch)
    return state, metrics


@pytest.mark.slow
@pytest.mark.parametrize("shape", BATCH_LAYOUTS)
@pytest.mark.parametrize(
    ("loss", "advantage"),
    [
        pytest.param(LossConfig(), AdvantageConfig(), id="token denominator"),
        pytest.param(
            LossConfig(denominator="sequence", num_minibatches=2, num_epochs=2),
            AdvantageConfig(whiten="token", recenter=True),
            id="sequence denominator, minibatches, token whitening",
        ),
        pytest.param(
            LossConfig(denominator="constant", microbatch_size=1, importance_cap=2.0),
            AdvantageConfig(method="grpo", whiten="group"),
            id="constant denominator, microbatches, importance cap",
        ),
        pytest.param(
            LossConfig(microbatch_tokens=64, importance_cap=2.0, num_minibatches=2),
            AdvantageConfig(),
            id="microbatches by tokens, importance cap",
        ),
    ],
)
def test_one_step_is_the_same_on_one_device_and_on_eight(shape, loss, advantage):
    batch = ragged_batch()
    expected_state, expected_metrics = run(batch, loss=loss, advantage=advantage)
    layout = layout_of(shape)
    size = layout.microbatch_size(loss.microbatch_size)
    loss = dataclasses.replace(loss, microbatch_size=size)
    step = make_train_step(bigram_logprobs, advantage, SGD, loss=loss)
    state = init_state(bigram_params(), SGD, jax.random.key(0))
    actual_state, _, metrics = layout.step(step)(layout.place(state), batch)
    chex.assert_trees_all_close(actual_state.params, expected_state.params, rtol=1e-4, atol=1e-6)
    for values in (metrics, expected_metrics):
        del values["perf/update_useful_frac"]  # how well rows are filled depends on the devices
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-4, atol=1e-6)


def test_update_is_the_policy_gradient_of_the_advantages():
    # On policy the ratio is 1 and unclipped: the gradient is -sum_t A * grad log p / tokens.
    batch = ragged_batch()
    on_policy, _ = bigram_logprobs(bigram_params(), batch)
    batch = dataclasses.replace(batch, old_logprobs=on_policy)
    advantages = compute_advantages(batch.rewards, batch.where).advantages

    def reinforce(params):
        logprobs, _ = bigram_logprobs(params, batch)
        weighted = jnp.sum(logprobs * advantages[..., None], where=batch.completion_mask)
        return -weighted / jnp.sum(batch.completion_mask)

    expected = jax.tree.map(
        lambda p, g: p - 0.5 * g, bigram_params(), jax.grad(reinforce)(bigram_params())
    )
    state, metrics = run(batch)
    chex.assert_trees_all_close(state.params, expected, rtol=1e-5, atol=1e-6)
    assert metrics["policy/ratio_mean"] == pytest.approx(1.0)
    assert int(state.step) == 1


@pytest.mark.parametrize("denominator", ["token", "sequence", "constant"])
def test_microbatches_equal_the_whole(denominator):
    batch = ragged_batch()
    whole, _ = run(batch, loss=LossConfig(denominator=denominator))
    for cut in ({"microbatch_size": 2}, {"microbatch_tokens": 64}):
        parts, _ = run(batch, loss=LossConfig(denominator=denominator, **cut))
        chex.assert_trees_all_close(parts.params, whole.params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_minibatches_are_updates_in_a_row_with_advantages_of_the_whole_batch():
    batch = ragged_batch()
    advantages = compute_advantages(batch.rewards, batch.where).advantages
    params = bigram_params()
    for start in (0, 1):  # every second prompt
        part = jax.tree.map(lambda x, s=start: x[s::2], batch)

        def loss_fn(params, part=part, a=advantages[start::2]):
            logprobs, _ = bigram_logprobs(params, part)
            ratio = ratios.log_ratios(logprobs, part.old_logprobs, part.completion_mask)
            weights, count = losses.token_weights(part.completion_mask, "token")
            return losses.clipped_policy_loss(ratio, a, weights) / count

        params = jax.tree.map(lambda p, g: p - 0.5 * g, params, jax.grad(loss_fn)(params))
    state, _ = run(batch, loss=LossConfig(num_minibatches=2))
    chex.assert_trees_all_close(state.params, params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("denominator", ["token", "sequence"])
def test_more_padding_changes_nothing(denominator):
    batch = ragged_batch()

    def pad(x):
        return jnp.pad(x, [(0, 0), (0, 0), (0, 5)]) if x.ndim == 3 and x.shape[2] == 9 else x

    loss = LossConfig(denominator=denominator)
    expected, _ = run(batch, loss=loss)
    actual, _ = run(jax.tree.map(pad, batch), loss=loss)
    chex.assert_trees_all_close(actual.params, expected.params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("denominator", ["token", "sequence", "constant"])
def test_columns_that_no_completion_reaches_can_be_cut(denominator):
    batch = ragged_batch(max_tokens=20)
    wide = jax.tree.map(
        lambda x: jnp.pad(x, [(0, 0), (0, 0), (0, 44)]) if x.ndim == 3 and x.shape[2] == 20 else x,
        batch,
    )
    short = shorten(wide)
    assert short.completions.shape[2] == 32
    loss = LossConfig(denominator=denominator)
    chex.assert_trees_all_close(
        run(short, loss=loss)[0].params, run(wide, loss=loss)[0].params, rtol=1e-5, atol=1e-6
    )


def test_garbage_in_the_padding_changes_nothing():
    batch = ragged_batch()
    garbage = jnp.where(batch.completion_mask, batch.old_logprobs, jnp.nan)
    tokens = jnp.where(batch.completion_mask, batch.completions, 6)
    dirty = dataclasses.replace(batch, old_logprobs=garbage, completions=tokens)
    expected, _ = run(batch)
    actual, _ = run(dirty)
    chex.assert_trees_all_close(actual.params, expected.params, rtol=1e-5, atol=1e-6)


def test_order_of_prompts_changes_nothing():
    batch = ragged_batch()
    order = np.random.default_rng(0).permutation(16)
    expected, _ = run(batch)
    actual, _ = run(jax.tree.map(lambda x: x[order], batch))
    chex.assert_trees_all_close(actual.params, expected.params, rtol=1e-5, atol=1e-6)


def test_importance_weights_are_one_when_sampler_and_trainer_agree():
    batch = ragged_batch()
    logprobs, _ = bigram_logprobs(bigram_params(), batch)
    batch = dataclasses.replace(batch, old_logprobs=logprobs)
    expected, _ = run(batch)
    actual, _ = run(batch, loss=LossConfig(importance_cap=2.0))
    chex.assert_trees_all_close(actual.params, expected.params, rtol=1e-5, atol=1e-6)


def test_importance_weights_are_capped():
    # The sampler believed each token half as likely as the trainer does: the weight is 2, capped
    # at 1.5, and the ratio of the update is 1 because it starts from the trainer's own view.
    batch = ragged_batch()
    logprobs, _ = bigram_logprobs(bigram_params(), batch)
    agreeing = dataclasses.replace(batch, old_logprobs=logprobs)
    doubted = dataclasses.replace(batch, old_logprobs=logprobs - jnp.log(2.0))
    start = bigram_params()["table"]
    plain = run(agreeing)[0].params["table"] - start
    weighted = run(doubted, loss=LossConfig(importance_cap=1.5))[0].params["table"] - start
    np.testing.assert_allclose(weighted, 1.5 * plain, rtol=1e-4, atol=1e-6)


def test_kl_term_needs_reference_logprobs():
    with pytest.raises(ValueError, match="ref_logprobs"):
        run(ragged_batch(), loss=LossConfig(kl_coef=0.1))


def test_kl_pulls_towards_the_reference():
    # Without advantages (one dead channel) only the KL term moves the policy.
    batch = dataclasses.replace(ragged_batch(), rewards=jnp.zeros((16, 4, 3)))
    reference = bigram_params(seed=1)
    ref_logprobs, _ = bigram_logprobs(reference, batch)
    batch = dataclasses.replace(batch, ref_logprobs=ref_logprobs)
    loss = LossConfig(kl_coef=1.0, kl_estimator="k2")
    state, metrics = run(batch, loss=loss, optimizer=optax.sgd(5.0))

    def distance(params):
        logprobs, _ = bigram_logprobs(params, batch)
        return float(jnp.sum((logprobs - ref_logprobs) ** 2, where=batch.completion_mask))

    assert metrics["policy/kl_ref"] > 0
    assert distance(state.params) < 0.9 * distance(bigram_params())


def test_entropy_term_raises_the_entropy():
    batch = dataclasses.replace(ragged_batch(), rewards=jnp.zeros((16, 4, 3)))
    loss = LossConfig(entropy_coef=1.0)
    state, metrics = run(batch, loss=loss, optimizer=optax.sgd(5.0))
    _, entropy = bigram_logprobs(state.params, batch)
    after = jnp.sum(entropy, where=batch.completion_mask) / jnp.sum(batch.completion_mask)
    assert after > metrics["policy/entropy"] + 0.01


def test_risk_schedule_follows_the_step_without_recompiling():
    schedule = make_risk_schedule(RiskScheduleConfig(kind="linear"), 1.0, steps=3)
    step = make_train_step(bigram_logprobs, AdvantageConfig(), SGD, risk_schedule=schedule)
    step = jax.jit(chex.assert_max_traces(step, n=1))
    state = init_state(bigram_params(), SGD, jax.random.key(0))
    seen = []
    for _ in range(4):
        state, _, metrics = step(state, ragged_batch())
        seen.append(float(metrics["risk_coef"]))
    # 0.5 to 2.0 in three steps, then held.
    assert seen == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_users_aggregator_stands_where_a_method_name_stands():
    def my_mean(scores, where):
        return mean_aggregate(scores, where=where)

    expected, _ = run(ragged_batch(), advantage=AdvantageConfig(method="gdpo"))
    actual, _ = run(ragged_batch(), advantage=my_mean)
    chex.assert_trees_all_equal(actual.params, expected.params)


def test_weights_by_name_reach_the_rule():
    channels = [Channel(name=name, low=-9, high=9, pass_at=0) for name in "abc"]
    by_name = AdvantageConfig(weights={"b": 5.0})
    by_place = AdvantageConfig(weights=(1.0, 5.0, 1.0))
    expected, _ = run(ragged_batch(), advantage=by_place)
    actual, _ = run(ragged_batch(), advantage=by_name, channels=channels)
    chex.assert_trees_all_equal(actual.params, expected.params)


def test_a_batch_without_any_signal_leaves_the_policy_alone():
    batch = dataclasses.replace(ragged_batch(), rewards=jnp.full((16, 4, 3), 0.1))
    state, metrics = run(batch)
    chex.assert_trees_all_equal(state.params, bigram_params())
    assert metrics["advantage/abs_mean"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(clip_low=0.05),
        LossConfig(clip_high=0.05),
        LossConfig(dual_clip=1.01),
        LossConfig(entropy_coef=0.1),
        LossConfig(denominator="sequence"),
        LossConfig(denominator="constant"),
        LossConfig(ratio_level="sequence"),
        LossConfig(importance_cap=1.1),
        LossConfig(num_minibatches=2),
        LossConfig(num_epochs=2),
        LossConfig(kl_coef=0.1),
        LossConfig(kl_coef=0.1, kl_estimator="k1"),
        LossConfig(kl_coef=0.1, kl_estimator="k2"),
    ],
    ids=str,
)
def test_every_loss_field_changes_the_update(loss):
    batch = ragged_batch()
    ref_logprobs, _ = bigram_logprobs(bigram_params(seed=1), batch)
    # Some ratios far out, so that dual clip has something to bound.
    old = batch.old_logprobs.at[:, 0].add(-3.0)
    batch = dataclasses.replace(batch, ref_logprobs=ref_logprobs, old_logprobs=old)
    default, _ = run(batch)
    changed, _ = run(batch, loss=loss)
    assert not np.allclose(changed.params["table"], default.params["table"], atol=1e-6)
