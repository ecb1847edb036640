"""Slow float64 NumPy versions of the mathematics, written from the equations with explicit loops.

Imports nothing from the package: an error here and the same error there would have to be made
twice. ``B`` prompts, ``G`` completions per prompt, ``M`` reward channels, ``C`` tokens.
"""

import math
from types import SimpleNamespace

import numpy as np


def present(row, weights, where):
    """(score, weight) of the channels of one completion that exist and weigh more than 0."""
    row = np.asarray(row, np.float64)
    weights = np.ones(len(row)) if weights is None else np.asarray(weights, np.float64)
    where = np.ones(len(row), bool) if where is None else np.asarray(where, bool)
    return [(row[m], weights[m]) for m in range(len(row)) if where[m] and weights[m] > 0]


def softmin(row, k, weights=None, where=None):
    """-(1/k) log( sum_m w_m exp(-k z_m) / sum_m w_m ); k = 0 the mean, k = inf the minimum."""
    pairs = present(row, weights, where)
    if not pairs:
        return 0.0
    if k == 0:
        return mean(row, weights, where)
    low = min(z for z, _ in pairs)
    if math.isinf(k):
        return low
    total = sum(w for _, w in pairs)
    inner = sum(w / total * math.exp(-k * (z - low)) for z, w in pairs)
    if inner > 0.5:  # near 1 the logarithm keeps its digits only relative to 1
        excess = sum(w / total * math.expm1(-k * (z - low)) for z, w in pairs)
        return low - math.log1p(excess) / k
    return low - math.log(inner) / k


def softmin_gradient(row, k, weights=None, where=None):
    """w_m exp(-k z_m) / sum; the share of equal minima at k = inf; 0 for what is not there."""
    row = np.asarray(row, np.float64)
    weights = np.ones(len(row)) if weights is None else np.asarray(weights, np.float64)
    where = np.ones(len(row), bool) if where is None else np.asarray(where, bool)
    there = [m for m in range(len(row)) if where[m] and weights[m] > 0]
    gradient = np.zeros(len(row))
    if not there:
        return gradient
    low = min(row[m] for m in there)
    for m in there:
        if math.isinf(k):
            gradient[m] = float(row[m] == low)
        else:
            gradient[m] = weights[m] * math.exp(-k * (row[m] - low))
    return gradient / gradient.sum()


def mean(row, weights=None, where=None):
    """sum_m w_m z_m / sum_m w_m."""
    pairs = present(row, weights, where)
    return sum(w * z for z, w in pairs) / sum(w for _, w in pairs) if pairs else 0.0


def total(row, weights=None, where=None):
    """sum_m w_m z_m."""
    return float(sum(w * z for z, w in present(row, weights, where)))


def variance_penalized(row, beta, weights=None, where=None):
    """mean - beta * sum_m w_m (z_m - mean)^2 / sum_m w_m."""
    pairs = present(row, weights, where)
    if not pairs:
        return 0.0
    center = mean(row, weights, where)
    spread = sum(w * (z - center) ** 2 for z, w in pairs) / sum(w for _, w in pairs)
    return center - beta * spread


def level_softmin(row, k, levels, level_coef, weights=None, where=None):
    """softmin_k(Z + (c/k) m) - softmin_k((c/k) m), c = level_coef; a weighted mean at k = 0."""
    if level_coef == 0 or math.isinf(k):
        return softmin(row, k, weights, where)
    if k == 0:
        there = present(row, weights, where)
        low = [m for m, _ in present(levels, weights, where)]
        shares = [w * math.exp(-level_coef * m) for (_, w), m in zip(there, low, strict=True)]
        pairs = zip(there, shares, strict=True)
        return sum(z * share for (z, _), share in pairs) / sum(shares) if there else 0.0
    offset = np.asarray(levels, np.float64) * level_coef / k
    return softmin(np.asarray(row) + offset, k, weights, where) - softmin(offset, k, weights, where)


def levels(rewards, mask, spans):
    """Mean of each channel over its scored completions, 0 at its low and 1 at its high."""
    out = np.zeros((rewards.shape[0], rewards.shape[2]))
    for b, m in np.ndindex(*out.shape):
        scored = rewards[b, mask[b, :, m], m]
        low, high = spans[m]
        out[b, m] = ((scored.mean() if len(scored) else 0.0) - low) / (high - low)
    return out


