"""What a run needs of a device's memory, said before its first step; refused where it is too much.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels, ``P`` prompt tokens, ``C``
completion tokens.
"""

import math
from typing import Any

import jax
import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.method.policy_loss import needs_reference
from rvpo_jax.run.parallel import device_memory, processes
from rvpo_jax.run.setup import Run
from rvpo_jax.types import Batch, TrainState

LEVERS = (
    "Levers: model.remat, a smaller loss.microbatch_size or loss.microbatch_tokens, model.dtype "
    "bfloat16, optim.moment_dtype bfloat16, model.lora_rank, a shorter "
    "rollout.max_completion_tokens, a smaller rollout.num_prompts, more devices."
)


def memory_line(run: Run, state: TrainState) -> str:
    """Compiles the step for the longest completions and says what it needs.

    The compiled program is that of the steps to come. Sizes of parameters, optimizer and cache
    follow from shapes; the step's temporaries (gradients, activations) are the compiler's count.

    Args:
      run: the run.
      state: its state, on all devices.

    Returns:
      A line of text, per device.

    Raises:
      ValueError: naming the parts and the levers, where a device has less.
    """
    parts = _parts(run, state)
    device = jax.local_devices()[0]
    limit = device_memory(device)
    if device.platform == "cpu" and limit is not None:
        # Simulated devices share one machine.
        limit //= len(run.policy.layout.devices) // processes.count()
    total = sum(parts.values())
    listed = ", ".join(f"{name} {_size(value)}" for name, value in parts.items())
    if limit is not None and total > limit:
        raise Refusal(
            f"this run needs {_size(total)} on each device, which has {_size(limit)}: {listed}.",
            LEVERS,
        )
    known = "" if limit is None else f" of {_size(limit)}"
    return f"memory per device: {_size(total)}{known}: {listed}"


def _parts(run: Run, state: TrainState) -> dict[str, int]:
    """Bytes by what needs them, on one device."""
    parts = {
        "parameters": bytes_on_device(state.params),
        "optimizer": bytes_on_device(state.opt_state),
    }
    if frozen := bytes_on_device(state.frozen):
        parts = {"frozen parameters": frozen, "adapters": parts.pop("parameters"), **parts}
    if needs_reference(run.config.loss):
        parts["reference policy"] = bytes_on_device(state.params)
    parts["cache"] = cache_bytes(run)
    parts["step"] = _temporaries(run, state)
    return parts


def cache_bytes(run: Run) -> int:
    """Bytes of the completions' keys and values on one device, while they are sampled.

    Args:
      run: the run.

    Returns:
      The bytes.
    """
    rollout, shards = run.config.rollout, run.policy.layout.num_shards
    cache = jax.eval_shape(
        lambda: run.policy.model.empty_cache(
            rollout.prompts_at_once // shards, rollout.group_size, rollout.max_completion_tokens
        )
    )
    slots = run.policy.num_slots(rollout.group_size)
    completions = rollout.prompts_at_once // shards * rollout.group_size
    share = 1.0 if slots is None else min(slots, completions) / completions
    return int(bytes_on_device(cache) * share)


def _temporaries(run: Run, state: TrainState) -> int:
    """Bytes of the compiled step beside its arguments and results."""
    try:
        analysis = run.train_step.program(state, longest_batch(run)).memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise Refusal(
            f"the step does not fit the device's memory: {str(error).splitlines()[0]}", LEVERS
        ) from None
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)  # a backend may not tell


def longest_batch(run: Run) -> Batch:
    """This process's rows of a batch of zeros whose completions have all C columns.

    Args:
      run: the run.

    Returns:
      The batch, NumPy arrays.
    """
    config, task = run.config, run.task
    shape = (
        config.rollout.num_prompts // processes.count(),
        config.rollout.group_size,
        config.rollout.max_completion_tokens,
    )
    logprobs: Any = np.zeros(shape, np.float32)
    rewards: Any = np.zeros((*shape[:2], len(task.channels)), np.float32)
    prompts: Any = np.zeros((shape[0], task.prompt_tokens), np.int32)
    return Batch(
        prompts=prompts,
        prompt_mask=prompts == 0,
        completions=logprobs.astype(np.int32),
        completion_mask=logprobs == 0,
        old_logprobs=logprobs,
        rewards=rewards,
        where=rewards == 0,
        ref_logprobs=logprobs if needs_reference(config.loss) else None,
        max_tokens=shape[2],
    )


def bytes_on_device(tree: Any) -> int:
    """Bytes of a tree on one device: a mesh splits some arrays.

    Args:
      tree: arrays, or shapes with shardings.

    Returns:
      The bytes, those of keys left out.
    """

    def size(leaf: Any) -> int:
        sharding = getattr(leaf, "sharding", None)
        return math.prod(leaf.shape if sharding is None else sharding.shard_shape(leaf.shape))

    return sum(
        size(leaf) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


def _size(num_bytes: float) -> str:
    """A number of bytes to read.

    >>> _size(3 * 2**29), _size(2**21)
    ('1.5 GiB', '2 MiB')
    """
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"
