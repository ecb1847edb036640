"""Rewards in, advantages out: standardise each channel, apply the rule, whiten.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.aggregators import METHODS, check_risk_coef
from rvpo_jax.method.binding import bind
from rvpo_jax.method.rules import (
    Method,
    RuleOutput,
    apply_rule,
    check_state,
    init_rule,
    method_of,
    own_weights,
    pointwise_weights,
    rule_name,
)
from rvpo_jax.method.standardize import WHITENINGS, deviations, standardize
from rvpo_jax.types import Advantages


def compute_advantages(
    rewards: Any,
    where: Any = None,
    config: AdvantageConfig = AdvantageConfig(),
    *,
    channels: Sequence[Channel] | None = None,
    risk_coef: Any = None,
    lengths: Any = None,
    rule_state: Any = None,
    step: Any = None,
    with_weights: Any = True,
) -> Advantages:
    """One advantage per completion from several rewards; the whole method in one call.

    Standardise every channel within its group, apply the rule to the channels of the whole batch,
    whiten. The result is a constant for the policy gradient: no gradient flows through it.
    Aggregation happens once per completion, never per token.

    Args:
      rewards: ``[B, G, M]`` float, each channel in its own unit; NaN means "not scored". float64
        NumPy arrays keep their digits: they are centred before they become float32.
      where: ``[B, G, M]`` bool, channels that exist and were scored; None: all.
      config: the rule and its conventions; also a method's name, a rule or a mapping of fields.
      channels: the M channels, for weights by name and for ``levels``, which ``rvpo_level`` needs
        and a user's rule may ask for.
      risk_coef: k, overrides ``config.risk_coef``; may be traced, so a schedule does not recompile.
      lengths: ``[B, G]`` completion lengths in tokens, for ``whiten="token"``.
      rule_state: memory of the rule, from an earlier call; None: as its ``init`` makes it.
      step: train steps before this one, scalar int, for a rule that asks for it.
      with_weights: whether to compute ``weights``; False, also a traced one, leaves NaN. A rule
        that is neither named nor pointwise takes ``B * G`` backward passes for them.

    Returns:
      ``Advantages``: advantages, aggregate ``[B, G]``; scores, weights ``[B, G, M]``; live
      ``[B, M]``; keep ``[B, G]``; rule_state. ``weights`` says who decided: the gradient of a
      completion's own aggregate by its own scores, raw rewards moving with the scores (see
      ``rules.own_weights``). For grpo it is std_j w_j / std_sum: the channel with the largest
      scale decides.

    Raises:
      ValueError: on a wrong shape, an infinite reward, weights that do not fit, ``rvpo_level``
        without channels, or a rule that returns what is not finite.

    Source:
      arXiv:2605.05750 (aggregation), arXiv:2601.05242 (standardisation and whitening).

    >>> rewards = jnp.array([[[3.0, 0], [3, 1], [-3, 1], [0, 1]]])  # correctness, format
    >>> sums = compute_advantages(rewards, config=AdvantageConfig(method="grpo", whiten="none"))
    >>> rvpo = compute_advantages(rewards, config=AdvantageConfig(whiten="none"))
    >>> float(sums.advantages[0, 0].round(2)), float(rvpo.advantages[0, 0].round(2))
    (0.57, -0.90)
    """
    config = AdvantageConfig.of(config)
    names = None if channels is None else tuple(channel.name for channel in channels)
    check_rewards(rewards, names)
    if names is not None:
        config = config.with_channels(names)
    raw = _numbers(rewards)
    mask = _checked_mask(raw, where)
    _check_lengths(lengths, raw.shape)
    shifted, lowest = _shift(raw, mask)
    given = {
        "rewards": jnp.where(mask, jnp.asarray(raw, jnp.float32), 0.0),
        "shifted": shifted,
        "lowest": lowest,
        "scored": mask,
        "lengths": None if lengths is None else jnp.asarray(lengths, jnp.float32),
        "weights": _checked_weights(config, raw.shape[-1]),
        "step": step,
        **{name: _coefficient(getattr(config, name)) for name in COEFFICIENTS},
    }
    if risk_coef is not None:
        check_risk_coef(risk_coef)
        given["risk_coef"] = _coefficient(risk_coef)
    method = method_of(config.method, METHODS)
    if rule_state is None:
        rule_state = init_rule(method, raw.shape[-1])
    check_state(method, rule_state, raw.shape[-1])
    judge = _judge_at_once if _is_ours(config, given, with_weights) else _judge
    moved: dict[str, Any] = dict.fromkeys(COEFFICIENTS, 0.0) | {"weights": None}
    static = dataclasses.replace(config, **moved)
    known = None if channels is None else tuple(channels)
    result = judge(static, known, with_weights, rule_state, given)
    _check_finite(result.aggregate, mask, config.method)
    return result


def _judge(
    config: AdvantageConfig,
    channels: Sequence[Channel] | None,
    with_weights: Any,
    rule_state: Any,
    given: dict[str, Any],
) -> Advantages:
    """The pure part; weights and coefficients of the config have moved to ``given``."""
    mask, method = given["scored"], method_of(config.method, METHODS)
    scores, live = standardize(given["shifted"], mask, ddof=config.ddof, eps=config.eps)
    available = given | {
        "where": mask & live[:, None, :] if config.dead_channels == "drop" else mask,
        "live": live,
        "levels": None if channels is None else _levels(given, channels),
        "ddof": config.ddof,
        "eps": config.eps,
    }
    out = apply_rule(method, scores, rule_state, available)
    scored = jnp.any(mask, axis=-1)
    keep = scored if out.keep is None else scored & out.keep
    result = Advantages(
        advantages=_finish(out, keep, config, available["lengths"]),
        scores=scores,
        weights=_weights(method, scores, rule_state, available, with_weights),
        aggregate=out.aggregate,
        live=live,
        keep=keep,
        rule_state=out.state,
    )
    return jax.lax.stop_gradient(result)


# Op by op the first call would compile for seconds.
_judge_at_once = jax.jit(_judge, static_argnums=(0, 1, 2))


def _is_ours(config: AdvantageConfig, given: dict[str, Any], with_weights: Any) -> bool:
    """Whether nothing of the user's is called: that runs op by op, so that it can be debugged."""
    named = isinstance(config.method, str) and isinstance(config.whiten, str)
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given))
    return named and not traced and isinstance(with_weights, bool)


