"""Join the standardised channels of one completion into one number; the named rules.

Every aggregator maps ``[..., M] -> [...]``, treats channels alike but for their ``weights``, and
leaves out channels where ``where`` is False. A new rule is a function and a record in the same
file's ``METHODS``. ``M`` reward channels; ``Z`` the scores.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.method.masking import normalized_weights
from rvpo_jax.method.rules import Method
from rvpo_jax.method.standardize import deviations


def prepare(
    scores: jax.Array, weights: Any, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What every aggregator begins with.

    Args:
      scores: ``[..., M]`` float.
      weights: ``[M]`` float >= 0 or None.
      where: ``[..., M]`` bool or None.

    Returns:
      Float32 scores without masked values, weights that sum to 1, and the mask of channels that
      exist and weigh more than 0, ``[..., M]`` each.
    """
    scores = jnp.asarray(scores, jnp.float32)
    mask = jnp.ones(scores.shape, bool) if where is None else jnp.broadcast_to(where, scores.shape)
    share = normalized_weights(weights, mask)
    mask = mask & (share > 0)
    # Before any arithmetic: a masked NaN or infinity would poison the gradient through 0 * inf.
    return jnp.where(mask, scores, 0.0), share, mask


def mean_aggregate(
    scores: jax.Array, *, weights: Any = None, where: jax.Array | None = None
) -> jax.Array:
    """Weighted mean over channels: GDPO as RVPO writes it, and the soft minimum at k = 0.

    Args:
      scores: ``[..., M]`` float.
      weights: ``[M]`` float >= 0, relative importance; None: equal.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    >>> float(mean_aggregate(jnp.array([1.0, -0.5])))
    0.25
    """
    scores, share, _ = prepare(scores, weights, where)
    return jnp.sum(share * scores, axis=-1)


def sum_aggregate(
    scores: jax.Array, *, weights: Any = None, where: jax.Array | None = None
) -> jax.Array:
    """Weighted sum over channels: GDPO's own formula (Eq. 7), for parity with TRL, verl, NeMo-RL.

    Unlike the mean it gives prompts with more channels larger advantages.

    Args:
      scores: ``[..., M]`` float.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32.

    Source:
      GDPO, arXiv:2601.05242, Eq. 5 and 7.

    >>> float(sum_aggregate(jnp.array([1.0, -0.5])))
    0.5
    """
    scores, _, mask = prepare(scores, weights, where)
    if weights is not None:
        scores = scores * jnp.asarray(weights, jnp.float32).reshape(
            (1,) * (scores.ndim - 1) + (-1,)
        )
    return jnp.sum(scores, axis=-1, where=mask)


def softmin_aggregate(
    scores: jax.Array, *, risk_coef: Any, weights: Any = None, where: jax.Array | None = None
) -> jax.Array:
    """Soft minimum over channels: the mean for small k, the worst channel for large k.

    With k = ``risk_coef`` and w the weights, which sum to 1::

        softmin(Z) = -(1/k) * log( sum_m w_m exp(-k * Z_m) )
                   = mean(Z) - (k/2) * var(Z) + O(k^2)

    k = 0 and k = inf give the mean and the minimum exactly. Evaluated relative to the smallest
    score, so that nothing overflows; ``expm1`` and ``log1p`` keep float32 accuracy as k -> 0,
    where the textbook log-sum-exp is wrong by 0.1 (k = 1e-6). The gradient is
    w_m exp(-k Z_m) / sum_l w_l exp(-k Z_l).

    Args:
      scores: ``[..., M]`` float. Standardised channels.
      risk_coef: scalar k >= 0, 1/score, may be traced. Not the sampling temperature.
      weights: ``[M]`` float >= 0, importance *inside* the soft minimum; k stays the same for all.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    Raises:
      ValueError: if ``risk_coef`` is a plain number below 0.

    Source:
      Montero et al. 2026, "RVPO", arXiv:2605.05750, SoftMin. Weights are ours (not in the paper).

    >>> float(softmin_aggregate(jnp.array([0.0, 1.0]), risk_coef=100.0).round(2))
    0.01
    """
    check_risk_coef(risk_coef)
    return softmin_of_shares(*prepare(scores, weights, where), risk_coef)


