"""Published rules in float64 with explicit loops, written from their formulas.

Imports nothing from the package. Rewards are ``[B, G, M]``, ``where`` says what was scored; each
function returns ``[B, G]`` before whitening, a rule with memory also its memory.
"""

import math

import numpy as np
import oracle


def scored(where, b, g):
    return [m for m in range(where.shape[2]) if where[b, g, m]]


def per_completion(rewards, where, value):
    """``value(b, g, channels)`` of every completion that has channels; 0 elsewhere."""
    out = np.zeros(rewards.shape[:2])
    for b, g in np.ndindex(*out.shape):
        channels = scored(where, b, g)
        out[b, g] = value(b, g, channels) if channels else 0.0
    return out


def grpo_of(values, where, eps=1e-6):
    """One number per completion, standardised in its group."""
    there = where.any(-1)
    return oracle.standardize(values[..., None], there[..., None], ddof=1, eps=eps)[0][..., 0]


def scores_of(rewards, where, eps=1e-6):
    return oracle.standardize(rewards, where, ddof=1, eps=eps)[0]


def mo_grpo(rewards, where):
    z = scores_of(rewards, where)
    return per_completion(rewards, where, lambda b, g, ms: sum(z[b, g, m] for m in ms))


def cvar(rewards, where, tail, weights):
    """The expectation of the worst tail: take channels from the worst on until it is full."""
    z = scores_of(rewards, where)

    def value(b, g, ms):
        total = sum(weights[m] for m in ms)
        left, out = tail, 0.0
        for m in sorted(ms, key=lambda m: z[b, g, m]):
            taken = min(weights[m] / total, left)
            out, left = out + taken * z[b, g, m], left - taken
        return out / tail

    return per_completion(rewards, where, value)


def soft_and(rewards, where, targets):
    def value(b, g, ms):
        return sum(-math.log(1 + math.exp(targets[m] - rewards[b, g, m])) for m in ms)

    return grpo_of(per_completion(rewards, where, value), where)


def tchebycheff(rewards, where, ideal, mu, weights):
    def value(b, g, ms):
        total = sum(weights[m] for m in ms)
        gaps = [weights[m] / total * (ideal[m] - rewards[b, g, m]) for m in ms]
        if mu == 0:
            return -max(gaps)
        return -mu * math.log(sum(math.exp(gap / mu) for gap in gaps))

    return grpo_of(per_completion(rewards, where, value), where)


def utility(rewards, where, spans, k, c, weights):
    """-(1/k) log sum_m w_m exp(-k Z_m), w_m ~ weight * sd_m * exp(-c * level_m), in range units."""
    z, out = scores_of(rewards, where), np.zeros(rewards.shape[:2])
    for b, g in np.ndindex(*out.shape):
        pull = {}
        for m in scored(where, b, g):
            low, high = spans[m]
            values = (rewards[b, where[b, :, m], m] - low) / (high - low)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            pull[m] = weights[m] * spread * math.exp(-c * values.mean())
        total = sum(pull.values())
        if total > 0:
            out[b, g] = (
                -math.log(sum(w / total * math.exp(-k * z[b, g, m]) for m, w in pull.items())) / k
            )
    return out


def batch_mean(values, where, m):
    return values[..., m][where[..., m]].mean()


def lagrangian(rewards, where, targets, multipliers, rate, largest, after_use):
    """``targets``: by channel, None where there is none."""
    moved = list(multipliers)
    for m, target in enumerate(targets):
        if target is not None:
            step = rate * (target - batch_mean(rewards, where, m))
            moved[m] = min(max(multipliers[m] + step, 0.0), largest)
    used = multipliers if after_use else moved
    factor = [1.0 if target is None else used[m] for m, target in enumerate(targets)]
    total = per_completion(
        rewards, where, lambda b, g, ms: sum(factor[m] * rewards[b, g, m] for m in ms)
    )
    return grpo_of(total, where), moved


def constrained_grpo(rewards, where, targets, spans, pass_at, multipliers, rate, largest):
    cost = (rewards < np.asarray(pass_at)).astype(float)
    z, z_cost = scores_of(rewards, where), scores_of(cost, where)
    moved = list(multipliers)
    for m, target in enumerate(targets):
        if target is not None:
            low, high = spans[m]
            step = rate * (batch_mean(cost, where, m) - (high - target) / (high - low))
            moved[m] = min(max(multipliers[m] + step, 0.0), largest)

    def value(b, g, ms):
        return sum(
            z[b, g, m] if targets[m] is None else -multipliers[m] * z_cost[b, g, m] for m in ms
        )

    return per_completion(rewards, where, value), moved
