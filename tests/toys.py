"""Small policies and batches for the tests of the step."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.method import losses
from rvpo_jax.run import parallel
from rvpo_jax.types import Batch

VOCAB = 7


def bigram_logprobs(params, batch):
    """A policy that is one table: the logits of the next token given the current one."""
    first = jnp.broadcast_to(batch.prompts[:, None, -1:], (*batch.completions.shape[:2], 1))
    before = jnp.concatenate([first, batch.completions[..., :-1]], axis=-1)
    return losses.token_logprobs(params["table"][before], batch.completions)


def bigram_params(seed=0):
    return {"table": jax.random.normal(jax.random.key(seed), (VOCAB, VOCAB))}


def ragged_batch(num_prompts=16, group_size=4, max_tokens=9, num_channels=3, seed=0):
    """Completions of very different length, rewards of different scale, some not scored."""
    rng = np.random.default_rng(seed)
    shape = (num_prompts, group_size, max_tokens)
    lengths = rng.integers(1, max_tokens + 1, shape[:2])
    lengths[0] = 1
    lengths[-1] = max_tokens
    mask = np.arange(max_tokens) < lengths[..., None]
    scale = np.array([1.0, 5.0, 0.1][:num_channels])
    rewards = rng.normal(size=(*shape[:2], num_channels)) * scale
    rewards[:, :, 0] = rewards[:, :, 0] > 0
    where = rng.random(rewards.shape) > 0.1
    batch = Batch(
        prompts=jnp.asarray(rng.integers(0, VOCAB, (num_prompts, 3)), jnp.int32),
        prompt_mask=jnp.ones((num_prompts, 3), bool),
        completions=jnp.asarray(np.where(mask, rng.integers(0, VOCAB, shape), 0), jnp.int32),
        completion_mask=jnp.asarray(mask),
        old_logprobs=jnp.zeros(shape),
        rewards=jnp.asarray(rewards, jnp.float32),
        where=jnp.asarray(where),
    )
    # The sampling policy is near the trained one: some ratios are clipped, most are not.
    old, _ = bigram_logprobs(bigram_params(), batch)
    noise = jnp.asarray(rng.normal(size=shape) * 0.15, jnp.float32)
    return dataclasses.replace(batch, old_logprobs=jnp.where(mask, old + noise, 0.0))


# Devices along data, fsdp and tensor; None: pmap on eight. One axis at a time: XLA on a CPU lets
# collectives of several axes wait for each other in different orders, forever when it is busy.
LAYOUTS = [None, (8, 1, 1), (1, 8, 1), (1, 1, 2)]
# Of the bigram policy, whose one table no axis splits, these two differ.
BATCH_LAYOUTS = [None, (1, 8, 1)]


def layout_of(shape, num_devices=8):
    """How a run lies on simulated devices."""
    devices = parallel.local_devices(num_devices if shape is None else math.prod(shape))
    return parallel.Replicated(devices) if shape is None else parallel.Sharded(devices, shape)
