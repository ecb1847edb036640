"""The probe bandit: rules, strengths of the conflict, and two conventions of whitening."""

import dataclasses

from rvpo_jax import AdvantageConfig

RULES = {
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo"),
    "RVPO k=0.5": AdvantageConfig(risk_coef=0.5),
    "RVPO k=1": AdvantageConfig(risk_coef=1.0),
    "RVPO k=4": AdvantageConfig(risk_coef=4.0),
    "variance beta=0.5": AdvantageConfig(method="variance", variance_coef=0.5),
    "hard-min": AdvantageConfig(method="hard_min"),
}
SMOKE_RULES = ("GDPO", "RVPO k=1")
# Reward of the balanced arm in both channels; the two others earn 1 in one channel, 0 in the other.
BALANCED = (0.05, 0.15, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.65)
REFERENCE = 0.45
SEEDS = range(24)
SMOKE_SEEDS = range(2)
OPTIONS = {"steps": 200, "learning_rate": 1.0, "num_groups": 32, "record_every": 4}
SMOKE_OPTIONS = {"steps": 8, "learning_rate": 1.0, "num_groups": 4, "record_every": 4}


def without_whitening(rule: AdvantageConfig) -> AdvantageConfig:
    """Population deviation, no final whitening: the scale of the first look."""
    return dataclasses.replace(rule, ddof=0, whiten="none")


def as_default(rule: AdvantageConfig) -> AdvantageConfig:
    """Sample deviation and whitening over the batch: the package's default."""
    return rule


CONVENTIONS = {"plain": without_whitening, "whitened": as_default}
SMOKE_CONVENTIONS = ("whitened",)
