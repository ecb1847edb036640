"""Multi-reward post-training of language models in JAX (RVPO, arXiv:2605.05750)."""

from rvpo_jax.advantages import compute_advantages
from rvpo_jax.config import AdvantageConfig, Channel, Config
from rvpo_jax.types import Advantages

__version__ = "0.1.0"

__all__ = ["AdvantageConfig", "Advantages", "Channel", "Config", "compute_advantages"]
