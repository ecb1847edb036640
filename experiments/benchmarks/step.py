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

from rvpo_jax import AdvantageConfig, Config, compute_advantages
from rvpo_jax.method.aggregators import mean_aggregate, softmin_aggregate
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.method.step import make_train_step
from rvpo_jax.run.setup import build_run
from rvpo_jax.train import make_batch


def time_calls(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call after one that compiles; in turn, so that load hits all alike."""
    times: dict = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return times


def going_on(update, state, batch):
    """A call that starts from its own last state: a step takes the memory of what it is given."""
    held = [state]

    def call():
        held[0], _, metrics = update(held[0], batch)
        return metrics

    return call


def step_calls(
    config: Config, methods: tuple[str, ...] = ("rvpo", "gdpo")
) -> tuple[dict, dict, int]:
    """The parts of a step, those of the aggregator, and the completion tokens of the step.

    There is an update for each of the methods; a step is the other parts and one of them.
    """
    with TemporaryDirectory() as folder:
        run = build_run(config, Path(folder))
    task, policy, optimizer = run.task, run.policy, run.optimizer
    state = policy.layout.place(run.initial_state())
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
        return policy.layout.step(step)

    updates = {f"update, {method}": step_with(method) for method in methods}
    parts = {
        "rollout": lambda: sample(state.params, *prompts, keys),
        "decode texts": lambda: task.decode_batch(rollout),
        "score six rewards": lambda: task.score(texts, examples),
    }
    for name, update in updates.items():
        own = policy.layout.place(run.initial_state())
        parts[name] = going_on(update, own, batch)
    advantages = jax.jit(lambda rewards, where: compute_advantages(rewards, where))
    softmin = jax.jit(lambda scores: softmin_aggregate(scores, risk_coef=1.0))
    mean = jax.jit(mean_aggregate)
    scores = jnp.asarray(batch.rewards)
    aggregator = {
        "all of compute_advantages": lambda: advantages(batch.rewards, batch.where),
        "soft minimum alone": lambda: softmin(scores),
        "mean alone": lambda: mean(scores),
    }
    return parts, aggregator, num_tokens


def main() -> None:
    steps, aggregator, num_tokens = step_calls(Config())
    times = time_calls(steps, repeats=25) | time_calls(aggregator, repeats=200)
    parts = {name: statistics.median(seconds) for name, seconds in times.items()}
    whole = sum(parts[name] for name in steps if name != "update, gdpo")

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
