"""What every rule makes of the rewards of a log: the part of a replay that needs whole groups.

NumPy arrays in, NumPy arrays out, compiled in between. ``B`` groups of a block, ``G`` completions
of a group, ``M`` reward channels, ``R`` rules.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.method import diagnostics
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.aggregators import softmin_aggregate

SOFT_MINIMUM = AdvantageConfig(method="rvpo", whiten="none")
SUM = AdvantageConfig(method="grpo", whiten="none")


def judge_groups(
    rewards: np.ndarray,
    pass_at: np.ndarray,
    rules: Mapping[str, AdvantageConfig],
    risk_coef: float,
) -> dict[str, np.ndarray]:
    """Scores, weights and aggregates of groups, each of which counts on its own.

    Args:
      rewards: ``[B, G, M]`` float32, NaN where not scored.
      pass_at: ``[M]`` float32.
      rules: R rules by name, none of which looks beyond a group.
      risk_coef: k of the soft minimum whose weights are returned, 1/score.

    Returns:
      ``scores``, ``weights`` (of the soft minimum), ``sum_weights`` and ``minima``: ``[B, G, M]``;
      ``spread``, ``to_mean``, ``to_min``, ``effective`` and the aggregate of each rule under its
      name after ``rule``: ``[B, G]``; ``status`` ``[B, M]`` int (0 absent, 1 live, 2 dead-pass, 3
      dead-fail); ``opposite``, ``both`` and ``products``: ``[M, M]``, summed over the block.
    """
    names, configs = tuple(rules), tuple(rules.values())
    return jax.device_get(_judge_groups(rewards, pass_at, jnp.float32(risk_coef), names, configs))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _judge_groups(rewards, pass_at, risk_coef, names, configs):
    where = ~jnp.isnan(rewards)
    soft = compute_advantages(rewards, config=SOFT_MINIMUM, risk_coef=risk_coef)
    rewards = jnp.where(where, rewards, 0.0)
    live, dead_pass, dead_fail = diagnostics.group_status(rewards, where, pass_at)
    spread, to_mean, to_min = diagnostics.between_mean_and_minimum(
        soft.scores, soft.aggregate, where
    )
    opposite, both = diagnostics.conflict(soft.scores, live, where)
    counted = jnp.where(where & live[:, None, :], soft.scores, 0.0)
    aggregates = {
        f"rule {name}": compute_advantages(rewards, where, config, with_weights=False).aggregate
        for name, config in zip(names, configs, strict=True)
    }
    return aggregates | {
        "scores": soft.scores,
        "weights": soft.weights,
        "sum_weights": compute_advantages(rewards, where, SUM).weights,
        "minima": diagnostics.bottleneck(soft.scores, where),
        "spread": spread,
        "to_mean": to_mean,
        "to_min": to_min,
        "effective": diagnostics.effective_channels(soft.weights),
        "status": live * 1 + dead_pass * 2 + dead_fail * 3,
        "opposite": jnp.sum(opposite, axis=(0, 1)),
        "both": jnp.sum(both, axis=(0, 1)),
        "products": jnp.einsum("bgi,bgj->ij", counted, counted),
    }


def advantages_of_batch(rewards: np.ndarray, rule: AdvantageConfig) -> np.ndarray:
    """Advantages of one step under a rule that may look at the whole batch.

    Args:
      rewards: ``[B, G, M]`` float32, NaN where not scored and where there is no completion.
      rule: with the whitening of the run.

    Returns:
      ``[B, G]`` float32.
    """
    return np.asarray(_advantages_of_batch(rewards, rule))


@functools.partial(jax.jit, static_argnums=(1,))
def _advantages_of_batch(rewards, rule):
    return compute_advantages(rewards, config=rule, with_weights=False).advantages


def failure_gaps(
    advantages: np.ndarray, rewards: np.ndarray, where: np.ndarray, pass_at: np.ndarray
) -> np.ndarray:
    """How much better each rule pays for failing a channel than for meeting it, in each group.

    Args:
      advantages: ``[R, B, G]`` float32.
      rewards: ``[B, G, M]`` float32.
      where: ``[B, G, M]`` bool, scored.
      pass_at: ``[M]`` float32.

    Returns:
      ``[R, B, M]`` float32, see ``diagnostics.failure_gap``; NaN where undefined.
    """
    return np.asarray(_failure_gaps(advantages, rewards, where, pass_at))


@jax.jit
def _failure_gaps(advantages, rewards, where, pass_at):
    gap, defined = jax.vmap(diagnostics.failure_gap, in_axes=(0, None, None, None))(
        advantages, rewards, where, pass_at
    )
    return jnp.where(defined, gap, jnp.nan)


def soft_minima(scores: np.ndarray, where: np.ndarray, risk_coef: float) -> np.ndarray:
    """The soft minimum of completions.

    Args:
      scores: ``[N, M]`` float32.
      where: ``[N, M]`` bool, scored.
      risk_coef: k, 1/score.

    Returns:
      ``[N]`` float32.
    """
    return np.asarray(_soft_minima(scores, where, jnp.float32(risk_coef)))


@jax.jit
def _soft_minima(scores, where, risk_coef):
    return softmin_aggregate(scores, risk_coef=risk_coef, where=where)
