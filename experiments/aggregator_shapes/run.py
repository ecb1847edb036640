"""Mean, soft minimum, explicit variance and minimum as functions of the channels; float32 error.

python experiments/aggregator_shapes/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import config
from plot import plot

from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.method.aggregators import (
    mean_aggregate,
    min_aggregate,
    softmin_aggregate,
    variance_penalized_aggregate,
)


def aggregators() -> dict:
    """By name, functions ``[..., M] -> [...]``; beta = k/2 at k = 1."""
    softmins = {
        f"RVPO k={k:g}": lambda z, k=k: softmin_aggregate(z, risk_coef=k) for k in config.RISK_COEFS
    }
    return {
        "GDPO (mean)": mean_aggregate,
        **softmins,
        "variance beta=0.5": lambda z: variance_penalized_aggregate(z, variance_coef=0.5),
        "hard-min": min_aggregate,
    }


def softmin_float64(scores: np.ndarray, k: float) -> np.ndarray:
    """Straight from the definition, in double precision; the mean plus its first corrections at
    small k, where the definition itself loses digits."""
    z = np.asarray(scores, np.float64)
    if k < 1e-4:
        centred = z - z.mean(-1, keepdims=True)
        return z.mean(-1) - k / 2 * (centred**2).mean(-1) + k**2 / 6 * (centred**3).mean(-1)
    low = z.min(-1, keepdims=True)
    return low[..., 0] - np.log(np.mean(np.exp(-k * (z - low)), -1)) / k


def textbook(scores: np.ndarray, k: float) -> np.ndarray:
    """-log(mean(exp(-k z))) / k in float32, as it is usually written."""
    z, k32 = np.asarray(scores, np.float32), np.float32(k)
    with np.errstate(over="ignore", divide="ignore"):
        return -np.log(np.mean(np.exp(-k32 * z), -1, dtype=np.float32)) / k32


def log_sum_exp(scores: np.ndarray, k: float) -> np.ndarray:
    """The same by a stable log-sum-exp, in float32."""
    z, k32 = -np.float32(k) * np.asarray(scores, np.float32), np.float32(k)
    high = z.max(-1, keepdims=True)
    total = np.mean(np.exp(z - high), -1, dtype=np.float32)
    return -(high[..., 0] + np.log(total)) / k32


def ours(scores: np.ndarray, k: float) -> np.ndarray:
    """The package's soft minimum."""
    return np.asarray(softmin_aggregate(jnp.asarray(scores), risk_coef=k))


def numeric_errors(rows: np.ndarray) -> dict:
    """Largest absolute error of three float32 forms, over k."""
    return {
        form.__name__: [
            float(np.abs(form(rows, k) - softmin_float64(rows, k)).max())
            for k in config.NUMERIC_COEFS
        ]
        for form in (textbook, log_sum_exp, ours)
    }


def taylor_errors(rows: np.ndarray) -> dict:
    """Mean absolute error of the series after the mean, the variance and the skewness."""
    z = rows.astype(np.float64)
    mean = z.mean(-1)
    second, third = ((z - mean[:, None]) ** 2).mean(-1), ((z - mean[:, None]) ** 3).mean(-1)
    found: dict = {"mean": [], "mean - k/2 var": [], "+ k^2/6 third moment": []}
    for k in config.TAYLOR_COEFS:
        exact = softmin_float64(z, k)
        series = (mean, mean - k / 2 * second, mean - k / 2 * second + k**2 / 6 * third)
        for name, value in zip(found, series, strict=True):
            found[name].append(float(np.abs(value - exact).mean()))
    return found


def measure(seeds, smoke: bool) -> Outcome:
    """Curves over one channel, indifference over two, penalties, errors."""
    del seeds
    grid = np.linspace(-3, 3, config.SMOKE_GRID if smoke else config.GRID)
    pair = np.stack(np.meshgrid(grid, grid), -1).astype(np.float32)  # [y, x, 2]
    line = np.stack([grid, np.zeros_like(grid)], -1).astype(np.float32)
    apart = np.stack([grid, -grid], -1).astype(np.float32)  # mean 0, deviation |grid|
    num_rows = config.SMOKE_ROWS if smoke else config.ROWS
    rng = np.random.default_rng(config.ROW_SEED)
    rows = rng.normal(size=(num_rows, config.CHANNELS)).astype(np.float32)

    values, data = {}, {"grid": grid, "line": {}, "plane": {}, "penalty": {}, "weight": {}}
    for name, function in aggregators().items():
        data["line"][name] = np.asarray(function(jnp.asarray(line)))
        data["plane"][name] = np.asarray(function(jnp.asarray(pair)))
        data["penalty"][name] = -np.asarray(function(jnp.asarray(apart)))
        for deviation in (0.5, 3.0):
            row = jnp.array([deviation, -deviation])
            values[f"{name}/penalty at deviation {deviation:g}"] = {
                "ours": float(0 - function(row))
            }
    for k in config.RISK_COEFS:
        data["weight"][f"RVPO k={k:g}"] = 1 / (1 + np.exp(-k * grid))
    data["numeric"] = {"k": config.NUMERIC_COEFS, **numeric_errors(rows)}
    data["taylor"] = {"k": config.TAYLOR_COEFS, **taylor_errors(rows)}
    for form in ("textbook", "log_sum_exp", "ours"):
        finite = [e for e in data["numeric"][form] if np.isfinite(e)]
        values[f"float32 error, {form}/largest finite"] = {"ours": max(finite)}
        overflows = len(config.NUMERIC_COEFS) - len(finite)
        values[f"float32 error, {form}/values of k that overflow"] = {"ours": float(overflows)}
    return Outcome(values=values, data=data)


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot))
