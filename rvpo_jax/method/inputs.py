"""What comes into ``compute_advantages``, checked and as arrays.

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
from rvpo_jax.method.aggregators import check_risk_coef
from rvpo_jax.method.channels import check_needs
from rvpo_jax.method.methods import METHODS
from rvpo_jax.method.rules import Method, method_of, rule_name


def prepared(
    rewards: Any,
    where: Any,
    config: AdvantageConfig,
    channels: Sequence[Channel] | None,
    *,
    risk_coef: Any,
    lengths: Any,
) -> dict[str, Any]:
    """Rewards, masks, weights and coefficients by the names under which rules ask for them.

    Args:
      rewards: ``[B, G, M]`` float; NaN means not scored.
      where: ``[B, G, M]`` bool or None.
      config: the rule and its conventions, weights in the order of the channels.
      channels: the M channels, or None.
      risk_coef: k, or None for that of the config.
      lengths: ``[B, G]`` tokens, or None.

    Returns:
      Arrays, None where there is none.

    Raises:
      ValueError: on wrong shapes, infinite rewards, weights that do not fit.
    """
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
        **{name: _coefficient(getattr(config, name)) for name in COEFFICIENTS},
        **_options(config),
    }
    if risk_coef is not None:
        check_risk_coef(risk_coef)
        given["risk_coef"] = _coefficient(risk_coef)
    return given


def without_numbers(config: AdvantageConfig) -> AdvantageConfig:
    """The config less what ``prepared`` took from it, so that numbers do not recompile.

    Args:
      config: the rule and its conventions.

    Returns:
      A config that can be hashed.
    """
    moved: dict[str, Any] = dict.fromkeys(COEFFICIENTS, 0.0) | {"weights": None, "options": None}
    return dataclasses.replace(config, **moved)


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


def check_rule(config: AdvantageConfig, channels: Sequence[Channel] | None) -> Method:
    """The record of a config's rule, once it has what it needs.

    Args:
      config: the rule and its conventions.
      channels: the M channels, or None.

    Returns:
      The record.

    Raises:
      ValueError: on options that it does not have, and channels that do not say what it needs.
    """
    method = method_of(config.method, METHODS)
    name = rule_name(config.method)
    for option, value in (config.options or {}).items():
        if option not in method.options:
            raise Refusal(
                f"advantage.options of {name} must be among {', '.join(method.options) or 'none'}, "
                f"got {option}.",
                "A rule of your own: bind its numbers with functools.partial."
                if callable(config.method)
                else "Other rules have other options; their docstrings name them.",
            )
        broken = method.options[option].bound.broken_by(value)
        if broken:
            raise Refusal(
                f"advantage.options {option} of {name} {broken}, got {value}.",
                f"It is the {method.options[option].doc}.",
            )
    check_needs(name, method.needs, channels)
    return method


def _options(config: AdvantageConfig) -> dict[str, Any]:
    """The numbers that the rule alone reads."""
    method = method_of(config.method, METHODS)
    given = {name: option.default for name, option in method.options.items()}
    given |= config.options or {}
    return {name: _coefficient(value) for name, value in given.items()}


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


def check_finite(aggregate: jax.Array, mask: Any, rule: Any) -> None:
    """Refuses a rule that returns what is not finite, where values are concrete.

    In a run the recorder stops with the rule's name.

    Args:
      aggregate: ``[B, G]``.
      mask: ``[B, G, M]`` bool, what was scored.
      rule: whatever stands where a method name is accepted.

    Raises:
      ValueError: naming the rule and the place.
    """
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
