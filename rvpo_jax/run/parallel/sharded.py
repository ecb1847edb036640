"""A mesh of devices over which prompts, parameters and optimizer state are split, under one jit.

``B`` prompts over all devices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rvpo_jax.models import Placement
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.parallel.compiled import Compiled
from rvpo_jax.run.parallel.table import AXES, BATCH, shardings


class Sharded:
    """A layout; see ``Layout`` for its methods.

    Args:
      devices: of the run, those of a process together.
      shape: devices along data, fsdp and tensor; their product is the number of devices.
      dtype: of the matrix products: sampling takes its matrices in it.
    """

    def __init__(
        self, devices: Sequence[jax.Device], shape: tuple[int, int, int], dtype: str = "float32"
    ) -> None:
        self.devices = tuple(devices)
        self._shape = shape
        self.num_shards = shape[0] * shape[1]
        self._dtype = jnp.dtype(dtype)
        # Auto: the compiler places what is not said; Explicit types would have to be said in full.
        self._mesh = Mesh(np.array(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * 3)
        self._by_prompt = NamedSharding(self._mesh, PartitionSpec(BATCH))
        self._everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._copied = jax.jit(self._copy)  # kept: a new one would be compiled at every step

    def describe(self) -> str:
        """A few words for people."""
        parts = (f"{axis} {size}" for axis, size in zip(AXES, self._shape, strict=True))
        return f"{len(self.devices)} {self.devices[0].platform} device(s), mesh {', '.join(parts)}"

    def microbatch_size(self, size: int | None) -> int | None:
        """That of all shards: the one step sees all prompts."""
        return None if size is None else size * self.num_shards

    def place(self, tree: Any) -> Any:
        """Each array split as the table says."""
        return jax.tree.map(jax.device_put, tree, shardings(tree, self._mesh))

    def shapes(self, tree: Any) -> Any:
        """The shapes with their shardings."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            tree,
            shardings(tree, self._mesh),
        )

    def create(self, make: Callable[..., Any], *args: Any) -> Any:
        """What ``make`` returns, each device computing its share."""
        where = shardings(jax.eval_shape(make, *args), self._mesh)
        used_up = tuple(range(len(args)))
        return jax.jit(make, out_shardings=where, donate_argnums=used_up)(*self.place(args))

    def step(self, train_step: Callable[..., Any]) -> Compiled:
        """The step over all devices: the same program text as on one, split by the compiler."""

        def split(state: Any, batch: Any) -> Any:
            state, *outcome = train_step(state, batch)
            return self.constrain_params(state), *self._constrained(outcome, self._everywhere)

        mapped = jax.jit(split, donate_argnums=0)
        return Compiled(mapped, self._by_prompts, self.devices[0].platform)

    def map_prompts(self, function: Callable[..., Any]) -> Compiled:
        """The function over the whole B: a data shard runs it alone, tensor shards together.

        Each shard fills its slots from its own prompts, so that nothing of a cache ever moves.
        """

        def packed(tree: Any, arrays: tuple) -> Any:
            return function(tree, *arrays)

        mapped = jax.shard_map(
            packed,
            mesh=self._mesh,
            in_specs=(PartitionSpec(), PartitionSpec(BATCH)),
            out_specs=PartitionSpec(BATCH),
            axis_names=set(BATCH),
            check_vma=False,
        )
        return Compiled(jax.jit(mapped), self._by_prompts, self.devices[0].platform)

    def map_batch(self, function: Callable[..., Any]) -> Compiled:
        """The function over the whole B, split by the compiler as the step is."""

        def packed(tree: Any, arrays: tuple) -> Any:
            return self._constrained(function(tree, *arrays), self._by_prompt)

        return Compiled(jax.jit(packed), self._by_prompts, self.devices[0].platform)

    def host_rows(self, tree: Any) -> Any:
        """Those of the shards that lie here, each once, in their order."""

        def rows(x: jax.Array) -> np.ndarray:
            by_start = {shard.index[0].start or 0: shard.data for shard in x.addressable_shards}
            return np.concatenate([np.asarray(by_start[start]) for start in sorted(by_start)])

        return jax.tree.map(rows, tree)

    def for_sampling(self, params: Any) -> Any:
        """A copy in the type of the products, whole on each data shard: decoding reads all of it.

        Under the shardings of training every token would gather every matrix.
        """

        return self._copied(params)

    def sampling_shapes(self, params: Any) -> Any:
        """The shapes of that copy, from shapes of parameters."""
        shapes = jax.eval_shape(self._copy, params)
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=_without_fsdp(where)
            ),
            shapes,
            shardings(shapes, self._mesh),
        )

    @property
    def placement(self) -> Placement:
        """Activations are split by prompts, parameters as the table says."""

        def by_prompt(x: jax.Array) -> jax.Array:
            return jax.lax.with_sharding_constraint(x, self._by_prompt)

        def by_vocabulary(x: jax.Array) -> jax.Array:
            split = x.shape[0] % self._mesh.shape["tensor"] == 0
            spec = PartitionSpec("tensor" if split else None, None)
            return jax.lax.with_sharding_constraint(x, NamedSharding(self._mesh, spec))

        def by_shard(kernel: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
            def split(q: jax.Array, *others: jax.Array) -> jax.Array:
                # Initialisation has one prompt, which every shard then has.
                prompts = BATCH if q.shape[0] % self.num_shards == 0 else None
                heads = PartitionSpec(prompts, None, "tensor")
                specs = (heads, heads, heads, PartitionSpec(prompts))
                return jax.shard_map(
                    kernel, mesh=self._mesh, in_specs=specs, out_specs=heads, check_vma=False
                )(q, *others)

            return split

        return Placement(by_prompt, by_vocabulary, self.shapes, by_shard, self.num_shards)

    def constrain_params(self, params: Any) -> Any:
        """Parameters, split as the table says."""
        return jax.lax.with_sharding_constraint(params, shardings(params, self._mesh))

    def _copy(self, params: Any) -> Any:
        def kept(path: Any, leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
            matrix = path[-1].key in ("kernel", "embedding")
            copy = leaf.astype(self._dtype) if matrix else leaf
            return jax.lax.with_sharding_constraint(copy, _without_fsdp(sharding))

        where = shardings(params, self._mesh)
        return jax.tree_util.tree_map_with_path(kept, params, where)

    def _by_prompts(self, arrays: Any) -> Any:
        def put(x: Any) -> Any:
            if isinstance(x, jax.ShapeDtypeStruct):  # to be compiled for, not computed
                shape = (x.shape[0] * processes.count(), *x.shape[1:])
                return jax.ShapeDtypeStruct(shape, x.dtype, sharding=self._by_prompt)
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(put(jax.random.key_data(x)))
            return jax.make_array_from_process_local_data(self._by_prompt, np.asarray(x))

        return jax.tree.map(put, arrays)

    def _constrained(self, tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)


def _without_fsdp(sharding: NamedSharding) -> NamedSharding:
    spec = PartitionSpec(*(axis if axis == "tensor" else None for axis in sharding.spec))
    return NamedSharding(sharding.mesh, spec)
