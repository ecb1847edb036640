"""The aggregator's share of a step: timed on tiny, from the arithmetic of the shapes above it.

python experiments/overhead/run.py [--smoke] [--check]
"""

import sys
from pathlib import Path

import jax
import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

import config
from plot import plot
from step import step_calls, time_calls

from rvpo_jax import compute_advantages
from rvpo_jax.lab.evidence import Value, interval
from rvpo_jax.lab.experiment import Outcome, run_experiment
from rvpo_jax.models.flops import forward_flops
from rvpo_jax.models.presets import Architecture, architecture


def measure(seeds, smoke: bool) -> Outcome:
    """Times the tiny step; counts the rest."""
    del seeds
    repeats = config.SMOKE_REPEATS if smoke else config.REPEATS
    if smoke:
        values, parts = timed(config.SMOKE_TINY, config.SMOKE_METHODS, repeats)
    else:
        values, parts = timed(config.TINY, config.METHODS, repeats)
    counts, notes = {}, []
    for kind in config.SMOKE_SHAPES if smoke else config.SHAPES:
        shape = config.SHAPES[kind]
        cost = advantages_cost(shape, repeats)
        notes.append(
            f"{kind}: compute_advantages [{shape.num_prompts}, {shape.group_size}, "
            f"{shape.num_channels}]: {cost['flops']:.3g} FLOPs, {cost['bytes']:.3g} bytes (counted "
            f"by XLA), {1e3 * cost['seconds']:.2f} ms here"
        )
        for size in config.SMOKE_SIZES if smoke else config.SIZES:
            step = step_flops(architecture(size, 0), shape)
            share = cost["flops"] / step
            # The aggregator as slow as here, the step as fast as an H100 could be at best.
            worst = cost["seconds"] / (step / config.PEAK)
            counts[f"{kind}, {size}"] = {"step": step, "share": share, "worst": worst}
            values[f"{kind}, {size}: arithmetic/share of FLOPs"] = {"ours": share}
            values[f"{kind}, {size}: arithmetic/CPU time over H100 peak"] = {"ours": worst}
    data = {"parts": parts, "counts": counts, "paper": config.PAPER_SHARE}
    return Outcome(values=values, data=data, notes=tuple(notes))


def timed(run, methods, repeats: int) -> tuple[dict[str, Value], dict[str, float]]:
    """Shares of a step of ``run`` with intervals over repeats, and the median of each part."""
    steps, aggregator, _ = step_calls(run, methods)
    times = {name: np.array(x) for name, x in time_calls(steps | aggregator, repeats).items()}
    whole = sum(times[name] for name in steps if name != "update, gdpo")
    softmin, mean = times["soft minimum alone"], times["mean alone"]
    shares = {
        "compute_advantages, %": 100 * times["all of compute_advantages"] / whole,
        "soft minimum alone, %": 100 * softmin / whole,
        "soft minimum minus mean, %": 100 * (softmin - mean) / whole,
    }
    if len(methods) == 2:
        shares["update rvpo over gdpo"] = times["update, rvpo"] / times["update, gdpo"]
    values = {f"tiny: measured/{name}": interval(share) for name, share in shares.items()}
    return values, {name: float(np.median(x)) for name, x in times.items()}


def advantages_cost(shape: config.Shape, repeats: int) -> dict[str, float]:
    """FLOPs and bytes of ``compute_advantages`` as XLA counts them, and its seconds here."""
    dims = (shape.num_prompts, shape.group_size, shape.num_channels)
    rewards = jax.random.uniform(jax.random.key(0), dims)
    compiled = jax.jit(lambda x: compute_advantages(x)).lower(rewards).compile()
    cost = compiled.cost_analysis()
    seconds = np.median(time_calls({"all": lambda: compiled(rewards)}, repeats)["all"])
    flops = cost["flops"] + cost["transcendentals"]  # exp and log count as one
    return {"flops": flops, "bytes": cost["bytes accessed"], "seconds": float(seconds)}


def step_flops(arch: Architecture, shape: config.Shape) -> float:
    """FLOPs of sampling and one update: 8 per parameter and token, and attention.

    Four forward passes: one to sample, three for forward and backward of the update. No
    recomputation, no reference policy.
    """
    products, attention = forward_flops(
        arch, shape.num_prompts, shape.group_size, shape.prompt_tokens, shape.completion_tokens
    )
    return 4.0 * (products + attention)


if __name__ == "__main__":
    sys.exit(run_experiment(HERE, __doc__, measure, plot))
