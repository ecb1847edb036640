"""``rvpo_utility`` whose trust c follows what is seen of rare successes: a memory of two sums.

A success is *rare* where at most a quarter of its group has it, a failure where at most a quarter
fails. A rare success is confirmed where its completion fails no more often than the others of its
group what they mostly meet; an exploit that breaks something, and channels that compete, fail more.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rvpo_jax.config import Channel
from rvpo_jax.method.channels import row
from rvpo_jax.method.levels import utility_softmin
from rvpo_jax.method.rules import Method, Rule, RuleOutput

RARE = 0.25  # of a group
MOST = 5.0  # c where every rare success is confirmed
SUSPECT = 0.1  # rare failures more per rare success than the others have: trust is gone
PRIOR = 32.0  # rare successes, as many as were seen before the first step, all suspect
KEPT = 0.99  # of the memory, a step


def init(num_channels: int) -> dict[str, jax.Array]:
    """The memory: rare successes seen, and the rare failures more that came with them."""
    del num_channels
    return {"successes": jnp.float32(PRIOR), "failures": jnp.float32(PRIOR * SUSPECT)}


def apply(
    scores: jax.Array,
    rule_state: dict[str, jax.Array],
    *,
    rewards: jax.Array,
    shifted: jax.Array,
    scored: jax.Array,
    levels: jax.Array,
    channels: Sequence[Channel],
    where: jax.Array,
    risk_coef: jax.Array,
) -> RuleOutput:
    """``utility_softmin`` with the c of this step, which counts this step's completions too."""
    successes, failures = _seen(rewards, scored, channels)
    state = {
        "successes": KEPT * rule_state["successes"] + successes,
        "failures": KEPT * rule_state["failures"] + failures,
    }
    return RuleOutput(
        aggregate=utility_softmin(
            scores,
            shifted=shifted,
            scored=scored,
            levels=levels,
            channels=channels,
            where=where,
            risk_coef=risk_coef,
            trust=trust_of(state),
        ),
        state=state,
    )


def trust_of(state: dict[str, jax.Array]) -> jax.Array:
    """c: 5 where rare successes bring no failures, 0 from ``SUSPECT`` failures each on."""
    each = state["failures"] / jnp.maximum(state["successes"], 1e-6)
    return MOST * jnp.clip(1 - each / SUSPECT, 0.0, 1.0)


def _seen(rewards, scored, channels) -> tuple[jax.Array, jax.Array]:
    """Rare successes of a batch, and the rare failures that they have more than their group."""
    middle = 0.5 * (row(channels, "low") + row(channels, "high"))
    met = scored & (rewards >= middle)
    number = jnp.maximum(jnp.sum(scored, axis=1, keepdims=True), 1)
    share = jnp.sum(met, axis=1, keepdims=True) / number  # [B, 1, M]
    wins = jnp.sum(met & (share <= RARE), axis=-1).astype(jnp.float32)  # [B, G]
    losses = jnp.sum(scored & ~met & (share >= 1 - RARE), axis=-1).astype(jnp.float32)
    there = jnp.any(scored, axis=-1)
    usual = jnp.sum(jnp.where(there, losses, 0.0), axis=1, keepdims=True)
    usual = usual / jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1)
    return jnp.sum(wins), jnp.sum(wins * (losses - usual))


TRUSTING = Method(
    rule=Rule(init, apply),
    label="rvpo_utility, c from data",
    color="#332288",
    reads=("risk_coef", "levels", "ddof"),
    needs="ranges",
    pointwise=True,
)
