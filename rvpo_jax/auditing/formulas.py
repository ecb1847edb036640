"""The named rules in NumPy, so that a log is replayed without JAX.

Each is the twin of what ``compute_advantages`` of rvpo-jax does before whitening, with its default
conventions, and a test ties the two. ``B`` groups, ``G`` completions of a group, ``M`` channels;
``weights`` are ``[M]`` float >= 0 as ``AdvantageConfig.weights`` has them, None: equal.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..basics.bounds import Bound
from ..basics.channel import Channel, Needs

EPS = 1e-6  # AdvantageConfig.eps, added to the standard deviation of a group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """The rewards of some groups, and their scores."""

    rewards: np.ndarray  # [B, G, M] float64, 0 where not scored
    where: np.ndarray  # [B, G, M] bool, scored
    scores: np.ndarray  # [B, G, M] float32, 0 where dead or absent
    live: np.ndarray  # [B, M] bool, not all equal
    std: np.ndarray  # [B, 1, M] float64, of the rewards

    @functools.cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the plain sum of the rewards: deviations, standard deviations, whether it varies."""
        return _deviations_of_sum(self, None)


Advantages = Callable[
    [np.ndarray, Mapping[str, float], Sequence[Channel], Any, Any], tuple[np.ndarray, Any]
]
"""The rewards ``[B, G, M]`` of one step, NaN where not scored, the rule's numbers, the M channels,
their weights and what it remembers, None at first, to ``[B, G]`` as training has them and what it
remembers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Formula:
    """What a named rule computes, and how it is shown."""

    label: str
    color: str
    takes_k: bool = False
    largest_k: float = math.inf
    whitened: bool = True
    """Whether its aggregates are standardised over the rollout batch: all but GRPO's sum are."""
    aggregate: Callable[[Groups, float, Any], np.ndarray] | None = None
    """Groups, k and weights to ``[B, G]`` float64, before whitening."""
    advantages: Advantages | None = None
    """In place of ``aggregate``, of a rule from elsewhere."""
    needs: Needs = ""
    """What it must know of the channels."""
    options: Mapping[str, Bound] = dataclasses.field(default_factory=dict)
    """Further numbers that it takes, by name."""
    remembers: bool = False
    """Whether it looks at earlier steps."""


def group_scores(rewards: np.ndarray) -> Groups:
    """Standardises each channel within its group, by the sample standard deviation.

    Args:
      rewards: ``[B, G, M]`` float, NaN where not scored.

    Returns:
      The groups.

    >>> group_scores(np.array([[[0.0], [1.0], [np.nan]]])).scores.ravel().round(4).tolist()
    [-0.7071, 0.7071, 0.0]
    """
    where = ~np.isnan(rewards)
    rewards = np.where(where, rewards, 0.0).astype(np.float64, copy=False)
    deviation, std, live = _deviations(rewards, where)
    # Rounded: scores that are equal but for the last digits tie for the minimum.
    scores = (deviation / np.where(live, std + EPS, 1.0)).astype(np.float32)
    return Groups(rewards=rewards, where=where, scores=scores, live=live[:, 0], std=std)


