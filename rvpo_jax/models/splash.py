"""Attention of prompt and completions in one sequence with the Pallas splash kernel, for TPUs.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``S`` =
P + G * C tokens of a sequence, ``H`` query heads, ``K`` key/value heads, ``h`` head size.
"""

import jax
import jax.numpy as jnp

LANES = 128  # the kernel's blocks are multiples of it
BLOCK = 512


def splash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    prompt_mask: jax.Array,
    group_size: int,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Each completion sees its prompt and itself, each prompt itself; padding sees padding.

    Args:
      q: queries, ``[B, S, H, h]``: the prompt, then the completions one after another.
      k: keys, ``[B, S, K, h]``.
      v: values, ``[B, S, K, h]``.
      prompt_mask: ``[B, P]`` bool, False on the padding on the left.
      group_size: G.
      interpret: run the kernel's steps one by one, on any device; slow, for tests.

    Returns:
      ``[B, S, H, h]``.
    """
    # Imported here: Pallas for TPU is large, and not for every backend.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    from rvpo_jax.models.packed_mask import PackedMask

    length, num_prompt = q.shape[1], prompt_mask.shape[1]
    spare = -length % LANES
    size = length + spare
    block = next(b for b in range(min(BLOCK, size), 0, -LANES) if size % b == 0)
    sizes = kernels.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
        # The fused backward kernel has temporaries that grow with S^2.
        use_fused_bwd_kernel=False,
    )  # fmt: skip
    mask = PackedMask(num_prompt, group_size, length, size)
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([mask] * q.shape[2]),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def one(q: jax.Array, k: jax.Array, v: jax.Array, segment: jax.Array) -> jax.Array:
        ids = kernels.SegmentIds(segment, segment)
        return kernel(q.swapaxes(0, 1), k.swapaxes(0, 1), v.swapaxes(0, 1), ids).swapaxes(0, 1)

    def pad(x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, 0), (0, spare)] + [(0, 0)] * (x.ndim - 2))

    segments = jnp.concatenate(
        [prompt_mask, jnp.ones((q.shape[0], length - num_prompt), bool)], axis=1
    ).astype(jnp.int32)
    scaled = q * q.shape[-1] ** -0.5
    return jax.vmap(one)(pad(scaled), pad(k), pad(v), pad(segments))[:, :length]