def softmin_of_shares(
    scores: jax.Array, share: jax.Array, mask: jax.Array, risk_coef: Any
) -> jax.Array:
    """The soft minimum with weights of each row's own.

    Args:
      scores: ``[..., M]`` float32, finite.
      share: ``[..., M]`` float32, rows sum to 1.
      mask: ``[..., M]`` bool, where it is above 0.
      risk_coef: scalar k >= 0.

    Returns:
      ``[...]`` float32; 0 in a row without channels.
    """
    k = jnp.asarray(risk_coef, jnp.float32)
    # A subnormal k is 0 on most hardware, and 0 / 0 where it is divided by.
    k = jnp.where(k < jnp.finfo(jnp.float32).tiny, 0.0, k)
    at_limit = (k == 0) | jnp.isinf(k)
    safe_k = jnp.where(at_limit, 1.0, k)  # keeps the branch not taken finite, its gradient too

    low = jnp.min(jnp.where(mask, scores, jnp.inf), axis=-1, keepdims=True)
    low = jnp.where(jnp.isfinite(low), low, 0.0)
    # The value does not depend on `low`, so dropping its gradient is exact.
    low = jax.lax.stop_gradient(low)
    gap = jnp.where(mask, scores - low, 0.0)
    excess = jnp.sum(share * jnp.expm1(-safe_k * gap), axis=-1)
    # Far below 1 the sum itself keeps the digits: 1 + excess would lose a channel that is worst
    # but weighs almost nothing, down to log(0).
    far = excess < -0.5
    total = jnp.sum(share * jnp.exp(-safe_k * gap), axis=-1)
    near_log, far_log = jnp.log1p(jnp.where(far, 0.0, excess)), jnp.log(jnp.where(far, total, 1.0))
    value = low[..., 0] - jnp.where(far, far_log, near_log) / safe_k

    mean = jnp.sum(share * scores, axis=-1)
    limit = jnp.where(jnp.isinf(k), _masked_min(scores, mask), mean)
    return jnp.where(at_limit, limit, value)


def check_risk_coef(risk_coef: Any) -> None:
    """Refuses a negative k where its value is known.

    Args:
      risk_coef: scalar k, 1/score; one that is traced passes.

    Raises:
      ValueError: if it is negative or NaN.
    """
    remedy = "0 is the plain mean; a negative value would reward disagreement."
    check_not_negative("risk_coef", risk_coef, remedy)


def check_not_negative(name: str, value: Any, remedy: str) -> None:
    """Refuses a negative coefficient where its value is known.

    Args:
      name: of the coefficient.
      value: a plain number or a concrete scalar is checked; a traced one cannot be.
      remedy: what to do, a sentence.

    Raises:
      ValueError: if it is negative or NaN.
    """
    if not isinstance(value, jax.core.Tracer) and not float(value) >= 0:
        raise Refusal(f"{name} must be >= 0, got {value}.", remedy)


def variance_penalized_aggregate(
    scores: jax.Array,
    *,
    variance_coef: Any,
    weights: Any = None,
    where: jax.Array | None = None,
) -> jax.Array:
    """Mean minus beta times the population variance between channels.

    RVPO's explicit variant. beta = k/2 matches the soft minimum to second order; the penalty
    grows quadratically where the soft minimum saturates.

    Args:
      scores: ``[..., M]`` float. Standardised channels.
      variance_coef: scalar beta >= 0, 1/score, may be traced.
      weights: ``[M]`` float >= 0, used in the mean and in the variance; None: equal.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    Source:
      arXiv:2605.05750, explicit variance variant; population variance is our reading, because the
      Taylor link to the soft minimum needs it.

    >>> float(variance_penalized_aggregate(jnp.array([0.0, 2.0]), variance_coef=0.5))
    0.5
    """
    scores, share, mask = prepare(scores, weights, where)
    mean = jnp.sum(share * scores, axis=-1)
    deviation = jnp.where(mask, scores - mean[..., None], 0.0)
    return mean - variance_coef * jnp.sum(share * jnp.square(deviation), axis=-1)


def min_aggregate(
    scores: jax.Array, *, weights: Any = None, where: jax.Array | None = None
) -> jax.Array:
    """The worst channel: the soft minimum at k = inf.

    Equal minima share the gradient.

    Args:
      scores: ``[..., M]`` float.
      weights: ``[M]`` float >= 0; only whether a weight is 0 matters.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    >>> float(min_aggregate(jnp.array([1.0, -0.5])))
    -0.5
    """
    scores, _, mask = prepare(scores, weights, where)
    return _masked_min(scores, mask)


