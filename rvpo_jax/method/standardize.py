"""Standard scores: of each channel in its group, and of the aggregates of a batch.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal


def deviations(
    values: jax.Array, where: jax.Array, ddof: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Deviation from the mean, standard deviation and liveness along axis 1, masked.

    Args:
      values: ``[B, G, N]`` float32.
      where: ``[B, G, N]`` bool.
      ddof: 1 sample, 0 population standard deviation.

    Returns:
      Deviations ``[B, G, N]``, 0 where masked or dead; standard deviations ``[B, 1, N]``; live
      ``[B, 1, N]`` bool, not all equal.
    """
    high = jnp.max(jnp.where(where, values, -jnp.inf), axis=1, keepdims=True)
    low = jnp.min(jnp.where(where, values, jnp.inf), axis=1, keepdims=True)
    # Exact equality, not std < eps: the float32 residue of a constant channel over a small eps
    # has given advantages of 7,000.
    live = high > low
    # Taking the smallest value off first keeps the digits of large, nearly equal rewards.
    shifted = jnp.where(where & live, values - jnp.where(live, low, 0.0), 0.0)
    count = jnp.sum(where, axis=1, keepdims=True)
    mean = jnp.sum(shifted, axis=1, keepdims=True) / jnp.maximum(count, 1)
    deviation = jnp.where(where & live, shifted - mean, 0.0)
    scale = _power_of_two(jnp.max(jnp.abs(deviation), axis=1, keepdims=True))
    squares = jnp.sum((deviation / scale) ** 2, axis=1, keepdims=True)
    return deviation, scale * jnp.sqrt(squares / jnp.maximum(count - ddof, 1)), live


def _power_of_two(size: jax.Array) -> jax.Array:
    """A power of two near ``size``: dividing by it is exact, and keeps squares within float32."""
    # 2**100 squared overflows; 2**-126 is the smallest normal number.
    exponent = jnp.clip(jnp.frexp(size)[1], -120, 126)
    return jnp.where(size > 0, jnp.ldexp(jnp.float32(1.0), exponent), 1.0)


def standardize(
    rewards: jax.Array, where: jax.Array, *, ddof: int = 1, eps: float = 1e-6
) -> tuple[jax.Array, jax.Array]:
    """Standard score of each channel within the group of one prompt.

    Z = (R - mean) / (std + eps), over the scored completions of the group. A channel whose scored
    values are all equal is dead: its Z is 0 exactly.

    Args:
      rewards: ``[B, G, M]`` float32, each channel in its own unit.
      where: ``[B, G, M]`` bool, channel exists and was scored.
      ddof: 1 sample, 0 population standard deviation.
      eps: added to the standard deviation, in reward units.

    Returns:
      Scores ``[B, G, M]`` float32, 0 where dead or absent; live ``[B, M]`` bool.

    Source:
      GDPO, arXiv:2601.05242, Eq. 4 (ddof = 1 in its code and worked example).

    >>> pair = jnp.array([0.0, 1.0]).reshape(1, 2, 1)
    >>> standardize(pair, pair >= 0)[0].ravel().round(4).tolist()
    [-0.7071, 0.7071]
    """
    deviation, std, live = deviations(rewards, where, ddof)
    scores = deviation / jnp.where(live, std + eps, 1.0)
    return scores, live[:, 0, :]


def whiten_batch(
    values: jax.Array, where: jax.Array, *, eps: float = 1e-6, eps_on: str = "std"
) -> jax.Array:
    """Mean 0 and standard deviation 1 over the batch; each completion counts once.

    Args:
      values: ``[B, G]`` float32, one per completion.
      where: ``[B, G]`` bool, completions that count; others become 0.
      eps: added to the standard deviation, or to the variance.
      eps_on: std or variance.

    Returns:
      ``[B, G]`` float32.

    Source:
      GDPO, arXiv:2601.05242, Eq. 6; sample variance, as its code has it.

    >>> whiten_batch(jnp.array([[1.0, 3.0]]), jnp.array([[True, True]])).round(4).tolist()
    [[-0.7071, 0.7071]]
    """
    return _whiten(values, where, jnp.ones(values.shape), eps, eps_on)


def whiten_token(
    values: jax.Array,
    where: jax.Array,
    *,
    lengths: jax.Array | None = None,
    eps: float = 1e-6,
    eps_on: str = "std",
) -> jax.Array:
    """Like ``whiten_batch``; each completion counts as often as it has tokens (verl).

    Args:
      values: ``[B, G]`` float32.
      where: ``[B, G]`` bool.
      lengths: ``[B, G]`` completion lengths in tokens.
      eps: see ``whiten_batch``.
      eps_on: see ``whiten_batch``.

    Returns:
      ``[B, G]`` float32.

    Raises:
      ValueError: if there are no lengths.
    """
    if lengths is None:
        raise Refusal(
            'whiten="token" needs lengths, the completions\' lengths in tokens, got none.',
            "Pass lengths=completion_mask.sum(-1).",
        )
    return _whiten(values, where, lengths, eps, eps_on)


def whiten_group(
    values: jax.Array, where: jax.Array, *, eps: float = 1e-6, eps_on: str = "std"
) -> jax.Array:
    """Like ``whiten_batch``, each group on its own.

    Args:
      values: ``[B, G]`` float32.
      where: ``[B, G]`` bool.
      eps: see ``whiten_batch``.
      eps_on: see ``whiten_batch``.

    Returns:
      ``[B, G]`` float32.
    """
    deviation, std, _ = deviations(values[..., None], where[..., None], ddof=1)
    return (deviation / _denominator(std, eps, eps_on))[..., 0]


def no_whitening(values: jax.Array, where: jax.Array) -> jax.Array:
    """The values as they are, 0 where they do not count.

    Args:
      values: ``[B, G]`` float32.
      where: ``[B, G]`` bool.

    Returns:
      ``[B, G]`` float32.
    """
    return jnp.where(where, values, 0.0)


WHITENINGS: dict[str, Callable[..., jax.Array]] = {
    "batch": whiten_batch,
    "token": whiten_token,
    "group": whiten_group,
    "none": no_whitening,
}
"""The named whitenings; a user's function gets those of lengths, eps and eps_on that it names."""


def _whiten(
    values: jax.Array, where: jax.Array, weight: jax.Array, eps: float, eps_on: str
) -> jax.Array:
    values = jnp.where(where, values, 0.0)
    weight = jnp.where(where, weight, 0.0)
    count = jnp.sum(weight)
    high = jnp.max(jnp.where(where, values, -jnp.inf))
    low = jnp.min(jnp.where(where, values, jnp.inf))
    mean = jnp.sum(weight * values) / jnp.maximum(count, 1.0)
    deviation = jnp.where(where & (high > low), values - mean, 0.0)
    scale = _power_of_two(jnp.max(jnp.abs(deviation)))
    squares = jnp.sum(weight * (deviation / scale) ** 2)
    std = scale * jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0))
    return deviation / _denominator(std, eps, eps_on)


def _denominator(std: jax.Array, eps: Any, eps_on: str) -> jax.Array:
    # hypot, not sqrt(std**2 + eps): std**2 leaves float32 above 1e19.
    total = jnp.hypot(std, jnp.sqrt(jnp.float32(eps))) if eps_on == "variance" else std + eps
    return jnp.where(total > 0, total, 1.0)  # eps = 0 and all values equal: 0 / 1, not 0 / 0
