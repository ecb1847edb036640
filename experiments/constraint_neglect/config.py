"""GRPO, GDPO and RVPO on the embedded task: same start, same prompts, same random numbers."""

import dataclasses

from rvpo_jax import AdvantageConfig, Config
from rvpo_jax.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, ModelConfig
from rvpo_jax.rewards import EMBEDDED_REWARDS

METHODS = {
    # As GRPO is defined: the sum of raw rewards, standardised in its group, nothing after it.
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=1": AdvantageConfig(method="rvpo", risk_coef=1.0),
}
SEEDS = (0, 1, 2, 3, 4)


# The embedded task, and a harsher one: each word of a thought costs, also the useful ones.
TASKS = {
    "brevity": EMBEDDED_REWARDS,
    "terseness": tuple("terseness" if n == "brevity" else n for n in EMBEDDED_REWARDS),
}


def get_config(task: str = "brevity", start: str = "warm") -> Config:
    """The default run, evaluated on every held-out prompt."""
    return Config(
        model=ModelConfig(init=start),
        data=DataConfig(rewards=TASKS[task]),
        eval=EvalConfig(num_prompts=1024),
        checkpoint=CheckpointConfig(every=100),
        log=LogConfig(console_every=50, samples_every=0),
    )


def smoke_config(task: str = "brevity", start: str = "warm") -> Config:
    """Seconds on a laptop; the numbers mean nothing."""
    config = get_config(task, start)
    return dataclasses.replace(
        config,
        steps=2,
        rollout=dataclasses.replace(config.rollout, num_prompts=4, group_size=4),
        eval=EvalConfig(num_prompts=16),
    )
