"""Trains worlds by plain policy gradient, many seeds and settings in one program.

Advantages come from ``compute_advantages``, so a world tests the rule that trains a language
model, and nothing else of it: one SGD step per batch, on-policy, no clipping, no KL term.

Letters as in ``worlds.py``; ``T`` recorded points, ``W`` settings.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig
from rvpo_jax.lab.worlds import World, judged, num_contexts, ranges
from rvpo_jax.method.advantages import compute_advantages, init_rule_state
from rvpo_jax.method.diagnostics import channel_metrics, quiet_failures
from rvpo_jax.method.methods import METHODS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """What happened in one training, or in many with leading axes. Shares are of completions.

    Each of the T points is the mean over ``record_every`` steps, of what was sampled in them.
    """

    channel_mean: jax.Array  # [T, M] true reward, in reward units
    pass_rate: jax.Array  # [T, M] share with reward >= pass_at
    dead_fail: jax.Array  # [T, M] share of groups in which all fail alike
    joint_pass: jax.Array  # [T] share that meets every channel
    quiet_failures: jax.Array  # [T, M] share that fails the channel and has a positive advantage
    quiet_any: jax.Array  # [T] share with a positive advantage that fails at least one channel
    weight: jax.Array  # [T, M] mean weight of the channel in the aggregate; NaN: too costly
    alignment: jax.Array  # [T, M] correlation of advantages and scores: whom the update serves
    policy: jax.Array  # [T, N, R, A] probabilities of the choices, before the update
    logits: jax.Array  # [N, R, A] after the last update


def train_rules(
    worlds: World | Sequence[World],
    rules: Mapping[str, AdvantageConfig],
    seeds: Sequence[int],
    **options: Any,
) -> dict[str, History]:
    """Trains every seed in every world under every rule.

    Rules that differ in k alone share one program; the programs are compiled side by side.

    Args:
      worlds: one world, or W of the same channels and shapes.
      rules: by name.
      seeds: random seeds, common to all rules and worlds.
      **options: of ``train_many``: steps, learning_rate, ...

    Returns:
      By name, a history with the leading axes ``[seeds]``, or ``[W, seeds]`` of several worlds.
    """
    many = [worlds] if isinstance(worlds, World) else list(worlds)
    programs: dict[AdvantageConfig, list[str]] = {}
    for name, rule in rules.items():
        programs.setdefault(dataclasses.replace(rule, risk_coef=1.0), []).append(name)

    def run(program):
        rule, names = program
        k = np.repeat([rules[name].risk_coef for name in names], len(many))
        history = train_many(many * len(names), rule, seeds, risk_coefs=k, **options)
        return {
            name: jax.tree_util.tree_map(
                lambda x, i=i: x[i * len(many) : (i + 1) * len(many)], history
            )
            for i, name in enumerate(names)
        }

    # XLA compiles on one core, and that is most of the time of a small sweep.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = {name: h for some in pool.map(run, programs.items()) for name, h in some.items()}
    if isinstance(worlds, World):
        found = {name: jax.tree_util.tree_map(lambda x: x[0], h) for name, h in found.items()}
    return {name: found[name] for name in rules}


def train_many(
    worlds: World | Sequence[World],
    rule: AdvantageConfig,
    seeds: Sequence[int],
    *,
    steps: int,
    risk_coefs: Any = None,
    **options: Any,
) -> History:
    """Trains every seed in every setting, all in one program.

    A setting is a world, a risk coefficient, or a pair of them. Seeds are common to all settings.

    Args:
      worlds: one world, or W of the same channels and shapes.
      rule: how channels become an advantage.
      seeds: random seeds.
      steps: SGD steps.
      risk_coefs: ``[W]`` or ``[W, steps]`` values of k, one per setting; None: the rule's.
      **options: of ``train``: learning_rate, num_groups, group_size, record_every.

    Returns:
      A history of NumPy arrays with leading axes ``[W, seeds]``.

    Raises:
      ValueError: if the options do not fit together.
    """
    many = [worlds] if isinstance(worlds, World) else list(worlds)
    if risk_coefs is not None:
        risk_coefs = jnp.asarray(risk_coefs, jnp.float32)
        many = many * len(risk_coefs) if len(many) == 1 else many
    if risk_coefs is not None and len(risk_coefs) != len(many):
        raise Refusal(
            f"risk_coefs must have one entry per setting, got {len(risk_coefs)} for "
            f"{len(many)} worlds.",
            "Repeat the worlds or the coefficients.",
        )
    if steps % options.get("record_every", 1):
        raise Refusal(
            f"steps must be a multiple of record_every, got {steps} and {options['record_every']}.",
            "Change one of them.",
        )
    if len({jax.tree_util.tree_structure(world) for world in many}) > 1:
        raise Refusal(
            "worlds trained together must have the same channels, reward_fn and slots, got "
            "different ones.",
            "Put what differs into settings or pass_at, or train them apart.",
        )
    stacked = jax.tree_util.tree_map(lambda *leaves: jnp.stack(leaves), *many)
    keys = step_keys(jnp.asarray(list(seeds)), steps)
    train_all = _program(jax.default_backend())
    history = train_all(stacked, keys, risk_coefs, rule=rule, options=tuple(options.items()))
    return jax.tree_util.tree_map(np.asarray, history)


@functools.cache
def _program(backend: str):
    """``_train_all``, with less optimisation on the CPU.

    Measured on the worlds here: half the time to compile, a sixth more to run, the same numbers.
    """
    level = {"xla_backend_optimization_level": 1} if backend == "cpu" else None
    return jax.jit(_train_all, static_argnames=("rule", "options"), compiler_options=level)


def _train_all(worlds, keys, risk_coefs, *, rule, options):
    def one(world, k, keys):
        return train(world, rule, keys, risk_coef=k, **dict(options))

    # Keys have no axis of settings: the random numbers are drawn once for all of them.
    over_seeds = jax.vmap(one, in_axes=(None, None, 0))
    return jax.vmap(over_seeds, in_axes=(0, None if risk_coefs is None else 0, None))(
        worlds, risk_coefs, keys
    )


@functools.partial(jax.jit, static_argnames="steps")
def step_keys(seeds: jax.Array, steps: int) -> jax.Array:
    """A random key for each step of each run.

    A program of its own: within that of the training it would double the time to compile it.

    Args:
      seeds: ``[...]`` int.
      steps: number of steps.

    Returns:
      ``[..., steps]`` random keys.
    """
    keys = jax.vmap(jax.random.key)(seeds.reshape(-1))
    return jax.vmap(lambda key: jax.random.split(key, steps))(keys).reshape(*seeds.shape, steps)


def train(
    world: World,
    rule: AdvantageConfig,
    keys: jax.Array,
    *,
    learning_rate: float,
    num_groups: int = 16,
    group_size: int = 16,
    risk_coef: jax.Array | None = None,
    record_every: int = 1,
) -> History:
    """Trains one policy; pure, to be called under ``jit`` and ``vmap``.

    Args:
      world: the task and the policy at step 0.
      rule: how channels become an advantage; ``method`` may be a user's function.
      keys: ``[steps]`` random keys, see ``step_keys``; the same keys mean the same random numbers
        for every rule. Their number is a multiple of ``record_every``.
      learning_rate: of plain SGD, per step.
      num_groups: B, a multiple of the contexts.
      group_size: G.
      risk_coef: k, a scalar or ``[steps]`` (a schedule); None: the rule's.
      record_every: steps per recorded point.

    Returns:
      The history, without leading axes.
    """
    where = jnp.ones((num_groups, group_size, len(world.channels)), bool)
    contexts = jnp.arange(num_groups) % num_contexts(world)
    if world.present is not None:
        present = world.present if world.present.ndim == 1 else world.present[contexts][:, None]
        where = where & jnp.broadcast_to(present, where.shape)
    *_, pass_at = ranges(world)

    # Of a named rule whose weights are costly, nothing is said of who decided.
    with_weights = rule.method not in METHODS or METHODS[rule.method].tells_weights

    def one_step(carry, key_and_k):
        logits, memory = carry
        key, k = key_and_k
        probs = jax.nn.softmax(logits)
        choices = sample_choices(
            probs,
            key,
            num_slots=world.num_slots,
            num_groups=num_groups,
            group_size=group_size,
        )
        rewards = world.reward_fn(world.settings, choices, contexts)
        seen = rewards
        if world.judge is not None:  # not only in `judged`: a key that nobody uses costs compiling
            seen = judged(world, choices, contexts, rewards, jax.random.fold_in(key, 1))
        result = compute_advantages(
            seen,
            where,
            rule,
            channels=world.channels,
            risk_coef=k,
            rule_state=memory,
            with_weights=with_weights,
        )
        gradient = policy_gradient(probs, choices, result.advantages)
        outcome = _outcome(rewards, where, pass_at, result)
        carry = logits + learning_rate * gradient, result.rule_state
        return carry, {**outcome, "policy": probs}

    def some_steps(carry, keys_and_k):
        carry, rows = jax.lax.scan(one_step, carry, keys_and_k)
        return carry, jax.tree_util.tree_map(lambda row: jnp.mean(row, axis=0), rows)

    k = rule.risk_coef if risk_coef is None else risk_coef
    k = jnp.broadcast_to(jnp.asarray(k, jnp.float32), keys.shape)
    blocks = (keys.reshape(-1, record_every), k.reshape(-1, record_every))
    start = world.logits, init_rule_state(rule, len(world.channels))
    (logits, _), rows = jax.lax.scan(some_steps, start, blocks)
    return History(logits=logits, **rows)


def _outcome(rewards, where, pass_at, result) -> dict[str, jax.Array]:
    """What is recorded of one batch, on the true rewards."""
    metrics = channel_metrics(rewards, where, pass_at)
    quiet = quiet_failures(result.advantages, rewards, where, pass_at)
    return {
        "channel_mean": metrics["mean"],
        "pass_rate": metrics["pass_rate"],
        "dead_fail": metrics["dead_fail_frac"],
        "joint_pass": metrics["joint_pass_rate"],
        "quiet_failures": jnp.mean(quiet, axis=(0, 1)),
        "quiet_any": jnp.mean(jnp.any(quiet, axis=-1)),
        "weight": jnp.mean(result.weights, axis=(0, 1)),
        "alignment": _correlation(result.advantages[..., None], result.scores),
    }


def _correlation(advantages: jax.Array, scores: jax.Array) -> jax.Array:
    """Uncentred, over the batch; 0 for a channel that is dead everywhere."""
    product = jnp.sum(advantages * scores, axis=(0, 1))
    squares = jnp.sum(advantages**2, axis=(0, 1)) * jnp.sum(scores**2, axis=(0, 1))
    return product / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def sample_choices(
    probs: jax.Array, key: jax.Array, *, num_slots: int, num_groups: int, group_size: int
) -> jax.Array:
    """Draws completions by inverting the distribution function.

    The same key gives the same uniform numbers whatever the policy, so that two rules are compared
    on common random numbers; and it costs one uniform number per slot, not A of them.

    Args:
      probs: ``[N, R, A]`` float32, rows sum to 1.
      key: a random key.
      num_slots: S.
      num_groups: B, a multiple of N.
      group_size: G.

    Returns:
      ``[B, G, S, A]`` float32, one-hot.
    """
    probs = jnp.tile(probs, (num_groups // probs.shape[0], 1, 1))[:, None]  # [B, 1, R, A]
    high = jnp.cumsum(probs, axis=-1)
    low = jnp.concatenate([jnp.zeros_like(high[..., :1]), high[..., :-1]], axis=-1)
    # Rounded, the last sum may stay below 1: whatever is left belongs to the last choice.
    high = high.at[..., -1].set(jnp.inf)
    uniform = jax.random.uniform(key, (num_groups, group_size, num_slots, 1))
    return ((uniform >= low) & (uniform < high)).astype(jnp.float32)


def policy_gradient(probs: jax.Array, choices: jax.Array, advantages: jax.Array) -> jax.Array:
    """Gradient of the mean over completions of advantage times log-probability.

    d log p / d logit_a = 1[a chosen] - p_a in each slot, summed over the slots of a completion.
    This is the direction of ascent.

    Args:
      probs: ``[N, R, A]`` float32, the policy that sampled.
      choices: ``[B, G, S, A]`` float32, one-hot.
      advantages: ``[B, G]`` float32.

    Returns:
      ``[N, R, A]`` float32, with respect to the logits.
    """
    num_groups, group_size, num_slots, num_choices = choices.shape
    num_contexts, rows = probs.shape[:2]
    if rows == 1:
        taken, expected = jnp.sum(choices, axis=2, keepdims=True), num_slots * probs
    else:
        taken, expected = choices, probs
    pull = jnp.einsum("bg,bgra->bra", advantages, taken, precision="highest")
    pull = pull - jnp.sum(advantages, axis=1)[:, None, None] * jnp.tile(
        expected, (num_groups // num_contexts, 1, 1)
    )
    by_context = pull.reshape(-1, num_contexts, rows, num_choices)
    return jnp.sum(by_context, axis=0) / (num_groups * group_size)


def outcomes(
    history: History, world: World, last: int, present: Any = True
) -> dict[str, np.ndarray]:
    """What a training ended in: means over its last recorded points.

    Args:
      history: with any leading axes.
      world: the world, for the ranges and kinds of its channels.
      last: number of recorded points at the end to average.
      present: ``[M]`` bool, or with leading axes; which channels exist.

    Returns:
      Arrays of the leading axes: ``mean`` and ``worst`` (channel's mean reward on the scale of its
      range, mean and minimum over channels; the minimum of the averages, not the average of the
      minima, which sampling noise would pull down), ``worst_pass`` (pass rate), ``joint_pass``,
      ``quiet`` (share of completions that fail a given channel and have a positive advantage,
      mean over the constraints, or over all channels where there are none), ``quiet_any``.
    """
    low, high, _ = (np.asarray(x) for x in ranges(world))
    there = np.broadcast_to(np.asarray(present, bool), history.channel_mean[..., 0, :].shape)

    def late(curve):
        return np.asarray(curve)[..., -last:, :].mean(-2)

    levels = (late(history.channel_mean) - low) / (high - low)
    is_constraint = np.array([channel.kind == "constraint" for channel in world.channels])
    counted = there & is_constraint if is_constraint.any() else there
    return {
        "mean": levels.mean(-1, where=there),
        "worst": np.where(there, levels, np.inf).min(-1),
        "worst_pass": np.where(there, late(history.pass_rate), np.inf).min(-1),
        "joint_pass": np.asarray(history.joint_pass)[..., -last:].mean(-1),
        "quiet": late(history.quiet_failures).mean(-1, where=counted),
        "quiet_any": np.asarray(history.quiet_any)[..., -last:].mean(-1),
    }
