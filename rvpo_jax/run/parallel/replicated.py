"""Parameters on every device, prompts split: pmap, or jit on one device.

Right for policies that fit one device. ``B`` prompts over all devices.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.parallel.compiled import Compiled

AXIS = "data"


class Replicated:
    """A layout; see ``Layout`` for its methods.

    Args:
      devices: of the run.
      impl: pmap, or jit for one device.

    Raises:
      ValueError: if impl is jit and there are several devices.
    """

    def __init__(self, devices: Sequence[jax.Device], impl: str = "pmap") -> None:
        if impl == "jit" and len(devices) > 1:
            raise Refusal(
                f"parallel.impl jit runs on one device, got {len(devices)}.",
                "Use pmap, or parallel.num_devices 1.",
            )
        self.devices = tuple(devices)
        self.num_shards = len(self.devices)
        self._impl = impl
        # Auto: an Explicit mesh, the default of make_mesh, breaks pmap and optax losses.
        mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._everywhere = NamedSharding(mesh, PartitionSpec())

    def describe(self) -> str:
        """A few words for people."""
        return f"{len(self.devices)} {self.devices[0].platform} device(s), {self._impl}"

    def microbatch_size(self, size: int | None) -> int | None:
        """The same: a step sees its device's prompts."""
        return size

    def place(self, tree: Any) -> Any:
        """A copy of every array on every device, as the mapped functions return it.

        Without it the first call of a mapped function would compile once more than needed.
        """
        return jax.tree.map(lambda x: jax.device_put(x, self._everywhere), tree)

    def shapes(self, tree: Any) -> Any:
        """The same shapes: what is restored goes to one device first."""
        return tree

    def create(self, make: Callable[..., Any], *args: Any) -> Any:
        """What ``make`` returns, on one device."""
        return make(*args)

    def step(self, train_step: Callable[..., Any]) -> Compiled:
        """The step over all devices."""
        platform = self.devices[0].platform
        if self._impl == "jit":
            return Compiled(jax.jit(train_step, donate_argnums=0), _as_it_is, platform)
        bound = functools.partial(train_step, axis_name=AXIS)
        mapped = jax.pmap(
            bound, AXIS, devices=self.devices, in_axes=(None, 0), out_axes=None, donate_argnums=0
        )
        return Compiled(mapped, lambda batch: split(batch, len(self.devices)), platform)

    def map_prompts(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function over the whole B."""

        def packed(tree: Any, arrays: tuple) -> Any:
            return function(tree, *arrays)

        platform = self.devices[0].platform
        if self._impl == "jit":
            return Compiled(jax.jit(packed), _as_it_is, platform)
        mapped = jax.pmap(packed, AXIS, devices=self.devices, in_axes=(None, 0))
        parts = Compiled(mapped, lambda arrays: split(arrays, len(self.devices)), platform)
        return lambda tree, arrays: merge(parts(tree, arrays))

    map_batch = map_prompts

    def host_rows(self, tree: Any) -> Any:
        """All rows: there is one process."""
        return jax.device_get(tree)

    def for_sampling(self, params: Any) -> Any:
        """The parameters themselves: every device has them."""
        return params

    def sampling_shapes(self, params: Any) -> Any:
        """The shapes themselves."""
        return params

    @property
    def placement(self) -> None:
        """None: a device has its own share of the prompts, and all parameters."""
        return None

    def constrain_params(self, params: Any) -> Any:
        """The parameters themselves."""
        return params


def _as_it_is(arrays: Any) -> Any:
    return arrays


def split(tree: Any, num_devices: int) -> Any:
    """``[B, ...]`` to ``[devices, B / devices, ...]``.

    Args:
      tree: arrays with a leading B.
      num_devices: how many parts.

    Returns:
      The tree with a device axis in front.
    """
    return jax.tree.map(
        lambda x: x.reshape(num_devices, x.shape[0] // num_devices, *x.shape[1:]), tree
    )


def merge(tree: Any) -> Any:
    """``[devices, B / devices, ...]`` back to ``[B, ...]``.

    Args:
      tree: arrays with a leading device axis.

    Returns:
      The tree without it.
    """
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)
