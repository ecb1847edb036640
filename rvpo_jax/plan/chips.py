"""TPU chips and slices of them: what a topology such as v5e:4x4 has."""

import dataclasses
import math

from rvpo_jax.basics.refusals import Refusal

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip, with the peaks that its maker publishes.

    Source: Google Cloud's documentation, https://cloud.google.com/tpu/docs/v5p and .../v6e (which
    has v5e's as well). Links are half of the bidirectional figure.
    ``memory`` is below the published size: what the compiler lets a program take.
    """

    memory: int  # bytes
    flops: float  # bfloat16, per second
    bandwidth: float  # of the memory, bytes per second
    links: float  # to other chips, all together and one way, bytes per second
    num_dims: int


CHIPS: dict[str, Chip] = {
    "v5e": Chip(
        memory=int(15.75 * GIB),
        flops=197e12,
        bandwidth=819e9,
        links=200e9,  # 1,600 Gbit/s
        num_dims=2,
    ),
    "v5p": Chip(
        memory=95 * GIB,
        flops=459e12,
        bandwidth=2765e9,
        links=600e9,  # 4,800 Gbit/s
        num_dims=3,
    ),
    "v6e": Chip(
        memory=int(31.25 * GIB),
        flops=918e12,
        bandwidth=1600e9,
        links=400e9,  # 3,200 Gbit/s
        num_dims=2,
    ),
}
# The slices that are offered, smallest first.
SLICES: dict[str, tuple[str, ...]] = {
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: a kind of chip and how many along each dimension."""

    kind: str
    dims: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        """One of its chips."""
        return CHIPS[self.kind]

    @property
    def num_chips(self) -> int:
        """All of its chips."""
        return math.prod(self.dims)

    def __str__(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.dims))}"


def parse_topology(text: str) -> Topology:
    """A slice as it is written.

    Args:
      text: such as ``v5e:4x4``.

    Returns:
      The slice.

    Raises:
      Refusal: if there is no such chip, or no such slice of it.

    >>> parse_topology("v5p:2x2x4").num_chips
    16
    """
    kind, _, size = text.partition(":")
    if kind not in CHIPS:
        raise Refusal(
            f"--topology must begin with one of {', '.join(CHIPS)}, got {text!r}.",
            "For example v5e:4x4.",
        )
    if size not in SLICES[kind]:
        raise Refusal(
            f"--topology {text!r} is no slice of {kind}, whose chips lie in "
            f"{CHIPS[kind].num_dims} dimensions.",
            f"There are: {', '.join(SLICES[kind])}.",
        )
    return Topology(kind, tuple(int(part) for part in size.split("x")))
