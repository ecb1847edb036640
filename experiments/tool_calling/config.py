"""GRPO, GDPO and RVPO on two rewards, ToolRL's format and correctness, at tiny scale."""

from rvpo_jax import Config
from rvpo_jax.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, RolloutConfig

SEEDS = tuple(range(10))
SMOKE_SEEDS = (0,)
RANGES = {"format": (0.0, 1.0), "correctness": (-3.0, 3.0)}
CHANNELS = tuple(f"toolrl_{name}" for name in RANGES)
REFERENCE = "GDPO"  # what the others are compared with
LATE = 20  # steps that "final" is the mean of
REACHED = 0.9  # of the channel's range: where a curve counts as having arrived
LOG = LogConfig(console_every=50, samples_every=0, rollouts="none", audit=False)


def get_config() -> Config:
    """The paper's group size of 4 and its two channels; everything else is the tiny default."""
    return Config(
        steps=100,
        data=DataConfig(rewards=CHANNELS),
        rollout=RolloutConfig(num_prompts=32, group_size=4),
        eval=EvalConfig(num_prompts=512),
        checkpoint=CheckpointConfig(every=100, keep=1),
        log=LOG,
    )


def smoke_config() -> Config:
    """Seconds on a laptop; the numbers mean nothing."""
    return Config(
        steps=2,
        data=DataConfig(rewards=CHANNELS),
        rollout=RolloutConfig(num_prompts=4, group_size=4, max_completion_tokens=32),
        eval=EvalConfig(num_prompts=16),
        log=LOG,
    )
