"""Rewards in, advantages out: standardise each channel, apply the rule, whiten.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.method.binding import bind
from rvpo_jax.method.channels import row
from rvpo_jax.method.inputs import check_finite, check_rule, prepared, without_numbers
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.rules import (
    Linear,
    Method,
    RuleOutput,
    apply_rule,
    check_state,
    init_rule,
    method_of,
    own_weights,
    pointwise_weights,
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
      channels: the M channels, for weights by name and for rules that look at ranges, targets or
        constraints.
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
      ValueError: on a wrong shape, an infinite reward, weights that do not fit, a rule
        without what it needs to know of the channels, or one that returns what is not finite.

    Source:
      arXiv:2605.05750 (aggregation), arXiv:2601.05242 (standardisation and whitening).

    >>> rewards = jnp.array([[[3.0, 0], [3, 1], [-3, 1], [0, 1]]])  # correctness, format
    >>> sums = compute_advantages(rewards, config=AdvantageConfig(method="grpo", whiten="none"))
    >>> rvpo = compute_advantages(rewards, config=AdvantageConfig(whiten="none"))
    >>> float(sums.advantages[0, 0].round(2)), float(rvpo.advantages[0, 0].round(2))
    (0.57, -0.90)
    """
    config = AdvantageConfig.of(config)
    given = prepared(rewards, where, config, channels, risk_coef=risk_coef, lengths=lengths)
    given["step"] = step
    method, num_channels = check_rule(config, channels), np.shape(rewards)[-1]
    if rule_state is None:
        rule_state = init_rule(method, num_channels)
    check_state(method, rule_state, num_channels)
    judge = _judge_at_once if _is_ours(config, given, with_weights) else _judge
    known = None if channels is None else tuple(channels)
    result = judge(without_numbers(config), known, with_weights, rule_state, given)
    check_finite(result.aggregate, given["scored"], config.method)
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
        "channels": channels,
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


def _levels(given: dict[str, Any], channels: Sequence[Channel]) -> jax.Array:
    """Group mean of each channel on the scale of its range, ``[B, 1, M]`` in [0, 1]."""
    low, high = row(channels, "low"), row(channels, "high")
    where = given["scored"]
    count = jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)
    mean = given["lowest"] + jnp.sum(given["shifted"], axis=1, keepdims=True, where=where) / count
    return (mean - low) / (high - low)


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
    if isinstance(method.rule, Linear):
        factors = bind(method.rule.factors, available, what="weights")(scores)
        return jnp.where(available["where"], factors, 0.0)
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
