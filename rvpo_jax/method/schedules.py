"""The risk coefficient k as a pure function of the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvpo_jax.config import RiskScheduleConfig
from rvpo_jax.method.binding import pick

Schedule = Callable[[Any], Any]


def make_risk_schedule(
    config: RiskScheduleConfig, risk_coef: float, steps: int
) -> Callable[[jax.Array], jax.Array]:
    """Builds ``step -> k``.

    Args:
      config: the schedule: a key of ``SCHEDULES``, or a user's function ``step -> k``.
      risk_coef: k of the constant schedule, 1/score.
      steps: length of the run, the horizon where the config names none.

    Returns:
      A function of the step (0 before the first update) that returns a scalar float32.

    Source:
      arXiv:2605.05750 raises k linearly from 0.5 to 2.0 on rubric tasks; "over the whole run,
      clamped" is our reading.

    >>> k = make_risk_schedule(RiskScheduleConfig(kind="linear"), 1.0, steps=100)
    >>> [float(k(step)) for step in (0, 50, 100, 500)]
    [0.5, 1.25, 2.0, 2.0]
    """
    horizon = steps if config.horizon is None else config.horizon
    kind = pick(config.kind, SCHEDULES, "risk.kind")
    schedule = kind if callable(config.kind) else kind(config, risk_coef, horizon)
    return lambda step: jnp.asarray(schedule(step), jnp.float32)


def _constant(config: RiskScheduleConfig, risk_coef: float, horizon: int) -> Schedule:
    return optax.constant_schedule(risk_coef)


def _linear(config: RiskScheduleConfig, risk_coef: float, horizon: int) -> Schedule:
    return optax.linear_schedule(config.start, config.end, horizon)


def _cosine(config: RiskScheduleConfig, risk_coef: float, horizon: int) -> Schedule:
    remaining = optax.cosine_decay_schedule(1.0, horizon)
    return lambda step: config.end + (config.start - config.end) * remaining(step)


def _piecewise(config: RiskScheduleConfig, risk_coef: float, horizon: int) -> Schedule:
    at = jnp.array([step for step, _ in config.points], jnp.float32)
    values = jnp.array([k for _, k in config.points], jnp.float32)
    return lambda step: jnp.interp(step, at, values)


SCHEDULES: dict[str, Callable[[RiskScheduleConfig, float, int], Schedule]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "piecewise": _piecewise,
}
"""Makers of schedules, ``(config, risk_coef, horizon) -> (step -> k)``."""
