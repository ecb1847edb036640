"""How many devices a run takes a CPU for: XLA leaves cores idle where the products are small."""

import json
import os
from pathlib import Path
from typing import Any

from rvpo_jax.config import Config
from rvpo_jax.run.parallel import simulate_cpu_devices

SMALL = ("tiny", "small")  # presets whose products are too small for two cores


def prepare_cpu_devices(config: Config, workdir: Path) -> None:
    """Takes a CPU for as many devices as suit the run; for a command, before JAX starts.

    A run that goes on keeps its number: sums over devices are rounded in another order on another
    number. Where the user chose one, in the config or in JAX's own settings, that counts.

    Args:
      config: of the run.
      workdir: its folder.
    """
    if config.parallel.impl == "mesh":
        # XLA's threads: a collective holds one while it waits, and a mesh has many at a time.
        os.environ.setdefault("NPROC", "64")
    if config.parallel.num_devices is None:
        simulate_cpu_devices(num_cpu_devices(config, workdir, os.cpu_count() or 1))


def num_cpu_devices(config: Config, workdir: Path, num_cores: int) -> int:
    """Devices that suit a process on a CPU: those that it has had, else two for a small model.

    On two cores, two are 1.2 to 1.4 times faster than one for ``tiny``, and 1.1 times for four
    layers of ``small``. More were not measured.

    Args:
      config: of the run.
      workdir: its folder.
      num_cores: of the machine.

    Returns:
      The number.
    """
    had = _devices_of(workdir)
    processes = config.parallel.processes or 1
    if had and len(had) % processes == 0 and all(name.startswith("cpu:") for name in had):
        return len(had) // processes
    parts = (config.loss.num_minibatches, config.rollout.num_parts)
    splits = all(config.rollout.num_prompts % (2 * number) == 0 for number in parts)
    small = config.model.path is None and config.model.preset in SMALL
    usual = config.parallel.impl != "jit"
    alone = processes == 1 and config.parallel.coordinator is None
    return 2 if small and splits and usual and alone and num_cores > 1 else 1


def _devices_of(workdir: Path) -> list[str]:
    """Devices in the header of the run's metrics; none where it has not begun."""
    try:
        with (workdir / "metrics.jsonl").open(encoding="utf-8") as file:
            header: Any = json.loads(file.readline(1 << 20)).get("header", {})
        return [str(name) for name in header.get("devices", ())]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return []  # what is wrong with it is said where it is read for good
