"""The layout of a run: what the config says, or a mesh that suits the model and the devices."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import jax

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config
from rvpo_jax.models import Model
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.parallel.devices import check_divisible, device_memory, run_devices
from rvpo_jax.run.parallel.layout import Layout
from rvpo_jax.run.parallel.replicated import Replicated
from rvpo_jax.run.parallel.sharded import Sharded
from rvpo_jax.run.parallel.table import AXES

LOG = logging.getLogger(__name__)

STATE_COPIES = 4  # of the parameters in float32: themselves, two moments, gradients
STATE_SHARE = 0.5  # of a device's memory that these may take; activations and a cache need the rest


def make_layout(
    config: Config, model: Model, devices: Sequence[jax.Device] | None = None
) -> Layout:
    """The layout of a run on the devices of all its processes.

    Args:
      config: of the run.
      model: its network, for the size of its parameters and its heads.
      devices: others than those of the processes, to compile for.

    Returns:
      The layout.

    Raises:
      ValueError: if the devices, the mesh or the prompts of a step do not go together.
    """
    options, loss = config.parallel, config.loss
    devices = run_devices(options.num_devices) if devices is None else devices
    num_prompts = config.rollout.num_prompts
    impl = options.impl or ("pmap" if processes.count() == 1 else "mesh")
    if impl != "mesh":
        layout: Layout = Replicated(devices, impl)
    else:
        shape = mesh_shape(options.mesh, len(devices))
        if shape is None:
            needed = STATE_COPIES * _num_bytes(model)
            memory = device_memory(jax.local_devices()[0])
            most = num_prompts // loss.num_minibatches
            shape = choose_mesh(len(devices), most, needed, memory, model.kv_heads)
        first = devices[0].process_index
        _check_tensor(shape[2], model, sum(d.process_index == first for d in devices))
        if loss.microbatch_tokens is not None and shape[0] * shape[1] > 1:
            raise Refusal(
                "loss.microbatch_tokens packs the completions of one device, got parallel.impl "
                f"mesh with {shape[0] * shape[1]} shards of prompts.",
                "Use loss.microbatch_size, or parallel.impl pmap.",
            )
        if devices[0].platform == "cpu" and sum(size > 1 for size in shape) > 1:
            LOG.warning(
                "On a CPU, the simulated devices of a mesh with several axes may wait for each "
                "other forever when it is busy, and XLA then ends the process: use one axis."
            )
        layout = Sharded(devices, shape, config.model.dtype)
    check_divisible(num_prompts, layout.num_shards, loss.num_minibatches)
    return layout


def mesh_shape(text: str | None, num_devices: int) -> tuple[int, int, int] | None:
    """A mesh as it is written.

    Args:
      text: such as ``data=2,fsdp=4``; what is not named is 1, but ``data``, which takes the rest.
      num_devices: of the run.

    Returns:
      Devices along data, fsdp and tensor; None where nothing is written.

    Raises:
      ValueError: if it is not a mesh of so many devices.

    >>> mesh_shape("fsdp=4", 8), mesh_shape("data=1,fsdp=2,tensor=2", 4)
    ((2, 4, 1), (1, 2, 2))
    """
    if text is None:
        return None
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if name.strip() not in AXES or name.strip() in sizes or not size.strip().isdecimal():
            raise Refusal(
                f"parallel.mesh must read data=..,fsdp=..,tensor=.., got {text!r}.",
                "For example fsdp=4: data takes the devices that are left.",
            )
        sizes[name.strip()] = int(size)
    rest = math.prod(sizes.get(axis, 1) for axis in AXES[1:])
    data = sizes.get("data", num_devices // max(rest, 1))
    shape = data, sizes.get("fsdp", 1), sizes.get("tensor", 1)
    if math.prod(shape) != num_devices:
        raise Refusal(
            f"parallel.mesh must have {num_devices} device(s), got {text!r}: "
            f"{' x '.join(map(str, shape))} = {math.prod(shape)}.",
            "Change a size, or parallel.num_devices.",
        )
    return shape


def choose_mesh(
    num_devices: int,
    num_prompts: int,
    num_bytes: int,
    memory: int | None,
    kv_heads: int | None,
) -> tuple[int, int, int]:
    """A mesh that suits a model: as few collectives as its memory and its prompts allow.

    Tensor shards only where there are fewer prompts than devices; parameters split over as many
    devices as it takes for them to leave half of the memory free.

    Args:
      num_devices: of the run.
      num_prompts: of a minibatch.
      num_bytes: of parameters, moments and gradients.
      memory: of a device; None: unknown, and then enough.
      kv_heads: key/value heads, which tensor shards divide; None: unknown.

    Returns:
      Devices along data, fsdp and tensor.

    >>> choose_mesh(8, 64, 10 * 2**30, 16 * 2**30, 2), choose_mesh(8, 4, 2**30, 16 * 2**30, 2)
    ((4, 2, 1), (4, 1, 2))
    """
    tensor = min(
        (
            size
            for size in _divisors(num_devices)
            if (kv_heads or 1) % size == 0 and num_prompts % (num_devices // size) == 0
        ),
        default=1,
    )
    shards = num_devices // tensor
    room = math.inf if memory is None else STATE_SHARE * memory
    fits = (size for size in _divisors(shards) if num_bytes / (size * tensor) <= room)
    fsdp = next(fits, shards)
    return shards // fsdp, fsdp, tensor


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def _num_bytes(model: Model) -> int:
    """Of the parameters that are trained, in float32."""
    shapes: Any = jax.eval_shape(model.adapters or model.init, jax.random.key(0))
    return sum(4 * leaf.size for leaf in jax.tree.leaves(shapes))


def _check_tensor(tensor: int, model: Model, num_local: int) -> None:
    if num_local % tensor:
        raise Refusal(
            f"parallel.mesh tensor={tensor} must divide the {num_local} device(s) of a process.",
            "A process has whole prompts: use fsdp over the processes.",
        )
    if model.kv_heads is not None and model.kv_heads % tensor:
        raise Refusal(
            f"parallel.mesh tensor={tensor} must divide the {model.kv_heads} key/value heads of "
            f"{model.name}.",
            "Use fsdp for the other devices.",
        )
