"""Join the standardised channels of one completion into one number.

Every aggregator maps ``[..., M] -> [...]``, treats channels alike but for their ``weights``, and
leaves out channels where ``where`` is False. ``M`` reward channels; ``Z`` the scores.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method.masking import normalized_weights

Aggregator = Callable[..., jax.Array]


class Method(NamedTuple):
    """What the package knows of a named rule."""

    rule: Any
    label: str
    color: str = "#888888"
    reads: tuple[str, ...] = ()
    pointwise: bool = False
    standardized: bool = False


def _prepare(
    scores: jax.Array, weights: Any, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Float32 scores without masked values, weights that sum to 1, and the mask."""
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
    scores, share, _ = _prepare(scores, weights, where)
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
    scores, _, mask = _prepare(scores, weights, where)
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
    _check_not_negative("risk_coef", risk_coef, _NEGATIVE_RISK)
    return _softmin(*_prepare(scores, weights, where), risk_coef)


def _softmin(scores: jax.Array, share: jax.Array, mask: jax.Array, risk_coef: Any) -> jax.Array:
    """The soft minimum of what ``_prepare`` returns."""
    k = jnp.asarray(risk_coef, jnp.float32)
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


def level_softmin_aggregate(
    scores: jax.Array,
    *,
    levels: jax.Array,
    level_coef: Any,
    risk_coef: Any,
    weights: Any = None,
    where: jax.Array | None = None,
) -> jax.Array:
    """Soft minimum in which channels of a low level weigh more.

    With m the levels and c = ``level_coef``, it is the soft minimum with the weights
    w_m exp(-c m_m) / sum_l w_l exp(-c m_l). For 0 < k < inf that is::

        softmin(Z + (c / k) * m) - softmin((c / k) * m)

    The second term is the same for all completions of a group. It is taken off because whitening
    over a batch would otherwise raise every completion of a prompt whose channels are high. c = 0
    is ``softmin_aggregate``; k = 0 is the mean with these weights; k = inf is the minimum, which
    ignores levels. A soft minimum of scores alone protects what is already easy: a rare failure
    has a very negative score, and a rare success none that it looks at.

    Args:
      scores: ``[..., M]`` float. Standardised channels.
      levels: ``[..., M]`` or what broadcasts to it, float in [0, 1]: mean of the channel in its
        group, on the scale of its range.
      level_coef: scalar c >= 0, 1/level, may be traced. Above 80 a channel far above the lowest
        may weigh 0 in float32 and then counts as absent.
      risk_coef: scalar k >= 0, 1/score, may be traced.
      weights: ``[M]`` float >= 0, relative importance; None: equal.
      where: ``[..., M]`` bool, channels that exist; None: all.

    Returns:
      ``[...]`` float32; 0 in a row without channels.

    Raises:
      ValueError: if a coefficient is a plain number below 0.

    Source:
      Ours (not in the paper); derivation and limits in experiments/level_aware.

    >>> half = jnp.log(2.0)  # the second channel is as easy as can be and weighs half as much
    >>> scores, levels = jnp.array([1.0, -0.5]), jnp.array([0.0, 1.0])
    >>> kwargs = dict(levels=levels, level_coef=half, risk_coef=0.0)
    >>> float(level_softmin_aggregate(scores, **kwargs))
    0.5
    """
    _check_not_negative("risk_coef", risk_coef, _NEGATIVE_RISK)
    _check_not_negative("level_coef", level_coef, _NEGATIVE_LEVEL)
    scores, share, mask = _prepare(scores, weights, where)
    levels = jnp.broadcast_to(jnp.asarray(levels, jnp.float32), scores.shape)
    low = jnp.min(jnp.where(mask, levels, jnp.inf), axis=-1, keepdims=True)
    # Relative to the lowest level, whose weight stays; masked before the arithmetic.
    above = jnp.where(mask, levels - low, 0.0)
    share = share * jnp.exp(-jnp.asarray(level_coef, jnp.float32) * above)
    total = jnp.sum(share, axis=-1, keepdims=True)
    share = share / jnp.where(total > 0, total, 1.0)
    return _softmin(scores, share, mask & (share > 0), risk_coef)