def aggregate(
    row,
    method,
    *,
    risk_coef,
    variance_coef,
    weights=None,
    where=None,
    row_levels=None,
    level_coef=0,
):
    """One completion under a method name, or under a function of the row alone."""
    if callable(method):
        return method(np.asarray(row, np.float64))
    if method == "rvpo":
        return softmin(row, risk_coef, weights, where)
    if method == "rvpo_level":
        return level_softmin(row, risk_coef, row_levels, level_coef, weights, where)
    if method == "variance":
        return variance_penalized(row, variance_coef, weights, where)
    if method == "hard_min":
        return softmin(row, math.inf, weights, where)
    if method == "gdpo":
        return mean(row, weights, where)
    if method == "gdpo_sum":
        return total(row, weights, where)
    raise AssertionError(method)


def moments(values, ddof):
    """Mean and standard deviation of a list; 0 for a deviation without degrees of freedom."""
    center = sum(values) / len(values)
    squares = sum((value - center) ** 2 for value in values)
    return center, math.sqrt(squares / max(len(values) - ddof, 1))


def standardize(rewards, where, *, ddof, eps):
    """Z = (R - mean) / (std + eps) per prompt and channel; live where the scored values differ."""
    rewards = np.asarray(rewards, np.float64)
    num_prompts, group, num_channels = rewards.shape
    scores = np.zeros(rewards.shape)
    live = np.zeros((num_prompts, num_channels), bool)
    for b in range(num_prompts):
        for m in range(num_channels):
            scored = [g for g in range(group) if where[b, g, m]]
            values = [rewards[b, g, m] for g in scored]
            if not values or min(values) == max(values):
                continue
            live[b, m] = True
            center, std = moments(values, ddof)
            for g in scored:
                scores[b, g, m] = (rewards[b, g, m] - center) / (std + eps)
    return scores, live


def whiten(values, where, *, scope, eps, eps_on="std", lengths=None):
    """Standard score over the batch, over its tokens, or over each group."""
    values = np.asarray(values, np.float64)
    out = np.zeros(values.shape)
    cells = [(b, g) for b, g in np.ndindex(*values.shape) if where[b, g]]
    if scope == "none":
        parts = []
        for cell in cells:
            out[cell] = values[cell]
    elif scope == "group":
        parts = [[cell for cell in cells if cell[0] == b] for b in range(values.shape[0])]
    else:
        parts = [cells]
    for part in parts:
        repeats = [int(lengths[cell]) if scope == "token" else 1 for cell in part]
        pool = [values[cell] for cell, n in zip(part, repeats, strict=True) for _ in range(n)]
        if not pool or min(pool) == max(pool):
            continue
        center, std = moments(pool, ddof=1)
        scale = math.sqrt(std**2 + eps) if eps_on == "variance" else std + eps
        for cell in part:
            out[cell] = (values[cell] - center) / scale
    return out


def compute_advantages(
    rewards,
    where=None,
    *,
    method="rvpo",
    risk_coef=1.0,
    variance_coef=0.5,
    level_coef=10.0,
    spans=None,
    weights=None,
    ddof=1,
    eps=1e-6,
    dead_channels="keep",
    recenter=False,
    whiten_scope="batch",
    whiten_eps=1e-6,
    whiten_eps_on="std",
    lengths=None,
):
    """Standardise, aggregate, recentre, whiten; NaN is "not scored"."""
    rewards = np.asarray(rewards, np.float64)
    mask = ~np.isnan(rewards) & (True if where is None else np.asarray(where, bool))
    num_prompts, group, num_channels = rewards.shape
    scores, live = standardize(rewards, mask, ddof=ddof, eps=eps)
    scored = mask.any(-1)
    value = np.zeros((num_prompts, group))
    if method == "grpo":
        sums = np.zeros((num_prompts, group, 1))
        for b, g in np.ndindex(num_prompts, group):
            sums[b, g, 0] = total(rewards[b, g], weights, mask[b, g])
        value = standardize(sums, scored[..., None], ddof=ddof, eps=eps)[0][..., 0]
    else:
        group_levels = None if spans is None else levels(rewards, mask, spans)
        for b, g in np.ndindex(num_prompts, group):
            counted = mask[b, g] & live[b] if dead_channels == "drop" else mask[b, g]
            value[b, g] = aggregate(
                scores[b, g],
                method,
                risk_coef=risk_coef,
                variance_coef=variance_coef,
                weights=weights,
                where=counted,
                row_levels=None if spans is None else group_levels[b],
                level_coef=level_coef,
            )
    final = value.copy()
    if recenter:
        for b in range(num_prompts):
            if scored[b].any():
                final[b] -= final[b][scored[b]].mean()
    final = whiten(
        final, scored, scope=whiten_scope, eps=whiten_eps, eps_on=whiten_eps_on, lengths=lengths
    )
    return SimpleNamespace(
        advantages=final,
        scores=scores,
        aggregate=value,
        live=live,
        mask=mask,
        levels=[None] * num_prompts if spans is None else levels(rewards, mask, spans),
    )


