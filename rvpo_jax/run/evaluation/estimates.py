"""Shares over prompts that were answered several times, and pass@k. ``N`` prompts.

Answers to one prompt are not independent: a prompt is one trial, however many answers it has.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import NormalDist

from rvpo_jax.basics.intervals import CONFIDENCE, Rate, wilson_interval
from rvpo_jax.run.evaluation.items import Graded

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def clustered(sums: Sequence[float], counts: Sequence[float]) -> Rate:
    """Share of answers, with the 95 % interval that prompts as trials give.

    Wilson's interval at the size that independent answers would need for the same variance. With
    one answer per prompt that is Wilson's own.

    Args:
      sums: ``[N]``, of each prompt's values, which lie in [0, 1].
      counts: ``[N]``, of its answers; those with 0 are left out.

    Returns:
      The share; NaN with the interval [0, 1] where there are no answers.

    Source:
      The variance of a ratio of sums over clusters (Cochran, Sampling Techniques, 6.3); the
      effective size is ours.

    >>> clustered([1] * 8 + [0] * 2, [1] * 10)  # as wilson()
    Rate(rate=0.8, low=0.490, high=0.943, count=10)
    >>> clustered([4] * 8 + [0] * 2, [4] * 10)  # four equal answers tell no more than one
    Rate(rate=0.8, low=0.490, high=0.943, count=40)
    """
    pairs = [(total, count) for total, count in zip(sums, counts, strict=True) if count]
    size = sum(count for _, count in pairs)
    if not pairs:
        return Rate(rate=math.nan, low=0.0, high=1.0, count=0)
    rate = min(max(sum(total for total, _ in pairs) / size, 0.0), 1.0)
    variance = sum((total - rate * count) ** 2 for total, count in pairs) / size**2
    return interval_of(rate, variance, trials=len(pairs), count=int(size))


def interval_of(rate: float, variance: float, *, trials: float, count: int) -> Rate:
    """A share with the interval of Wilson that fits its variance.

    Args:
      rate: the share.
      variance: of its estimate; 0 where all prompts are alike, which says nothing of the next one.
      trials: independent ones at least, for that case.
      count: answers.

    Returns:
      The share with its interval.
    """
    spread = rate * (1 - rate)
    size = spread / variance if variance > 0 and spread > 0 else trials
    low, high = wilson_interval(rate, min(size, max(count, trials)), Z)
    return Rate(rate=rate, low=low, high=high, count=count)


def rate_of(graded: Iterable[Graded], values: Callable[[Graded], Iterable[float | None]]) -> Rate:
    """The share over answers of what is scored of each.

    Args:
      graded: answers.
      values: of one answer, in [0, 1]; None is not scored and left out.

    Returns:
      The share, clustered by prompt.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for one in graded:
        scored = [value for value in values(one) if value is not None]
        sums[one.item.key] = sums.get(one.item.key, 0.0) + sum(scored)
        counts[one.item.key] = counts.get(one.item.key, 0) + len(scored)
    return clustered(list(sums.values()), list(counts.values()))


def pass_at_k(num: int, num_right: int, k: int) -> float:
    """Chance that one of k answers is right, drawn without replacement from those there are.

    Args:
      num: answers to a prompt, at least k.
      num_right: of them.
      k: draws.

    Returns:
      1 - C(num - num_right, k) / C(num, k).

    Source:
      Chen et al., Evaluating Large Language Models Trained on Code, arXiv:2107.03374, equation 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 3, 2)
    (0.25, 0.5, 1.0)
    """
    return 1 - math.comb(num - num_right, k) / math.comb(num, k)


def passes_at(graded: Iterable[Graded], channel: str) -> dict[int, Rate]:
    """pass@k for k = 1, 2, 4, ... up to the most answers that every prompt has, and for that one.

    Args:
      graded: answers; one that is not scored does not count.
      channel: 1 for a right answer.

    Returns:
      By k, ``count`` prompts each; nothing where a prompt has one answer only.
    """
    verdicts: dict[Hashable, list[bool]] = {}
    for one in graded:
        value = one.grade.values[channel]
        if value is not None:
            verdicts.setdefault(one.item.key, []).append(value == 1)
    most = min(map(len, verdicts.values()), default=0)
    if most < 2:
        return {}
    ks = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    prompts = [(len(found), sum(found)) for found in verdicts.values()]
    return {k: clustered([pass_at_k(*one, k) for one in prompts], [1] * len(prompts)) for k in ks}
