"""Policy-gradient losses over tokens, as sums; the step owns the denominator.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens, ``V`` vocabulary.
"""

import jax
import jax.numpy as jnp

# exp(20) is far outside every clip range, and squared it still fits float32.
MAX_LOG_RATIO = 20.0


def token_logprobs(logits: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each token, and the entropy of the distribution it came from.

    Args:
      logits: ``[..., V]`` float, already divided by the sampling temperature.
      tokens: ``[...]`` int32.

    Returns:
      Logprobs and entropies, ``[...]`` float32, in nats.

    >>> logprobs, entropy = token_logprobs(jnp.zeros((1, 2)), jnp.array([0]))
    >>> float(logprobs[0].round(4)), float(entropy[0].round(4))
    (-0.6931, 0.6931)
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A logit of -inf (a masked token) has p log p = 0, not 0 * inf.
    entropy = -jnp.sum(
        jnp.exp(log_probs) * jnp.where(log_probs > -jnp.inf, log_probs, 0.0), axis=-1
    )
    return jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0], entropy


def token_weights(completion_mask: jax.Array, denominator: str) -> tuple[jax.Array, jax.Array]:
    """How much each token counts, and this device's share of the denominator.

    The loss of a batch is sum(weights * token losses) / (sum of the denominators of all devices).

    Args:
      completion_mask: ``[B, G, C]`` bool.
      denominator: token (every token counts alike), sequence (every completion counts alike:
        GRPO) or constant (tokens over the fixed length C: Dr.GRPO).

    Returns:
      Weights ``[B, G, C]`` float32, 0 outside the mask; the denominator, scalar float32.

    >>> mask = jnp.array([[[True, True], [True, False]]])
    >>> [float(token_weights(mask, name)[1]) for name in ("token", "sequence", "constant")]
    [3.0, 2.0, 4.0]
    """
    weights = completion_mask.astype(jnp.float32)
    if denominator == "token":
        return weights, jnp.sum(weights)
    num_completions = jnp.asarray(completion_mask.shape[0] * completion_mask.shape[1], jnp.float32)
    if denominator == "sequence":
        lengths = jnp.sum(weights, axis=-1, keepdims=True)
        return weights / jnp.maximum(lengths, 1.0), num_completions
    return weights, num_completions * completion_mask.shape[2]


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


def clipped_policy_loss(
    log_ratio: jax.Array,
    advantages: jax.Array,
    weights: jax.Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> jax.Array:
    """PPO's clipped surrogate, negated and summed.

    sum_t w_t * -min(r_t A, clip(r_t, 1 - clip_low, 1 + clip_high) A); with ``dual_clip`` = c the
    loss of a negative advantage is at most c |A|.

    Args:
      log_ratio: ``[B, G, C]`` float32, from ``log_ratios``.
      advantages: ``[B, G]`` float32, one per completion.
      weights: ``[B, G, C]`` float32, from ``token_weights``.
      clip_low: lower clip distance.
      clip_high: upper clip distance.
      dual_clip: c > 1, or None.

    Returns:
      Scalar float32, a sum; divide by the global denominator.

    Source:
      Schulman et al. 2017, arXiv:1707.06347, Eq. 7; dual clip: arXiv:1912.09729, Eq. 5.

    >>> ratio = jnp.log(jnp.array([[[1.5]]]))
    >>> float(clipped_policy_loss(ratio, jnp.ones((1, 1)), jnp.ones((1, 1, 1))).round(4))
    -1.2
    """
    ratio = jnp.exp(log_ratio)
    advantage = advantages[..., None]
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    objective = jnp.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None:
        bounded = jnp.maximum(objective, dual_clip * advantage)
        objective = jnp.where(advantage < 0, bounded, objective)
    return -jnp.sum(objective * weights)


def kl_estimate(
    logprobs: jax.Array, ref_logprobs: jax.Array, completion_mask: jax.Array, estimator: str = "k3"
) -> jax.Array:
    """Per-token estimate of KL(policy || reference) from the policy's own samples.

    With d = log pi - log pi_ref: k1 = d (unbiased, high variance, can be negative);
    k2 = d^2 / 2 (biased, its gradient is that of the true KL); k3 = exp(-d) - 1 + d (unbiased,
    never negative).

    Args:
      logprobs: ``[B, G, C]`` float32, current policy.
      ref_logprobs: ``[B, G, C]`` float32, frozen reference.
      completion_mask: ``[B, G, C]`` bool.
      estimator: k1, k2 or k3.

    Returns:
      ``[B, G, C]`` float32, nats, 0 outside the mask.

    Source:
      Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = log_ratios(logprobs, ref_logprobs, completion_mask)
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    return jnp.expm1(-log_ratio) + log_ratio


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


OBJECTIVES = dict.fromkeys(("clipped", "gspo", "cispo", "dr_grpo", "reinforce"))
KL_ESTIMATORS = dict.fromkeys(("k1", "k2", "k3"))
DENOMINATORS = dict.fromkeys(("token", "sequence", "constant"))
