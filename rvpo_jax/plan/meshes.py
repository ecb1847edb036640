"""Meshes worth compiling for a slice: those that divide the run and are not too large by shape."""

import dataclasses
from collections.abc import Iterator

import jax

from rvpo_jax.config import Config
from rvpo_jax.method.frozen import join
from rvpo_jax.plan.chips import Topology
from rvpo_jax.run.memory import bytes_on_device
from rvpo_jax.run.parallel.table import AXES
from rvpo_jax.run.setup import Run, assemble, task_without_rows
from rvpo_jax.types import TrainState

TENSOR = (1, 2, 4)  # a host has four chips or more, and tensor shards stay within a host


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of a whole run that follow from shapes, whatever a compiler does.

    Attributes:
      state: parameters, frozen ones, moments.
      gradients: of the parameters that are trained.
      copy: of all parameters, for sampling.
      completion: keys and values of one completion.
      num_completions: of a step.
      num_slots: completions that a shard of prompts samples at once; None: all of its own.
      kv_heads: key/value heads of the model; None: unknown.
    """

    state: int
    gradients: int
    copy: int
    completion: int
    num_completions: int
    num_slots: int | None
    kv_heads: int | None

    def num_sampled(self, num_shards: int) -> int:
        """Completions that a shard of prompts samples at once.

        Args:
          num_shards: shards of prompts.

        Returns:
          How many.
        """
        own = self.num_completions // num_shards
        return own if self.num_slots is None else min(self.num_slots, own)

    def least(self, shape: tuple[int, int, int]) -> float:
        """Bytes that a chip has to hold, at the least.

        Args:
          shape: chips along data, fsdp and tensor.

        Returns:
          The larger of what the update and the sampler need beside their activations.
        """
        data, fsdp, tensor = shape
        split = fsdp * tensor
        update = (self.state + self.gradients) / split
        cache = self.completion * self.num_sampled(data * fsdp)
        sampling = self.state / split + (self.copy + cache) / tensor
        return max(update, sampling)


def sizes_of(config: Config) -> Sizes:
    """The sizes of a run; nothing is computed and no weight is read.

    Args:
      config: the run.

    Returns:
      The sizes.

    Raises:
      ValueError: if the run's own options do not go together.
    """
    rollout = config.rollout
    parallel = dataclasses.replace(config.parallel, impl="mesh", mesh="data=1", num_devices=1)
    one = dataclasses.replace(config, parallel=parallel)
    run = assemble(one, task_without_rows(one), jax.devices()[:1])
    state, model = whole_state(run), run.policy.model
    trained = bytes_on_device(state.params)
    copy = run.policy.layout.sampling_shapes(join(state.params, state.frozen))
    cache = jax.eval_shape(lambda: model.empty_cache(1, 1, rollout.max_completion_tokens))
    return Sizes(
        state=trained + bytes_on_device(state.frozen) + bytes_on_device(state.opt_state),
        gradients=trained,
        copy=bytes_on_device(copy),
        completion=bytes_on_device(cache),
        num_completions=rollout.prompts_at_once * rollout.group_size,
        num_slots=rollout.num_slots,
        kv_heads=model.kv_heads,
    )


def whole_state(run: Run) -> TrainState:
    """The shapes of a run's state, frozen parameters included.

    Args:
      run: the run.

    Returns:
      The shapes, each with its place.
    """
    state, model = run.state_shapes(), run.policy.model
    if model.adapters is None:
        return state
    frozen = run.policy.layout.shapes(jax.eval_shape(model.init, jax.random.key(0)))
    return dataclasses.replace(state, frozen=frozen)


def sensible_meshes(
    config: Config, topology: Topology, kv_heads: int | None
) -> Iterator[tuple[int, int, int]]:
    """Meshes that divide the batch and the heads, fewest collectives first.

    Args:
      config: the run.
      topology: the slice.
      kv_heads: of the model, which tensor shards divide; None: unknown.

    Yields:
      Chips along data, fsdp and tensor: whole parameters on each chip, then parameters that are
      fully split; without tensor shards, then with more and more of them.
    """
    per_minibatch = config.rollout.num_prompts // config.loss.num_minibatches
    for tensor in TENSOR:
        shards, rest = divmod(topology.num_chips, tensor)
        if rest or per_minibatch % shards or (kv_heads or 1) % tensor:
            continue
        for fsdp in sorted({1, shards}):
            yield shards // fsdp, fsdp, tensor


def written(shape: tuple[int, int, int]) -> str:
    """A mesh as it is typed.

    Args:
      shape: chips along data, fsdp and tensor.

    Returns:
      Such as ``data=1,fsdp=16,tensor=1``.

    >>> written((1, 16, 1))
    'data=1,fsdp=16,tensor=1'
    """
    return ",".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
