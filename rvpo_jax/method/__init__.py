"""The method, pure: rules, advantages, losses, the step, the sampler. Imports jax, chex, optax."""
