"""RVPO's rubrics: Qwen2.5-7B (or 3B, 14B) on RaR-Medicine, RaR's recipe with k from 0.5 to 2.

Every item of a prompt's rubric, 5 to 17, is a channel that a judge marks.

rvpo train --config experiments/recipes/rubrics.py --workdir runs/rubrics
"""

import os

from rvpo_jax import AdvantageConfig, Config, LossConfig
from rvpo_jax.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    RiskScheduleConfig,
    RolloutConfig,
)
from rvpo_jax.rewards.judge import Judge, rubric

ENDPOINT, MODEL = "RVPO_JUDGE", "RVPO_JUDGE_MODEL"  # environment variables


def judge() -> Judge:
    """gpt-4o-mini, as RaR has it, unless the environment names another; one call a completion."""
    endpoint = os.environ.get(ENDPOINT, "https://api.openai.com/v1")
    return Judge(
        endpoint=endpoint,
        model=os.environ.get(MODEL, "gpt-4o-mini"),  # RaR
        # A server of one's own needs no key.
        key_variable="OPENAI_API_KEY" if endpoint.startswith("https://api.openai.com") else None,
        concurrency=64,  # ours
        max_calls=600_000,  # ours: 300 steps of 96 x 16 completions, and a quarter more
    )


def get_config() -> Config:
    """The run; RVPO gives group size and k, RaR the rest (arXiv:2507.17746), unless said."""
    return Config(
        steps=300,
        model=ModelConfig(
            path="Qwen2.5-7B",  # RaR trains the base model
            dtype="bfloat16",  # ours
            remat=True,  # ours
        ),
        data=DataConfig(source="rar_medicine", rewards=(rubric(judge(), max_items=17),)),
        rollout=RolloutConfig(
            num_prompts=96,
            group_size=16,  # RVPO
            temperature=1.0,
            max_prompt_tokens=1024,  # ours: 3,584 tokens in all, split by us
            max_completion_tokens=2560,
            num_slots=64,  # ours
        ),
        advantage=AdvantageConfig(method="rvpo"),
        risk=RiskScheduleConfig(kind="linear", start=0.5, end=2.0),  # RVPO
        loss=LossConfig(microbatch_size=1),  # ours; no KL term: not known of RVPO
        optim=OptimConfig(learning_rate=5e-6, warmup_steps=30),  # a tenth of the steps
        eval=EvalConfig(every=50, num_prompts=256),  # ours
    )
