"""The whole update as one pure function: rewards in, new parameters out.

``B`` prompts (of this device), ``G`` completions per prompt, ``C`` completion tokens, ``M``
reward channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvpo_jax.config import AdvantageConfig, Channel, LossConfig
from rvpo_jax.method import losses
from rvpo_jax.method.advantages import compute_advantages
from rvpo_jax.types import Advantages, Batch, TrainState

Metrics = dict[str, jax.Array]


def init_state(params: Any, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """The state before the first step.

    Args:
      params: parameter tree.
      optimizer: the optax chain.
      key: typed PRNG key of the run.

    Returns:
      A ``TrainState`` at step 0.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params), key=key
    )


def make_train_step(
    logprob_fn: Callable[[Any, Batch], tuple[jax.Array, jax.Array]],
    advantage: AdvantageConfig | Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    loss: LossConfig = LossConfig(),
    channels: Sequence[Channel] | None = None,
    risk_schedule: Callable[[jax.Array], jax.Array] | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Builds ``train_step(state, batch, axis_name=None) -> (state, metrics)``.

    Advantages are computed once over the whole batch; then minibatch and epoch updates run under
    ``lax.scan``, each adding up the gradients of its microbatches. With ``axis_name`` set, the
    step must run inside pmap or shard_map over that axis, ``batch`` is this device's share, and
    the update equals that of the whole batch.

    Minibatch i of n holds every n-th prompt from the i-th on: the same prompts on any number of
    devices, as long as n divides a device's share.

    Args:
      logprob_fn: all the step knows of the model: ``(params, batch)`` to the logprobs of
        ``batch.completions`` and the entropies there, ``[B, G, C]`` float32 each
        (``losses.token_logprobs`` gives both from logits).
      advantage: the multi-reward rule, or a user's aggregator ``[B, G, M] -> [B, G]``, which
        stands for ``AdvantageConfig(method=aggregator)``.
      optimizer: an optax chain.
      loss: the loss and how the batch is walked through.
      channels: the M channels, where the rule needs their ranges or names.
      risk_schedule: ``step -> k``; None: ``advantage.risk_coef``.

    Returns:
      The step. Its metrics are float32 scalars but ``aggregate/weight``, ``[M]``: the mean weight
      of each channel in its completion's aggregate.
    """
    if not isinstance(advantage, AdvantageConfig):
        advantage = AdvantageConfig(method=advantage)
    if channels is not None:
        advantage = advantage.with_channels(tuple(channel.name for channel in channels))

    def train_step(
        state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, Metrics]:
        def total(x):
            return x if axis_name is None else jax.lax.psum(x, axis_name)

        risk_coef = advantage.risk_coef if risk_schedule is None else risk_schedule(state.step)
        out = compute_advantages(
            batch.rewards,
            batch.where,
            advantage,
            channels=channels,
            risk_coef=risk_coef,
            lengths=jnp.sum(batch.completion_mask, axis=-1),
            axis_name=axis_name,
        )
        work = {"batch": batch, "advantages": out.advantages}
        minibatches = _split(work, loss.num_minibatches)
        if loss.importance_cap is not None:
            minibatches["trainer_logprobs"] = _trainer_logprobs(
                logprob_fn, state.params, minibatches["batch"], loss.microbatch_size
            )

        def update(carry, minibatch):
            params, opt_state = carry
            mask = minibatch["batch"].completion_mask
            # Devices hold different numbers of tokens, so averaging local means would weigh
            # tokens unequally: share the denominator, sum the gradients.
            denominator = total(losses.token_weights(mask, loss.denominator or "token")[1])
            num_tokens = total(jnp.sum(mask, dtype=jnp.float32))

            def microbatch_grad(grads, microbatch):
                grad_fn = jax.grad(_loss, has_aux=True)
                new, sums = grad_fn(params, microbatch, logprob_fn, loss, denominator)
                return jax.tree.map(jnp.add, grads, new), sums

            zeros = jax.tree.map(jnp.zeros_like, params)
            microbatches = _split(minibatch, num_microbatches(mask.shape[0], loss.microbatch_size))
            grads, sums = jax.lax.scan(microbatch_grad, zeros, microbatches)
            grads = total(grads)
            sums = total(jax.tree.map(lambda x: jnp.sum(x, axis=0), sums))
            updates, opt_state = optimizer.update(grads, opt_state, params)
            metrics = {name: value / jnp.maximum(num_tokens, 1.0) for name, value in sums.items()}
            metrics["policy/loss"] = sums["policy/loss"]  # divided by its own denominator already
            metrics["policy/grad_norm"] = optax.tree.norm(grads)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(carry, _):
            return jax.lax.scan(update, carry, minibatches)

        carry, metrics = jax.lax.scan(
            epoch, (state.params, state.opt_state), None, length=loss.num_epochs
        )
        metrics = jax.tree.map(jnp.mean, metrics)  # over the updates of this step
        metrics |= _advantage_metrics(out, batch, total)
        metrics["risk_coef"] = jnp.asarray(risk_coef, jnp.float32)
        new_state = dataclasses.replace(
            state, step=state.step + 1, params=carry[0], opt_state=carry[1]
        )
        return new_state, metrics

    return train_step


def _split(tree: Any, parts: int) -> Any:
    """``[B, ...]`` to ``[parts, B / parts, ...]``, part i holding every parts-th entry from i."""
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), tree
    )


def num_microbatches(num_prompts: int, microbatch_size: int | None) -> int:
    """Microbatches of a device's minibatch; a small one is not split.

    Args:
      num_prompts: prompts of one minibatch on one device.
      microbatch_size: at most so many at once; None: all.

    Returns:
      Their number.

    Raises:
      ValueError: if the parts would not be equal.

    >>> num_microbatches(16, 4), num_microbatches(2, 4)
    (4, 1)
    """
    if microbatch_size is None or num_prompts <= microbatch_size:
        return 1
    if num_prompts % microbatch_size:
        raise ValueError(
            f"loss.microbatch_size = {microbatch_size} must divide the {num_prompts} prompts of a "
            "minibatch on one device.\n  Change it, or rollout.num_prompts."
        )
    return num_prompts // microbatch_size


def _trainer_logprobs(
    logprob_fn, params, minibatches: Batch, microbatch_size: int | None
) -> jax.Array:
    """The sampling parameters' logprobs as the trainer computes them, microbatch by microbatch."""

    def one(minibatch):
        parts = _split(minibatch, num_microbatches(minibatch.rewards.shape[0], microbatch_size))
        logprobs = jax.lax.map(lambda part: logprob_fn(params, part)[0], parts)
        return jnp.swapaxes(logprobs, 0, 1).reshape(minibatch.completions.shape)

    return jax.lax.map(one, minibatches)


def _loss(params, work: dict, logprob_fn, config: LossConfig, denominator: jax.Array):
    """This microbatch's share of the loss, and sums over its tokens."""
    batch: Batch = work["batch"]
    mask = batch.completion_mask
    logprobs, entropy = logprob_fn(params, batch)
    entropy = jnp.where(mask, entropy, 0.0)
    weights, _ = losses.token_weights(mask, config.denominator or "token")
    old_logprobs = batch.old_logprobs
    policy_weights = weights
    if config.importance_cap is not None:
        old_logprobs = work["trainer_logprobs"]
        policy_weights = weights * losses.importance_weights(
            old_logprobs, batch.old_logprobs, mask, config.importance_cap
        )
    log_ratio = losses.log_ratios(logprobs, old_logprobs, mask, config.ratio_level or "token")
    loss = losses.clipped_policy_loss(
        log_ratio,
        work["advantages"],
        policy_weights,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        dual_clip=config.dual_clip,
    )
    ratio = jnp.exp(log_ratio)
    clipped = (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high)
    kl_old = losses.kl_estimate(logprobs, batch.old_logprobs, mask, "k3")
    sums = {
        "policy/ratio_mean": jnp.sum(ratio, where=mask),
        "policy/clip_frac": jnp.sum((clipped & mask).astype(jnp.float32)),
        "policy/entropy": jnp.sum(entropy),
        "policy/kl_old": jnp.sum(kl_old),
    }
    if config.entropy_coef > 0:
        loss -= config.entropy_coef * jnp.sum(entropy * weights)
    if config.kl_coef > 0:
        if batch.ref_logprobs is None:
            raise ValueError(
                "loss.kl_coef > 0 needs batch.ref_logprobs, got None.\n"
                "  Compute them with the reference parameters."
            )
        kl = losses.kl_estimate(logprobs, batch.ref_logprobs, mask, config.kl_estimator)
        loss += config.kl_coef * jnp.sum(kl * weights)
        sums["policy/kl_ref"] = jnp.sum(kl)
    loss = loss / jnp.maximum(denominator, 1.0)
    sums["policy/loss"] = loss
    return loss, jax.lax.stop_gradient(sums)


def _advantage_metrics(out: Advantages, batch: Batch, total: Callable) -> Metrics:
    """What the multi-reward rule did, over the completions of all devices."""
    where = batch.where & ~jnp.isnan(batch.rewards)
    scored = jnp.any(where, axis=-1)

    def mean(values, mask, axis=None):
        count = total(jnp.sum(mask, axis=axis, dtype=jnp.float32))
        return total(jnp.sum(values, axis=axis, where=mask)) / jnp.maximum(count, 1.0)

    num_channels = jnp.maximum(jnp.sum(where, axis=-1, keepdims=True), 1)
    center = jnp.sum(out.scores, axis=-1, keepdims=True, where=where) / num_channels
    spread = jnp.sum((out.scores - center) ** 2, axis=-1, where=where) / num_channels[..., 0]
    return {
        "aggregate/weight": mean(out.weights, where, axis=(0, 1)),
        "aggregate/channel_var": mean(spread, scored),
        "aggregate/group_mean": mean(out.aggregate, scored),
        "advantage/abs_mean": mean(jnp.abs(out.advantages), scored),
    }
