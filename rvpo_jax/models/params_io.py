"""Parameter trees in safetensors files: the shipped warm start, and one's own."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from rvpo_jax.basics.files import replacing
from rvpo_jax.basics.refusals import Refusal

_ASSETS = Path(__file__).parent / "assets"
# Starts of the embedded task, made by experiments/warm_start.
STARTS = {
    "warm": _ASSETS / "tool_task_tiny.safetensors",
    "leaky": _ASSETS / "tool_task_tiny_leaky.safetensors",
}


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a parameter tree by their path.

    Args:
      tree: nested dictionaries.

    Returns:
      Paths with slashes to leaves, in the order of ``jax.tree.leaves``.

    >>> leaves_by_name({"norm": {"scale": 1.0}})
    {'norm/scale': 1.0}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save_params(params: Any, path: Path, dtype: Any = np.float32) -> None:
    """Writes a parameter tree.

    Args:
      params: tree of arrays.
      path: the file, replaced as a whole.
      dtype: type on disk.
    """
    arrays = {name: np.asarray(leaf, dtype) for name, leaf in leaves_by_name(params).items()}
    with replacing(path) as part:
        save_file(arrays, part)


def load_params(path: str | Path, target: Any) -> Any:
    """Reads a parameter tree that has the names and shapes of ``target``.

    Args:
      path: a file written by ``save_params``.
      target: tree of arrays or shapes with types, usually from ``jax.eval_shape``.

    Returns:
      The tree, in those types.

    Raises:
      ValueError: if the file is missing or belongs to another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"parameter file {path} does not exist.", "Use model.init random.")
    stored = load_file(path)
    wanted = leaves_by_name(target)
    wrong = [
        name
        for name in {*stored, *wanted}
        if name not in stored or name not in wanted or stored[name].shape != wanted[name].shape
    ]
    if wrong:
        raise Refusal(
            f"{path.name} does not fit this model: {sorted(wrong)[0]} differs.",
            "Use the model.preset and tokenizer it was made for.",
        )
    leaves = [np.asarray(stored[name], leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(target), leaves)
