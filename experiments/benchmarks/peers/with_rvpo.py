"""One step of ours per request: rollout, reward, update, as ``rvpo_jax.train`` does them."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from lines import Requests

from rvpo_jax.config import (
    AdvantageConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.models import Model, build_model
from rvpo_jax.models.presets import PRESETS
from rvpo_jax.run import parallel
from rvpo_jax.run.setup import Run, build_run
from rvpo_jax.run.shorten import shorten
from rvpo_jax.train import make_batch


def ends_with(model: Model, eos_id: int, end_probability: float) -> Model:
    """The model, but for the probability of an end: the same at every token, whatever it says."""

    def force(logits: jax.Array) -> jax.Array:
        logits = logits.at[..., eos_id].set(-jnp.inf)
        if end_probability:
            odds = np.log(end_probability / (1 - end_probability))
            logits = logits.at[..., eos_id].set(jax.nn.logsumexp(logits, axis=-1) + odds)
        return logits

    def forced(function: Callable) -> Callable:
        def call(*args: Any) -> tuple[jax.Array, Any]:
            logits, rest = function(*args)
            return force(logits), rest

        return call

    return model._replace(prefill=forced(model.prefill), decode=forced(model.decode))


def length(completions: list[str], **_: Any) -> list[float]:
    """A reward that costs nothing."""
    return [min(len(text) / 256, 1.0) for text in completions]


def build(work: dict[str, Any]) -> Run:
    """The run of the work; its prompts come from the driver."""
    PRESETS["peers"] = work["sizes"]

    def preset(vocab_size: int) -> Model:
        model = build_model(ModelConfig(preset="peers"), vocab_size)
        return ends_with(model, work["eos_id"], work["end_probability"])

    config = Config(
        model=ModelConfig(preset=preset, init="random"),
        data=DataConfig(rewards=(length,)),
        advantage=AdvantageConfig(method="grpo"),
        rollout=RolloutConfig(
            num_prompts=len(work["prompts"]),
            group_size=work["group_size"],
            max_completion_tokens=work["max_tokens"],
            num_slots=work["num_slots"],
        ),
        loss=LossConfig(**work["loss"]),
        parallel=ParallelConfig(num_devices=work["num_devices"]),
    )
    return build_run(config, Path(tempfile.gettempdir()))


def compile_widths(run: Run, state: Any, batch: Any) -> None:
    """Compiles the update for the widths that ``shorten`` cuts a batch to."""
    width = columns = batch.completions.shape[2]
    while width >= 48:  # one of 256 completions is longer than 32 tokens
        mask = batch.completion_mask & (np.arange(columns) < width)
        run.train_step.program(state, shorten(dataclasses.replace(batch, completion_mask=mask)))
        width //= 2


def main() -> None:
    requests = Requests()
    parallel.simulate_cpu_devices(requests.work["num_devices"])
    run = build(requests.work)
    state = run.policy.layout.place(run.initial_state())
    examples = [run.task.train[index] for index in range(len(requests.work["prompts"]))]
    sample = run.policy.sampler(requests.work["group_size"])
    step = 0
    while True:
        requests.next()
        start = time.perf_counter()
        keys = prompt_keys(jax.random.key(0), step, len(examples))
        prompts = run.task.encode_batch(examples)
        rollout = jax.device_get(sample(state.params, *prompts, keys))
        sampled = time.perf_counter()
        scores = run.task.score(run.task.decode_batch(rollout), examples)
        batch = make_batch(rollout, scores.rewards, scores.where)
        if step == 0:
            compile_widths(run, state, batch)
        scored = time.perf_counter()
        state, *outcome = run.train_step(state, shorten(batch))
        metrics = jax.device_get(outcome)[1]
        end = time.perf_counter()
        lengths = rollout.completion_mask.sum(-1)
        requests.answer(
            seconds=end - start,
            rollout=sampled - start,
            update=end - scored,
            tokens=int(lengths.sum()),
            ends=np.where(rollout.truncated, lengths + 1, lengths).reshape(-1).tolist(),
            useful_rollout=float(lengths.sum() / rollout.computed.sum()),
            useful_update=float(metrics["perf/update_useful_frac"]),
        )
        step += 1


if __name__ == "__main__":
    main()
