"""How a run lies on its devices: the seam between everything else and pmap, jit and meshes.

``B`` prompts over all devices.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from rvpo_jax.models import Placement
from rvpo_jax.run.parallel.compiled import Compiled

TrainStep = Callable[..., Any]
PerPrompt = Callable[..., Any]


class Layout(Protocol):
    """Where arrays go, and how functions of them run."""

    @property
    def devices(self) -> Sequence[jax.Device]:
        """All devices of the run."""

    @property
    def num_shards(self) -> int:
        """Parts that the prompts of a batch are split into."""

    def describe(self) -> str:
        """A few words for people."""

    def microbatch_size(self, size: int | None) -> int | None:
        """Prompts of a microbatch as the step counts them, from those on one shard."""

    def place(self, tree: Any) -> Any:
        """A tree of parameters or a state, where the functions below take and return it."""

    def shapes(self, tree: Any) -> Any:
        """A tree of shapes with the places that ``place`` would choose."""

    def create(self, make: Callable[..., Any], *args: Any) -> Any:
        """What ``make(*args)`` returns, computed where it belongs.

        The arguments are trees of parameters that are part of the result; they are used up.
        """

    def step(self, train_step: TrainStep) -> Compiled:
        """``train_step(state, batch, axis_name)`` over all devices; the state is used up."""

    def map_prompts(self, function: PerPrompt) -> PerPrompt:
        """``(params, per_prompt)`` to ``function(params, *per_prompt)``, prompts split.

        The parameters are those for sampling.
        """

    def map_batch(self, function: PerPrompt) -> PerPrompt:
        """The same, with parameters as trained."""

    def host_rows(self, tree: Any) -> Any:
        """This process's rows of what the functions above return by prompts, as NumPy arrays."""

    def for_sampling(self, params: Any) -> Any:
        """Parameters as ``map_prompts`` takes them."""

    def sampling_shapes(self, params: Any) -> Any:
        """The shapes of ``for_sampling``'s result, from shapes of parameters."""

    @property
    def placement(self) -> Placement | None:
        """What a model needs to know of it."""

    def constrain_params(self, params: Any) -> Any:
        """Parameters, and so their gradients, which stay where ``place`` puts them."""
