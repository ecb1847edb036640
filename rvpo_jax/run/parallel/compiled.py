"""Functions over all devices, compiled once for each shape of their arrays."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

from rvpo_jax.run import pulse

# Compiling is most of a short run on a CPU. These halve its time and its memory; a step takes about
# as long (within what two idle runs differ). Flags in XLA_FLAGS win.
QUICK_ON_CPU: dict[str, str | bool] = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": "1",
}


class Compiled:
    """A function over all devices, compiled once per shape of its arrays.

    Args:
      function: jitted or pmapped, ``(tree, arrays)`` to its result.
      prepare: lays the arrays out as ``function`` takes them.
      platform: of the devices.
    """

    def __init__(self, function: Any, prepare: Callable[[Any], Any], platform: str) -> None:
        self._function, self._prepare, self._platform = function, prepare, platform
        self._programs: dict[Any, Any] = {}

    def __call__(self, tree: Any, arrays: Any) -> Any:
        """The function's result; ``arrays`` have the rows of this process."""
        return self.program(tree, arrays)(tree, self._prepare(arrays))

    def jaxpr(self, tree: Any, arrays: Any) -> Any:
        """What is traced for arrays of these shapes: the function before it is split."""
        return self._function.trace(tree, self._prepare(arrays)).jaxpr

    def program(self, tree: Any, arrays: Any) -> Any:
        """What is compiled for arrays of these shapes; it tells how much memory it takes."""
        leaves, structure = jax.tree.flatten(arrays)
        key = (structure, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if key not in self._programs:
            lowered = self._function.lower(tree, self._prepare(arrays))
            options = _known_options() if self._platform == "cpu" else {}
            with pulse.untimed():
                self._programs[key] = lowered.compile(options or None)
        return self._programs[key]


@functools.cache
def _known_options() -> dict[str, Any]:
    """Those of ``QUICK_ON_CPU`` that this version of XLA has."""
    known = {}
    for name, value in QUICK_ON_CPU.items():
        if name in os.environ.get("XLA_FLAGS", ""):
            continue
        try:
            jax.jit(lambda: 0).lower().compile({name: value})
        except jax.errors.JaxRuntimeError:  # no such option
            continue
        known[name] = value
    return known
