"""A Flax Linen decoder in the Qwen2 shape, built around a prompt that is shared by its group.

RMSNorm, RoPE, grouped-query attention with bias, SwiGLU, tied embeddings, layers scanned. The G
completions of a prompt attend to one copy of its keys and values, in training as in sampling: a
prompt is computed once, not G times.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``T``
tokens of either, ``D`` width, ``H`` query heads, ``K`` key/value heads, ``h`` head size, ``L``
layers, ``V`` vocabulary.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rvpo_jax.method.packing import Rows
from rvpo_jax.models.attention import (
    CACHE_BLOCK,
    KeyValues,
    Positions,
    attend_all,
    attend_prompt,
    attend_recent,
    divide,
    heads_first,
    join,
)
from rvpo_jax.models.presets import Architecture
from rvpo_jax.models.rope import frequencies

ATTENTION = {"tpu": "splash", "gpu": "repeat"}
REMAT_KEEPS = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def _rotate(x: jax.Array, positions: jax.Array, arch: Architecture) -> jax.Array:
    """Rotary embedding of ``[B, G, T, heads, h]`` at ``[B, G, T]`` positions, halves as in HF."""
    frequency = frequencies(arch.head_dim, arch.rope_theta, arch.rope_scaling)
    angle = positions[..., None].astype(jnp.float32) * frequency.reshape(1, 1, 1, -1)
    cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def _on_one_axis(x: jax.Array) -> jax.Array:
    """All tokens on one axis, for a product with a matrix.

    Where the gradient of a matrix sums over several axes, XLA makes a transposed copy on a CPU,
    which cost a quarter of a step.
    """
    return x.reshape(-1, x.shape[-1])


class Block(nn.Module):
    """One layer; ``full`` trains, ``prefill`` and ``decode`` sample."""

    arch: Architecture
    dtype: Any
    attention: str = "streams"
    constrain: Any = None
    by_shard: Any = None

    def setup(self) -> None:
        arch = self.arch

        def dense(width: int, *, use_bias: bool = False) -> nn.Dense:
            return nn.Dense(
                width,
                use_bias=use_bias,
                dtype=self.dtype,
                kernel_init=nn.initializers.normal(0.02),
            )

        self.attn_norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
        self.mlp_norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
        self.q_proj = dense(arch.num_heads * arch.head_dim, use_bias=arch.qkv_bias)
        self.k_proj = dense(arch.num_kv_heads * arch.head_dim, use_bias=arch.qkv_bias)
        self.v_proj = dense(arch.num_kv_heads * arch.head_dim, use_bias=arch.qkv_bias)
        self.o_proj = dense(arch.width)
        if arch.qk_norm:
            self.q_norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
            self.k_norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
        self.gate_proj = dense(arch.mlp_width)
        self.up_proj = dense(arch.mlp_width)
        self.down_proj = dense(arch.width)

    def _project(self, x: jax.Array, positions: jax.Array) -> tuple[jax.Array, KeyValues]:
        normed = _on_one_axis(self.attn_norm(x))

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(*x.shape[:-1], -1, self.arch.head_dim)

        q, k = heads(self.q_proj(normed)), heads(self.k_proj(normed))
        if self.arch.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = _rotate(q, positions, self.arch), _rotate(k, positions, self.arch)
        return q, KeyValues(k, heads(self.v_proj(normed)))

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        attended = attended.reshape(*attended.shape[:-2], -1)
        x = x + self.o_proj(_on_one_axis(attended)).reshape(x.shape)
        normed = _on_one_axis(self.mlp_norm(x))
        gated = nn.silu(self.gate_proj(normed)) * self.up_proj(normed)
        return x + self.down_proj(gated).reshape(x.shape)

    def prefill(self, x: jax.Array, layer: jax.Array, at: Positions) -> tuple[jax.Array, KeyValues]:
        """Prompt ``[B, 1, P, D]`` in and out, and its keys and values."""
        q, own = self._project(x, at.prompt)
        x = self._finish(x, attend_prompt(q, own, at.prompt_mask))
        return x, heads_first(KeyValues(own.k[:, 0], own.v[:, 0]))

    def full(self, x: jax.Array, layer: jax.Array, at: Positions) -> tuple[jax.Array, None]:
        """All tokens of prompts and completions on one axis, ``[num_lead, 1, T, D]``."""
        q, own = self._project(x, join(at.prompt, at.completion, x.shape[0]))
        x = self._finish(x, attend_all(q, own, at, self.attention, self.by_shard))
        return x if self.constrain is None else self.constrain(x), None

    def decode(self, carry: tuple, scanned: tuple, at: Positions) -> tuple[tuple, None]:
        """One token of every completion, ``[B, G, 1, D]``; the cache is updated in place."""
        x, cache = carry
        layer, prefix = scanned
        q, new = self._project(x, at.completion)
        start = (layer, 0, 0, 0, at.step % cache.k.shape[4], 0)
        cache = jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice(old, x[None].astype(old.dtype), start),
            cache,
            heads_first(new),
        )
        attended = attend_recent(q, layer, cache, at, prefix)
        return (self._finish(x, attended), cache), None


class Transformer(nn.Module):
    """The decoder. ``apply(..., method=...)`` with ``__call__``, ``prefill`` or ``decode``."""

    arch: Architecture
    dtype: Any = jnp.float32
    remat: bool = False
    remat_keeps: str = "nothing"
    attention: str = "streams"
    constrain: Any = None  # of activations in training, prompts first: where they lie on a mesh
    by_shard: Any = None  # of a kernel: how the devices of a mesh run it

    def setup(self) -> None:
        arch = self.arch
        self.embed = nn.Embed(
            arch.vocab_size,
            arch.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(0.02),
        )
        block: Any = Block
        if self.remat:
            keeps = REMAT_KEEPS[self.remat_keeps]
            block = nn.remat(Block, prevent_cse=False, methods=["full"], policy=keeps)
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=arch.num_layers,
            methods=["full", "prefill", "decode"],
        )(arch, self.dtype, self.attention, self.constrain, self.by_shard)
        self.norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
        if not arch.tie_embeddings:
            self.lm_head = nn.Dense(arch.vocab_size, use_bias=False, dtype=self.dtype)

    def _unembed(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        logits = self.embed.attend(x) if self.arch.tie_embeddings else self.lm_head(x)
        return logits.astype(jnp.float32)

    def _kept(self, x: jax.Array) -> jax.Array:
        return x if self.constrain is None else self.constrain(x)

    def _positions(self, prompt_mask: jax.Array, before: jax.Array) -> Positions:
        """Positions count real tokens only, so that padding on the left changes nothing.

        ``before``, ``[B or 1, G or 1, T]``, counts a completion's tokens before each.
        """
        prompt = jnp.maximum(jnp.cumsum(prompt_mask, axis=1) - 1, 0)
        length = jnp.sum(prompt_mask, axis=1)[:, None, None]
        return Positions(prompt_mask, prompt[:, None, :], length + before)

    def __call__(
        self, prompts: jax.Array, prompt_mask: jax.Array, completions: jax.Array
    ) -> jax.Array:
        """Logits that predict each completion token.

        Args:
          prompts: ``[B, P]`` int32, left-padded.
          prompt_mask: ``[B, P]`` bool; the last column is True.
          completions: ``[B, G, C]`` int32, right-padded; padding is never seen by real tokens.

        Returns:
          ``[B, G, C, V]`` float32; entry c predicts token c.
        """
        return self._unembed(self._states(prompts, prompt_mask, completions))

    def states(
        self, prompts: jax.Array, prompt_mask: jax.Array, completions: jax.Array
    ) -> jax.Array:
        """What the logits are made of: ``__call__`` before the unembedding.

        Args:
          prompts: see ``__call__``.
          prompt_mask: see ``__call__``.
          completions: see ``__call__``.

        Returns:
          ``[B, G, C, D]`` in the compute dtype.
        """
        return self.norm(self._states(prompts, prompt_mask, completions))

    def packed_states(
        self, prompts: jax.Array, prompt_mask: jax.Array, completions: jax.Array, rows: Rows
    ) -> jax.Array:
        """``states`` of packed completions.

        Args:
          prompts: see ``__call__``.
          prompt_mask: see ``__call__``.
          completions: see ``__call__``.
          rows: where each token lies.

        Returns:
          ``[R, ROW, D]`` in the compute dtype; anything where a row is empty.
        """
        before = rows.source % completions.shape[2]
        tokens = jnp.take(completions.reshape(-1), rows.source, mode="fill", fill_value=0)
        at = self._positions(prompt_mask, jnp.zeros((1, 1, 1), jnp.int32))
        length = jnp.sum(prompt_mask, axis=1)[rows.prompt]
        at = at._replace(completion=(length[:, None] + before)[:, None], rows=rows)
        prompt, x = self._run(prompts, tokens[:, None], at, num_lead=1)
        # A completion's first token is predicted by the prompt, the others by the one before.
        flat = x.reshape(-1, x.shape[-1])
        last = jnp.concatenate([flat[:1], flat[:-1]]).reshape(*tokens.shape, -1)
        first = prompt[:, 0, -1][rows.prompt][:, None]
        return self.norm(jnp.where((before == 0)[..., None], first, last))

    def _states(
        self, prompts: jax.Array, prompt_mask: jax.Array, completions: jax.Array
    ) -> jax.Array:
        before = jnp.broadcast_to(jnp.arange(completions.shape[2]), completions.shape)
        at = self._positions(prompt_mask, before)
        prompt, completion = self._run(prompts, completions, at, num_lead=prompts.shape[0])
        # The prompt's last token predicts the first of the completion.
        last = jnp.broadcast_to(prompt[:, :, -1:], (*completion.shape[:2], 1, prompt.shape[-1]))
        return self._kept(jnp.concatenate([last, completion[:, :, :-1]], axis=2))

    def _run(
        self, prompts: jax.Array, tokens: jax.Array, at: Positions, num_lead: int
    ) -> tuple[jax.Array, jax.Array]:
        """Prompts ``[B, P]`` and completions through all layers."""
        x = self._kept(self.embed(join(prompts[:, None], tokens, num_lead)))
        x, _ = self.layers.full(x, jnp.arange(self.arch.num_layers), at)
        return divide(x, at)

    def prefill(self, prompts: jax.Array, prompt_mask: jax.Array) -> tuple[jax.Array, KeyValues]:
        """Reads prompts once.

        Args:
          prompts: ``[B, P]`` int32, left-padded.
          prompt_mask: ``[B, P]`` bool.

        Returns:
          Logits ``[B, V]`` of the first completion token, keys and values ``[L, B, K, P, h]``.
        """
        at = self._positions(prompt_mask, jnp.zeros((1, 1, 1), jnp.int32))
        layers = jnp.arange(self.arch.num_layers)
        x, prefix = self.layers.prefill(self.embed(prompts)[:, None], layers, at)
        return self._unembed(x[:, 0, -1]), prefix

    def decode(
        self,
        tokens: jax.Array,
        age: jax.Array,
        step: jax.Array,
        prefix: KeyValues,
        prompt_mask: jax.Array,
        cache: KeyValues,
    ) -> tuple[jax.Array, KeyValues]:
        """Reads one more token of every completion.

        Args:
          tokens: ``[B, G]`` int32.
          age: ``[B, G]`` int32, how many tokens of its completion came before.
          step: scalar int32, calls before this one on this cache.
          prefix: keys and values of the prompts, ``[L, B, K, P, h]``.
          prompt_mask: ``[B, P]`` bool.
          cache: keys and values of the completions, from ``empty_cache``.

        Returns:
          Logits ``[B, G, V]`` of the next token, and the updated cache.
        """
        at = self._positions(prompt_mask, age[..., None])._replace(age=age, step=step)
        layers = jnp.arange(self.arch.num_layers)
        carry = (self.embed(tokens)[:, :, None], cache)
        (x, cache), _ = self.layers.decode(carry, (layers, prefix), at)
        return self._unembed(x[:, :, 0]), cache

    def empty_cache(self, num_prompts: int, group_size: int, max_tokens: int) -> KeyValues:
        """Room for the last tokens of completions: two zero arrays ``[L, B, G, K, C', h]``.

        Args:
          num_prompts: B.
          group_size: G.
          max_tokens: C; a long one is rounded up to whole blocks, C'.

        Returns:
          Keys and values, in the compute dtype.
        """
        arch = self.arch
        if max_tokens > 2 * CACHE_BLOCK:
            max_tokens = -(-max_tokens // CACHE_BLOCK) * CACHE_BLOCK
        leading = (arch.num_layers, num_prompts, group_size, arch.num_kv_heads)
        shape = (*leading, max_tokens, arch.head_dim)
        return KeyValues(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))


def init_params(model: nn.Module, key: jax.Array) -> Any:
    """Random parameters: a tree of float32 arrays, layers stacked on a leading ``L``.

    Args:
      model: the decoder.
      key: typed PRNG key.

    Returns:
      The parameter tree.
    """
    prompts = jnp.zeros((1, 1), jnp.int32)
    completions = jnp.zeros((1, 1, 1), jnp.int32)
    return _init(model)(key, prompts, jnp.ones((1, 1), bool), completions)["params"]


# Shapes, a start and a resumed run all ask for it: equal networks are traced and compiled once.
@functools.lru_cache(maxsize=8)
def _init(model: nn.Module) -> Any:
    return jax.jit(model.init)
