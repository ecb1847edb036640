"""What the channels of a batch are doing. Arrays in, arrays out.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import jax
import jax.numpy as jnp

from rvpo_jax.basics.residue import POSITIVE, RESIDUE
from rvpo_jax.method.masking import masked_mean, normalized_weights


def group_status(
    rewards: jax.Array, where: jax.Array, pass_at: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether each channel says anything about each group.

    Live: its scored values differ. Dead-pass: all equal and met. Dead-fail: all equal and *not*
    met, which no group-relative method can see. A channel that is absent is none of them.

    Args:
      rewards: ``[B, G, M]`` float32.
      where: ``[B, G, M]`` bool, scored.
      pass_at: ``[M]`` float32, raw value from which a channel counts as met.

    Returns:
      live, dead_pass, dead_fail: ``[B, M]`` bool each.

    >>> rewards = jnp.array([[[0.0, 1.0], [0.0, 1.0]]])
    >>> [x.tolist() for x in group_status(rewards, rewards >= 0, jnp.ones(2))]
    [[[False, False]], [[False, True]], [[True, False]]]
    """
    high = jnp.max(jnp.where(where, rewards, -jnp.inf), axis=1)
    low = jnp.min(jnp.where(where, rewards, jnp.inf), axis=1)
    present = jnp.any(where, axis=1)
    live = present & (high > low)
    met = high >= pass_at[None, :]
    return live, present & ~live & met, present & ~live & ~met


def joint_pass(rewards: jax.Array, where: jax.Array, pass_at: jax.Array) -> jax.Array:
    """Completions that meet every channel that applies to them.

    Args:
      rewards: ``[..., M]`` float32.
      where: ``[..., M]`` bool, scored.
      pass_at: ``[M]`` float32.

    Returns:
      ``[...]`` bool; False where nothing was scored.
    """
    threshold = pass_at.reshape((1,) * (rewards.ndim - 1) + (-1,))
    return jnp.all((rewards >= threshold) | ~where, axis=-1) & jnp.any(where, axis=-1)


def channel_metrics(
    rewards: jax.Array, where: jax.Array, pass_at: jax.Array
) -> dict[str, jax.Array]:
    """Level, spread, pass rate and liveness of each channel over a batch.

    Args:
      rewards: ``[B, G, M]`` float32, raw.
      where: ``[B, G, M]`` bool, scored.
      pass_at: ``[M]`` float32.

    Returns:
      ``mean``, ``std`` (population, over all scored completions), ``pass_rate``, ``scored_frac``,
      ``live_frac``, ``dead_pass_frac``, ``dead_fail_frac`` (of the groups with the channel):
      ``[M]`` float32 each; ``joint_pass_rate``: scalar.
    """
    flat, scored = rewards.reshape(-1, rewards.shape[-1]), where.reshape(-1, where.shape[-1])
    mean = masked_mean(flat, scored, axis=0)
    live, dead_pass, dead_fail = group_status(rewards, where, pass_at)
    present = live | dead_pass | dead_fail
    return {
        "mean": mean,
        "std": jnp.sqrt(masked_mean((flat - mean[None, :]) ** 2, scored, axis=0)),
        "pass_rate": masked_mean((flat >= pass_at[None, :]).astype(jnp.float32), scored, axis=0),
        "scored_frac": jnp.mean(scored.astype(jnp.float32), axis=0),
        "live_frac": masked_mean(live.astype(jnp.float32), present, axis=0),
        "dead_pass_frac": masked_mean(dead_pass.astype(jnp.float32), present, axis=0),
        "dead_fail_frac": masked_mean(dead_fail.astype(jnp.float32), present, axis=0),
        "joint_pass_rate": jnp.mean(joint_pass(rewards, where, pass_at).astype(jnp.float32)),
    }


def quiet_failures(
    advantages: jax.Array, rewards: jax.Array, where: jax.Array, pass_at: jax.Array
) -> jax.Array:
    """Completions that fail a channel and are reinforced all the same.

    Fail: scored, and reward < pass_at. Reinforced: advantage > ``POSITIVE``.

    Args:
      advantages: ``[...]`` float32, under any rule; NaN counts as not positive.
      rewards: ``[..., M]`` float32, raw.
      where: ``[..., M]`` bool, scored.
      pass_at: ``[M]`` float32, raw value from which a channel counts as met.

    Returns:
      ``[..., M]`` bool, one flag per channel that was failed.

    >>> rewards = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    >>> quiet_failures(jnp.array([0.5, -0.5]), rewards, rewards >= 0, jnp.ones(2)).tolist()
    [[False, True], [False, False]]
    """
    failed = where & (rewards < pass_at.reshape((1,) * (rewards.ndim - 1) + (-1,)))
    return failed & (advantages > POSITIVE)[..., None]


