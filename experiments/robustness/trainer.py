"""Trains a world as language models are trained: PPO epochs, a KL term, any optimizer.

``rvpo_jax.lab.training`` takes one plain step per batch. Here the same batch may be used several
times, with clipped ratios of each slot, as a token has one. Letters as in ``rvpo_jax.lab.worlds``;
``T`` recorded points.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.training import sample_choices, step_keys
from rvpo_jax.lab.worlds import World
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.method.diagnostics import channel_metrics

COMPLETIONS = 128


@dataclasses.dataclass(frozen=True)
class Trainer:
    """How a batch becomes updates."""

    optimizer: str = "sgd"
    """A function of optax."""
    learning_rate: float = 1.0
    epochs: int = 1
    """Updates on each batch."""
    clip_eps: float = 0.2
    kl_coef: float = 0.0
    """Of the KL divergence from the policy to its start, summed over slots."""
    group_size: int = 16


def train_seeds(
    world: World, rule: AdvantageConfig, seeds: Any, trainer: Trainer, *, steps: int, every: int
) -> dict[str, np.ndarray]:
    """Trains every seed.

    Args:
      world: of one context.
      rule: how channels become an advantage.
      seeds: random seeds.
      trainer: how a batch becomes updates.
      steps: batches, a multiple of ``every``.
      every: batches per recorded point.

    Returns:
      ``pass_rate`` ``[seeds, T, M]`` and ``joint`` ``[seeds, T]``, of what was sampled.
    """
    keys = step_keys(jnp.asarray(list(seeds)), steps).reshape(len(seeds), -1, every)
    found = _all(world, keys, rule=rule, trainer=trainer)
    return {name: np.asarray(value) for name, value in found.items()}


@functools.partial(jax.jit, static_argnames=("rule", "trainer"))
def _all(world, keys, *, rule, trainer):
    optimizer = getattr(optax, trainer.optimizer)(trainer.learning_rate)
    groups = COMPLETIONS // trainer.group_size
    where = jnp.ones((groups, trainer.group_size, len(world.channels)), bool)

    def one_step(carry, key):
        logits, state = carry
        old = jax.nn.log_softmax(logits)
        choices = sample_choices(
            jnp.exp(old),
            key,
            num_slots=world.num_slots,
            num_groups=groups,
            group_size=trainer.group_size,
        )
        rewards = world.reward_fn(world.settings, choices, jnp.zeros(groups, int))
        advantages = compute_advantages(
            rewards, where, rule, channels=world.channels, with_weights=False
        ).advantages

        def update(_, carry):
            logits, state = carry
            gradient = jax.grad(_loss)(logits, old, world.logits, choices, advantages, trainer)
            updates, state = optimizer.update(gradient, state, logits)
            return optax.apply_updates(logits, updates), state

        carry = jax.lax.fori_loop(0, trainer.epochs, update, (logits, state))
        metrics = channel_metrics(rewards, where, world.pass_at)
        return carry, {"pass_rate": metrics["pass_rate"], "joint": metrics["joint_pass_rate"]}

    def some_steps(carry, keys):
        carry, rows = jax.lax.scan(one_step, carry, keys)
        return carry, jax.tree.map(lambda row: jnp.mean(row, axis=0), rows)

    def one_seed(keys):
        start = world.logits, optimizer.init(world.logits)
        return jax.lax.scan(some_steps, start, keys)[1]

    return jax.vmap(one_seed)(keys)


def _loss(logits, old, start, choices, advantages, trainer):
    """PPO's clipped objective, summed over slots, mean over completions; one row, or one a slot."""
    new = jax.nn.log_softmax(logits)
    taken = jnp.sum(choices * (new - old)[0], axis=-1)  # [B, G, S], 0 before the first update
    ratio = jnp.exp(taken)
    clipped = jnp.clip(ratio, 1 - trainer.clip_eps, 1 + trainer.clip_eps)
    pull = advantages[..., None]
    gain = jnp.minimum(ratio * pull, clipped * pull)
    rows = choices.shape[2] // logits.shape[1]  # slots of each row
    there = jnp.isfinite(start) & (start > -1e8)  # choices that exist
    from_start = jnp.where(there, jnp.exp(new) * (new - jax.nn.log_softmax(start)), 0.0)
    divergence = rows * jnp.sum(from_start)
    return -jnp.mean(jnp.sum(gain, axis=-1)) + trainer.kl_coef * divergence
