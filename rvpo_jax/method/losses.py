"""Policy-gradient losses over tokens, as sums; the step owns the denominator.

Objectives and denominators are dictionaries of functions: a name in ``LossConfig`` picks one, and a
user's function stands wherever a name does. A new one of ours is a function and an entry here; a
new term is a function.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens, ``V`` vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rvpo_jax.method.binding import bind, pick
from rvpo_jax.method.ratios import kl_estimate


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


# Objectives: (log_ratio, advantages, weights, *, ...) -> sum over tokens


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
      weights: ``[B, G, C]`` float32, from a denominator.
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


def cispo_loss(
    log_ratio: jax.Array,
    advantages: jax.Array,
    weights: jax.Array,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> jax.Array:
    """CISPO: the ratio is clipped and held fixed, so that every token keeps its gradient.

    sum_t w_t * -stop(clip(r_t, 1 - clip_low, 1 + clip_high)) A log r_t; the gradient of log r_t is
    that of log pi.

    Args:
      log_ratio: ``[B, G, C]`` float32.
      advantages: ``[B, G]`` float32.
      weights: ``[B, G, C]`` float32.
      clip_low: lower clip distance.
      clip_high: upper clip distance.

    Returns:
      Scalar float32, a sum.

    Source:
      MiniMax-M1, arXiv:2506.13585, Eq. 4 and 5.
    """
    clipped = jnp.clip(jnp.exp(log_ratio), 1.0 - clip_low, 1.0 + clip_high)
    return reinforce_loss(log_ratio, advantages, weights * jax.lax.stop_gradient(clipped))


def reinforce_loss(log_ratio: jax.Array, advantages: jax.Array, weights: jax.Array) -> jax.Array:
    """Plain policy gradient: sum_t w_t * -A log r_t, whose gradient is that of -A log pi.

    Its value is 0 while the policy is the one that sampled; only its gradient matters.

    Args:
      log_ratio: ``[B, G, C]`` float32.
      advantages: ``[B, G]`` float32.
      weights: ``[B, G, C]`` float32.

    Returns:
      Scalar float32, a sum.

    Source:
      Williams 1992, REINFORCE.

    >>> ratio, advantages = jnp.full((1, 1, 1), 0.5), jnp.full((1, 1), 2.0)
    >>> float(reinforce_loss(ratio, advantages, jnp.ones((1, 1, 1))))
    -1.0
    """
    return -jnp.sum(advantages[..., None] * log_ratio * weights)


class Objective(NamedTuple):
    """A named objective and the conventions of its paper, used where the config says None.

    Attributes:
      function: ``(log_ratio [B, G, C], advantages [B, G], weights [B, G, C], *, ...) -> scalar``
        sum, given those of clip_low, clip_high, dual_clip and completion_mask that it names.
      ratio_level: token or sequence.
      denominator: a key of ``DENOMINATORS``.
    """

    function: Callable[..., jax.Array]
    ratio_level: str = "token"
    denominator: str = "token"


OBJECTIVES: dict[str, Objective] = {
    "clipped": Objective(clipped_policy_loss),
    # arXiv:2507.18071, Eq. 5: one ratio per completion, the mean over completions.
    "gspo": Objective(clipped_policy_loss, ratio_level="sequence", denominator="sequence"),
    "cispo": Objective(cispo_loss),
    # arXiv:2503.20783: no division by the length of a completion. Its advantages are not divided
    # by the group's deviation either, which is a matter of the rule.
    "dr_grpo": Objective(clipped_policy_loss, denominator="constant"),
    "reinforce": Objective(reinforce_loss),
}


# Denominators: (completion_mask, *, keep) -> token weights, this device's share of the denominator


def per_token(completion_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every token counts alike.

    The loss of a batch is sum(weights * token losses) / (sum of the denominators of all devices).

    Args:
      completion_mask: ``[B, G, C]`` bool.

    Returns:
      Weights ``[B, G, C]`` float32, 0 outside the mask; the denominator, scalar float32.

    >>> mask = jnp.array([[[True, True], [True, False]]])
    >>> [float(token_weights(mask, name)[1]) for name in DENOMINATORS]
    [3.0, 2.0, 4.0]
    """
    weights = completion_mask.astype(jnp.float32)
    return weights, jnp.sum(weights)


