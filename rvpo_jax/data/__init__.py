"""Where prompts come from: rows of a file or a generator, and the resumable stream of batches.

Names are imported when they are first used: the stream's library loads JAX, and the commands that
only read rows do without.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rvpo_jax.data.rows import load_rows, read_rows
    from rvpo_jax.data.stream import PromptStream, drop_long, split_held_out

__all__ = ["PromptStream", "drop_long", "load_rows", "read_rows", "split_held_out"]

_HOMES = {
    "PromptStream": "stream",
    "drop_long": "stream",
    "load_rows": "rows",
    "read_rows": "rows",
    "split_held_out": "stream",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