def failure_gap(
    advantages: jax.Array, rewards: jax.Array, where: jax.Array, pass_at: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How much better a rule pays for failing a channel than for meeting it.

    Mean advantage of the completions of a group that fail the channel, minus that of those that
    meet it. Positive: within this group the policy is pushed towards failing. A constant added
    to all advantages of a group, such as a baseline, does not change it.

    Args:
      advantages: ``[B, G]`` float32.
      rewards: ``[B, G, M]`` float32, raw.
      where: ``[B, G, M]`` bool, scored.
      pass_at: ``[M]`` float32.

    Returns:
      gap ``[B, M]`` float32, 0 where undefined; defined ``[B, M]`` bool, the group has both kinds.

    Source:
      Ours: the sign of the policy gradient along "fail or meet", with the other channels as they
      happened to fall.

    >>> rewards = jnp.array([[[0.0], [1.0], [1.0]]])
    >>> advantages = jnp.array([[1.0, 0.0, -1.0]])
    >>> gap, defined = failure_gap(advantages, rewards, rewards >= 0, jnp.ones(1))
    >>> float(gap[0, 0]), bool(defined[0, 0])
    (1.5, True)
    """
    met = where & (rewards >= pass_at.reshape(1, 1, -1))
    failed = where & ~met
    value = advantages[..., None]
    num_met, num_failed = jnp.sum(met, axis=1), jnp.sum(failed, axis=1)
    defined = (num_met > 0) & (num_failed > 0)
    mean_met = jnp.sum(jnp.where(met, value, 0.0), axis=1) / jnp.maximum(num_met, 1)
    mean_failed = jnp.sum(jnp.where(failed, value, 0.0), axis=1) / jnp.maximum(num_failed, 1)
    return jnp.where(defined, mean_failed - mean_met, 0.0), defined


def bottleneck(scores: jax.Array, where: jax.Array) -> jax.Array:
    """Which channel has the smallest score of a completion; ties (to ``RESIDUE``) are shared.

    Args:
      scores: ``[..., M]`` float32, standardised.
      where: ``[..., M]`` bool, scored.

    Returns:
      ``[..., M]`` float32, sums to 1 over the channels; all 0 where nothing was scored.

    >>> bottleneck(jnp.array([0.5, -1.0, -1.0]), jnp.ones(3, bool)).tolist()
    [0.0, 0.5, 0.5]
    """
    low = jnp.min(jnp.where(where, scores, jnp.inf), axis=-1, keepdims=True)
    return normalized_weights(None, where & (scores <= low + RESIDUE))


def effective_channels(weights: jax.Array) -> jax.Array:
    """Number of channels that share a decision: exp of the entropy of the weights.

    Args:
      weights: ``[..., M]`` float32 >= 0, rows sum to 1: the gradient of a mean, soft minimum or
        minimum with respect to the scores.

    Returns:
      ``[...]`` float32, from 1 (one channel decides) to M (all weigh the same).

    >>> effective_channels(jnp.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [1.0, 2.0]
    """
    logs = jnp.log(jnp.where(weights > 0, weights, 1.0))
    return jnp.exp(-jnp.sum(weights * logs, axis=-1))


def conflict(scores: jax.Array, live: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether two channels pull a completion in opposite directions.

    Args:
      scores: ``[B, G, M]`` float32, standardised.
      live: ``[B, M]`` bool, channels that vary within their group.
      where: ``[B, G, M]`` bool, scored.

    Returns:
      opposite, both: ``[B, G, M, M]`` bool; both channels live and scored, and with scores of
      opposite signs.

    >>> scores = jnp.array([[[0.7, -0.7], [-0.7, 0.7]]])
    >>> opposite, both = conflict(scores, jnp.ones((1, 2), bool), scores < 9)
    >>> bool(opposite[0, 0, 0, 1]), bool(both[0, 0, 0, 1])
    (True, True)
    """
    counted = where & live[:, None, :]
    both = counted[..., :, None] & counted[..., None, :]
    return both & (scores[..., :, None] * scores[..., None, :] < 0), both


def between_mean_and_minimum(
    scores: jax.Array, aggregate: jax.Array, where: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where an aggregate lies between the mean of the scores and the smallest one.

    Args:
      scores: ``[..., M]`` float32, standardised.
      aggregate: ``[...]`` float32, before whitening.
      where: ``[..., M]`` bool, scored.

    Returns:
      spread: standard deviation of the scores across channels (population); to_mean: mean minus
      aggregate; to_min: aggregate minus the smallest score. ``[...]`` float32 each, in scores.

    >>> [x.tolist() for x in between_mean_and_minimum(
    ...     jnp.array([1.0, -1.0]), jnp.array(-0.5), jnp.ones(2, bool))]
    [1.0, 0.5, 0.5]
    """
    share = normalized_weights(None, where)
    mean = jnp.sum(share * scores, axis=-1)
    deviation = jnp.where(where, scores - mean[..., None], 0.0)
    spread = jnp.sqrt(jnp.sum(share * deviation**2, axis=-1))
    low = jnp.min(jnp.where(where, scores, jnp.inf), axis=-1)
    scored = jnp.any(where, axis=-1)
    return spread, jnp.where(scored, mean - aggregate, 0.0), jnp.where(scored, aggregate - low, 0.0)
