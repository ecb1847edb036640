"""Rewards in, advantages out: standardise each channel, aggregate, whiten.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.aggregators import make_aggregator, sum_aggregate
from rvpo_jax.types import Advantages


def check_rewards(rewards: Any, channel_names: Sequence[str] | None = None) -> None:
    """Refuses rewards of the wrong shape, or infinite ones, with advice.

    Args:
      rewards: anything with a shape; values are looked at only where they are concrete.
      channel_names: names of the M channels, where known.

    Raises:
      ValueError: naming what came and what to do.
    """
    shape = tuple(jnp.shape(rewards))
    if len(shape) != 3:
        hint = "\n  For a single channel add the last axis: rewards[..., None]."
        raise ValueError(
            "rewards must have shape [B, G, M] = (prompts, completions per prompt, reward "
            f"channels), got {shape}.{hint if len(shape) == 2 else ''}"
        )
    if shape[1] < 2:
        raise ValueError(
            f"a group needs G >= 2 completions to be standardised, got G = {shape[1]}.\n"
            "  Raise rollout.group_size."
        )
    if shape[2] < 1 or shape[0] < 1:
        raise ValueError(f"rewards must not be empty, got shape {shape}.\n  Give every axis >= 1.")
    if channel_names is not None and shape[2] != len(channel_names):
        raise ValueError(
            f"rewards has M = {shape[2]} channels but {len(channel_names)} are configured: "
            f"{', '.join(channel_names)}.\n  The last axis must follow the order of the channels."
        )
    if not isinstance(rewards, jax.core.Tracer) and np.isinf(np.asarray(rewards)).any():
        where = tuple(int(i) for i in np.argwhere(np.isinf(np.asarray(rewards)))[0])
        raise ValueError(
            f"rewards must be finite or NaN (not scored), got an infinity at [b, g, m] = {where}.\n"
            "  Clip the reward function's values."
        )


def _deviations(
    values: jax.Array, where: jax.Array, ddof: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Deviation from the mean, standard deviation and liveness along axis 1, masked."""
    high = jnp.max(jnp.where(where, values, -jnp.inf), axis=1, keepdims=True)
    low = jnp.min(jnp.where(where, values, jnp.inf), axis=1, keepdims=True)
    # Exact equality, not std < eps: the float32 residue of a constant channel over a small eps
    # has given advantages of 7,000.
    live = high > low
    # Taking the smallest value off first keeps the digits of large, nearly equal rewards.
    shifted = jnp.where(where & live, values - jnp.where(live, low, 0.0), 0.0)
    count = jnp.sum(where, axis=1, keepdims=True)
    mean = jnp.sum(shifted, axis=1, keepdims=True) / jnp.maximum(count, 1)
    deviation = jnp.where(where & live, shifted - mean, 0.0)
    variance = jnp.sum(deviation**2, axis=1, keepdims=True) / jnp.maximum(count - ddof, 1)
    return deviation, jnp.sqrt(variance), live


def standardize(
    rewards: jax.Array, where: jax.Array, *, ddof: int = 1, eps: float = 1e-6
) -> tuple[jax.Array, jax.Array]:
    """Standard score of each channel within the group of one prompt.

    Z = (R - mean) / (std + eps), over the scored completions of the group. A channel whose scored
    values are all equal is dead: its Z is 0 exactly.

    Args:
      rewards: ``[B, G, M]`` float32, each channel in its own unit.
      where: ``[B, G, M]`` bool, channel exists and was scored.
      ddof: 1 sample, 0 population standard deviation.
      eps: added to the standard deviation, in reward units.

    Returns:
      Scores ``[B, G, M]`` float32, 0 where dead or absent; live ``[B, M]`` bool.

    Source:
      GDPO, arXiv:2601.05242, Eq. 4 (ddof = 1 in its code and worked example).

    >>> pair = jnp.array([0.0, 1.0]).reshape(1, 2, 1)
    >>> standardize(pair, pair >= 0)[0].ravel().round(4).tolist()
    [-0.7071, 0.7071]
    """
    deviation, std, live = _deviations(rewards, where, ddof)
    scores = deviation / jnp.where(live, std + eps, 1.0)
    return scores, live[:, 0, :]