def finite_difference(function, row, step=1e-6):
    """Central differences of a function of one row of scores."""
    row = np.asarray(row, np.float64)
    out = np.zeros(len(row))
    for m in range(len(row)):
        up, down = row.copy(), row.copy()
        up[m] += step
        down[m] -= step
        out[m] = (function(up) - function(down)) / (2 * step)
    return out


def trl_normalize_then_sum(rewards, weights):
    """TRL: z per reward (nanmean, nanstd ddof 1, eps 1e-4), weighted nansum, z over the batch."""
    z = (rewards - np.nanmean(rewards, 1, keepdims=True)) / (
        np.nanstd(rewards, 1, ddof=1, keepdims=True) + 1e-4
    )
    sums = np.nansum(z * np.asarray(weights), -1)
    return (sums - sums.mean()) / (sums.std(ddof=1) + 1e-4)


def verl_gdpo(rewards, lengths):
    """verl: z per key (ddof 1, eps 1e-6), sum, broadcast to tokens, masked_whiten."""
    z = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-6)
    sums = z.sum(-1)
    tokens = np.repeat(sums.ravel(), np.asarray(lengths).ravel())
    return (sums - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)


def nemo_gdpo(rewards, weights):
    """NeMo-RL without leave-one-out: z (divided only where std > 0), weighted sum, batch z."""
    std = rewards.std(1, ddof=1, keepdims=True)
    safe = np.where(std > 0, std + 1e-6, 1.0)
    sums = ((rewards - rewards.mean(1, keepdims=True)) / safe * np.asarray(weights)).sum(-1)
    return (sums - sums.mean()) / sums.std(ddof=1)


def token_logprobs(logits, tokens):
    """log softmax of the chosen token and -sum p log p, token by token."""
    logits = np.asarray(logits, np.float64)
    logprobs, entropy = np.zeros(tokens.shape), np.zeros(tokens.shape)
    for index in np.ndindex(*tokens.shape):
        row = logits[index]
        log_total = row.max() + math.log(np.exp(row - row.max()).sum())
        logprobs[index] = row[tokens[index]] - log_total
        entropy[index] = -sum(
            math.exp(x - log_total) * (x - log_total) for x in row if not math.isinf(x)
        )
    return logprobs, entropy


def policy_loss(
    logprobs,
    old_logprobs,
    advantages,
    mask,
    *,
    clip_low,
    clip_high,
    dual_clip=None,
    denominator="token",
    level="token",
):
    """The clipped loss of a batch, already divided by its denominator."""
    num_prompts, group, num_tokens = mask.shape
    loss, count = 0.0, 0.0
    for b, g in np.ndindex(num_prompts, group):
        positions = [c for c in range(num_tokens) if mask[b, g, c]]
        gaps = {c: logprobs[b, g, c] - old_logprobs[b, g, c] for c in positions}
        a, completion = advantages[b, g], 0.0
        for c in positions:
            gap = sum(gaps.values()) / len(gaps) if level == "sequence" else gaps[c]
            ratio = math.exp(gap)
            objective = min(ratio * a, min(max(ratio, 1 - clip_low), 1 + clip_high) * a)
            if dual_clip is not None and a < 0:
                objective = max(objective, dual_clip * a)
            completion -= objective
        if denominator == "sequence":
            loss += completion / max(len(positions), 1)
            count += 1
        else:
            loss += completion
            count += len(positions) if denominator == "token" else num_tokens
    return loss / count
