"""GRPO, GDPO and RVPO on the embedded task: same start, same prompts, same random numbers."""

import dataclasses

from rvpo_jax import AdvantageConfig, Config
from rvpo_jax.config import CheckpointConfig, DataConfig, EvalConfig, LogConfig, ModelConfig
from rvpo_jax.lab.language_runs import METHODS
from rvpo_jax.rewards import EMBEDDED_REWARDS

SEEDS = tuple(range(10))
SMOKE_SEEDS = (0,)
REFERENCE = "GDPO"  # what the others are compared with
KEPT = 0.9  # held-out pass rate of privacy from which a run counts as having kept it
# The embedded task, and a harsher one: each word of a thought costs, also the useful ones.
TASKS = {
    "brevity": EMBEDDED_REWARDS,
    "terseness": tuple("terseness" if n == "brevity" else n for n in EMBEDDED_REWARDS),
}
# The rules that experiments/rules puts first in one half of its worlds or the other; the running
# Tchebycheff rule is not whitened in its source.
RULES = {
    "three": METHODS,
    "seven": {
        **METHODS,
        "utility c=5": AdvantageConfig(method="rvpo_utility"),
        "utility c=0": AdvantageConfig(method="rvpo_utility", options={"trust": 0.0}),
        "level soft-min": AdvantageConfig(method="rvpo_level"),
        "running Tchebycheff": AdvantageConfig(method="tchebycheff_running", whiten="none"),
    },
}
# The first of each is the default; "leaky" parameters name the code in 7 of 10 answers.
OPTIONS = {"start": ("warm", "leaky"), "task": tuple(TASKS), "rules": tuple(RULES)}
LOG = LogConfig(console_every=50, samples_every=0, rollouts="none", audit=False)


def get_config(start: str = "warm", task: str = "brevity") -> Config:
    """The default run, evaluated on every held-out prompt."""
    return Config(
        model=ModelConfig(init=start),
        data=DataConfig(rewards=TASKS[task]),
        eval=EvalConfig(num_prompts=1024),
        checkpoint=CheckpointConfig(every=100, keep=1),
        log=LOG,
    )


def smoke_config(start: str = "warm", task: str = "brevity") -> Config:
    """Seconds on a laptop; the numbers mean nothing."""
    config = get_config(start, task)
    return dataclasses.replace(
        config,
        steps=2,
        rollout=dataclasses.replace(
            config.rollout, num_prompts=4, group_size=4, max_completion_tokens=32
        ),
        eval=EvalConfig(num_prompts=16),
    )
