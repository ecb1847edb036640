"""The live view of a batch: against the run's own rule and against plain loops."""

import numpy as np
import oracle
import pytest

from rvpo_jax import AdvantageConfig, Channel, compute_advantages
from rvpo_jax.method.live_audit import make_comparison, make_live_audit

CHANNELS = (
    Channel(name="quality", low=0, high=5, pass_at=3),
    Channel(name="safety", pass_at=1, kind="constraint"),
    Channel(name="format", pass_at=1),
)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    rewards = rng.integers(0, 2, (6, 8, 3)).astype(np.float32)
    rewards[..., 0] = rng.integers(0, 6, (6, 8)) + 2 * (1 - rewards[..., 1])
    rewards[..., 0] = np.minimum(rewards[..., 0], 5)
    where = rng.random(rewards.shape) < 0.85
    lengths = rng.integers(1, 40, (6, 8))
    return np.where(where, rewards, 0), where, lengths


def look(config, channels, rewards, where, lengths, risk_coef=1.0):
    """The advantages of the rule in use, and all live metrics, other rules included."""
    judged = compute_advantages(rewards, where, config, lengths=lengths, risk_coef=risk_coef)
    metrics = make_live_audit(config, channels)(judged, rewards, where, risk_coef)
    compared = make_comparison(config, channels)(rewards, where, lengths, risk_coef)
    return judged.advantages, metrics | compared


@pytest.mark.slow
def test_quiet_failures_and_compensation_are_those_of_a_plain_loop():
    rewards, where, lengths = batch(1)
    config = AdvantageConfig(method="gdpo")
    used, metrics = look(config, CHANNELS, rewards, where, lengths)
    pass_at = [channel.pass_at for channel in CHANNELS]
    padded = np.where(where, rewards, np.nan)
    rules = {"used": "gdpo", "grpo": "grpo", "gdpo": "gdpo", "rvpo": "rvpo", "hard_min": "hard_min"}
    for name, method in rules.items():
        scope = "none" if method == "grpo" else "batch"
        advantage = oracle.compute_advantages(padded, method=method, whiten_scope=scope).advantages
        for m in range(3):
            failed = where[..., m] & (rewards[..., m] < pass_at[m])
            share = (failed & (advantage > 1e-5)).sum() / where[..., m].sum()
            assert float(metrics[f"audit/quiet_failures/{name}"][m]) == pytest.approx(share)
    unsafe = where[..., 1] & (rewards[..., 1] < 1)  # the one constraint is what is judged
    expected = np.mean(np.asarray(used)[unsafe] > 1e-5)
    assert float(metrics["audit/compensation"]) == pytest.approx(expected)


def test_without_a_constraint_every_failure_is_judged():
    rewards, where, lengths = batch(2)
    plain = [Channel(name=c.name, low=c.low, high=c.high, pass_at=c.pass_at) for c in CHANNELS]
    used, metrics = look(AdvantageConfig(), plain, rewards, where, lengths)
    failed = np.any(where & (rewards < [3, 1, 1]), -1)
    assert float(metrics["audit/compensation"]) == pytest.approx(
        np.mean(np.asarray(used)[failed] > 1e-5)
    )


def test_the_position_moves_from_mean_to_minimum():
    rewards, where, lengths = batch(3)

    def at(k, name):
        return float(look(AdvantageConfig(), CHANNELS, rewards, where, lengths, k)[1][name])

    positions = [at(k, "audit/position") for k in (0.0, 1.0, 9.0)]
    assert positions[0] == pytest.approx(0.0, abs=1e-6)
    assert positions[0] < positions[1] < positions[2] < 1
    effective = [at(k, "audit/effective_channels") for k in (0.0, 9.0)]
    # k = 0: all scored channels weigh the same.
    scored = where.sum(-1)
    assert effective[0] == pytest.approx(scored[scored > 0].mean(), rel=1e-5)
    assert effective[1] < effective[0]


def test_shares_of_minima_sum_to_one():
    rewards, where, lengths = batch(4)
    _, metrics = look(AdvantageConfig(), CHANNELS, rewards, where, lengths)
    assert float(metrics["audit/bottleneck"].sum()) == pytest.approx(1.0, abs=1e-6)
