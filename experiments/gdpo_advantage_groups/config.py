"""Which rules, and how many rollouts and binary rewards are enumerated."""

import jax

from rvpo_jax import AdvantageConfig


def centred_sum(scores: jax.Array, *, rewards: jax.Array) -> jax.Array:
    """GRPO without dividing by the deviation: sum of raw rewards minus its group's mean."""
    total = rewards.sum(-1)
    return total - total.mean(1, keepdims=True) + 0.0 * scores.sum(-1)


# Before the batch's whitening, which is one affine map for all groups and merges none of them.
RULES = {
    "GRPO": AdvantageConfig(method="grpo", whiten="none"),
    "GRPO without std": AdvantageConfig(method=centred_sum, whiten="none"),
    "GDPO": AdvantageConfig(method="gdpo_sum", whiten="none"),
    "RVPO k=1": AdvantageConfig(risk_coef=1.0, whiten="none"),
    "RVPO k=1, recentred": AdvantageConfig(risk_coef=1.0, whiten="none", recenter=True),
    "hard-min": AdvantageConfig(method="hard_min", whiten="none"),
}
# GDPO's Figure 3: two rewards and more rollouts; four rollouts and more rewards.
ROLLOUTS = (2, 3, 4, 5, 6, 7, 8, 10, 12)
REWARDS_FIXED = 2
REWARDS = (1, 2, 3, 4, 5, 6, 7)
ROLLOUTS_FIXED = 4
SMOKE_ROLLOUTS = (2, 3)
SMOKE_REWARDS = (1, 2)
# Two advantages count as equal when closer than this; float32 residue is below 1e-6.
TOLERANCE = 1e-5
CHUNK = 4096
