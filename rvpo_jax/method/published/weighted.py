"""Rules that are a weighted sum of the scores; what differs is where the weights come from.

Each function gives the factor of every score, ``Linear`` the sum; so a factor is also who decided.
``B`` prompts, ``G`` completions per prompt, ``M`` reward channels. The rule's ``weights`` ``[M]``
multiply as they are, None: 1 each.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Channel
from rvpo_jax.method.aggregators import sum_aggregate
from rvpo_jax.method.channels import row
from rvpo_jax.method.masking import plain_weights
from rvpo_jax.method.rules import Linear, Method, Option
from rvpo_jax.method.standardize import deviations


def dvao(
    scores: jax.Array,
    *,
    shifted: jax.Array,
    scored: jax.Array,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """DVAO: deviations of the raw rewards over the weighted sum of their standard deviations.

    S = sum_m w_m (R_m - mean_m) / sum_m w_m sd_m: a channel counts by how much it varies in the
    group. The standard deviation is the population's whatever ``ddof`` says, a denominator up to
    1e-8 gives 0. Whitening: none.

    Args:
      scores: ``[B, G, M]``.
      shifted: ``[B, G, M]`` float32, rewards less the smallest of their group.
      scored: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0; None: equal; their scale cancels.
      ddof: of the scores.
      eps: of the scores.

    Returns:
      ``[B, 1, M]`` float32, the factor of each score.

    Source:
      arXiv:2605.25604.
    """
    importance = plain_weights(weights, scores.shape[-1])
    _, population, _ = deviations(shifted, scored, 0)
    _, std, live = deviations(shifted, scored, ddof)
    total = jnp.sum(importance * population, axis=-1, keepdims=True)
    unit = jnp.where(live, std + eps, 0.0)  # a score times it is the deviation of the reward
    return jnp.where(total > 1e-8, importance * unit / jnp.where(total > 1e-8, total, 1.0), 0.0)


def corrgrpo(
    scores: jax.Array,
    *,
    shifted: jax.Array,
    scored: jax.Array,
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """CorrGRPO: the centred sum of rewards over the root of the summed correlations.

    S = sum_m w_m (R_m - mean_m) / sqrt(sum_lm rho_lm + 1e-6), with rho the correlation of the
    channels in the group; one that does not vary has a row and a column of zeros, its diagonal
    included. The 1e-6 is inside the root, as in the authors' code; the paper's Eq. 2 has it
    outside. With one live channel S is the centred reward, no standard score. Whitening: none.

    Args:
      scores: ``[B, G, M]``.
      shifted: ``[B, G, M]`` float32, rewards less the smallest of their group.
      scored: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0; None: 1 each.
      ddof: of the scores.
      eps: of the scores.

    Returns:
      ``[B, 1, M]`` float32, the factor of each score.

    Source:
      arXiv:2609.36820, and github.com/HKUST-KnowComp/CorrGRPO.
    """
    importance = plain_weights(weights, scores.shape[-1])
    _, std, live = deviations(shifted, scored, ddof)
    correlations = _summed_correlations(scores, importance, axis=1)
    return importance * jnp.where(live, std + eps, 0.0) / jnp.sqrt(correlations + 1e-6)


def _summed_correlations(centered: jax.Array, importance: jax.Array, axis: Any) -> jax.Array:
    """The sum of all correlations between channels: the square of the summed unit columns."""
    norm = jnp.sqrt(jnp.sum(centered**2, axis=axis, keepdims=True))
    counts = (norm > 0) & (importance > 0)
    unit = jnp.where(counts, centered / jnp.where(norm > 0, norm, 1.0), 0.0)
    return jnp.sum(jnp.sum(unit, axis=-1, keepdims=True) ** 2, axis=axis, keepdims=True)


def gdpo_corr(
    scores: jax.Array,
    *,
    where: jax.Array,
    weights: jax.Array | None = None,
    lengths: jax.Array | None = None,
) -> jax.Array:
    """GDPO with the root of the batch's summed correlations in place of a standard deviation.

    S = (sum_m w_m Z_m - its mean) / sqrt(sum_lm rho_lm + 1e-6), with rho over all completions of
    the batch, one row each. The mean is over tokens where lengths are known, as the authors have
    it, else over completions. Whitening: none, it is built in.

    Args:
      scores: ``[B, G, M]``.
      where: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0; None: 1 each.
      lengths: ``[B, G]`` tokens, or None.

    Returns:
      ``[B, G]`` float32.

    Source:
      arXiv:2609.36820, and github.com/HKUST-KnowComp/CorrGRPO.
    """
    factor = gdpo_corr_weights(scores, where=where, weights=weights)
    values = jnp.sum(scores * factor, axis=-1)
    count = jnp.any(where, axis=-1) * (1.0 if lengths is None else lengths)
    return values - jnp.sum(values * count) / jnp.maximum(jnp.sum(count), 1.0)


def gdpo_corr_weights(
    scores: jax.Array, *, where: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """The factor of each score in ``gdpo_corr``; the batch's statistics count as fixed.

    Args:
      scores: ``[B, G, M]``.
      where: ``[B, G, M]`` bool.
      weights: ``[M]`` float >= 0; None: 1 each.

    Returns:
      ``[B, G, M]`` float32.
    """
    importance = plain_weights(weights, scores.shape[-1])
    weighted = scores * importance
    count = jnp.maximum(jnp.sum(where, axis=(0, 1), keepdims=True), 1)
    mean = jnp.sum(weighted, axis=(0, 1), keepdims=True, where=where) / count
    centered = jnp.where(where, weighted - mean, 0.0)
    root = jnp.sqrt(_summed_correlations(centered, importance, axis=(0, 1)) + 1e-6)
    return jnp.where(where, importance / root, 0.0)


def dara(
    scores: jax.Array,
    *,
    live: jax.Array,
    scored: jax.Array,
    cap: Any,
    weights: jax.Array | None = None,
) -> jax.Array:
    """DARA-Sym: channels that vary in fewer groups of the batch weigh more.

    With pi_m the share of the groups with channel m in which it varies, its factor is
    min(cap, sqrt(max_l pi_l / pi_m)), and 1 where it varies nowhere. Whitening: token-weighted for
    tools, over completions for mathematics.

    Args:
      scores: ``[B, G, M]``.
      live: ``[B, M]`` bool.
      scored: ``[B, G, M]`` bool.
      cap: scalar >= 1, the largest factor.
      weights: ``[M]`` float >= 0; None: 1 each.

    Returns:
      ``[1, 1, M]`` float32, the factor of each score.

    Source:
      arXiv:2610.00574, and github.com/zhaihaotian/DARA, Apache-2.0.
    """
    groups = jnp.sum(jnp.any(scored, axis=1), axis=0)
    share = jnp.sum(live, axis=0) / jnp.maximum(groups, 1)
    ratio = jnp.sqrt(jnp.max(share) / jnp.where(share > 0, share, 1.0))
    factor = jnp.where(share > 0, jnp.minimum(ratio, cap), 1.0)
    return plain_weights(weights, scores.shape[-1]) * factor.reshape(1, 1, -1)


def dara_asym(
    scores: jax.Array,
    *,
    live: jax.Array,
    scored: jax.Array,
    cap: Any,
    weights: jax.Array | None = None,
) -> jax.Array:
    """DARA-Asym: DARA's factors for scores above 0, 1 for those below. The paper's main rule.

    Args:
      scores: ``[B, G, M]``.
      live: ``[B, M]`` bool.
      scored: ``[B, G, M]`` bool.
      cap: scalar >= 1, the largest factor.
      weights: ``[M]`` float >= 0; None: 1 each.

    Returns:
      ``[B, G, M]`` float32, the factor of each score.

    Source:
      See ``dara``.
    """
    factor = dara(scores, live=live, scored=scored, cap=cap)
    return plain_weights(weights, scores.shape[-1]) * jnp.where(scores > 0, factor, 1.0)


def gdpo_saw(
    scores: jax.Array,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    weights: jax.Array | None = None,
) -> jax.Array:
    """GDPO-SAW: channels weigh by the coefficient of variation of their rewards in the batch.

    cv_m = sd_m / (mean_m - low_m + 1e-8) over all completions, sample standard deviation; the
    factors are cv over its mean over channels, 1 each where nothing varies. No smoothing over
    steps: factors can jump. Shown by its authors for two channels. Whitening: token-weighted.

    Args:
      scores: ``[B, G, M]``.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, for the lower ends of their ranges.
      weights: ``[M]`` float >= 0; None: 1 each.

    Returns:
      ``[1, 1, M]`` float32, the factor of each score.

    Source:
      arXiv:2606.07705, and github.com/Zhaolutuan/SAW.
    """
    count = jnp.sum(scored, axis=(0, 1), keepdims=True)
    above = jnp.where(scored, rewards - row(channels, "low"), 0.0)
    mean = jnp.sum(above, axis=(0, 1), keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.sum(
        jnp.where(scored, above - mean, 0.0) ** 2, axis=(0, 1), keepdims=True
    ) / jnp.maximum(count - 1, 1)
    variation = jnp.sqrt(squares) / (jnp.abs(mean) + 1e-8)
    total = jnp.sum(variation, axis=-1, keepdims=True)
    factor = jnp.sum(count > 0, axis=-1, keepdims=True) * variation / (total + 1e-8)
    return plain_weights(weights, scores.shape[-1]) * jnp.where(total > 0, factor, 1.0)


def sa_mrpo(
    scores: jax.Array,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    gamma: Any,
    weights: jax.Array | None = None,
) -> jax.Array:
    """SA-MRPO: channels near the upper end of their range weigh less.

    The factor is (1 - s_m)^gamma, with s_m the batch's mean reward on the scale of the channel's
    range, held within 0 and 1. gamma = 0 is GDPO's sum. Whitening: over completions.

    Args:
      scores: ``[B, G, M]``.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, for their ranges.
      gamma: scalar >= 0.
      weights: ``[M]`` float >= 0; None: 1 each.

    Returns:
      ``[1, 1, M]`` float32, the factor of each score.

    Source:
      arXiv:2608.16072.
    """
    count = jnp.maximum(jnp.sum(scored, axis=(0, 1), keepdims=True), 1)
    mean = jnp.sum(rewards, axis=(0, 1), keepdims=True, where=scored) / count
    low, high = row(channels, "low"), row(channels, "high")
    headroom = jnp.clip((high - mean) / (high - low), 0.0, 1.0)
    return plain_weights(weights, scores.shape[-1]) * headroom**gamma


CAP = {"cap": Option(5.0, Bound(ge=1), "largest factor of a channel")}
METHODS: dict[str, Method] = {
    "mo_grpo": Method(
        rule=sum_aggregate,
        label="sum of scores, as it is (MO-GRPO)",
        color="#9ECAE1",
        pointwise=True,
        whitened=False,
    ),
    "dvao": Method(
        rule=Linear(dvao), label="DVAO", color="#6A3D9A", reads=("ddof", "eps"), whitened=False
    ),
    "corrgrpo": Method(
        rule=Linear(corrgrpo),
        label="CorrGRPO",
        color="#B15928",
        reads=("ddof", "eps"),
        whitened=False,
    ),
    "gdpo_corr": Method(
        rule=gdpo_corr,
        label="GDPO-corr",
        color="#FDBF6F",
        weights=gdpo_corr_weights,
        whitened=False,
    ),
    "dara_sym": Method(rule=Linear(dara), label="DARA-Sym", color="#1B9E77", options=CAP),
    "dara_asym": Method(rule=Linear(dara_asym), label="DARA-Asym", color="#66C2A5", options=CAP),
    "gdpo_saw": Method(rule=Linear(gdpo_saw), label="GDPO-SAW", color="#A6761D", needs="ranges"),
    "sa_mrpo": Method(
        rule=Linear(sa_mrpo),
        label="SA-MRPO",
        color="#E7298A",
        needs="ranges",
        options={"gamma": Option(0.5, Bound(ge=0), "exponent of the headroom")},
    ),
}