def check_rewards(rewards: Any, channel_names: Sequence[str] | None = None) -> None:
    """Refuses rewards of the wrong shape, or infinite ones, with advice.

    Args:
      rewards: anything with a shape; values are looked at only where they are concrete.
      channel_names: names of the M channels, where known.

    Raises:
      ValueError: naming what came and what to do.
    """
    shape = tuple(np.shape(rewards))
    if len(shape) != 3:
        raise Refusal(
            "rewards must have shape [B, G, M] = (prompts, completions per prompt, reward "
            f"channels), got {shape}.",
            "For a single channel add the last axis: rewards[..., None]."
            if len(shape) == 2
            else "Give one number per prompt, completion and channel.",
        )
    if shape[1] < 2:
        raise Refusal(
            f"a group needs G >= 2 completions to be standardised, got G = {shape[1]}.",
            "Raise rollout.group_size.",
        )
    if shape[2] < 1 or shape[0] < 1:
        raise Refusal(f"rewards must not be empty, got shape {shape}.", "Give every axis >= 1.")
    if channel_names is not None and shape[2] != len(channel_names):
        raise Refusal(
            f"rewards has M = {shape[2]} channels but {len(channel_names)} are configured: "
            f"{', '.join(channel_names)}.",
            "The last axis must follow the order of the channels.",
        )
    if isinstance(rewards, jax.core.Tracer):
        return
    # Beyond float32 counts as infinite: that is what it would become.
    too_large = np.abs(np.asarray(rewards, np.float64)) > np.finfo(np.float32).max
    if too_large.any():
        place = tuple(int(i) for i in np.argwhere(too_large)[0])
        value = float(np.asarray(rewards)[place])
        raise Refusal(
            f"rewards must be finite or NaN (not scored), got an infinity at [b, g, m] = {place}."
            if np.isinf(value)
            else f"rewards must fit float32, got {value:g} at [b, g, m] = {place}.",
            "Clip the reward function's values.",
        )


def _numbers(rewards: Any) -> Any:
    """JAX arrays as they are, in float32; everything else as NumPy's float64, digits kept."""
    if isinstance(rewards, jax.Array):
        return rewards.astype(jnp.float32)
    return np.asarray(rewards, np.float64)


def _coefficient(value: Any) -> Any:
    """A plain number in float32, infinite beyond it; the cast of the tracer's own may warn."""
    if not isinstance(value, (int, float)):
        return value
    with np.errstate(over="ignore"):
        return np.float32(value)


def _checked_mask(rewards: Any, where: Any) -> Any:
    xp = jnp if isinstance(rewards, jax.Array) or isinstance(where, jax.Array) else np
    mask = ~xp.isnan(rewards)
    if where is None:
        return mask
    if isinstance(where, AdvantageConfig):
        raise Refusal(
            f"where must have the shape of rewards {rewards.shape}, got an AdvantageConfig.",
            "Pass it as config=...; where holds one flag per reward.",
        )
    if np.shape(where) != rewards.shape:
        raise Refusal(
            f"where must have the shape of rewards {rewards.shape}, got {np.shape(where)}.",
            "One flag per reward.",
        )
    return mask & xp.asarray(where, bool)


def _check_lengths(lengths: Any, shape: tuple[int, ...]) -> None:
    if lengths is not None and np.shape(lengths) != shape[:2]:
        raise Refusal(
            f"lengths must have shape [B, G] = {shape[:2]}, got {np.shape(lengths)}.",
            "One length per completion.",
        )


