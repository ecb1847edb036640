"""Several devices: the only file that names pmap, shard_map, meshes and shardings.

``B`` prompts over all devices. Parameters are replicated, prompts are split: right for policies
that fit one device.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rvpo_jax.basics.refusals import Refusal

AXIS = "data"


def local_devices(num_devices: int | None = None) -> list[jax.Device]:
    """The local devices of a run.

    Args:
      num_devices: how many; None: all.

    Returns:
      The first ``num_devices`` local devices.

    Raises:
      ValueError: if there are fewer.
    """
    devices = jax.local_devices()
    if num_devices is None:
        return devices
    if num_devices > len(devices):
        raise Refusal(
            f"parallel.num_devices must be at most {len(devices)}, the local devices, "
            f"got {num_devices}.",
            "Leave it out to use all of them.",
        )
    return devices[:num_devices]


def simulate_cpu_devices(num: int) -> None:
    """Takes a CPU for several devices; nothing happens where JAX has started or was told a number.

    Args:
      num: how many.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if num > 1 and not told and getattr(jax.config, "jax_num_cpu_devices", 0) < 0:
        with contextlib.suppress(RuntimeError):  # devices are in use already
            jax.config.update("jax_num_cpu_devices", num)


def check_divisible(num_prompts: int, num_devices: int, num_parts: int) -> None:
    """Refuses a batch that does not split evenly.

    Args:
      num_prompts: B.
      num_devices: devices of the run.
      num_parts: minibatches.

    Raises:
      ValueError: naming the numbers.
    """
    if num_prompts % (num_devices * num_parts):
        raise Refusal(
            f"rollout.num_prompts = {num_prompts} must be divisible by {num_devices} device(s) "
            f"times {num_parts} minibatch(es) = {num_devices * num_parts}.",
            "Groups never straddle devices: change rollout.num_prompts, or parallel.num_devices.",
        )


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    # Auto: an Explicit mesh, the default of make_mesh, breaks pmap and optax losses.
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts a copy of every array on every device, as the mapped functions return it.

    Without it the first call of a mapped function would compile once more than needed.

    Args:
      tree: arrays.
      devices: the devices of the run.

    Returns:
      The same tree, replicated.
    """
    sharding = NamedSharding(_mesh(devices), PartitionSpec())
    return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)


def on_no_device(key: jax.Array) -> jax.Array:
    """A copy of a key that goes to whatever devices a mapped function has.

    Args:
      key: typed; one that was restored is bound to its device.

    Returns:
      The same key.
    """
    return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(key))))


# Compiling is most of a short run on a CPU. These halve its time and its memory; a step takes about
# as long (within what two idle runs differ). Flags in XLA_FLAGS win.
QUICK_ON_CPU: dict[str, str | bool] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": "1",
}


class Compiled:
    """A function over all devices, compiled once per shape of its arrays.

    Args:
      function: jitted or pmapped, ``(tree, arrays)`` to its result.
      prepare: lays the arrays out as ``function`` takes them.
      platform: of the devices.
    """

    def __init__(self, function: Any, prepare: Callable[[Any], Any], platform: str) -> None:
        self._function, self._prepare, self._platform = function, prepare, platform
        self._programs: dict[Any, Any] = {}

    def __call__(self, tree: Any, arrays: Any) -> Any:
        """The function's result; ``arrays`` have the whole B."""
        return self.program(tree, arrays)(tree, self._prepare(arrays))

    def program(self, tree: Any, arrays: Any) -> Any:
        """What is compiled for arrays of these shapes; it tells how much memory it takes."""
        leaves, structure = jax.tree.flatten(arrays)
        key = (structure, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if key not in self._programs:
            lowered = self._function.lower(tree, self._prepare(arrays))
            options = _known_options() if self._platform == "cpu" else {}
            self._programs[key] = lowered.compile(options or None)
        return self._programs[key]


@functools.cache
def _known_options() -> dict[str, Any]:
    """Those of ``QUICK_ON_CPU`` that this version of XLA has."""
    known = {}
    for name, value in QUICK_ON_CPU.items():
        if name in os.environ.get("XLA_FLAGS", ""):
            continue
        try:
            jax.jit(lambda: 0).lower().compile({name: value})
        except jax.errors.JaxRuntimeError:  # no such option
            continue
        known[name] = value
    return known


def data_parallel(
    function: Callable[..., Any], devices: Sequence[jax.Device], impl: str = "pmap"
) -> Compiled:
    """Runs ``train_step(state, batch, axis_name)`` on several devices as on one.

    Args:
      function: takes a replicated tree, a batch and ``axis_name``; returns replicated trees.
      devices: the devices of the run.
      impl: pmap, shard_map, or jit for one device.

    Returns:
      ``(state, batch)`` to the function's result; ``batch`` has the whole B, and the state is used
      up.

    Raises:
      ValueError: if impl is jit and there are several devices.
    """

    platform = devices[0].platform

    def as_it_is(batch: Any) -> Any:
        return batch

    if impl == "jit":
        if len(devices) > 1:
            raise Refusal(
                f"parallel.impl jit runs on one device, got {len(devices)}.",
                "Use pmap, or parallel.num_devices 1.",
            )
        return Compiled(jax.jit(function, donate_argnums=0), as_it_is, platform)
    bound = functools.partial(function, axis_name=AXIS)
    if impl == "shard_map":
        mapped = jax.shard_map(
            bound,
            mesh=_mesh(devices),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            # The step sums gradients itself; with the check on they arrive summed already.
            check_vma=False,
        )
        return Compiled(jax.jit(mapped, donate_argnums=0), as_it_is, platform)
    mapped = jax.pmap(
        bound, AXIS, devices=devices, in_axes=(None, 0), out_axes=None, donate_argnums=0
    )
    return Compiled(mapped, lambda batch: split(batch, len(devices)), platform)


def device_memory(device: jax.Device) -> int | None:
    """Bytes that arrays may take on a device; on a CPU, of the machine.

    Args:
      device: one of the run's.

    Returns:
      The limit, or None where it is not known.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform != "cpu" or not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def map_prompts(
    function: Callable[..., Any], devices: Sequence[jax.Device], impl: str = "pmap"
) -> Callable[..., Any]:
    """Runs ``sample(params, *per_prompt)`` with the prompts split over devices.

    Args:
      function: takes a replicated tree, then arrays with a leading B; returns arrays with a
        leading B.
      devices: the devices of the run.
      impl: pmap, shard_map, or jit for one device.

    Returns:
      The function over the whole B.
    """

    platform = devices[0].platform

    def packed(tree: Any, arrays: tuple) -> Any:
        return function(tree, *arrays)

    def as_it_is(arrays: tuple) -> tuple:
        return arrays

    if impl == "jit":
        whole = Compiled(jax.jit(packed), as_it_is, platform)
        return lambda tree, *arrays: whole(tree, arrays)
    if impl == "shard_map":
        mapped = jax.shard_map(
            packed,
            mesh=_mesh(devices),
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        sharded = Compiled(jax.jit(mapped), as_it_is, platform)
        return lambda tree, *arrays: sharded(tree, arrays)
    pmapped = jax.pmap(packed, AXIS, devices=devices, in_axes=(None, 0))
    parts = Compiled(pmapped, lambda arrays: split(arrays, len(devices)), platform)
    return lambda tree, *arrays: merge(parts(tree, arrays))


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
