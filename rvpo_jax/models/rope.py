"""Frequencies of the rotary position embedding."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretching of low frequencies; names as in ``config.json``."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
    """Radians per position of each pair of a head's dimensions.

    Args:
      head_dim: h.
      theta: the base.
      scaling: None: none.

    Returns:
      ``[h / 2]`` float32, falling from 1.

    Source:
      RoFormer, arXiv:2104.09864; scaling: Llama 3.1, as transformers computes it.

    >>> frequencies(4, 100.0).round(6).tolist()
    [1.0, 0.1]
    """
    half = head_dim // 2
    plain = theta ** (-np.arange(half, dtype=np.float64) / half)
    if scaling is None:
        return plain.astype(np.float32)
    wavelength = 2 * math.pi / plain
    # Pairs that turn often within the original length stay, those that turn rarely are stretched.
    turns = scaling.original_max_position_embeddings / wavelength
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (plain * (kept + (1 - kept) / scaling.factor)).astype(np.float32)
