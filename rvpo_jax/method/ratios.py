"""Ratios of two policies' probabilities, and what is made of them: weights and KL estimates.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.method.binding import pick

MAX_LOG_RATIO = 20.0  # exp(20) is outside every clip range, and squared it still fits float32


def log_ratios(
    logprobs: jax.Array, old_logprobs: jax.Array, completion_mask: jax.Array, level: str = "token"
) -> jax.Array:
    """log(pi / pi_old), bounded, 0 outside the mask.

    Args:
      logprobs: ``[B, G, C]`` float32, current policy.
      old_logprobs: ``[B, G, C]`` float32, the policy that sampled.
      completion_mask: ``[B, G, C]`` bool.
      level: token, or sequence: the mean over a completion's tokens, the same for each of them.

    Returns:
      ``[B, G, C]`` float32.

    Source:
      sequence: GSPO, arXiv:2507.18071, Eq. 7.
    """
    ratios = jnp.where(completion_mask, logprobs - old_logprobs, 0.0)
    if level == "sequence":
        lengths = jnp.sum(completion_mask, axis=-1, keepdims=True)
        mean = jnp.sum(ratios, axis=-1, keepdims=True) / jnp.maximum(lengths, 1)
        ratios = jnp.where(completion_mask, mean, 0.0)
    return jnp.clip(ratios, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def importance_weights(
    trainer_logprobs: jax.Array, sampler_logprobs: jax.Array, completion_mask: jax.Array, cap: float
) -> jax.Array:
    """Truncated weights that correct a sampler whose probabilities differ from the trainer's.

    Args:
      trainer_logprobs: ``[B, G, C]`` float32, the sampling parameters seen by the trainer.
      sampler_logprobs: ``[B, G, C]`` float32, what the sampler reported.
      completion_mask: ``[B, G, C]`` bool.
      cap: upper bound of a weight.

    Returns:
      ``[B, G, C]`` float32, no gradient; 1 outside the mask.

    Source:
      Yao et al. 2025, "Truncated importance sampling" for a rollout/training mismatch.
    """
    log_ratio = log_ratios(trainer_logprobs, sampler_logprobs, completion_mask)
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(log_ratio), cap))


# KL estimators: (log_ratio) -> nats per token


def k1(log_ratio: jax.Array) -> jax.Array:
    """The log ratio d itself: unbiased, high variance, can be negative.

    Args:
      log_ratio: d = log pi - log pi_ref, any shape.

    Returns:
      The same shape, nats per token.
    """
    return log_ratio


def k2(log_ratio: jax.Array) -> jax.Array:
    """d^2 / 2: biased, and its gradient is that of the true KL divergence.

    Args:
      log_ratio: d = log pi - log pi_ref, any shape.

    Returns:
      The same shape, nats.
    """
    return 0.5 * log_ratio**2


def k3(log_ratio: jax.Array) -> jax.Array:
    """exp(-d) - 1 + d: unbiased, never negative.

    Args:
      log_ratio: d = log pi - log pi_ref, any shape.

    Returns:
      The same shape, nats.

    Source:
      Schulman 2020, "Approximating KL divergence".
    """
    return jnp.expm1(-log_ratio) + log_ratio


KL_ESTIMATORS: dict[str, Callable[[jax.Array], jax.Array]] = {"k1": k1, "k2": k2, "k3": k3}


def kl_estimate(
    logprobs: jax.Array, ref_logprobs: jax.Array, completion_mask: jax.Array, estimator: Any = "k3"
) -> jax.Array:
    """Per-token estimate of KL(policy || reference) from the policy's own samples.

    Args:
      logprobs: ``[B, G, C]`` float32, current policy.
      ref_logprobs: ``[B, G, C]`` float32, frozen reference.
      completion_mask: ``[B, G, C]`` bool.
      estimator: a key of ``KL_ESTIMATORS``, or a function of the log ratio.

    Returns:
      ``[B, G, C]`` float32, nats, 0 outside the mask.
    """
    function = pick(estimator, KL_ESTIMATORS, "loss.kl_estimator")
    return jnp.where(
        completion_mask, function(log_ratios(logprobs, ref_logprobs, completion_mask)), 0.0
    )
