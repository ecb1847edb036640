"""Several devices and processes: the only room that names pmap, meshes, shardings, distributed.

``make_layout`` gives a run its ``Layout``; nothing outside asks which one it is.
"""

from rvpo_jax.run.parallel import processes
from rvpo_jax.run.parallel.choose import make_layout
from rvpo_jax.run.parallel.compiled import Compiled
from rvpo_jax.run.parallel.devices import (
    check_divisible,
    device_memory,
    local_devices,
    on_no_device,
    simulate_cpu_devices,
)
from rvpo_jax.run.parallel.layout import Layout
from rvpo_jax.run.parallel.replicated import Replicated
from rvpo_jax.run.parallel.sharded import Sharded

__all__ = [
    "Compiled",
    "Layout",
    "Replicated",
    "Sharded",
    "check_divisible",
    "device_memory",
    "local_devices",
    "make_layout",
    "on_no_device",
    "processes",
    "simulate_cpu_devices",
]
