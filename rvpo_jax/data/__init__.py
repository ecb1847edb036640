"""Where prompts come from: rows of a file or a generator, and the resumable stream of batches."""

from rvpo_jax.data.rows import load_rows
from rvpo_jax.data.stream import PromptStream, drop_long, split_held_out

__all__ = ["PromptStream", "drop_long", "load_rows", "split_held_out"]