def _shift(rewards: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
    """Rewards less the smallest of their group, and that smallest one, both float32."""
    xp = np if isinstance(rewards, np.ndarray) and isinstance(mask, np.ndarray) else jnp
    low = xp.min(xp.where(mask, rewards, xp.inf), axis=1, keepdims=True)
    low = xp.where(xp.isfinite(low), low, 0.0)
    shifted = xp.where(mask, rewards - low, 0.0)
    return jnp.asarray(shifted, jnp.float32), jnp.asarray(low, jnp.float32)


COEFFICIENTS = ("risk_coef", "variance_coef", "level_coef")  # numbers that may be swept or traced


def _checked_weights(config: AdvantageConfig, num_channels: int) -> jax.Array | None:
    if config.weights is None:
        return None
    if not isinstance(config.weights, (tuple, list)):
        raise Refusal(
            f"advantage.weights by name need the channels' names, got {config.weights}.",
            "Pass channels=[Channel(name=...), ...], or weights as a tuple in channel order.",
        )
    if len(config.weights) != num_channels:
        raise Refusal(
            f"advantage.weights has {len(config.weights)} values but rewards has M = "
            f"{num_channels} channels.",
            "Give one weight per channel.",
        )
    return jnp.asarray(config.weights, jnp.float32)


def _levels(given: dict[str, Any], channels: Sequence[Channel]) -> jax.Array:
    """Group mean of each channel on the scale of its range, ``[B, 1, M]`` in [0, 1]."""
    low = jnp.array([channel.low for channel in channels]).reshape(1, 1, -1)
    high = jnp.array([channel.high for channel in channels]).reshape(1, 1, -1)
    where = given["scored"]
    count = jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)
    mean = given["lowest"] + jnp.sum(given["shifted"], axis=1, keepdims=True, where=where) / count
    return (mean - low) / (high - low)


def _check_finite(aggregate: jax.Array, mask: Any, rule: Any) -> None:
    """Where values are concrete; in a run the recorder stops with the rule's name."""
    if isinstance(aggregate, jax.core.Tracer):
        return
    bad = ~np.isfinite(np.asarray(aggregate)) & np.asarray(mask).any(axis=-1)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise Refusal(
            f"rule {rule_name(rule)} must return finite numbers, got "
            f"{float(aggregate[place])} at [b, g] = {place}.",
            "Mask before dividing or taking a logarithm: channels that are dead have score 0.",
        )


def _finish(
    out: RuleOutput, keep: jax.Array, config: AdvantageConfig, lengths: jax.Array | None
) -> jax.Array:
    """Aggregate to advantages: recentre, whiten; 0 for what the rule dropped."""
    values = jnp.where(keep, out.aggregate, 0.0)
    if config.recenter:
        count = jnp.maximum(jnp.sum(keep, axis=1, keepdims=True), 1)
        values = values - jnp.sum(values, axis=1, keepdims=True) / count
    function = config.whiten if callable(config.whiten) else WHITENINGS[config.whiten]
    named = {"lengths": lengths, "eps": config.whiten_eps, "eps_on": config.whiten_eps_on}
    whiten = bind(function, named, what="whitening", leading=2)
    return jnp.where(keep, whiten(values, keep), 0.0)


def _weights(
    method: Method, scores: jax.Array, state: Any, available: dict[str, Any], wanted: Any
) -> jax.Array:
    """Who decided, ``[B, G, M]``; NaN where it was not asked for."""
    if wanted is False:
        return jnp.full(scores.shape, jnp.nan)
    if method.weights is not None:
        return bind(method.weights, available, what="weights")(scores)
    if method.pointwise:
        return pointwise_weights(
            lambda z: apply_rule(method, z, state, available).aggregate, scores
        )
    _, std, live = deviations(available["shifted"], available["scored"], available["ddof"])
    unit = jnp.where(live, std + available["eps"], 0.0)  # reward per score; none where dead

    def aggregate(moved: jax.Array) -> jax.Array:
        change = (moved - scores) * unit
        along = {name: available[name] + change for name in ("rewards", "shifted")}
        return apply_rule(method, moved, state, available | along).aggregate

    scored = jnp.any(available["scored"], axis=-1)
    if wanted is True:
        return own_weights(aggregate, scores, scored)
    return jax.lax.cond(
        wanted,
        lambda: own_weights(aggregate, scores, scored),
        lambda: jnp.full(scores.shape, jnp.nan),
    )


def init_rule_state(config: AdvantageConfig, num_channels: int) -> Any:
    """The memory of a config's rule before the first step.

    Args:
      config: the rule.
      num_channels: M.

    Returns:
      A tree of arrays; empty for a rule without memory.

    >>> init_rule_state(AdvantageConfig(), 3)
    ()
    """
    return init_rule(method_of(config.method, METHODS), num_channels)


def without_state(judged: Advantages) -> Advantages:
    """The same without the rule's memory, which the train state holds.

    Args:
      judged: what ``compute_advantages`` returned.

    Returns:
      A copy.
    """
    return dataclasses.replace(judged, rule_state=())
