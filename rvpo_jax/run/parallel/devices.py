"""The devices of a run: which, how many, and how much memory they have."""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.basics.refusals import Refusal


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


def run_devices(num_devices: int | None = None) -> list[jax.Device]:
    """The devices of a run, those of each process together, in the order of the processes.

    Args:
      num_devices: how many of each process; None: all.

    Returns:
      The devices.

    Raises:
      ValueError: if there are fewer.
    """
    most = len(local_devices(num_devices))
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    return [device for index in sorted(by_process) for device in by_process[index][:most]]


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


def on_no_device(key: jax.Array) -> jax.Array:
    """A copy of a key that goes to whatever devices a mapped function has.

    Args:
      key: typed; one that was restored is bound to its device.

    Returns:
      The same key.
    """
    return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(key))))


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
