"""The parameters that a run starts from: what it trains, and what stays as it is."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.models import Model
from rvpo_jax.run.parallel import Layout


def initial_params(config: Config, model: Model, layout: Layout) -> Any:
    """What is trained, at step 0: new adapters, else the start itself.

    Args:
      config: of the run; the same config gives the same parameters.
      model: its network.
      layout: where the parameters go.

    Returns:
      A parameter tree.
    """
    if model.adapters is None:
        return _start(config, model, layout)
    make = model.adapters
    return layout.create(lambda: make(_key(config, 0x10FA)))


def frozen_params(config: Config, model: Model, layout: Layout) -> Any:
    """What stays as it is: the start where adapters are trained, else nothing.

    Args:
      config: see ``initial_params``.
      model: see ``initial_params``.
      layout: see ``initial_params``.

    Returns:
      A parameter tree, or ``()``.
    """
    return () if model.adapters is None else _start(config, model, layout)


def frozen_as_before(config: Config, model: Model, layout: Layout, meta: Mapping[str, Any]) -> Any:
    """``frozen_params`` for the adapters of a checkpoint.

    Args:
      config: see ``initial_params``.
      model: see ``initial_params``.
      layout: see ``initial_params``.
      meta: of the checkpoint, with the fingerprint under ``frozen``.

    Returns:
      A parameter tree on one device, or ``()``.

    Raises:
      ValueError: if they are not those that the adapters were trained with.
    """
    frozen = frozen_params(config, model, layout)
    if fingerprint(frozen) != meta.get("frozen", 0):
        raise Refusal(
            f"the parameters that {model.name} starts from have changed since the checkpoint, "
            "whose adapters mean nothing without them.",
            "Restore the folder in model.path, or choose another --workdir.",
        )
    return frozen


def fingerprint(tree: Any) -> int:
    """A number that changes with the bits of the arrays, whatever devices they are on.

    Args:
      tree: of arrays with two or four bytes an entry.

    Returns:
      Below 2^32; 0 for nothing.

    >>> fingerprint([jnp.array([1.0, 2.0])]) == fingerprint([jnp.array([2.0, 1.0])])
    False
    """

    @jax.jit
    def total(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}").astype(jnp.uint32)
        # A sum that wraps around has no order; the odd factors tell places apart.
        place = 2 * jnp.arange(x.size, dtype=jnp.uint32) + 1
        return jnp.sum(bits.reshape(-1) * place, dtype=jnp.uint32)

    sums = [int(total(jnp.asarray(leaf))) for leaf in jax.tree.leaves(tree)]
    return sum((2 * index + 1) * value for index, value in enumerate(sums)) % 2**32


def _start(config: Config, model: Model, layout: Layout) -> Any:
    """Warm, random, or the weights of a folder."""
    init = str(config.model.init)
    if init == "auto":
        embedded = config.data.source == "embedded" and config.model.preset == "tiny"
        init = config.model.path or ("warm" if embedded else "random")
    if init == "random":
        return layout.create(lambda: model.init(_key(config, 0xF00D)))
    return model.load(init)


def _key(config: Config, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), purpose)
