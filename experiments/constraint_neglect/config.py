"""GRPO, GDPO and RVPO on the embedded task: same start, same prompts, same random numbers."""

import dataclasses

from rvpo_jax import AdvantageConfig, Config
from rvpo_jax.config import CheckpointConfig, EvalConfig, LogConfig

METHODS = {
    # As GRPO is defined: the sum of raw rewards, standardised in its group, nothing after it.
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=1": AdvantageConfig(method="rvpo", risk_coef=1.0),
}
SEEDS = (0, 1, 2, 3, 4)


def get_config() -> Config:
    """The default run, evaluated on every held-out prompt."""
    return Config(
        eval=EvalConfig(num_prompts=1024),
        checkpoint=CheckpointConfig(every=100),
        log=LogConfig(console_every=50, samples_every=0),
    )


def smoke_config() -> Config:
    """Seconds on a laptop; the numbers mean nothing."""
    config = get_config()
    return dataclasses.replace(
        config,
        steps=2,
        rollout=dataclasses.replace(config.rollout, num_prompts=4, group_size=4),
        eval=EvalConfig(num_prompts=16),
    )