def _deviations(values: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along axis 1: deviations from the mean, standard deviations, and whether values differ."""
    low = values.min(axis=1, keepdims=True, where=where, initial=np.inf)
    # Exact equality: the residue of a constant channel over a small eps would look like a score.
    live = values.max(axis=1, keepdims=True, where=where, initial=-np.inf) > low
    used = where & live
    shifted = np.where(used, values - np.where(live, low, 0.0), 0.0)
    count = where.sum(axis=1, keepdims=True)
    mean = shifted.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(used, shifted - mean, 0.0)
    squares = (deviation**2).sum(axis=1, keepdims=True)
    return deviation, np.sqrt(squares / np.maximum(count - 1, 1)), live


def channel_shares(where: np.ndarray, weights: Any = None) -> np.ndarray:
    """Weights that sum to 1 over the channels that exist.

    Args:
      where: ``[..., M]`` bool.
      weights: see above.

    Returns:
      ``[..., M]`` float64; all 0 in a row without channels.
    """
    if weights is None and where.all():
        return np.broadcast_to(1 / where.shape[-1], where.shape)
    raw = where * (1.0 if weights is None else np.asarray(weights, np.float64))
    total = raw.sum(-1, keepdims=True)
    return raw / np.where(total > 0, total, 1.0)


def mean_of_scores(scores: np.ndarray, where: np.ndarray, weights: Any = None) -> np.ndarray:
    """The weighted mean over channels: GDPO.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool.
      weights: see above.

    Returns:
      ``[...]`` float64.
    """
    return dot(channel_shares(where, weights), scores)


def sum_of_scores(scores: np.ndarray, where: np.ndarray, weights: Any = None) -> np.ndarray:
    """The weighted sum over channels; the weights count as they are.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool.
      weights: see above.

    Returns:
      ``[...]`` float64.
    """
    return (np.where(where, scores, 0.0) * (1.0 if weights is None else np.array(weights))).sum(-1)


def soft_minimum(
    scores: np.ndarray, where: np.ndarray, risk_coef: float, weights: Any = None
) -> np.ndarray:
    """The soft minimum over channels: the mean at k = 0, the smallest score at k = inf.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool.
      risk_coef: k >= 0, 1/score.
      weights: see above.

    Returns:
      ``[...]`` float64; 0 in a row without channels.
    """
    share = channel_shares(where, weights)
    low = minimum(scores, where & (share > 0))
    if math.isinf(risk_coef):
        return low
    if risk_coef < np.finfo(np.float64).tiny:
        return dot(share, scores)
    distance = -risk_coef * _above(scores, share, low)
    # Near 0 log1p keeps the digits of a small k; far from it the sum does, down to small weights.
    excess, total = dot(share, np.expm1(distance)), dot(share, np.exp(distance))
    far = excess < -0.5
    near_log, far_log = np.log1p(np.where(far, 0.0, excess)), np.log(np.where(far, total, 1.0))
    return low - np.where(far, far_log, near_log) / risk_coef


def soft_minimum_weights(
    scores: np.ndarray, where: np.ndarray, risk_coef: float, weights: Any = None
) -> np.ndarray:
    """Who decides a soft minimum: its gradient by the scores.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool.
      risk_coef: k >= 0, 1/score.
      weights: see above.

    Returns:
      ``[..., M]`` float64, rows sum to 1.
    """
    share = channel_shares(where, weights)
    low = minimum(scores, where & (share > 0))
    if math.isinf(risk_coef):
        return channel_shares((share > 0) & (scores == low[..., None]))
    pull = share * np.exp(-risk_coef * _above(scores, share, low))
    total = pull.sum(-1, keepdims=True)
    return pull / np.where(total > 0, total, 1.0)


def dot(share: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of products over channels.

    Args:
      share: ``[..., M]`` float.
      values: ``[..., M]`` float.

    Returns:
      ``[...]`` float.

    >>> float(dot(np.array([0.5, 0.5]), np.array([1.0, 3.0])))
    2.0
    """
    return np.einsum("...m,...m->...", share, values)


def _above(scores: np.ndarray, share: np.ndarray, low: np.ndarray) -> np.ndarray:
    """How far each score is above the smallest, 0 where it does not count."""
    return np.where(share > 0, scores - low[..., None], 0.0)


def minimum(scores: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The smallest score.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool, channels that exist and weigh more than 0.

    Returns:
      ``[...]`` float64; 0 in a row without channels.
    """
    # Channel by channel: NumPy is slow along a short last axis.
    columns = np.moveaxis(scores if where.all() else np.where(where, scores, np.inf), -1, 0)
    low = functools.reduce(np.minimum, columns)
    return np.where(np.isfinite(low), low, 0.0).astype(np.float64)


def mean_less_variance(
    scores: np.ndarray, where: np.ndarray, variance_coef: float, weights: Any = None
) -> np.ndarray:
    """The mean minus beta times the population variance between channels.

    Args:
      scores: ``[..., M]`` float.
      where: ``[..., M]`` bool.
      variance_coef: beta >= 0, 1/score.
      weights: see above.

    Returns:
      ``[...]`` float64.
    """
    share = channel_shares(where, weights)
    mean = dot(share, scores)
    return mean - variance_coef * dot(share, (scores - mean[..., None]) ** 2)


def standardized_sum(groups: Groups, weights: Any = None) -> np.ndarray:
    """GRPO: the weighted sum of the raw rewards, standardised in the group.

    Args:
      groups: the groups.
      weights: see above; multiplied as they are.

    Returns:
      ``[B, G]`` float64; 0 where all sums of a group are equal.
    """
    deviation, std, live = groups.sums if weights is None else _deviations_of_sum(groups, weights)
    return (deviation / np.where(live, std + EPS, 1.0))[..., 0]


def sum_weights(groups: Groups, weights: Any = None) -> np.ndarray:
    """Who decides a sum: each channel's standard deviation over that of the sum.

    Args:
      groups: the groups.
      weights: see above.

    Returns:
      ``[B, G, M]`` float64, 0 where not scored.
    """
    _, std, live = groups.sums if weights is None else _deviations_of_sum(groups, weights)
    scale = groups.std * (1.0 if weights is None else np.asarray(weights, np.float64))
    return np.where(groups.where & live, scale / np.where(live, std, 1.0), 0.0)


def _deviations_of_sum(groups: Groups, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Less each channel's smallest value in the group, which would cost the digits of the others.
    low = groups.rewards.min(axis=1, keepdims=True, where=groups.where, initial=np.inf)
    parts = groups.rewards - np.where(np.isfinite(low), low, 0.0)
    total = (parts * (1.0 if weights is None else np.array(weights))).sum(-1, keepdims=True)
    return _deviations(total, np.any(groups.where, axis=-1, keepdims=True))


FORMULAS: dict[str, Formula] = {
    "rvpo": Formula(
        label="soft minimum",
        color="#009E73",
        takes_k=True,
        aggregate=lambda groups, k, w: soft_minimum(groups.scores, groups.where, k, w),
    ),
    "variance": Formula(
        label="mean - variance",
        color="#B59B00",
        takes_k=True,
        largest_k=sys.float_info.max,
        # With beta = k/2 it matches the soft minimum to second order.
        aggregate=lambda groups, k, w: mean_less_variance(groups.scores, groups.where, k / 2, w),
    ),
    "hard_min": Formula(
        label="minimum",
        color="#CC79A7",
        aggregate=lambda groups, _, w: soft_minimum(groups.scores, groups.where, math.inf, w),
    ),
    "gdpo": Formula(
        label="mean (GDPO)",
        color="#0072B2",
        aggregate=lambda groups, _, w: mean_of_scores(groups.scores, groups.where, w),
    ),
    "gdpo_sum": Formula(
        label="sum of scores",
        color="#56B4E9",
        aggregate=lambda groups, _, w: sum_of_scores(groups.scores, groups.where, w),
    ),
    "grpo": Formula(
        label="sum (GRPO)",
        color="#D55E00",
        whitened=False,
        aggregate=lambda groups, _, w: standardized_sum(groups, w),
    ),
}
"""The rules that every audit knows; labels and colors are those of ``METHODS`` of rvpo-jax."""
