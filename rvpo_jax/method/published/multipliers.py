"""Constraints with multipliers: channels with a target, and the others, which are raised.

A multiplier grows while its channel's mean is below its target. It is the rule's memory.
``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Channel
from rvpo_jax.method.aggregators import sum_then_standardize
from rvpo_jax.method.channels import aimed, row
from rvpo_jax.method.masking import plain_weights
from rvpo_jax.method.rules import Method, Option, Rule, RuleOutput
from rvpo_jax.method.standardize import standardize

Memory = dict[str, jax.Array]


def no_multipliers(num_channels: int) -> Memory:
    """The memory before the first step.

    Args:
      num_channels: M.

    Returns:
      ``multiplier`` ``[M]``, zeros.
    """
    return {"multiplier": jnp.zeros(num_channels)}


def lagrangian(
    scores: jax.Array,
    rule_state: Memory,
    *,
    rewards: jax.Array,
    shifted: jax.Array,
    lowest: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    rate: Any,
    largest: Any,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
    after_use: bool = False,
) -> RuleOutput:
    """A Lagrangian of raw rewards, standardised in the group.

    S standardises sum_m w_m R_m + sum_c lambda_c R_c, m the channels without a target and c those
    with one, and lambda_c <- clip(lambda_c + rate (target_c - mean R_c), 0, largest), the mean over
    the batch. ``lagrangian`` moves the multipliers before they are used, as CTWA's code does;
    ``lagrangian_after`` after, as AMO's does. A multiplier here is no price: standardising the sum
    divides it by the sum's own deviation (see ``constrained_grpo``). Whitening: none.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rule_state: ``multiplier`` ``[M]``.
      rewards: ``[B, G, M]`` float32, raw.
      shifted: rewards less ``lowest``.
      lowest: ``[B, 1, M]``, the smallest reward of a group.
      scored: ``[B, G, M]`` bool.
      channels: M channels, some with a target.
      rate: scalar >= 0, multiplier per reward and step.
      largest: scalar, bound on a multiplier.
      weights: ``[M]`` float >= 0 of channels without a target; None: 1 each.
      ddof: of the standard deviation.
      eps: added to it.
      after_use: whether multipliers move after they are used.

    Returns:
      The aggregate and the multipliers.

    Source:
      Safe RLHF, arXiv:2310.12773; CTWA, arXiv:2602.06869, Apache-2.0; AMO, Apache-2.0.
    """
    count = jnp.maximum(jnp.sum(scored, axis=(0, 1)), 1)
    mean = jnp.sum(rewards, axis=(0, 1), where=scored) / count
    shortfall = row(channels, "target")[0, 0] - mean
    multiplier = rule_state["multiplier"]
    moved = _moved(multiplier, shortfall, scored, channels, rate, largest)
    used = multiplier if after_use else moved
    plain = plain_weights(weights, scores.shape[-1])[0, 0]
    total = sum_then_standardize(
        scores,
        shifted=shifted,
        lowest=lowest,
        scored=scored,
        weights=jnp.where(aimed(channels), used, plain),
        ddof=ddof,
        eps=eps,
    )
    return RuleOutput(aggregate=total, state={"multiplier": moved})


def _moved(
    multipliers: jax.Array,
    shortfall: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    rate: Any,
    largest: Any,
) -> jax.Array:
    """Multipliers ``[M]`` after a step; 0 stays 0 where there is no target, nothing was scored."""
    there = aimed(channels) & jnp.any(scored, axis=(0, 1))
    step = jnp.where(there, rate * shortfall, 0.0)
    return jnp.clip(multipliers + step, 0.0, largest)


def constrained_grpo(
    scores: jax.Array,
    rule_state: Memory,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    rate: Any,
    largest: Any,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> RuleOutput:
    """Constrained GRPO: multipliers on standardised costs, so that one is a price.

    S = sum_m w_m Z_m - sum_c lambda_c Z(C_c), with C_c = 1 where channel c, one with a target, is
    below its ``pass_at``. The allowed share of violations is (high - target) / (high - low), which
    for a channel of 0 and 1 is 1 - target. lambda_c <- clip(lambda_c + rate (mean C_c - allowed),
    0, largest), after it is used. Where all of a group violate, a multiplier grows and no gradient
    follows. Whitening: none.

    Args:
      scores: ``[B, G, M]``.
      rule_state: ``multiplier`` ``[M]``.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, some with a target.
      rate: scalar >= 0, multiplier per violation rate and step.
      largest: scalar, bound on a multiplier.
      weights: ``[M]`` float >= 0 of channels without a target; None: 1 each.
      ddof: of the standard deviation of the costs.
      eps: added to it.

    Returns:
      The aggregate and the multipliers.

    Source:
      arXiv:2602.05863. Its step size and its order were not readable: those are ours.
    """
    cost = (rewards < row(channels, "pass_at")).astype(jnp.float32)
    costs, _ = standardize(cost, scored, ddof=ddof, eps=eps)
    low, high, target = (row(channels, field)[0, 0] for field in ("low", "high", "target"))
    rate_of_violation = jnp.sum(cost, axis=(0, 1), where=scored) / jnp.maximum(
        jnp.sum(scored, axis=(0, 1)), 1
    )
    excess = rate_of_violation - (high - target) / (high - low)
    has_target, multiplier = aimed(channels).reshape(1, 1, -1), rule_state["multiplier"]
    price = multiplier.reshape(1, 1, -1)
    parts = jnp.where(has_target, -price * costs, plain_weights(weights, scores.shape[-1]) * scores)
    moved = _moved(multiplier, excess, scored, channels, rate, largest)
    return RuleOutput(aggregate=jnp.sum(parts, axis=-1, where=scored), state={"multiplier": moved})


# Largest multipliers: AMO's; CTWA's code has none, and an Option is finite.
def _options(rate: float, largest: float) -> dict[str, Option]:
    return {
        "rate": Option(rate, Bound(ge=0), "of the multipliers, per step"),
        "largest": Option(largest, Bound(gt=0), "bound on a multiplier"),
    }


METHODS: dict[str, Method] = {
    "lagrangian": Method(
        rule=Rule(no_multipliers, lagrangian),
        label="Lagrangian",
        color="#332288",
        reads=("ddof", "eps"),
        needs="multipliers",
        options=_options(0.01, 1e6),
        whitened=False,
    ),
    "lagrangian_after": Method(
        rule=Rule(no_multipliers, functools.partial(lagrangian, after_use=True)),
        label="Lagrangian, moved after use",
        color="#88CCEE",
        reads=("ddof", "eps"),
        needs="multipliers",
        options=_options(0.05, 10.0),
        whitened=False,
    ),
    "constrained_grpo": Method(
        rule=Rule(no_multipliers, constrained_grpo),
        label="Constrained GRPO",
        color="#117733",
        reads=("ddof", "eps"),
        needs="multipliers",
        options=_options(0.05, 10.0),
        whitened=False,
    ),
}
