"""A user's config file: ``get_config()`` in Python, run and reported on."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rvpo_jax.basics.bounds import shown
from rvpo_jax.basics.frames import innermost_frames
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config


def load_config(path: Path) -> Config:
    """Runs ``get_config()`` of a Python file.

    Args:
      path: the file.

    Returns:
      What it returns.

    Raises:
      Refusal: if the file is missing, does not import, has no get_config, returns something else
        than a Config, or raises: then with the innermost frames.
    """
    if not path.is_file():
        raise Refusal(f"--config {path} does not exist.", "Give a Python file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refusal(f"--config {path} is not a Python file.", "Its name must end in .py.")
    module: ModuleType = importlib.util.module_from_spec(spec)
    loader = spec.loader
    _run(path, lambda: loader.exec_module(module))
    if not callable(getattr(module, "get_config", None)):
        raise Refusal(
            f"--config {path} has no function get_config.",
            "Define get_config() -> rvpo_jax.Config.",
        )
    config = _run(path, module.get_config)
    if not isinstance(config, Config):
        raise Refusal(
            f"get_config() of {path} must return rvpo_jax.Config, got {shown(config)}.",
            "Return rvpo_jax.Config(...).",
        )
    return config


def _run(path: Path, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:  # anything a user's file may raise
        try:
            first, *rest = str(error).splitlines() or [""]
        except Exception:  # an exception whose __str__ raises
            first, rest = "its text cannot be had", []
        remedies = [line.strip() for line in rest] if isinstance(error, Refusal) else []
        lines = [*remedies, *(f"at {frame}" for frame in innermost_frames(error))]
        raise Refusal(
            f"--config {path} fails: {type(error).__name__}: {printable(first)[:300]}",
            "\n  ".join(lines) or "Run it with python to see the whole traceback.",
        ) from error
