"""IFEval's instructions on SmolLM2-135M-Instruct: runs on a laptop, all values are ours.

rvpo train --config experiments/recipes/ifeval.py --workdir runs/ifeval
"""

from rvpo_jax import AdvantageConfig, Config, LossConfig
from rvpo_jax.config import DataConfig, EvalConfig, ModelConfig, OptimConfig, RolloutConfig


def get_config() -> Config:
    """The run; ``--advantage.method gdpo`` is the same under another rule."""
    return Config(
        steps=40,
        model=ModelConfig(path=".cache/models/SmolLM2-135M-Instruct"),  # smollm2/make_folder.py
        data=DataConfig(
            source="ifeval",
            rewards=("instructions_share", "repetition"),
            eval_frac=0.2,
        ),
        rollout=RolloutConfig(
            num_prompts=4,
            group_size=8,
            max_prompt_tokens=256,
            max_completion_tokens=64,  # 128 take a minute and a half a step on two cores
        ),
        advantage=AdvantageConfig(method="rvpo", risk_coef=1.0),
        loss=LossConfig(microbatch_size=None, microbatch_tokens=1024),
        optim=OptimConfig(learning_rate=2e-5),
        eval=EvalConfig(num_prompts=108),
    )
