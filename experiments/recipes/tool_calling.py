"""RVPO's tool calling: Qwen2.5-1.5B-Instruct (or 3B) on RLLA-4k, GDPO's recipe with k = 1.

rvpo train --config experiments/recipes/tool_calling.py --workdir runs/tool_calling
"""

import dataclasses

from rvpo_jax import AdvantageConfig, Config, LossConfig
from rvpo_jax.config import DataConfig, EvalConfig, ModelConfig, OptimConfig, RolloutConfig


def get_config() -> Config:
    """The run; every value has its source, GDPO's Table 6 where nothing is said."""
    return Config(
        steps=100,
        model=ModelConfig(
            path="Qwen2.5-1.5B-Instruct",  # a Hugging Face folder
            dtype="bfloat16",  # ours
            remat=True,  # ours
        ),
        data=DataConfig(
            source="rlla",  # 4k rows of ToolRL
            rewards=("toolrl_format", "toolrl_correctness"),  # ToolRL's, to the letter
        ),
        rollout=RolloutConfig(
            num_prompts=512,
            group_size=4,
            temperature=1.0,
            max_prompt_tokens=2048,
            max_completion_tokens=1024,
            num_slots=64,  # ours: completions sampled at once, of a device's share
        ),
        # verl whitens over tokens, variance + 1e-8; k = 1 as DARA, arXiv:2610.00574, reports it.
        advantage=dataclasses.replace(AdvantageConfig.preset("verl"), method="rvpo", risk_coef=1.0),
        loss=LossConfig(
            num_minibatches=4,  # of 128 prompts
            entropy_coef=0.001,  # verl's default
            kl_coef=0.0,  # verl adds its term to a reward that GDPO does not read: in effect none
            microbatch_size=1,  # ours
        ),
        optim=OptimConfig(learning_rate=1e-6, max_grad_norm=1.0),
        eval=EvalConfig(every=25, num_prompts=80),  # ours
    )
