"""The whole update as one pure function: rewards in, new parameters and the judgement out.

``B`` prompts (of this device), ``G`` completions per prompt, ``C`` completion tokens, ``M``
reward channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Channel, LossConfig
from rvpo_jax.method import losses
from rvpo_jax.method.advantages import compute_advantages, init_rule_state, without_state
from rvpo_jax.method.frozen import join
from rvpo_jax.method.inputs import check_rule
from rvpo_jax.method.microbatches import (
    computed_positions,
    map_over_microbatches,
    split,
    sum_over_microbatches,
)
from rvpo_jax.method.policy_loss import LogprobFn, PolicyLoss, microbatch_loss, resolve_loss
from rvpo_jax.types import Advantages, Batch, TrainState

Metrics = dict[str, jax.Array]
TrainStep = Callable[..., tuple[TrainState, Advantages, Metrics]]


def init_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    *,
    rule: Any = None,
    num_channels: int | None = None,
    frozen: Any = (),
) -> TrainState:
    """The state before the first step.

    Args:
      params: tree of the parameters to train.
      optimizer: the optax chain.
      key: typed PRNG key of the run.
      rule: the rule or config given to ``make_train_step``; needed where the rule has a memory.
      num_channels: M, needed with ``rule``.
      frozen: tree of parameters that are not trained, beside ``params`` (``method.frozen.join``).

    Returns:
      A ``TrainState`` at step 0.

    Raises:
      ValueError: if there is a rule and no number of channels.
    """
    if rule is not None and num_channels is None:
        raise Refusal("num_channels must be given with a rule, got none.", "It is M.")
    rule_state = () if rule is None else init_rule_state(_config(rule), num_channels or 0)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=key,
        rule_state=rule_state,
        frozen=frozen,
    )


def make_train_step(
    logprob_fn: LogprobFn,
    rule: Any,
    optimizer: optax.GradientTransformation,
    *,
    loss: LossConfig | Callable[..., jax.Array] = LossConfig(),
    channels: Sequence[Channel] | None = None,
    risk_schedule: Callable[[jax.Array], jax.Array] | None = None,
    weights_every: int = 1,
) -> TrainStep:
    """Builds ``train_step(state, batch, axis_name=None) -> (state, judged, metrics)``.

    The rewards of all devices are gathered (kilobytes) and judged once, as one batch: a rule may
    look at whatever it wants of it, on any number of devices. Then minibatch and epoch updates run
    under ``lax.scan``, each adding up the gradients of its microbatches. With ``axis_name`` set,
    the step must run inside pmap over that axis, ``batch`` is this device's share, and
    the update equals that of the whole batch.

    Minibatch i of n holds every n-th prompt from the i-th on: the same prompts on any number of
    devices, as long as n divides a device's share.

    Args:
      logprob_fn: all the step knows of the model: ``(params, batch)`` to the logprobs of
        ``batch.completions`` and the entropies there, ``[B, G, C]`` float32 each
        (``losses.token_logprobs`` gives both from logits). ``params`` are those of the state and
        its frozen ones, in one tree.
      rule: the multi-reward rule: an ``AdvantageConfig``, or what ``AdvantageConfig.of`` takes: a
        method's name, a ``Rule``, a function ``[B, G, M] -> [B, G]``.
      optimizer: an optax chain.
      loss: the loss and how the batch is walked through, or a function of log ratios, advantages
        and token weights, which stands for ``LossConfig(objective=function)``.
      channels: the M channels, where the rule needs their ranges or names.
      risk_schedule: ``step -> k``; None: ``risk_coef`` of the config.
      weights_every: steps between computations of ``judged.weights`` for a user's rule, for which
        they are costly, 0: never; NaN in between. Named rules have them at every step, but for
        those that ``Method.tells_weights`` says are costly too.

    Returns:
      The step. ``judged`` are the ``Advantages`` of the whole batch, over all devices. The metrics
      are float32 scalars but ``aggregate/weight``, ``[M]``: the mean weight of each channel in its
      completion's aggregate, and what a rule remembers of each channel, ``rule/NAME``. While a
      policy is the one that sampled, ``policy/loss`` is near 0 whatever it learns: the ratio is 1
      and whitened advantages sum to about 0.

    Raises:
      ValueError: on names and functions that cannot be used.
    """
    config = _config(rule)
    if channels is not None:
        config = config.with_channels(tuple(channel.name for channel in channels))
    check_rule(config, channels)
    resolved = resolve_loss(loss)

    def train_step(
        state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, Advantages, Metrics]:
        risk_coef = config.risk_coef if risk_schedule is None else risk_schedule(state.step)
        rewards, where, lengths = _of_all_devices(
            (batch.rewards, batch.where, jnp.sum(batch.completion_mask, axis=-1)), axis_name
        )
        judged = compute_advantages(
            rewards,
            where,
            config,
            channels=channels,
            risk_coef=risk_coef,
            lengths=lengths,
            rule_state=state.rule_state,
            step=state.step,
            with_weights=_are_due(state.step, weights_every),
        )
        mine = _of_this_device((judged.advantages, judged.keep), batch.rewards.shape[0], axis_name)
        work = {"batch": batch, "advantages": mine[0], "keep": mine[1]}
        params, opt_state, metrics = _updates(
            state, work, logprob_fn, optimizer, resolved, axis_name
        )
        metrics |= _rule_metrics(judged, where & ~jnp.isnan(rewards))
        metrics |= _memory_metrics(judged.rule_state, rewards.shape[-1])
        metrics["risk_coef"] = jnp.asarray(risk_coef, jnp.float32)
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            rule_state=judged.rule_state,
        )
        return new_state, without_state(judged), metrics

    return train_step


def _are_due(step: jax.Array, every: int) -> Any:
    """A plain bool where it does not depend on the step: nothing is compiled for the other case."""
    return every == 1 if every <= 1 else step % every == 0


def _config(rule: Any) -> AdvantageConfig:
    return AdvantageConfig.of(rule)


def _of_all_devices(tree: Any, axis_name: str | None) -> Any:
    """Each ``[B, ...]`` with the prompts of all devices, in their order."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def _of_this_device(tree: Any, num_prompts: int, axis_name: str | None) -> Any:
    """This device's ``num_prompts`` rows of what all devices know."""
    if axis_name is None:
        return tree
    start = jax.lax.axis_index(axis_name) * num_prompts
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, num_prompts), tree)


