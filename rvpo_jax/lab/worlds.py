"""Small multi-reward worlds with tabular policies.

A completion is S slots; each slot takes one of A choices, with probabilities from a table of
logits. The rewards of a completion are a pure function of its choices. ``training.py`` trains
them.

``B`` groups per step, ``G`` completions per group, ``M`` reward channels, ``N`` contexts (kinds of
prompt; group b has context b mod N), ``S`` slots, ``R`` rows of the table (S, or 1 if all slots
share one), ``A`` choices.

A policy has a table for each context, or one that all contexts share (logits ``[1, R, A]`` beside
a ``present`` of N rows): what is learnt for one kind of prompt is then done for all.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Channel

RewardFn = Callable[[Mapping[str, jax.Array], jax.Array, jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """How the trainer sees the rewards. Outcomes are always counted on the true ones.

    Applied in this order: sees, binary, flip, noise.
    """

    binary: jax.Array  # [M] bool, the trainer sees high or low of the range instead of the value
    flip: jax.Array  # [M] float32, probability that a reward is mirrored in its range
    noise: jax.Array  # [M] float32, standard deviation added, in reward units
    sees: RewardFn | None = dataclasses.field(default=None, metadata={"static": True})
    """Like ``reward_fn``: the probability that the trainer sees a completion at the upper end of a
    range, and otherwise at the lower one; None: the true reward."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """A task: the policy at step 0 and the rewards of what it may write.

    A pytree: worlds with the same channels, slots and shapes differ in arrays only, so that a
    sweep over them is one ``vmap``.
    """

    channels: tuple[Channel, ...] = dataclasses.field(metadata={"static": True})
    """The M channels: names, ranges, when one counts as met."""
    reward_fn: RewardFn = dataclasses.field(metadata={"static": True})
    """``(settings, choices [B, G, S, A] one-hot float32, contexts [B] int32) -> [B, G, M]``."""
    num_slots: int = dataclasses.field(default=1, metadata={"static": True})
    """S: slots of a completion."""
    logits: jax.Array  # [N, R, A] float32, at step 0; R is S, or 1: all slots share one row
    settings: Mapping[str, jax.Array]  # what reward_fn reads
    present: jax.Array | None = None  # [M], or [N, M] by context: channels that exist; None: all
    pass_at: jax.Array | None = None  # [M] float32, instead of the channels' own; None: those
    judge: Judge | None = None  # None: the trainer sees the true rewards


def table_rewards(
    settings: Mapping[str, jax.Array], choices: jax.Array, contexts: jax.Array
) -> jax.Array:
    """Reads the rewards of a completion of one slot from ``settings["table"]``.

    Args:
      settings: ``table`` ``[N, A, M]`` float32, rewards of each choice in each context.
      choices: ``[B, G, 1, A]`` float32, one-hot.
      contexts: ``[B]`` int32.

    Returns:
      ``[B, G, M]`` float32.
    """
    table = settings["table"][contexts]
    # Highest precision: equal choices must have equal rewards, or no channel is ever dead.
    return jnp.einsum("bgsa,bam->bgm", choices, table, precision="highest")


def budget_rewards(
    settings: Mapping[str, jax.Array], choices: jax.Array, contexts: jax.Array
) -> jax.Array:
    """Rewards each channel for the slots spent on it: min(count / need, 1).

    Args:
      settings: ``needs`` ``[M]`` float32 > 0, slots that channel m asks for.
      choices: ``[B, G, S, A]`` float32, one-hot; choice m < M serves channel m, further ones none.
      contexts: ``[B]`` int32; all alike here.

    Returns:
      ``[B, G, M]`` float32 in [0, 1].
    """
    del contexts
    needs = settings["needs"].reshape(1, 1, -1)
    counts = jnp.sum(choices, axis=2)[..., : needs.shape[-1]]
    return jnp.minimum(counts / needs, 1.0)


def table_world(table: Any, channels: Sequence[Channel] | None = None, logits: Any = None) -> World:
    """A bandit: each choice has fixed rewards.

    Args:
      table: ``[A, M]`` or ``[N, A, M]``, rewards by choice (and context).
      channels: the M channels; None: ranges [0, 1], met at 1.
      logits: ``[N, 1, A]`` at step 0; None: uniform.

    Returns:
      A world with one slot.
    """
    table = jnp.asarray(table, jnp.float32)
    table = table[None] if table.ndim == 2 else table
    num_contexts, num_choices, num_channels = table.shape
    if channels is None:
        channels = [Channel(name=f"channel {m + 1}") for m in range(num_channels)]
    if logits is None:
        logits = jnp.zeros((num_contexts, 1, num_choices))
    return World(
        channels=tuple(channels),
        reward_fn=table_rewards,
        logits=jnp.asarray(logits, jnp.float32),
        settings={"table": table},
    )


def conflict_bandit(balanced: float = 0.45) -> World:
    """Three arms and two opposed channels: X = (1, 0), Y = (balanced, balanced), W = (0, 1).

    A channel counts as met from the balanced arm's reward on, so that only Y meets both.

    Args:
      balanced: reward of Y in both channels, in (0, 1); below 0.5 the sum prefers X and W.

    Returns:
      A world with one slot and a uniform start.
    """
    channels = [Channel(name=name) for name in ("first", "second")]
    world = table_world([[1.0, 0.0], [balanced, balanced], [0.0, 1.0]], channels)
    return dataclasses.replace(world, pass_at=jnp.full(2, balanced, jnp.float32))


# Slots that the ten channels of the budget world ask for: 26 in all, of 16.
BUDGET_NEEDS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 5)


def budget_bandit(
    needs: Sequence[float] = BUDGET_NEEDS, num_slots: int = 16, rows: int = 1
) -> World:
    """Channels of different difficulty share a budget of slots.

    Conflict is sum(needs) / num_slots, difficulty the spread of the needs.

    Args:
      needs: slots that each channel asks for.
      num_slots: S, slots of a completion.
      rows: 1: all slots draw from one row, so counts are multinomial and never certain;
        ``num_slots``: each slot has its own row and the policy can become deterministic.

    Returns:
      A world with a uniform start.
    """
    return World(
        channels=tuple(Channel(name=f"{i}: needs {n}") for i, n in enumerate(needs)),
        reward_fn=budget_rewards,
        num_slots=num_slots,
        logits=jnp.zeros((1, rows, len(needs))),
        settings={"needs": jnp.asarray(needs, jnp.float32)},
    )


def with_judge(world: World, *, binary: Any = False, flip: Any = 0.0, noise: Any = 0.0) -> World:
    """The same world seen by a trainer whose rewards are cruder or wrong.

    Args:
      world: the world.
      binary: scalar or ``[M]`` bool, see ``Judge``.
      flip: scalar or ``[M]``, probability.
      noise: scalar or ``[M]``, reward units.

    Returns:
      A world with a judge.
    """
    shape = (len(world.channels),)
    judge = Judge(
        binary=jnp.broadcast_to(jnp.asarray(binary, bool), shape),
        flip=jnp.broadcast_to(jnp.asarray(flip, jnp.float32), shape),
        noise=jnp.broadcast_to(jnp.asarray(noise, jnp.float32), shape),
    )
    return dataclasses.replace(world, judge=judge)


def judged(
    world: World, choices: jax.Array, contexts: jax.Array, rewards: jax.Array, key: jax.Array
) -> jax.Array:
    """The rewards that the trainer sees.

    Args:
      world: the world, perhaps with a judge.
      choices: ``[B, G, S, A]`` float32, one-hot.
      contexts: ``[B]`` int32.
      rewards: ``[B, G, M]`` float32, true.
      key: a random key.

    Returns:
      ``[B, G, M]`` float32; with noise also outside the channel's range.
    """
    judge = world.judge
    if judge is None:
        return rewards
    low, high, pass_at = (x.reshape(1, 1, -1) for x in ranges(world))
    flip_key, noise_key = jax.random.split(key)
    row = (1, 1, -1)
    if judge.sees is not None:
        chance = judge.sees(world.settings, choices, contexts)
        said = jax.random.uniform(jax.random.fold_in(key, 2), rewards.shape) < chance
        rewards = jnp.where(said, high, low)
    verdict = jnp.where(rewards >= pass_at, high, low)
    seen = jnp.where(judge.binary.reshape(row), verdict, rewards)
    turned = jax.random.uniform(flip_key, rewards.shape) < judge.flip.reshape(row)
    seen = jnp.where(turned, low + high - seen, seen)
    return seen + judge.noise.reshape(row) * jax.random.normal(noise_key, rewards.shape)


def num_contexts(world: World) -> int:
    """N: rows of ``present`` where it has one per context, else tables of the policy.

    Args:
      world: the world.

    Returns:
      The number.

    Raises:
      ValueError: if ``present`` has rows for other contexts than the policy.
    """
    tables = world.logits.shape[0]
    if world.present is None or world.present.ndim == 1:
        return tables
    rows = world.present.shape[0]
    if tables not in (1, rows):
        raise Refusal(
            f"present must have one row per context, got {rows} for {tables} tables of logits.",
            "Give as many rows as tables, or one table that all contexts share.",
        )
    return rows


def ranges(world: World) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Ranges and thresholds of the channels.

    Args:
      world: the world.

    Returns:
      low, high and pass_at, ``[M]`` float32 each.
    """
    low, high, pass_at = (
        jnp.array([getattr(channel, field) for channel in world.channels], jnp.float32)
        for field in ("low", "high", "pass_at")
    )
    return low, high, pass_at if world.pass_at is None else world.pass_at
