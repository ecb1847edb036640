"""The loss of a microbatch, put together from what ``LossConfig`` names.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import LossConfig
from rvpo_jax.method import losses, ratios
from rvpo_jax.method.binding import asks_for, bind, name_of, pick
from rvpo_jax.types import Batch

LogprobFn = Callable[[Any, Batch], tuple[jax.Array, jax.Array]]


class PolicyLoss(NamedTuple):
    """A resolved loss: no name is left in it.

    Attributes:
      config: the loss's coefficients.
      objective: ``(log_ratio, advantages, weights, *, ...) -> scalar`` sum over tokens.
      ratio_level: token or sequence.
      denominator: a function, or a key of ``losses.DENOMINATORS``.
      terms: further terms, ``(logprobs, *, ...) -> (scalar, token sums by metric name)``.
    """

    config: LossConfig
    objective: Callable[..., jax.Array]
    ratio_level: str
    denominator: Any
    terms: Sequence[Callable[..., Any]]


def resolve_loss(loss: LossConfig | Callable[..., jax.Array]) -> PolicyLoss:
    """Looks up what a config names.

    Args:
      loss: the config, or a user's objective, which stands for ``LossConfig(objective=loss)``.

    Returns:
      The loss.

    Raises:
      ValueError: on an unknown name.

    >>> resolve_loss(LossConfig(objective="gspo")).ratio_level
    'sequence'
    """
    config = loss if isinstance(loss, LossConfig) else LossConfig(objective=loss)
    found = pick(config.objective, losses.OBJECTIVES, "loss.objective")
    objective = found if isinstance(found, losses.Objective) else losses.Objective(found)
    own = [losses.kl_term] * (config.kl_coef > 0) + [losses.entropy_term] * (
        config.entropy_coef > 0
    )
    return PolicyLoss(
        config=config,
        objective=objective.function,
        ratio_level=config.ratio_level or objective.ratio_level,
        denominator=config.denominator or objective.denominator,
        terms=(*own, *config.extra_terms),
    )


def needs_reference(loss: LossConfig) -> bool:
    """Whether a batch needs ``ref_logprobs``: for the KL term, or a user's term that asks for them.

    Args:
      loss: the config.

    Returns:
      True or False.

    >>> needs_reference(LossConfig()), needs_reference(LossConfig(kl_coef=0.1))
    (False, True)
    """
    resolved = resolve_loss(loss)
    functions = (resolved.objective, *resolved.terms)
    return any(asks_for(function, "ref_logprobs") for function in functions)


def microbatch_loss(
    params: Any, work: dict[str, Any], logprob_fn: LogprobFn, loss: PolicyLoss, denominator: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """This microbatch's share of the loss, and sums over its tokens.

    Args:
      params: parameter tree.
      work: ``batch``, ``advantages`` ``[B, G]``, ``keep`` ``[B, G]`` and, with an importance cap,
        ``trainer_logprobs`` ``[B, G, C]``.
      logprob_fn: logprobs and entropies of the completions.
      loss: what to compute.
      denominator: scalar, of all devices.

    Returns:
      The loss, scalar float32; token sums by the name of their metric, without gradient.
    """
    batch, config = work["batch"], loss.config
    mask = batch.completion_mask
    logprobs, entropy = logprob_fn(params, batch)
    weights, _ = losses.token_weights(mask, loss.denominator, work["keep"], batch.max_tokens)
    old_logprobs, policy_weights = batch.old_logprobs, weights
    if config.importance_cap is not None:
        old_logprobs = work["trainer_logprobs"]
        policy_weights = weights * ratios.importance_weights(
            old_logprobs, batch.old_logprobs, mask, config.importance_cap
        )
    log_ratio = ratios.log_ratios(logprobs, old_logprobs, mask, loss.ratio_level)
    available = {
        "log_ratio": log_ratio,
        "advantages": work["advantages"],
        "weights": weights,
        "completion_mask": mask,
        "entropy": jnp.where(mask, entropy, 0.0),
        "old_logprobs": batch.old_logprobs,
        "ref_logprobs": batch.ref_logprobs,
        "keep": work["keep"],
        **{name: getattr(config, name) for name in COEFFICIENTS},
    }
    objective = bind(loss.objective, available, what="objective", leading=3)
    value = _scalar(objective(log_ratio, work["advantages"], policy_weights), loss.objective)
    sums = _token_sums(log_ratio, logprobs, available)
    for term in loss.terms:
        added, more = bind(term, available, what="loss term", hints=HINTS)(logprobs)
        value += _scalar(added, term)
        sums |= more
    value = value / jnp.maximum(denominator, 1.0)
    sums["policy/loss"] = value
    return value, jax.lax.stop_gradient(sums)


COEFFICIENTS = ("clip_low", "clip_high", "dual_clip", "kl_coef", "kl_estimator", "entropy_coef")
HINTS = {
    "ref_logprobs": "loss.kl_coef > 0, and any term that asks for them, needs batch.ref_logprobs: "
    "compute them with the reference parameters."
}


def _scalar(value: Any, function: Any) -> jax.Array:
    if jnp.shape(value) != ():
        raise Refusal(
            f"loss function {name_of(function)} must return one number, the sum over tokens, got "
            f"shape {jnp.shape(value)}.",
            "Return jnp.sum(weights * x); the step divides by the denominator.",
        )
    return value


def _token_sums(
    log_ratio: jax.Array, logprobs: jax.Array, available: dict[str, Any]
) -> dict[str, jax.Array]:
    """What every loss logs."""
    mask, ratio = available["completion_mask"], jnp.exp(log_ratio)
    clipped = (ratio < 1 - available["clip_low"]) | (ratio > 1 + available["clip_high"])
    kl_old = ratios.kl_estimate(logprobs, available["old_logprobs"], mask)
    return {
        "policy/ratio_mean": jnp.sum(ratio, where=mask),
        "policy/clip_frac": jnp.sum((clipped & mask).astype(jnp.float32)),
        "policy/entropy": jnp.sum(available["entropy"]),
        "policy/kl_old": jnp.sum(kl_old),
    }
