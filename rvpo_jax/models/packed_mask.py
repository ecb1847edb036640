"""Who sees whom in a packed sequence, as the splash kernel asks for it: block by block.

``P`` prompt tokens, ``G`` completions of ``C`` tokens, ``S`` = P + G * C. Imported where the kernel
is: Pallas for TPU is large, and not for every backend.
"""

import dataclasses

import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks


@dataclasses.dataclass(frozen=True)
class PackedMask(masks.Mask):
    """Each completion sees its prompt and itself up to here, the prompt itself up to here.

    It is never whole: of a group of 16 x 2,560 tokens it would have 1.8 GB.

    Args:
      num_prompt: P.
      group_size: G.
      length: S.
      size: S, filled up; what is filled in sees what is filled in.

    >>> PackedMask(1, 2, 3, 4)[:, :].astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    """

    num_prompt: int
    group_size: int
    length: int
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.size, self.size

    def __getitem__(self, idx: tuple[slice, slice]) -> np.ndarray:
        """The rows and columns of two slices, bool."""
        rows, columns = (np.arange(self.size)[part] for part in idx)
        own = self._owner(columns)
        seen = (own == -1)[None, :] | (self._owner(rows)[:, None] == own[None, :])
        return (rows[:, None] >= columns[None, :]) & seen

    def _owner(self, place: np.ndarray) -> np.ndarray:
        """The completion that a token is of; -1: the prompt."""
        num_tokens = (self.length - self.num_prompt) // self.group_size
        owner = np.where(place < self.num_prompt, -1, (place - self.num_prompt) // num_tokens)
        return np.where(place < self.length, owner, self.group_size)