def whiten(
    values: jax.Array,
    where: jax.Array,
    *,
    scope: str = "batch",
    eps: float = 1e-6,
    eps_on: str = "std",
    lengths: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Mean 0 and standard deviation 1 over the batch, so that the scale does not grow with M.

    The scope is part of the algorithm. ``batch`` and ``token`` use the statistics of all devices.

    Args:
      values: ``[B, G]`` float32, one per completion.
      where: ``[B, G]`` bool, completions with at least one scored channel; others become 0.
      scope: batch (each completion counts once), token (as often as it has tokens: verl), group
        (each prompt on its own) or none.
      eps: added to the standard deviation, or to the variance.
      eps_on: std or variance.
      lengths: ``[B, G]`` completion lengths in tokens, for scope token.
      axis_name: the device axis under pmap or shard_map.

    Returns:
      ``[B, G]`` float32.

    Raises:
      ValueError: if scope is token and there are no lengths.

    Source:
      GDPO, arXiv:2601.05242, Eq. 6; sample variance, as its code has it.

    >>> whiten(jnp.array([[1.0, 3.0]]), jnp.array([[True, True]])).round(4).tolist()
    [[-0.7071, 0.7071]]
    """
    values = jnp.where(where, values, 0.0)
    if scope == "none":
        return values
    if scope == "group":
        deviation, std, _ = _deviations(values[..., None], where[..., None], ddof=1)
        return (deviation / _denominator(std, eps, eps_on))[..., 0]
    if scope == "token" and lengths is None:
        raise ValueError(
            'whiten="token" needs lengths, the completions\' lengths in tokens, got none.\n'
            "  Pass lengths=completion_mask.sum(-1)."
        )

    def over_devices(reduce, x):
        return x if axis_name is None else reduce(x, axis_name)

    weight = jnp.where(where, 1.0 if lengths is None or scope == "batch" else lengths, 0.0)
    count = over_devices(jax.lax.psum, jnp.sum(weight))
    high = over_devices(jax.lax.pmax, jnp.max(jnp.where(where, values, -jnp.inf)))
    low = over_devices(jax.lax.pmin, jnp.min(jnp.where(where, values, jnp.inf)))
    total = over_devices(jax.lax.psum, jnp.sum(weight * values))
    deviation = jnp.where(where & (high > low), values - total / jnp.maximum(count, 1.0), 0.0)
    squares = over_devices(jax.lax.psum, jnp.sum(weight * deviation**2))
    std = jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0))
    return deviation / _denominator(std, eps, eps_on)


def _denominator(std: jax.Array, eps: float, eps_on: str) -> jax.Array:
    total = jnp.sqrt(std**2 + eps) if eps_on == "variance" else std + eps
    return jnp.where(total > 0, total, 1.0)  # eps = 0 and all values equal: 0 / 1, not 0 / 0


def compute_advantages(
    rewards: Any,
    where: Any = None,
    config: AdvantageConfig = AdvantageConfig(),
    *,
    channels: Sequence[Channel] | None = None,
    risk_coef: Any = None,
    lengths: Any = None,
    axis_name: str | None = None,
) -> Advantages:
    """One advantage per completion from several rewards; the whole method in one call.

    Standardise every channel within its group, aggregate the channels of each completion, whiten.
    The result is a constant for the policy gradient: no gradient flows through it. Aggregation
    happens once per completion, never per token.

    Args:
      rewards: ``[B, G, M]`` float, each channel in its own unit; NaN means "not scored".
      where: ``[B, G, M]`` bool, channels that exist and were scored; None: all.
      config: the method and its conventions.
      channels: the M channels, for weights by name and for ``levels``, which ``rvpo_level`` needs
        and a custom aggregator may ask for.
      risk_coef: k, overrides ``config.risk_coef``; may be traced, so a schedule does not recompile.
      lengths: ``[B, G]`` completion lengths in tokens, for ``whiten="token"``.
      axis_name: the device axis under pmap or shard_map; rewards are then this device's share.

    Returns:
      ``Advantages``: advantages, aggregate ``[B, G]``; scores, weights ``[B, G, M]``; live
      ``[B, M]``. ``weights`` is the gradient of the aggregate with respect to the scores: who
      decided. For grpo, which never forms scores, it is std_j w_j / std_sum: the channel with
      the largest scale decides.

    Raises:
      ValueError: on a wrong shape, an infinite reward, weights that do not fit, or ``rvpo_level``
        without channels.

    Source:
      arXiv:2605.05750 (aggregation), arXiv:2601.05242 (standardisation and whitening).

    >>> rewards = jnp.array([[[3.0, 0], [3, 1], [-3, 1], [0, 1]]])  # correctness, format
    >>> sums = compute_advantages(rewards, config=AdvantageConfig(method="grpo", whiten="none"))
    >>> rvpo = compute_advantages(rewards, config=AdvantageConfig(whiten="none"))
    >>> float(sums.advantages[0, 0].round(2)), float(rvpo.advantages[0, 0].round(2))
    (0.57, -0.90)
    """
    names = None if channels is None else tuple(channel.name for channel in channels)
    check_rewards(rewards, names)
    if names is not None:
        config = config.with_channels(names)
    rewards = jnp.asarray(rewards, jnp.float32)
    mask = ~jnp.isnan(rewards)
    if where is not None:
        if jnp.shape(where) != rewards.shape:
            raise ValueError(
                f"where must have the shape of rewards {rewards.shape}, got {jnp.shape(where)}.\n"
                "  One flag per reward."
            )
        mask = mask & jnp.asarray(where, bool)
    if lengths is not None and jnp.shape(lengths) != rewards.shape[:2]:
        raise ValueError(
            f"lengths must have shape [B, G] = {rewards.shape[:2]}, got {jnp.shape(lengths)}.\n"
            "  One length per completion."
        )
    weights = _checked_weights(config, rewards.shape[-1])
    rewards = jnp.where(mask, rewards, 0.0)

    scores, live = standardize(rewards, mask, ddof=config.ddof, eps=config.eps)
    counted = mask & live[:, None, :] if config.dead_channels == "drop" else mask
    if config.method == "grpo":
        aggregate, channel_weights = _sum_then_standardize(rewards, mask, weights, config)
    else:
        function = make_aggregator(
            config,
            where=counted,
            weights=weights,
            risk_coef=config.risk_coef if risk_coef is None else risk_coef,
            variance_coef=config.variance_coef,
            level_coef=config.level_coef,
            levels=None if channels is None else _levels(rewards, mask, channels),
            rewards=rewards,
        )
        aggregate, pullback = jax.vjp(function, scores)
        if aggregate.shape != rewards.shape[:2]:
            raise ValueError(
                f"aggregator must map [B, G, M] = {rewards.shape} to [B, G] = {rewards.shape[:2]}, "
                f"got {aggregate.shape}.\n  Reduce the last axis only."
            )
        (channel_weights,) = pullback(jnp.ones_like(aggregate))

    scored = jnp.any(mask, axis=-1)
    advantages = aggregate
    if config.recenter:
        count = jnp.maximum(jnp.sum(scored, axis=1, keepdims=True), 1)
        advantages = advantages - jnp.sum(advantages, 1, keepdims=True, where=scored) / count
    advantages = whiten(
        advantages,
        scored,
        scope=config.whiten,
        eps=config.whiten_eps,
        eps_on=config.whiten_eps_on,
        lengths=None if lengths is None else jnp.asarray(lengths, jnp.float32),
        axis_name=axis_name,
    )
    result = Advantages(
        advantages=advantages,
        scores=scores,
        weights=channel_weights,
        aggregate=aggregate,
        live=live,
    )
    return jax.lax.stop_gradient(result)


def _checked_weights(config: AdvantageConfig, num_channels: int) -> jax.Array | None:
    if config.weights is None:
        return None
    if not isinstance(config.weights, (tuple, list)):
        raise ValueError(
            f"advantage.weights by name need the channels' names, got {config.weights}.\n"
            "  Pass channels=[Channel(name=...), ...], or weights as a tuple in channel order."
        )
    if len(config.weights) != num_channels:
        raise ValueError(
            f"advantage.weights has {len(config.weights)} values but rewards has M = "
            f"{num_channels} channels.\n  Give one weight per channel."
        )
    return jnp.asarray(config.weights, jnp.float32)


def _levels(rewards: jax.Array, where: jax.Array, channels: Sequence[Channel]) -> jax.Array:
    """Group mean of each channel on the scale of its range, ``[B, 1, M]`` in [0, 1]."""
    low = jnp.array([channel.low for channel in channels]).reshape(1, 1, -1)
    high = jnp.array([channel.high for channel in channels]).reshape(1, 1, -1)
    count = jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)
    mean = jnp.sum(rewards, axis=1, keepdims=True, where=where) / count
    return (mean - low) / (high - low)


def _sum_then_standardize(
    rewards: jax.Array, where: jax.Array, weights: jax.Array | None, config: AdvantageConfig
) -> tuple[jax.Array, jax.Array]:
    """GRPO on the weighted sum; and which channel's scale dominates that sum."""
    total = sum_aggregate(rewards, weights=weights, where=where)[..., None]  # [B, G, 1]
    scored = jnp.any(where, axis=-1, keepdims=True)
    deviation, std, live = _deviations(total, scored, config.ddof)
    _, channel_std, _ = _deviations(rewards, where, config.ddof)  # [B, 1, M]
    if weights is not None:
        channel_std = channel_std * weights.reshape(1, 1, -1)
    share = jnp.where(live, channel_std / jnp.where(live, std, 1.0), 0.0)
    aggregate = deviation / jnp.where(live, std + config.eps, 1.0)
    return aggregate[..., 0], jnp.where(where, share, 0.0)


WHITENINGS: dict[str, Any] = {"batch": None, "token": None, "group": None, "none": None}
