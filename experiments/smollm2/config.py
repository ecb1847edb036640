"""SmolLM2-135M-Instruct on six checks of one sentence, five ways to join them."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
from prompts import write_prompts
from rewards import exclamation, keyword, lower_case, no_commas, one_sentence, secret_kept

from rvpo_jax import AdvantageConfig, Config, LossConfig
from rvpo_jax.config import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.lab.language_runs import METHODS

SEEDS = (0, 1, 2)
SMOKE_SEEDS = (0,)
REFERENCE = "GDPO"  # what the others are compared with
EARLY, LATE = 5, 10  # steps that "start" and "end" are means of
FOLDER = Path(".cache/models/SmolLM2-135M-Instruct")
REWARDS = (keyword, no_commas, one_sentence, lower_case, exclamation, secret_kept)
CHANNELS = tuple(reward.channel.name for reward in REWARDS)


def std_level_softmin(scores, rewards, levels, where, risk_coef):
    """A user's rule: the soft minimum with weights std * exp(-5 * level) of each channel."""
    variance = jnp.var(rewards, axis=1, keepdims=True, where=where)
    # Where a channel does not vary, the root of 0 would have an infinite derivative.
    std = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    weights = std * jnp.exp(-5.0 * levels)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1.0)
    joined = jnp.sum(weights * jnp.exp(-risk_coef * scores), axis=-1)
    # A group in which nothing varies has no weights, and nothing to say.
    return jnp.where(joined > 0, -jnp.log(jnp.where(joined > 0, joined, 1.0)) / risk_coef, 0.0)


RULES = {
    **METHODS,
    "level soft-min": AdvantageConfig(method="rvpo_level"),
    "std-level soft-min": AdvantageConfig(method=std_level_softmin),
}
SMOKE_RULES = (REFERENCE, "std-level soft-min")  # a named one and one of the user's


def get_config(folder: Path = Path("runs/smollm2")) -> Config:
    """32 completions of at most 48 tokens a step, as many as two cores carry."""
    return Config(
        steps=60,
        model=ModelConfig(path=str(FOLDER)),
        data=DataConfig(source=str(write_prompts(folder / "prompts.jsonl")), rewards=REWARDS),
        rollout=RolloutConfig(num_prompts=4, group_size=8, max_completion_tokens=48),
        loss=LossConfig(microbatch_size=None, microbatch_tokens=1024),
        optim=OptimConfig(learning_rate=2e-5),
        eval=EvalConfig(num_prompts=64),
        checkpoint=CheckpointConfig(every=20, keep=1),
        log=LogConfig(console_every=20, samples_every=20),
        parallel=ParallelConfig(num_devices=1),
    )


def smoke_config() -> Config:
    """Seconds, with a tiny random model; the numbers mean nothing."""
    full = get_config(Path("runs/smollm2/smoke"))
    return dataclasses.replace(
        full,
        steps=1,
        model=ModelConfig(),
        rollout=RolloutConfig(num_prompts=1, group_size=2, max_completion_tokens=8),
        loss=LossConfig(),
        eval=EvalConfig(num_prompts=1),
    )
