"""Rules of the literature as a user would write them, for the tests of the rule interface.

Each needs something that a function of one completion's scores does not have: statistics of the
batch, the power to drop completions, or a memory. Formulas from the papers named; our own code.
"""

import jax.numpy as jnp

from rvpo_jax.method.rules import Rule, RuleOutput


def dara_sym(scores, live):
    """DARA-Sym, arXiv:2610.00574: channels that are live in fewer groups weigh more."""
    return jnp.sum(scores * _dara_weights(live), axis=-1)


def dara_asym(scores, live):
    """DARA-Asym, arXiv:2610.00574: the same, for what is above the mean only."""
    extra = (_dara_weights(live) - 1.0) * jnp.maximum(scores, 0.0)
    return jnp.sum(scores + extra, axis=-1)


def _dara_weights(live):
    share = jnp.mean(live.astype(jnp.float32), axis=0)  # pi_m, over the groups of the batch
    ratio = jnp.sqrt(jnp.max(share) / jnp.where(share > 0, share, 1.0))
    return jnp.where(share > 0, jnp.minimum(ratio, 5.0), 1.0).reshape(1, 1, -1)


def saw(scores, rewards):
    """GDPO-SAW, arXiv:2606.07705, correctness in [-3, 3] and format in [0, 1]."""
    shifted = (rewards - jnp.array([-3.0, 0.0]).reshape(1, 1, 2)).reshape(-1, 2)
    variation = jnp.std(shifted, axis=0, ddof=1) / (jnp.abs(jnp.mean(shifted, axis=0)) + 1e-8)
    weights = 2.0 * variation / (jnp.sum(variation) + 1e-8)
    return jnp.sum(scores * weights.reshape(1, 1, 2), axis=-1)


def sa_mrpo(scores, rewards):
    """SA-MRPO, arXiv:2608.16072, gamma = 1: what is near its upper bound weighs less."""
    level = (jnp.mean(rewards, axis=(0, 1)) - jnp.array([-3.0, 0.0])) / jnp.array([6.0, 1.0])
    return jnp.sum(scores * (1.0 - level).reshape(1, 1, 2), axis=-1)


def gd2po(scores):
    """GD2PO-hard, arXiv:2606.16771: completions whose channels disagree are dropped."""
    conflict = jnp.any(scores > 1e-8, axis=-1) & jnp.any(scores < -1e-8, axis=-1)
    share = jnp.mean((~conflict).astype(jnp.float32), axis=1, keepdims=True)  # q of a group
    return RuleOutput(aggregate=share * jnp.sum(scores, axis=-1), keep=~conflict)


def dvao(scores, rewards):
    """DVAO, arXiv:2605.25604, equal weights: raw deviations over the sum of the deviations."""
    centered = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    return jnp.sum(centered, axis=-1) / jnp.sum(jnp.std(rewards, axis=1, keepdims=True), axis=-1)


def lagrangian(rate, target):
    """Channel 0, and a multiplier on each other channel that grows while it is below its target.

    The multiplier moves before it is used, by the distance of the batch's mean reward.
    """

    def init(num_channels):
        return jnp.zeros(num_channels - 1)

    def apply(scores, rule_state, *, rewards, where):
        count = jnp.maximum(jnp.sum(where, axis=(0, 1)), 1)
        mean = jnp.sum(rewards, axis=(0, 1), where=where) / count
        multiplier = jnp.maximum(rule_state + rate * (target - mean[1:]), 0.0)
        constrained = jnp.sum(scores[..., 1:] * multiplier.reshape(1, 1, -1), axis=-1)
        return RuleOutput(aggregate=scores[..., 0] + constrained, state=multiplier)

    return Rule(init, apply)
