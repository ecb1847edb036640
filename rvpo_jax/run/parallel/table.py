"""Which axes of a mesh a parameter is split over: one table, by the names of our decoder.

``D`` width, ``V`` vocabulary, ``L`` layers.
"""

import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # prompts are split over both: an fsdp device has a share of each
# The end of a parameter's name, which its moments in the optimizer share, and its axes. A leading
# L is never split: layers are scanned. ``fsdp`` lies on the axis that a product does not sum over
# with ``tensor``, so that both can be had.
RULES: tuple[tuple[str, PartitionSpec], ...] = (
    (r"embed/embedding$", PartitionSpec("tensor", "fsdp")),  # [V, D]
    (r"lm_head/kernel$", PartitionSpec("fsdp", "tensor")),  # [D, V]
    (r"(q|k|v|gate|up)_proj/kernel$", PartitionSpec(None, "fsdp", "tensor")),  # [L, D, out]
    (r"(o|down)_proj/kernel$", PartitionSpec(None, "tensor", "fsdp")),  # [L, in, D]
    (r"(q|k|v)_proj/bias$", PartitionSpec(None, "tensor")),  # [L, out]
)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """Where the arrays of a tree belong.

    Args:
      tree: arrays or shapes: parameters, or anything that holds trees named like them.
      mesh: with the axes ``AXES``.

    Returns:
      A ``NamedSharding`` for each leaf. What no rule names, and what an axis does not divide, is on
      every device.
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = (spec for end, spec in RULES if re.search(end, name))
        spec = next(found, PartitionSpec())
        fits = len(spec) == len(leaf.shape)
        return NamedSharding(mesh, _divided(spec, leaf.shape, mesh) if fits else PartitionSpec())

    return jax.tree_util.tree_map_with_path(one, tree)


def _divided(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    pairs = zip(spec, shape, strict=True)
    return PartitionSpec(
        *(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in pairs)
    )
