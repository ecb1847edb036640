"""Rewards of several channels through an interface with room for one number per completion.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels; ``N = B * G``, groups in a row.
"""

import dataclasses
from typing import Any

import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.types import Advantages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """The rewards of one call, and all that judging them takes.

    Attributes:
      rewards: ``[N, M]`` float64, each channel in its own unit; NaN: not scored.
      channels: M channels.
      group_size: G.
      config: the rule and its conventions.
      risk_coef: k at the step of the call, 1/score.
      step: of the engine, 0 before the first update; None: not known.
      training: False for completions of an evaluation.
    """

    rewards: np.ndarray
    channels: tuple[Channel, ...]
    group_size: int
    config: AdvantageConfig
    risk_coef: float
    step: int | None = None
    training: bool = True


class RewardsView(np.ndarray):
    """One number per completion, ``[N]``, that carries the channels behind it.

    The numbers are for logs. Only the array that ``__new__`` made carries: a slice, a copy or a
    permutation of it has its own order of completions, so it carries nothing and is refused.

    >>> channels = (Channel(name="a"), Channel(name="b"))
    >>> rewards = np.array([[1.0, 0.0], [0.0, np.nan]])
    >>> rule = dict(config=AdvantageConfig(), risk_coef=1.0)
    >>> scored = Scored(rewards=rewards, channels=channels, group_size=2, **rule)
    >>> view = RewardsView(scored)
    >>> view.tolist(), float(np.mean(view)), type(np.mean(view)).__name__
    ([0.5, 0.0], 0.25, 'float64')
    >>> view.scored is scored, view[::-1].scored is None
    (True, True)
    """

    scored: Scored | None

    def __new__(cls, scored: Scored) -> "RewardsView":
        view = _means(scored).view(cls)
        view.scored = scored
        return view

    def __array_finalize__(self, source: Any) -> None:
        self.scored = None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Results are plain: without it the mean would be a view without axes."""
        plain = np.asarray(array)
        return plain[()] if plain.ndim == 0 else plain


def scored_of(rewards: Any) -> Scored:
    """What a view carries.

    Args:
      rewards: what the reward manager returned, untouched.

    Returns:
      The channels behind it.

    Raises:
      Refusal: for any other array.
    """
    scored = rewards.scored if isinstance(rewards, RewardsView) else None
    if scored is None:
        raise Refusal(
            "rewards must be what the reward manager rvpo returned, got "
            f"{type(rewards).__name__} of shape {np.shape(rewards)} without its channels.",
            'Set reward_manager="rvpo" too (RVPOConfig does), and hand its result on as it is.',
        )
    return scored


def judge(scored: Scored, valid: Any = None, *, with_weights: bool = False) -> Advantages:
    """Advantages of the completions of one call.

    Args:
      scored: rewards and rule.
      valid: ``[N]`` bool, completions that count; None: all. Groups with fewer than two of them
        leave the batch: nothing can be compared there.
      with_weights: whether to compute who decided.

    Returns:
      ``[B, G]`` and ``[B, G, M]`` arrays, see ``compute_advantages``; 0 where not valid.

    Raises:
      Refusal: on an incomplete group, or where the rule whitens over groups and one came alone.
    """
    num, num_channels = scored.rewards.shape
    if num % scored.group_size:
        raise Refusal(
            f"rewards must hold whole groups of {scored.group_size} completions, got {num}.",
            "num_generations of the config is the size of a group.",
        )
    rewards = scored.rewards.reshape(-1, scored.group_size, num_channels)
    if scored.training and len(rewards) == 1 and whitens_over_groups(scored.config):
        raise Refusal(alone(scored.config), INSTEAD)
    return compute_advantages(
        rewards,
        _where(valid, rewards.shape),
        scored.config,
        channels=scored.channels,
        risk_coef=scored.risk_coef,
        step=scored.step,
        with_weights=with_weights,
    )


INSTEAD = (
    'Use AdvantageConfig(whiten="none", recenter=True) or whiten="group", or let a learner that '
    "judges a batch at once score all its groups together."
)


def alone(config: AdvantageConfig) -> str:
    """The refusal of whitening over a batch that nobody has, first line.

    Args:
      config: with such a whitening.

    Returns:
      A sentence.
    """
    return (
        f"advantage.whiten must not need several groups where they arrive alone, got "
        f"{config.whiten!r}."
    )


def whitens_over_groups(config: AdvantageConfig) -> bool:
    """Whether the result for one group depends on the others; a user's own whitening may.

    >>> whitens_over_groups(AdvantageConfig()), whitens_over_groups(AdvantageConfig(whiten="none"))
    (True, False)
    """
    return config.whiten not in ("group", "none")


def _where(valid: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """``[B, G, M]`` bool; None: whatever was scored."""
    if valid is None:
        return None
    num = shape[0] * shape[1]
    if np.size(valid) != num:
        raise Refusal(
            f"valid_mask must have one flag per completion ({num}), got {np.shape(valid)}.",
            "It has the shape of rewards.",
        )
    flags = np.asarray(valid, bool).reshape(shape[:2])
    flags = flags & (flags.sum(axis=1, keepdims=True) >= 2)
    return np.broadcast_to(flags[..., None], shape)


def _means(scored: Scored) -> np.ndarray:
    """Weighted mean of the raw rewards that were scored; 0 where none was."""
    names = tuple(channel.name for channel in scored.channels)
    weights = scored.config.with_channels(names).weights
    share = np.where(np.isnan(scored.rewards), 0.0, 1.0 if weights is None else np.array(weights))
    total = share.sum(axis=-1)
    return np.nansum(share * scored.rewards, axis=-1) / np.where(total > 0, total, 1.0)
