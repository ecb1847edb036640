"""Where the time of a step of the default run goes, and what the aggregator costs.

python experiments/benchmarks/step.py

Compare figures within one run only: machines differ, and so does their load.
"""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from rvpo_jax import AdvantageConfig, Config, compute_advantages, parallel
from rvpo_jax.aggregators import mean_aggregate, softmin_aggregate
from rvpo_jax.optim import make_optimizer
from rvpo_jax.run import Policy, build_task
from rvpo_jax.sampling import prompt_keys
from rvpo_jax.step import init_state, make_train_step
from rvpo_jax.train import make_batch


def median_seconds(function, *args, repeats: int) -> float:
    """Median time of a call, after one that compiles."""
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    config = Config()
    with TemporaryDirectory() as folder:
        task = build_task(config, Path(folder))
    policy = Policy(config, task)
    optimizer = make_optimizer(config.optim, config.steps)
    state = init_state(policy.initial_params(), optimizer, jax.random.key(0))
    state = parallel.replicate(state, policy.devices)
    examples = [task.train[index] for index in range(config.rollout.num_prompts)]
    prompts = task.encode_batch(examples)
    keys = prompt_keys(jax.random.key(0), 0, len(examples))
    sample = policy.sampler(config.rollout.group_size)
    rollout = jax.device_get(sample(state.params, *prompts, keys))
    texts = task.decode_batch(rollout)
    batch = make_batch(rollout, *task.score(texts, examples)[:2])
    num_tokens = int(rollout.completion_mask.sum())

    def step_with(method: str):
        step = make_train_step(
            policy.logprobs, AdvantageConfig(method=method), optimizer, loss=config.loss
        )
        return parallel.data_parallel(step, policy.devices, config.parallel.impl)

    parts = {
        "rollout": median_seconds(sample, state.params, *prompts, keys, repeats=15),
        "decode texts": median_seconds(task.decode_batch, rollout, repeats=15),
        "score six rewards": median_seconds(task.score, texts, examples, repeats=15),
        "update, rvpo": median_seconds(step_with("rvpo"), state, batch, repeats=15),
        "update, gdpo": median_seconds(step_with("gdpo"), state, batch, repeats=15),
    }
    whole = sum(seconds for name, seconds in parts.items() if name != "update, gdpo")
    advantages = jax.jit(lambda rewards, where: compute_advantages(rewards, where).advantages)
    softmin = jax.jit(lambda scores: softmin_aggregate(scores, risk_coef=1.0))
    mean = jax.jit(mean_aggregate)
    scores = jnp.asarray(batch.rewards)
    parts["all of compute_advantages"] = median_seconds(
        advantages, batch.rewards, batch.where, repeats=200
    )
    parts["soft minimum alone"] = median_seconds(softmin, scores, repeats=200)
    parts["mean alone"] = median_seconds(mean, scores, repeats=200)

    table = Table(title=f"default run, {num_tokens} completion tokens, {jax.devices()[0].platform}")
    table.add_column("part")
    for name in ("ms", "share of a step", "tokens/s"):
        table.add_column(name, justify="right")
    for name, seconds in parts.items():
        rate = f"{num_tokens / seconds:,.0f}" if name.startswith(("rollout", "update")) else ""
        table.add_row(name, f"{1e3 * seconds:.3f}", f"{seconds / whole:.2%}", rate)
    table.add_row("whole step", f"{1e3 * whole:.1f}", "100%", "")
    Console().print(table)


if __name__ == "__main__":
    main()
