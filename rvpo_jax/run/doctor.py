"""What this machine has and what it lacks, before a run is started on it."""

import importlib.util
import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rvpo_jax.run.worker import Finding, find_coordinator, find_storage

# Module that shows whether an extra is there, and what it is for.
EXTRAS = {
    "tensorboardX": ("log", "TensorBoard sink"),
    "wandb": ("log", "Weights & Biases sink"),
    "gcsfs": ("gcs", "run folders in a bucket (gs://)"),
    "qwix": ("lora", "adapters (model.lora_rank)"),
    "langdetect": ("ifeval", "five of IFEval's 25 kinds of instruction"),
    "tunix": ("tunix", "RVPO inside Tunix"),
    "libtpu": ("tpu", "Cloud TPU"),
    "jax_cuda13_plugin": ("cuda", "NVIDIA GPU"),
    "pytest": ("test", "the tests"),
}


def doctor(console: Console, workdir: str | None = None, coordinator: str | None = None) -> int:
    """Prints what a run needs and what was found of it, with the cure for what is missing.

    Args:
      console: where to print.
      workdir: folder that a run will use, or ``gs://BUCKET/FOLDER``; None: not looked at.
      coordinator: ``HOST:PORT`` of process 0; None: not looked at.

    Returns:
      0 when a run has what it needs, else 1.

    Raises:
      ValueError: if ``coordinator`` is no ``HOST:PORT``.
    """
    reached = [*find_storage(workdir), find_coordinator(coordinator)]  # a bad value comes first
    sections = [_versions(), [*_devices(), *_machine()], reached, _extras()]
    table = Table(title="rvpo doctor", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("what", "found", "to do"):
        table.add_column(column)
    for section in sections:
        for one in section:
            found = f"[bold]{escape(one.found)}[/bold]" if one.missing else escape(one.found)
            table.add_row(escape(one.what), found, escape(one.remedy))
        table.add_section()
    console.print(table)
    missing = [one.what for section in sections for one in section if one.missing]
    console.print(
        escape(f"A run would fail here: {', '.join(missing)}.")
        if missing
        else "Nothing that was looked at is missing."
    )
    return 1 if missing else 0


def _versions() -> Iterable[Finding]:
    """Python and each package that rvpo-jax requires, against the oldest that it takes."""
    old = sys.version_info < (3, 11)
    yield Finding("python", platform.python_version(), "use 3.11 to 3.13" if old else "", old)
    try:
        requires = metadata.requires("rvpo-jax") or []
    except metadata.PackageNotFoundError:
        yield Finding("rvpo-jax", "not installed: versions not looked at", "pip install -e .", True)
        return
    for requirement in map(Requirement, requires):
        if requirement.marker is not None:  # of an extra
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(requirement.name, "missing", "pip install rvpo-jax", True)
            continue
        wrong = not requirement.specifier.contains(version, prereleases=True)
        remedy = f"pip install '{requirement}'" if wrong else ""
        yield Finding(requirement.name, version, remedy, wrong)


def _devices() -> Iterable[Finding]:
    from rvpo_jax.run.parallel import device_memory

    try:
        import jax

        devices = jax.local_devices()
    except Exception as error:  # whatever a broken driver raises
        reason = (str(error).splitlines() or [""])[0]
        yield Finding("device", f"none: {reason}", "JAX_PLATFORMS=cpu runs", True)
        return
    for device in devices:
        memory = device_memory(device)
        size = "memory unknown" if memory is None else f"{memory / 2**30:.1f} GiB"
        yield Finding("device", f"{device.platform}: {device.device_kind}, {size}")


def _machine() -> Iterable[Finding]:
    yield Finding("cores", str(os.cpu_count()))
    yield Finding("memory", _memory())
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    remedy = "" if cache else "JAX_COMPILATION_CACHE_DIR=DIR speeds up later starts"
    yield Finding("compilation cache", cache or "off", remedy)


def _memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "unknown"
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return f"{kib['MemAvailable'] / 2**20:.1f} of {kib['MemTotal'] / 2**20:.1f} GiB free"


def _extras() -> Iterable[Finding]:
    for module, (extra, purpose) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        remedy = "" if there else f"pip install 'rvpo-jax[{extra}]'"
        yield Finding(f"{purpose} ({module})", "yes" if there else "no", remedy)