def per_sequence(completion_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every completion counts alike: the mean over completions of their token mean (GRPO).

    Args:
      completion_mask: ``[B, G, C]`` bool.

    Returns:
      See ``per_token``.
    """
    weights = completion_mask.astype(jnp.float32)
    lengths = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.maximum(lengths, 1.0), jnp.float32(lengths.size)


def constant_length(completion_mask: jax.Array, *, max_tokens: int) -> tuple[jax.Array, jax.Array]:
    """Tokens over the fixed length limit: Dr.GRPO.

    Args:
      completion_mask: ``[B, G, C]`` bool.
      max_tokens: the length limit; C may be shorter where no completion is longer.

    Returns:
      See ``per_token``.
    """
    weights = completion_mask.astype(jnp.float32)
    num_completions = completion_mask.shape[0] * completion_mask.shape[1]
    return weights, jnp.float32(num_completions * max_tokens)


DENOMINATORS: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
    "token": per_token,
    "sequence": per_sequence,
    "constant": constant_length,
}


def token_weights(
    completion_mask: jax.Array,
    denominator: Any = "token",
    keep: jax.Array | None = None,
    max_tokens: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """How much each token counts, and this device's share of the denominator.

    Args:
      completion_mask: ``[B, G, C]`` bool.
      denominator: a key of ``DENOMINATORS``, or a function of the mask that may name ``keep`` and
        ``max_tokens``.
      keep: ``[B, G]`` bool, completions that the rule did not drop; None: all.
      max_tokens: the length limit of completions; None: C.

    Returns:
      See ``per_token``.

    >>> mask = jnp.array([[[True, True], [True, False]]])
    >>> float(token_weights(mask, "sequence")[1])
    2.0
    """
    function = pick(denominator, DENOMINATORS, "loss.denominator")
    keep = jnp.ones(completion_mask.shape[:2], bool) if keep is None else keep
    named = {"keep": keep, "max_tokens": max_tokens or completion_mask.shape[2]}
    return bind(function, named, what="denominator")(completion_mask)


# Further terms: (logprobs, *, ...) -> (sum over tokens, token sums by name of the metric)


def kl_term(
    logprobs: jax.Array,
    *,
    ref_logprobs: jax.Array,
    completion_mask: jax.Array,
    weights: jax.Array,
    kl_coef: float,
    kl_estimator: Any,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """``kl_coef`` times the KL divergence to the reference policy.

    Args:
      logprobs: ``[B, G, C]`` float32, current policy.
      ref_logprobs: ``[B, G, C]`` float32, frozen reference.
      completion_mask: ``[B, G, C]`` bool.
      weights: ``[B, G, C]`` float32, from the denominator.
      kl_coef: its weight.
      kl_estimator: a key of ``KL_ESTIMATORS``, or a function.

    Returns:
      The term, and the token sum ``policy/kl_ref``.
    """
    kl = kl_estimate(logprobs, ref_logprobs, completion_mask, kl_estimator)
    return kl_coef * jnp.sum(kl * weights), {"policy/kl_ref": jnp.sum(kl)}


def entropy_term(
    logprobs: jax.Array, *, entropy: jax.Array, weights: jax.Array, entropy_coef: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The policy's entropy, which is maximised.

    Args:
      logprobs: ``[B, G, C]`` float32, not looked at.
      entropy: ``[B, G, C]`` float32, nats, 0 outside the mask.
      weights: ``[B, G, C]`` float32, from the denominator.
      entropy_coef: its weight.

    Returns:
      The term, and no metrics.
    """
    return -entropy_coef * jnp.sum(entropy * weights), {}
