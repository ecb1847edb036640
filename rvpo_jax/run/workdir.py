"""The folder of a run: may it be used, does it hold another run, what describes the run."""

import contextlib
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from rvpo_jax.config import Config

# Fields that may differ between a run and its continuation: they change no number of the training.
HARMLESS = ("steps", "log.", "checkpoint.", "eval.", "parallel.", "data.reward_threads")


def check_workdir(config: Config, workdir: Path) -> None:
    """Refuses a folder that cannot be used, or that holds a run with another config.

    Args:
      config: the run.
      workdir: its folder.

    Raises:
      ValueError: naming the folder or the differing fields.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / ".write_test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"workdir must be a folder that can be written to, got {workdir}: {error.strerror}.\n"
            "  Choose another --workdir."
        ) from None
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        stored = json.loads(path.read_text())
    except ValueError:
        raise ValueError(
            f"{path} is not valid JSON.\n  Restore it, or choose another --workdir."
        ) from None
    # A field that is newer than the stored run had its default there.
    lines = differing_fields(_filled(stored, Config().to_dict()), config.to_dict())
    if lines:
        raise ValueError(
            f"workdir {workdir} holds a run with another config; differing fields "
            "(there -> here):\n    "
            + "\n    ".join(lines)
            + "\n  Choose another --workdir, or give the same values."
        )


def write_config(config: Config, workdir: Path) -> None:
    """Writes config.json, all or nothing.

    Args:
      config: the run.
      workdir: its folder.
    """
    part = workdir / "config.json.part"
    part.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    part.replace(workdir / "config.json")


def differing_fields(stored: Mapping, current: Mapping, prefix: str = "") -> list[str]:
    """Fields that differ between two config dictionaries, harmless ones left out.

    Args:
      stored: of the workdir.
      current: of this command.
      prefix: path of the two in the whole.

    Returns:
      One line per field: ``name: stored -> current``.

    >>> differing_fields({"seed": 0, "steps": 5}, {"seed": 1, "steps": 9})
    ['seed: 0 -> 1']
    """
    lines = []
    for name in sorted({*stored, *current}):
        path = f"{prefix}{name}"
        old, new = stored.get(name), current.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and path != "advantage.weights":
            lines += differing_fields(old, new, f"{path}.")
        elif old != new and not path.startswith(HARMLESS):
            lines.append(f"{path}: {old} -> {new}")
    return lines


def _filled(stored: Mapping, defaults: Mapping) -> dict[str, Any]:
    """The stored config with today's default where it lacks a field."""
    filled = {**defaults, **stored}
    for name, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(stored.get(name), Mapping):
            filled[name] = _filled(stored[name], value)
    return filled


def run_header(config: Config, devices: Sequence[jax.Device]) -> dict[str, Any]:
    """What the first line of metrics.jsonl says of the run.

    Args:
      config: the run.
      devices: of the run.

    Returns:
      Hash of the config, git commit of the package where it has one, versions, devices.
    """
    text = json.dumps(config.to_dict(), sort_keys=True)
    packages = ("rvpo-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "git_commit": _git_commit(),
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "devices": [str(device) for device in devices],
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip() or None
    return None
