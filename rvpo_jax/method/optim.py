"""Configuration to optax chain."""

import optax

from rvpo_jax.config import OptimConfig


def make_optimizer(config: OptimConfig, num_updates: int) -> optax.GradientTransformation:
    """Clip by global norm, then the optimizer with its learning-rate schedule.

    Args:
      config: the optimizer.
      num_updates: optimizer updates of the whole run, the horizon of decaying schedules.

    Returns:
      An optax gradient transformation.

    >>> import jax.numpy as jnp
    >>> sgd = make_optimizer(OptimConfig(name="sgd", learning_rate=0.1, max_grad_norm=1.0), 10)
    >>> updates, _ = sgd.update(jnp.array([30.0, 40.0]), sgd.init(jnp.zeros(2)))
    >>> updates.tolist()
    [-0.06, -0.08]
    """
    decay_steps = max(num_updates - config.warmup_steps, 1)
    peak = config.learning_rate
    if callable(config.schedule):
        rate = config.schedule
    elif config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(peak, decay_steps)
    elif config.schedule == "linear":
        rate = optax.linear_schedule(peak, 0.0, decay_steps)
    else:
        rate = optax.constant_schedule(peak)
    if config.warmup_steps > 0:
        warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
        rate = optax.join_schedules([warmup, rate], [config.warmup_steps])
    if config.name == "sgd":
        optimizer = optax.sgd(rate)
    else:
        optimizer = optax.adamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mu_dtype=None if config.moment_dtype == "float32" else config.moment_dtype,
        )
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optimizer)
