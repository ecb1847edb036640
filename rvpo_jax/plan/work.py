"""Floating-point operations of a function, counted in its jaxpr: loops, and kernels, included."""

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


def matmul_flops(jaxpr: Any) -> float:
    """Operations of the matrix products of a jaxpr, over all devices.

    Each product counts ``2 m n k`` as often as it runs: XLA's own analysis counts a loop's body
    once. What is recomputed in the backward pass counts. A Pallas kernel counts as its whole grid:
    an upper bound where it skips blocks. ``while_loop`` is counted once: its rounds are not known.

    Args:
      jaxpr: traced, before it is split over devices.

    Returns:
      The operations.

    >>> import jax, jax.numpy as jnp
    >>> five = lambda x: jax.lax.scan(lambda c, _: (c, x @ x.T), 0, None, length=5)
    >>> matmul_flops(jax.make_jaxpr(five)(jnp.ones((2, 3))).jaxpr)  # 5 * 2 * (2 * 3 * 2)
    120.0
    """
    return _count(getattr(jaxpr, "jaxpr", jaxpr))


def _count(jaxpr: Any) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            total += _of_product(eqn)
            continue
        if name == "cond":
            total += max(_count(branch.jaxpr) for branch in params["branches"])
            continue
        inner = sum(_count(sub) for sub in jaxprs_in_params(params))
        if name == "scan":
            inner *= params["length"]
        elif name == "shard_map":
            inner *= params["mesh"].size
        elif name == "pallas_call":
            inner *= math.prod(
                size for size in params["grid_mapping"].grid if isinstance(size, int)
            )
        total += inner
    return total


def _of_product(eqn: Any) -> float:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = eqn.invars[0].aval.shape
    return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
