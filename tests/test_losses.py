"""Losses: clipping by hand, denominators, ratios, KL estimators, garbage outside the mask."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from rvpo_jax.method import losses, ratios

INF = float("inf")
NAN = float("nan")


def batch(seed=0, shape=(2, 3, 5)):
    """Logprobs of two policies, advantages of both signs, ragged completions, one of them empty."""
    rng = np.random.default_rng(seed)
    logprobs = rng.normal(-2, 0.5, shape).astype(np.float32)
    old = (logprobs + rng.normal(0, 0.3, shape)).astype(np.float32)
    advantages = rng.normal(size=shape[:2]).astype(np.float32)
    lengths = rng.integers(1, shape[2] + 1, shape[:2])
    lengths[0, 0] = 0
    mask = np.arange(shape[2]) < lengths[..., None]
    return logprobs, old, advantages, mask


@functools.partial(jax.jit, static_argnames=("denominator", "level", "clip_high", "dual_clip"))
def loss(
    logprobs, old, advantages, mask, denominator="token", level="token", clip_high=0.2,
    dual_clip=None,
):  # fmt: skip
    ratio = ratios.log_ratios(logprobs, old, mask, level)
    weights, count = losses.token_weights(mask, denominator)
    total = losses.clipped_policy_loss(
        ratio, advantages, weights, clip_low=0.2, clip_high=clip_high, dual_clip=dual_clip
    )
    return total / count


loss_gradient = jax.jit(jax.grad(loss), static_argnames=("denominator", "level", "dual_clip"))


# The clipped surrogate


@pytest.mark.parametrize(
    ("ratio", "advantage", "keywords", "expected", "slope"),
    [
        # slope: d loss / d log ratio = -ratio * A where the objective is not clipped, else 0.
        pytest.param(1.0, 2.0, {}, -2.0, -2.0, id="on policy, A > 0"),
        pytest.param(1.0, -2.0, {}, 2.0, 2.0, id="on policy, A < 0"),
        pytest.param(1.1, 2.0, {}, -2.2, -2.2, id="inside, A > 0"),
        pytest.param(0.9, -2.0, {}, 1.8, 1.8, id="inside, A < 0"),
        pytest.param(1.5, 2.0, {}, -2.4, 0.0, id="above, A > 0: clipped"),
        pytest.param(1.5, -2.0, {}, 3.0, 3.0, id="above, A < 0: not clipped"),
        pytest.param(0.5, 2.0, {}, -1.0, -1.0, id="below, A > 0: not clipped"),
        pytest.param(0.5, -2.0, {}, 1.6, 0.0, id="below, A < 0: clipped"),
        pytest.param(1.5, 2.0, {"clip_high": 0.28}, -2.56, 0.0, id="clip higher"),
        pytest.param(0.5, -2.0, {"clip_low": 0.4}, 1.2, 0.0, id="clip lower"),
        pytest.param(5.0, -2.0, {"dual_clip": 3.0}, 6.0, 0.0, id="dual clip, A < 0"),
        pytest.param(2.0, -2.0, {"dual_clip": 3.0}, 4.0, 4.0, id="dual clip not reached"),
        pytest.param(5.0, 2.0, {"dual_clip": 3.0}, -2.4, 0.0, id="dual clip leaves A > 0 alone"),
        pytest.param(1.5, 0.0, {}, 0.0, 0.0, id="A = 0"),
    ],
)
def test_clipped_loss_and_its_slope_worked_by_hand(ratio, advantage, keywords, expected, slope):
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda x: losses.clipped_policy_loss(
                x, jnp.array([[advantage]]), jnp.ones((1, 1, 1)), **keywords
            )
        )
    )(jnp.log(jnp.array([[[ratio]]])))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert float(gradient[0, 0, 0]) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("denominator", ["token", "sequence", "constant"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("dual_clip", [None, 1.1])
def test_loss_of_a_ragged_batch_equals_the_oracle(denominator, level, dual_clip):
    logprobs, old, advantages, mask = batch()
    keywords = dict(denominator=denominator, level=level, dual_clip=dual_clip)
    expected = oracle.policy_loss(
        logprobs.astype(float), old, advantages, mask, clip_low=0.2, clip_high=0.2, **keywords
    )
    assert float(loss(logprobs, old, advantages, mask, **keywords)) == pytest.approx(
        expected, abs=2e-6
    )


@pytest.mark.parametrize("denominator", ["token", "sequence", "constant"])
def test_gradient_on_policy_is_minus_advantage_times_weight(denominator):
    logprobs, _, advantages, mask = batch()
    gradient = loss_gradient(logprobs, logprobs, advantages, mask, denominator=denominator)
    lengths = mask.sum(-1, keepdims=True)
    share = {
        "token": mask / mask.sum(),
        "sequence": mask / np.maximum(lengths, 1) / 6,
        "constant": mask / 30,
    }[denominator]
    np.testing.assert_allclose(gradient, -advantages[..., None] * share, atol=1e-7)


# Token weights


@pytest.mark.parametrize(
    ("denominator", "weights", "count"),
    [
        ("token", [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], 4),
        ("sequence", [[1 / 3, 1 / 3, 1 / 3, 0], [1, 0, 0, 0], [0, 0, 0, 0]], 3),
        ("constant", [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], 12),
    ],
)
def test_token_weights_worked_by_hand(denominator, weights, count):
    mask = jnp.array([[[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]], bool)
    actual, total = losses.token_weights(mask, denominator)
    np.testing.assert_allclose(actual[0], weights, rtol=1e-6)
    assert float(total) == count


@pytest.mark.parametrize("denominator", ["token", "sequence"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_more_padding_changes_nothing(denominator, level):
    logprobs, old, advantages, mask = batch()
    keywords = dict(denominator=denominator, level=level)

    def pad(x, value):
        return np.pad(x, ((0, 0), (0, 0), (0, 3)), constant_values=value)

    padded = pad(logprobs, NAN), pad(old, -7.0), advantages, pad(mask, False)
    assert float(loss(*padded, **keywords)) == pytest.approx(
        float(loss(logprobs, old, advantages, mask, **keywords)), rel=1e-6
    )
    gradient = loss_gradient(*padded, **keywords)
    np.testing.assert_allclose(
        gradient[..., :5], loss_gradient(logprobs, old, advantages, mask, **keywords), atol=1e-7
    )
    assert not np.any(gradient[..., 5:])


@pytest.mark.parametrize("denominator", ["token", "sequence", "constant"])
def test_sums_over_two_halves_of_a_batch_add_up_to_the_whole(denominator):
    logprobs, old, advantages, mask = batch(shape=(4, 3, 5))

    def parts(rows):
        ratio = ratios.log_ratios(logprobs[rows], old[rows], mask[rows])
        weights, count = losses.token_weights(mask[rows], denominator)
        return losses.clipped_policy_loss(ratio, advantages[rows], weights), count

    halves = jax.tree.map(lambda a, b: a + b, parts(slice(0, 2)), parts(slice(2, 4)))
    chex.assert_trees_all_close(halves, parts(slice(0, 4)), rtol=1e-5)


# Ratios


def test_sequence_ratio_is_the_geometric_mean_worked_by_hand():
    # Log ratios (0.1, 0.3, -0.1) -> 0.1; the second completion has only its first token.
    logprobs = jnp.array([[[-1.0, -1.0, -1.0], [-2.0, -1.0, -1.0]]])
    old = jnp.array([[[-1.1, -1.3, -0.9], [-1.5, -9.0, -9.0]]])
    mask = jnp.array([[[1, 1, 1], [1, 0, 0]]], bool)
    ratio = ratios.log_ratios(logprobs, old, mask, "sequence")
    np.testing.assert_allclose(ratio[0], [[0.1, 0.1, 0.1], [-0.5, 0, 0]], atol=1e-6)


def test_sequence_level_gradient_is_shared_by_the_tokens_of_a_completion():
    logprobs, _, advantages, mask = batch()
    gradient = loss_gradient(
        logprobs, logprobs, advantages, mask, denominator="token", level="sequence"
    )
    # On policy d loss / d logprob_t = -A * (tokens of the completion) / tokens * 1 / their number.
    np.testing.assert_allclose(gradient, -advantages[..., None] * mask / mask.sum(), atol=1e-7)


def test_log_ratios_are_bounded_so_that_losses_stay_finite():
    logprobs, old = jnp.array([[[0.0, -1000.0]]]), jnp.array([[[-1000.0, 0.0]]])
    mask = jnp.ones((1, 1, 2), bool)
    np.testing.assert_array_equal(ratios.log_ratios(logprobs, old, mask)[0, 0], [20.0, -20.0])
    for estimator in ("k1", "k2", "k3"):
        assert np.isfinite(ratios.kl_estimate(logprobs, old, mask, estimator)).all()
    for sign in (1.0, -1.0):
        assert np.isfinite(loss(logprobs, old, jnp.array([[sign]]), mask))


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_garbage_outside_the_mask_reaches_neither_loss_nor_gradient(level, garbage):
    logprobs, old, advantages, mask = batch()
    expected = loss(logprobs, old, advantages, mask, level=level)
    dirty = np.where(mask, logprobs, np.float32(garbage))
    dirty_old = np.where(mask, old, np.float32(garbage))
    assert float(loss(dirty, dirty_old, advantages, mask, level=level)) == float(expected)
    gradient = loss_gradient(dirty, dirty_old, advantages, mask, level=level)
    np.testing.assert_array_equal(
        gradient, loss_gradient(logprobs, old, advantages, mask, level=level)
    )


def test_masking_does_not_lean_on_the_compiler():
    # XLA turns x * mask into a selection, which hides 0 * NaN; operation by operation it shows.
    mask = jnp.array([[[True, False]]])
    with jax.disable_jit():
        ratio = ratios.log_ratios(jnp.array([[[-1.0, NAN]]]), jnp.array([[[-1.5, INF]]]), mask)
    assert ratio.tolist() == [[[0.5, 0.0]]]


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_garbage_outside_the_mask_reaches_no_kl(estimator):
    logprobs, old, _, mask = batch()
    dirty = jnp.asarray(np.where(mask, logprobs, np.float32(NAN)))
    value, gradient = jax.value_and_grad(
        lambda x: ratios.kl_estimate(x, jnp.asarray(old), jnp.asarray(mask), estimator).sum()
    )(dirty)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert not np.any(np.asarray(gradient)[~mask])


# KL


POLICY = np.array([0.5, 0.3, 0.15, 0.05])
REFERENCE = np.array([0.25, 0.25, 0.3, 0.2])


def expected_kl(policy, reference, estimator):
    """Exact expectation of the estimator over a categorical, by enumeration."""
    mask = jnp.ones((1, 1, len(policy)), bool)
    logs = [jnp.log(jnp.asarray(p, jnp.float32))[None, None] for p in (policy, reference)]
    return float((ratios.kl_estimate(*logs, mask, estimator)[0, 0] * policy).sum())


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator):
    exact = float(np.sum(POLICY * np.log(POLICY / REFERENCE)))
    assert expected_kl(POLICY, REFERENCE, estimator) == pytest.approx(exact, rel=1e-5)


def test_k2_is_right_to_second_order_and_biased_beyond():
    direction = np.array([0.1, -0.05, -0.08, 0.03])
    near = POLICY + 0.1 * direction
    exact = np.sum(near * np.log(near / POLICY))
    # KL is d^2 / 2 and the next term is smaller by the size of d, here up to 6 %.
    assert expected_kl(near, POLICY, "k2") == pytest.approx(exact, rel=0.06)
    far = float(np.sum(POLICY * np.log(POLICY / REFERENCE) ** 2) / 2)
    assert expected_kl(POLICY, REFERENCE, "k2") == pytest.approx(far, rel=1e-5)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        # d = ln 2 and d = -ln 2; k3: 1/2 - 1 + ln 2 and 2 - 1 - ln 2.
        ("k1", [math.log(2), -math.log(2)]),
        ("k2", [math.log(2) ** 2 / 2, math.log(2) ** 2 / 2]),
        ("k3", [math.log(2) - 0.5, 1 - math.log(2)]),
    ],
)
def test_kl_estimators_worked_by_hand(estimator, expected):
    logprobs = jnp.log(jnp.array([[[0.5, 0.25, 0.9]]]))
    reference = jnp.log(jnp.array([[[0.25, 0.5, 0.1]]]))
    mask = jnp.array([[[True, True, False]]])
    value = ratios.kl_estimate(logprobs, reference, mask, estimator)
    np.testing.assert_allclose(value[0, 0], [*expected, 0.0], rtol=1e-6)


def test_expected_gradient_of_k2_is_that_of_the_kl():
    # grad over theta of E_x~p[k2 with x held] = sum_x p d grad log p = grad KL(p || ref).
    theta = np.log(POLICY).astype(np.float32)

    def kl(theta):
        logs = jax.nn.log_softmax(theta)
        return jnp.sum(jnp.exp(logs) * (logs - jnp.log(jnp.asarray(REFERENCE, jnp.float32))))

    def surrogate(theta):
        logs = jax.nn.log_softmax(theta)[None, None]
        reference = jnp.log(jnp.asarray(REFERENCE, jnp.float32))[None, None]
        mask = jnp.ones((1, 1, 4), bool)
        estimate = ratios.kl_estimate(logs, reference, mask, "k2")
        return jnp.sum(jnp.asarray(POLICY, jnp.float32) * estimate[0, 0])

    np.testing.assert_allclose(jax.grad(surrogate)(theta), jax.grad(kl)(theta), atol=1e-6)


# Importance weights


def test_importance_weights_are_capped_and_constant():
    trainer = jnp.log(jnp.array([[[0.5, 0.2, 0.9]]]))
    sampler = jnp.log(jnp.array([[[0.1, 0.4, 0.1]]]))
    mask = jnp.array([[[True, True, False]]])
    weights, pullback = jax.vjp(
        lambda t, s: ratios.importance_weights(t, s, mask, cap=2.0), trainer, sampler
    )
    # Ratios 5 (capped at 2) and 1/2; 1 outside the mask.
    np.testing.assert_allclose(weights[0, 0], [2.0, 0.5, 1.0], rtol=1e-6)
    assert not any(np.any(g) for g in pullback(jnp.ones_like(weights)))


# Token logprobs


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_token_logprobs_and_entropies_equal_the_oracle(scale, dtype):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 3, 7)) * scale, dtype)
    tokens = rng.integers(0, 7, (2, 3))
    logprobs, entropy = losses.token_logprobs(logits, jnp.asarray(tokens))
    expected = oracle.token_logprobs(np.asarray(logits, np.float64), tokens)
    assert logprobs.dtype == entropy.dtype == jnp.float32
    np.testing.assert_allclose(logprobs, expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(entropy, expected[1], rtol=1e-5, atol=2e-6)


def test_entropy_of_a_uniform_and_of_a_certain_distribution():
    logits = jnp.array([[0.0] * 8, [1000.0] + [0.0] * 7])
    logprobs, entropy = losses.token_logprobs(logits, jnp.array([3, 0]))
    np.testing.assert_allclose(entropy, [math.log(8), 0.0], atol=1e-6)
    np.testing.assert_allclose(logprobs, [-math.log(8), 0.0], atol=1e-6)


def test_a_token_that_cannot_be_sampled_adds_nothing_to_entropy_or_gradient():
    # A logit of -inf is how a vocabulary is masked: p log p is 0 there, not 0 * inf.
    logits = jnp.array([[0.0, 0.0, -INF, -INF]])
    (_, entropy), pullback = jax.vjp(lambda x: losses.token_logprobs(x, jnp.array([0])), logits)
    np.testing.assert_allclose(entropy, [math.log(2)], rtol=1e-6)
    # d logprob of token 0 = (1 - 1/2, -1/2, 0, 0); the entropy is at its maximum, gradient 0.
    (gradient,) = pullback((jnp.ones(1), jnp.ones(1)))
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0.0, 0.0]], atol=1e-6)


# Every keyword of the losses does something (style.md C4)


@pytest.mark.parametrize(
    "changed",
    [
        dict(denominator="sequence"),
        dict(denominator="constant"),
        dict(level="sequence"),
        dict(clip_high=0.01),
        dict(dual_clip=1.01),
    ],
    ids=str,
)
def test_changing_a_keyword_changes_the_loss(changed):
    logprobs, old, advantages, mask = batch()
    base = float(loss(logprobs, old, advantages, mask))
    assert abs(float(loss(logprobs, old, advantages, mask, **changed)) - base) > 1e-4
