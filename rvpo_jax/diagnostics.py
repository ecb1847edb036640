"""What the channels of a batch are doing. Arrays in, arrays out.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import jax
import jax.numpy as jnp

from rvpo_jax.masking import masked_mean


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
