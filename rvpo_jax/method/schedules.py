"""The risk coefficient k as a pure function of the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvpo_jax.config import RiskScheduleConfig


def make_risk_schedule(
    config: RiskScheduleConfig, risk_coef: float, steps: int
) -> Callable[[jax.Array], jax.Array]:
    """Builds ``step -> k``.

    Args:
      config: the schedule.
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
    schedule: Callable[..., Any]
    if callable(config.kind):
        schedule = config.kind
    elif config.kind == "linear":
        schedule = optax.linear_schedule(config.start, config.end, horizon)
    elif config.kind == "cosine":
        remaining = optax.cosine_decay_schedule(1.0, horizon)

        def schedule(step):
            return config.end + (config.start - config.end) * remaining(step)

    elif config.kind == "piecewise":
        at = jnp.array([step for step, _ in config.points], jnp.float32)
        values = jnp.array([k for _, k in config.points], jnp.float32)

        def schedule(step):
            return jnp.interp(step, at, values)

    else:
        schedule = optax.constant_schedule(risk_coef)
    return lambda step: jnp.asarray(schedule(step), jnp.float32)


SCHEDULES = dict.fromkeys(("constant", "linear", "cosine", "piecewise"))
