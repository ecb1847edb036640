"""What it costs to say who decided, for a rule that looks at the whole batch.

python experiments/benchmarks/weights.py

512 prompts x 4 completions x 10 rewards, GDPO-SAW: a completion's weights need a backward pass of
their own. Calls in turn; compare figures within one run only.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax import AdvantageConfig, compute_advantages

SHAPE = (512, 4, 10)


def by_variation(scores, rewards):
    """GDPO-SAW (arXiv:2606.07705): weights by the batch's coefficients of variation."""
    flat = rewards.reshape(-1, rewards.shape[-1])
    variation = jnp.std(flat, axis=0, ddof=1) / (jnp.abs(jnp.mean(flat, axis=0)) + 1e-8)
    weights = flat.shape[-1] * variation / (jnp.sum(variation) + 1e-8)
    return jnp.sum(scores * weights.reshape(1, 1, -1), axis=-1)


def main() -> None:
    rewards = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE) > 0, jnp.float32)
    calls = {}
    for name, rule in (("rvpo", "rvpo"), ("GDPO-SAW", by_variation)):
        for weights in (True, False):
            config = AdvantageConfig(method=rule)
            calls[f"{name}, {'with' if weights else 'without'} weights"] = jax.jit(
                lambda r, c=config, w=weights: compute_advantages(r, config=c, with_weights=w)
            )
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call(rewards))
    for _ in range(20):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(rewards))
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{name:24} {1e3 * statistics.median(seconds):8.2f} ms")


if __name__ == "__main__":
    main()
