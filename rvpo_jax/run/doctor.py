"""What this machine has and what it lacks."""

import importlib.util
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

CORE = (
    "jax jaxlib flax optax orbax-checkpoint tensorflow-datasets chex grain numpy scipy "
    "safetensors pyarrow tyro rich matplotlib"
).split()
# Module that shows whether an extra is there, and what it is for.
EXTRAS = {
    "tensorboardX": ("log", "TensorBoard sink"),
    "wandb": ("log", "Weights & Biases sink"),
    "gcsfs": ("gcs", "run folders in a bucket (gs://)"),
    "qwix": ("lora", "adapters (model.lora_rank)"),
    "tunix": ("tunix", "RVPO inside Tunix"),
    "libtpu": ("tpu", "Cloud TPU"),
    "jax_cuda13_plugin": ("cuda", "NVIDIA GPU"),
    "pytest": ("test", "the tests"),
}


def doctor(console: Console) -> int:
    """Prints versions, devices, memory and extras, with the command for what is missing.

    Args:
      console: where to print.

    Returns:
      0 when the core packages and a device are there, else 1.
    """
    table = Table(title="rvpo doctor", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("what", "found", "to do"):
        table.add_column(column)
    healthy = sys.version_info >= (3, 11)
    table.add_row("python", platform.python_version(), "" if healthy else "use 3.11 to 3.13")
    for name in CORE:
        try:
            table.add_row(name, metadata.version(name), "")
        except metadata.PackageNotFoundError:
            healthy = False
            table.add_row(name, "missing", "pip install rvpo-jax")
    table.add_section()
    try:
        import jax

        for device in jax.devices():
            table.add_row("device", escape(f"{device.platform}: {device.device_kind}"), "")
    except Exception as error:  # whatever a broken driver raises
        healthy = False
        table.add_row(
            "device",
            escape(f"none: {(str(error).splitlines() or [''])[0]}"),
            "JAX_PLATFORMS=cpu runs",
        )
    table.add_row("cores", str(os.cpu_count()), "")
    table.add_row("memory", _memory(), "")
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    hint = "" if cache else "JAX_COMPILATION_CACHE_DIR=DIR speeds up later starts"
    table.add_row("compilation cache", escape(cache or "off"), hint)
    table.add_section()
    for module, (extra, purpose) in EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        hint = "" if found else escape(f"pip install 'rvpo-jax[{extra}]'")
        table.add_row(f"{purpose} ({module})", "yes" if found else "no", hint)
    console.print(table)
    return 0 if healthy else 1


def _memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "unknown"
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return f"{kib['MemAvailable'] / 2**20:.1f} of {kib['MemTotal'] / 2**20:.1f} GiB free"