_NEGATIVE_RISK = "0 is the plain mean; a negative value would reward disagreement."
_NEGATIVE_LEVEL = "0 ignores levels; a negative value would serve what is already easy."


def _check_not_negative(name: str, value: Any, remedy: str) -> None:
    if isinstance(value, (int, float)) and not value >= 0:
        raise ValueError(f"{name} must be >= 0, got {value}.\n  {remedy}")


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
    scores, share, mask = _prepare(scores, weights, where)
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
    scores, _, mask = _prepare(scores, weights, where)
    return _masked_min(scores, mask)


def _masked_min(scores: jax.Array, mask: jax.Array) -> jax.Array:
    low = jnp.min(jnp.where(mask, scores, jnp.inf), axis=-1)
    return jnp.where(jnp.any(mask, axis=-1), low, 0.0)


AGGREGATORS: dict[str, Aggregator] = {
    "rvpo": softmin_aggregate,
    "rvpo_level": level_softmin_aggregate,
    "variance": variance_penalized_aggregate,
    "hard_min": min_aggregate,
    "gdpo": mean_aggregate,
    "gdpo_sum": sum_aggregate,
}
# grpo is missing by its nature: it never forms scores (advantages.py computes it).
METHODS: dict[str, Method] = {
    "rvpo": Method(
        softmin_aggregate, "soft minimum", "#009E73", reads=("risk_coef",), pointwise=True
    ),
    "rvpo_level": Method(
        level_softmin_aggregate,
        "soft minimum by level",
        "#E69F00",
        reads=("risk_coef", "level_coef", "levels"),
        pointwise=True,
    ),
    "variance": Method(
        variance_penalized_aggregate,
        "mean - variance",
        "#B59B00",
        reads=("variance_coef",),
        pointwise=True,
    ),
    "hard_min": Method(min_aggregate, "minimum", "#CC79A7", pointwise=True),
    "gdpo": Method(mean_aggregate, "mean (GDPO)", "#0072B2", pointwise=True),
    "gdpo_sum": Method(sum_aggregate, "sum of scores", "#56B4E9", pointwise=True),
    "grpo": Method(None, "sum (GRPO)", "#D55E00", standardized=True),
}


def make_aggregator(config: AdvantageConfig, **available: Any) -> Callable[[jax.Array], jax.Array]:
    """Binds a method name or a user's function to what it wants to know.

    A user's function takes the scores ``[B, G, M]`` first and returns ``[B, G]``. It is also
    given those of ``available`` that it names as keyword arguments: ``where`` ``[B, G, M]``,
    ``weights`` ``[M]`` or None, ``risk_coef``, ``variance_coef``, ``level_coef``, ``levels``
    ``[B, 1, M]`` (each channel's group mean rescaled by its range to [0, 1]) and ``rewards``
    ``[B, G, M]``.

    Args:
      config: ``config.method`` is one of ``AGGREGATORS`` or a function.
      **available: what functions may ask for.

    Returns:
      A function ``[B, G, M] -> [B, G]``.

    Raises:
      ValueError: if the function asks for something that is not there.
    """
    function = config.method if callable(config.method) else AGGREGATORS[config.method]
    wanted = {}
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters[1:]:
        if parameter.name in getattr(function, "keywords", {}):
            continue  # bound by functools.partial: the user's value, not the config's
        if parameter.kind is parameter.VAR_KEYWORD:
            wanted = {name: value for name, value in available.items() if value is not None}
        elif parameter.name in available and (
            available[parameter.name] is not None or parameter.name == "weights"
        ):
            wanted[parameter.name] = available[parameter.name]
        elif (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        ):
            hint = (
                " levels need channels=[Channel(...), ...]." if parameter.name == "levels" else ""
            )
            raise ValueError(
                f"aggregator {getattr(function, '__name__', function)} asks for "
                f"{parameter.name}, which is not available.\n"
                f"  It may name: {', '.join(available)}.{hint}"
            )
    return lambda scores: function(scores, **wanted)