def _updates(
    state: TrainState,
    work: dict[str, Any],
    logprob_fn: LogprobFn,
    optimizer: optax.GradientTransformation,
    loss: PolicyLoss,
    axis_name: str | None,
) -> tuple[Any, Any, Metrics]:
    """All optimizer updates of one rollout batch: parameters, optimizer state, mean metrics."""
    config = loss.config

    def logprobs(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return logprob_fn(join(params, state.frozen), batch)

    minibatches = split(work, config.num_minibatches)
    if config.importance_cap is not None:
        # The sampling parameters' logprobs as the trainer computes them.
        def trainer_logprobs(minibatch):
            return map_over_microbatches(
                lambda part: logprobs(state.params, part["batch"])[0], minibatch, config
            )

        minibatches["trainer_logprobs"] = jax.lax.map(trainer_logprobs, minibatches)

    def total(x):
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    def update(carry, minibatch):
        params, opt_state = carry
        mask = minibatch["batch"].completion_mask
        # Devices hold different numbers of tokens, so averaging local means would weigh tokens
        # unequally: share the denominator, sum the gradients.
        _, count = losses.token_weights(
            mask, loss.denominator, minibatch["keep"], minibatch["batch"].max_tokens
        )
        denominator = total(count)
        num_tokens = total(jnp.sum(mask, dtype=jnp.float32))

        def gradient(microbatch):
            grad_fn = jax.grad(microbatch_loss, has_aux=True)
            return grad_fn(params, microbatch, logprobs, loss, denominator)

        grads, sums = total(sum_over_microbatches(gradient, minibatch, config))
        updates, opt_state = optimizer.update(grads, opt_state, params)
        metrics = {name: value / jnp.maximum(num_tokens, 1.0) for name, value in sums.items()}
        metrics["policy/loss"] = sums["policy/loss"]  # divided by its own denominator already
        metrics["policy/grad_norm"] = optax.tree.norm(grads)
        metrics["perf/update_useful_frac"] = num_tokens / total(
            computed_positions(minibatch, config)
        )
        return (optax.apply_updates(params, updates), opt_state), metrics

    def epoch(carry, _):
        return _scan(update, carry, minibatches)

    carry, metrics = _scan(epoch, (state.params, state.opt_state), jnp.arange(config.num_epochs))
    return *carry, jax.tree.map(jnp.mean, metrics)  # over the updates of this step


def _scan(function: Callable[..., Any], carry: Any, parts: Any) -> tuple[Any, Any]:
    """``lax.scan``; a single part is not wrapped in a loop, which takes longer to compile."""
    if jax.tree.leaves(parts)[0].shape[0] > 1:
        return jax.lax.scan(function, carry, parts)
    carry, out = function(carry, jax.tree.map(lambda x: x[0], parts))
    return carry, jax.tree.map(lambda x: x[None], out)


def _rule_metrics(judged: Advantages, where: jax.Array) -> Metrics:
    """What the multi-reward rule did, over the completions of all devices."""
    scored = jnp.any(where, axis=-1)

    def mean(values, mask, axis=None):
        count = jnp.sum(mask, axis=axis, dtype=jnp.float32)
        return jnp.sum(values, axis=axis, where=mask) / jnp.maximum(count, 1.0)

    num_channels = jnp.maximum(jnp.sum(where, axis=-1, keepdims=True), 1)
    center = jnp.sum(judged.scores, axis=-1, keepdims=True, where=where) / num_channels
    spread = jnp.sum((judged.scores - center) ** 2, axis=-1, where=where) / num_channels[..., 0]
    return {
        "aggregate/weight": mean(judged.weights, where, axis=(0, 1)),
        "aggregate/channel_var": mean(spread, scored),
        "aggregate/group_mean": mean(judged.aggregate, scored),
        "aggregate/dropped_frac": mean((scored & ~judged.keep).astype(jnp.float32), scored),
        "advantage/abs_mean": mean(jnp.abs(judged.advantages), scored),
    }


def _memory_metrics(rule_state: Any, num_channels: int) -> Metrics:
    """What a rule remembers after this step: its scalars, and its numbers of each channel."""
    return {
        f"rule/{jax.tree_util.keystr(path, simple=True, separator='/') or 'memory'}": leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(rule_state)[0]
        if jnp.shape(leaf) in ((), (num_channels,))
    }