def _masked_min(scores: jax.Array, mask: jax.Array) -> jax.Array:
    low = jnp.min(jnp.where(mask, scores, jnp.inf), axis=-1)
    return jnp.where(jnp.any(mask, axis=-1), low, 0.0)


def sum_then_standardize(
    scores: jax.Array,
    *,
    shifted: jax.Array,
    lowest: jax.Array,
    scored: jax.Array,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """GRPO: the weighted sum of the raw rewards, standardised in the group.

    Each channel's smallest value in the group is taken off before the sum: it is the same for all
    completions that the channel scored, and adding it would cost the digits of the other channels.

    Args:
      scores: ``[B, G, M]``, not looked at.
      shifted: ``[B, G, M]`` float32, rewards less ``lowest``.
      lowest: ``[B, 1, M]`` float32, the smallest reward of a group.
      scored: ``[B, G, M]`` bool, channel exists and was scored.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.
      ddof: 1 sample, 0 population standard deviation.
      eps: added to the standard deviation, in reward units.

    Returns:
      ``[B, G]`` float32; 0 where all sums of a group are equal.

    Source:
      GRPO, arXiv:2402.03300, on a sum of rewards.
    """
    deviation, std, live = _deviations_of_sum(shifted, lowest, scored, weights, ddof)
    return (deviation / jnp.where(live, std + eps, 1.0))[..., 0]


def scale_weights(
    scores: jax.Array,
    *,
    shifted: jax.Array,
    lowest: jax.Array,
    scored: jax.Array,
    weights: jax.Array | None = None,
    ddof: int = 1,
) -> jax.Array:
    """Who decides a sum: each channel's standard deviation over that of the sum.

    Args:
      scores: ``[B, G, M]``, not looked at.
      shifted: see ``sum_then_standardize``.
      lowest: see ``sum_then_standardize``.
      scored: see ``sum_then_standardize``.
      weights: see ``sum_then_standardize``.
      ddof: see ``sum_then_standardize``.

    Returns:
      ``[B, G, M]`` float32; the group's statistics count as fixed.
    """
    _, std, live = _deviations_of_sum(shifted, lowest, scored, weights, ddof)
    _, channel_std, _ = deviations(shifted, scored, ddof)  # [B, 1, M]
    channel_std = channel_std * _broadcast(weights, shifted.ndim)
    share = jnp.where(live, channel_std / jnp.where(live, std, 1.0), 0.0)
    return jnp.where(scored, share, 0.0)


def _deviations_of_sum(
    shifted: jax.Array, lowest: jax.Array, scored: jax.Array, weights: Any, ddof: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``deviations`` of the weighted sum of rewards, less what all its completions share."""
    in_group = jnp.any(scored, axis=1, keepdims=True)
    # A completion without the channel lacks its lowest value too.
    missing = jnp.where(in_group & ~scored, lowest, 0.0)
    parts = jnp.where(scored, shifted, 0.0) - missing
    total = jnp.sum(parts * _broadcast(weights, shifted.ndim), axis=-1, keepdims=True)
    return deviations(total, jnp.any(scored, axis=-1, keepdims=True), ddof)


def _broadcast(weights: Any, ndim: int) -> jax.Array:
    weights = 1.0 if weights is None else weights
    return jnp.asarray(weights, jnp.float32).reshape((1,) * (ndim - 1) + (-1,))


METHODS: dict[str, Method] = {
    "rvpo": Method(
        rule=softmin_aggregate,
        label="soft minimum",
        color="#009E73",
        reads=("risk_coef",),
        pointwise=True,
    ),
    "variance": Method(
        rule=variance_penalized_aggregate,
        label="mean - variance",
        color="#B59B00",
        reads=("variance_coef",),
        pointwise=True,
    ),
    "hard_min": Method(rule=min_aggregate, label="minimum", color="#CC79A7", pointwise=True),
    "gdpo": Method(rule=mean_aggregate, label="mean (GDPO)", color="#0072B2", pointwise=True),
    "gdpo_sum": Method(rule=sum_aggregate, label="sum of scores", color="#56B4E9", pointwise=True),
    "grpo": Method(
        rule=sum_then_standardize,
        label="sum (GRPO)",
        color="#D55E00",
        reads=("ddof", "eps"),
        weights=scale_weights,
        whitened=False,
    ),
}
"""Those named here: function, label, color and what each reads. All: ``methods.METHODS``."""
