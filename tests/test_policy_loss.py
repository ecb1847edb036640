"""The loss put together: each name worked out, and a function for each name."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvpo_jax.config import AdvantageConfig, LossConfig
from rvpo_jax.method import losses
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.step import init_state, make_train_step
from tests.toys import bigram_logprobs, bigram_params, ragged_batch

SGD = optax.sgd(0.5)


@pytest.fixture(scope="module")
def batch():
    """Some ratios far out, and a reference policy."""
    batch = ragged_batch()
    reference, _ = bigram_logprobs(bigram_params(seed=1), batch)
    old = batch.old_logprobs.at[:, 0].add(-0.5)
    return dataclasses.replace(batch, ref_logprobs=reference, old_logprobs=old)


def update(batch, loss, advantage=AdvantageConfig()):
    """Parameters and metrics after one step."""
    step = make_train_step(bigram_logprobs, advantage, SGD, loss=loss)
    state, _, metrics = jax.jit(step)(init_state(bigram_params(), SGD, jax.random.key(0)), batch)
    return state.params["table"], metrics


def gradient_step(batch, token_loss, denominator):
    """The update of a loss that is written out, token by token."""
    advantages = compute_advantages(batch.rewards, batch.where).advantages[..., None]

    def total(params):
        logprobs, _ = bigram_logprobs(params, batch)
        log_ratio = jnp.where(batch.completion_mask, logprobs - batch.old_logprobs, 0.0)
        return jnp.sum(token_loss(log_ratio, advantages), where=batch.completion_mask) / denominator

    return bigram_params()["table"] - 0.5 * jax.grad(total)(bigram_params())["table"]


def test_reinforce_is_minus_advantage_times_the_gradient_of_the_logprob(batch):
    expected = gradient_step(batch, lambda x, a: -a * x, jnp.sum(batch.completion_mask))
    actual, _ = update(batch, LossConfig(objective="reinforce"))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_cispo_keeps_the_gradient_of_a_clipped_token(batch):
    def token_loss(log_ratio, advantage):
        ratio = jnp.clip(jnp.exp(jax.lax.stop_gradient(log_ratio)), 0.9, 1.3)
        return -ratio * advantage * log_ratio

    expected = gradient_step(batch, token_loss, jnp.sum(batch.completion_mask))
    loss = LossConfig(objective="cispo", clip_low=0.1, clip_high=0.3)
    actual, metrics = update(batch, loss)
    assert metrics["policy/clip_frac"] > 0.1
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spelled_out"),
    [
        ("gspo", LossConfig(ratio_level="sequence", denominator="sequence")),
        ("dr_grpo", LossConfig(denominator="constant")),
        ("clipped", LossConfig(ratio_level="token", denominator="token")),
    ],
)
def test_a_named_objective_brings_its_papers_ratio_and_denominator(batch, name, spelled_out):
    named, _ = update(batch, LossConfig(objective=name))
    expected, _ = update(batch, spelled_out)
    chex.assert_trees_all_equal(named, expected)


def test_what_the_config_says_comes_before_the_objectives_own(batch):
    actual, _ = update(batch, LossConfig(objective="gspo", denominator="token"))
    expected, _ = update(batch, LossConfig(ratio_level="sequence", denominator="token"))
    chex.assert_trees_all_equal(actual, expected)


# A function wherever a name stands


def test_a_function_stands_where_an_objective_stands(batch):
    def mine(log_ratio, advantages, weights, *, clip_low):
        return losses.clipped_policy_loss(log_ratio, advantages, weights, clip_low=clip_low)

    expected, _ = update(batch, LossConfig(clip_low=0.1))
    as_field, _ = update(batch, LossConfig(objective=mine, clip_low=0.1))
    chex.assert_trees_all_equal(as_field, expected)


def test_a_function_alone_is_a_loss(batch):
    expected, _ = update(batch, LossConfig())
    actual, _ = update(batch, losses.clipped_policy_loss)
    chex.assert_trees_all_equal(actual, expected)


def test_a_users_term_that_is_the_kl_term_gives_its_update_and_its_metric(batch):
    def mine(logprobs, *, ref_logprobs, completion_mask, weights):
        distance = jnp.where(completion_mask, logprobs - ref_logprobs, 0.0) ** 2 / 2
        return 0.3 * jnp.sum(distance * weights), {"policy/distance": jnp.sum(distance)}

    expected, metrics = update(batch, LossConfig(kl_coef=0.3, kl_estimator="k2"))
    actual, mine_metrics = update(batch, LossConfig(extra_terms=(mine,)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)
    # Both are means over the tokens of the batch.
    assert mine_metrics["policy/distance"] == pytest.approx(float(metrics["policy/kl_ref"]))


def test_terms_add_up(batch):
    start = bigram_params()["table"]
    kl, _ = update(batch, LossConfig(kl_coef=0.3))
    entropy, _ = update(batch, LossConfig(entropy_coef=0.2))
    plain, _ = update(batch, LossConfig())
    both, _ = update(batch, LossConfig(kl_coef=0.3, entropy_coef=0.2))
    np.testing.assert_allclose(
        both - start, (kl - start) + (entropy - start) - (plain - start), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mine", "named"),
    [
        pytest.param(
            LossConfig(kl_coef=0.1, kl_estimator=lambda d: jnp.expm1(-d) + d),
            LossConfig(kl_coef=0.1, kl_estimator="k3"),
            id="KL estimator",
        ),
        pytest.param(
            LossConfig(
                denominator=lambda mask: (
                    mask / jnp.sum(mask, axis=-1, keepdims=True),
                    1.0 * mask.shape[0] * mask.shape[1],
                )
            ),
            LossConfig(denominator="sequence"),
            id="denominator",
        ),
    ],
)
def test_a_function_that_is_a_named_one_gives_its_update(batch, mine, named):
    actual, _ = update(batch, mine)
    expected, _ = update(batch, named)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_function_stands_where_a_whitening_stands(batch):
    def mine(values, where, *, eps):
        flat = jnp.where(where, values, 0.0)
        mean = jnp.sum(flat) / jnp.sum(where)
        square = jnp.sum(jnp.where(where, flat - mean, 0.0) ** 2) / (jnp.sum(where) - 1)
        return (flat - mean) / (jnp.sqrt(square) + eps)

    expected, _ = update(batch, LossConfig())
    actual, _ = update(batch, LossConfig(), AdvantageConfig(whiten=mine))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            dict(objective=lambda x, a, w: a[..., None] * x * w),
            r"<lambda> must return one number, .* got shape \(4, 4, 9\)",
            id="objective not summed",
        ),
        pytest.param(
            dict(extra_terms=(lambda logprobs: (logprobs, {}),)),
            r"must return one number, .* got shape \(4, 4, 9\)",
            id="term not summed",
        ),
        pytest.param(
            dict(extra_terms=(lambda logprobs, *, value: (0.0, {}),)),
            r"loss term <lambda> asks for value, .*\n  It may name: log_ratio, advantages",
            id="unknown name",
        ),
    ],
)
def test_a_function_that_does_not_fit_is_refused_before_anything_runs(batch, fields, message):
    with pytest.raises(ValueError, match=message):
        update(batch, LossConfig(**fields))


def test_a_term_that_needs_a_reference_says_so():
    def mine(logprobs, *, ref_logprobs):
        return jnp.sum(logprobs - ref_logprobs), {}

    with pytest.raises(ValueError, match="compute them with the reference parameters"):
        update(ragged_batch(), LossConfig(extra_terms=(mine,)))
