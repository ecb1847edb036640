"""A Flax Linen decoder in the Qwen2 shape, built around a prompt that is shared by its group.

RMSNorm, RoPE, grouped-query attention with bias, SwiGLU, tied embeddings, layers scanned. The G
completions of a prompt attend to one copy of its keys and values, in training as in sampling: a
prompt is computed once, not G times.

``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens, ``C`` completion tokens, ``T``
tokens of either, ``D`` width, ``H`` query heads, ``K`` key/value heads, ``h`` head size, ``L``
layers, ``V`` vocabulary.
"""

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rvpo_jax.config import ModelConfig
from rvpo_jax.models.hf import load_weights
from rvpo_jax.models.hf_config import read_architecture
from rvpo_jax.models.model import Model
from rvpo_jax.models.params_io import STARTS, load_params
from rvpo_jax.models.presets import Architecture, architecture, check_vocabulary
from rvpo_jax.models.rope import frequencies

MASKED = -1e30  # finite: a padding query, which sees no key, stays a number
# Longer prompts attend in steps of so many queries, a few queries at a time: bounded memory, and
# weights that stay in a CPU's cache (32 was the fastest of 32, 64, 128 and 512 there).
KEY_STEP, QUERY_CHUNK = 512, 32


class KeyValues(NamedTuple):
    """Keys and values of one layer, or of all with a leading ``L``."""

    k: jax.Array  # [B, P, K, h] of a prompt, [B, G, C, K, h] of completions
    v: jax.Array


class Positions(NamedTuple):
    """What the layers need to know of the tokens' places."""

    prompt_mask: jax.Array  # [B, P] bool
    prompt: jax.Array  # [B, 1, P] int32
    completion: jax.Array  # [B, G, T] int32
    slot: jax.Array  # scalar int32, index of the first of the T completion tokens


def _attend(
    q: jax.Array, own: KeyValues, own_mask: jax.Array, prefix: KeyValues | None, prefix_mask: Any
) -> jax.Array:
    """Attention of ``[B, G, T, H, h]`` queries to their own segment and a shared prefix."""
    num_kv, size = own.k.shape[-2:]
    grouped = q.reshape(*q.shape[:-2], num_kv, q.shape[-2] // num_kv, size) * size**-0.5
    logits = jnp.einsum("bgtkrh,bgskh->bgkrts", grouped, own.k).astype(jnp.float32)
    logits = jnp.where(own_mask[:, :, None, None], logits, MASKED)
    if prefix is not None:
        before = jnp.einsum("bgtkrh,bpkh->bgkrtp", grouped, prefix.k).astype(jnp.float32)
        before = jnp.where(prefix_mask[:, None, None, None, None, :], before, MASKED)
        logits = jnp.concatenate([before, logits], axis=-1)
    weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    num_prefix = 0 if prefix is None else prefix.k.shape[1]
    out = jnp.einsum("bgkrts,bgskh->bgtkrh", weights[..., num_prefix:], own.v)
    if prefix is not None:
        out += jnp.einsum("bgkrtp,bpkh->bgtkrh", weights[..., :num_prefix], prefix.v)
    return out.reshape(q.shape)


def _attend_prompt(q: jax.Array, own: KeyValues, prompt_mask: jax.Array) -> jax.Array:
    """Causal attention of a left-padded prompt to itself, in chunks of queries when it is long."""
    length = q.shape[2]
    if length <= KEY_STEP:
        return _attend(q, own, _visible(jnp.arange(length), prompt_mask), None, None)
    out = []
    for start in range(0, length, KEY_STEP):
        # Keys only up to the end of these queries: about half the work.
        end = min(start + KEY_STEP, length)
        keys = jax.tree.map(lambda x, end=end: x[:, :, :end], own)
        out.append(_attend_chunks(q[:, :, start:end], start, keys, prompt_mask[:, :end]))
    return jnp.concatenate(out, axis=2)


def _attend_chunks(q: jax.Array, start: int, keys: KeyValues, mask: jax.Array) -> jax.Array:
    """``[B, 1, T, H, h]`` queries, the first at position ``start``, a few rows at a time."""
    length, size = q.shape[2], QUERY_CHUNK
    num = -(-length // size)
    padded = jnp.pad(q, [(0, 0), (0, 0), (0, num * size - length), (0, 0), (0, 0)])
    chunks = jnp.moveaxis(padded.reshape(*q.shape[:2], num, size, *q.shape[3:]), 2, 0)
    rows = start + jnp.arange(num * size).reshape(num, size)

    @jax.checkpoint  # the weights of all chunks never exist at once, in the backward pass neither
    def attend(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _attend(chunk[0], keys, _visible(chunk[1], mask), None, None)

    out = jnp.moveaxis(jax.lax.map(attend, (chunks, rows)), 0, 2)
    return out.reshape(*q.shape[:2], num * size, *q.shape[3:])[:, :, :length]


def _visible(rows: jax.Array, prompt_mask: jax.Array) -> jax.Array:
    """``[B, 1, T, P]``: which prompt tokens the queries at positions ``rows`` may see."""
    causal = rows[:, None] >= jnp.arange(prompt_mask.shape[1])[None, :]
    return (causal[None] & prompt_mask[:, None, :])[:, None]


def _rotate(x: jax.Array, positions: jax.Array, arch: Architecture) -> jax.Array:
    """Rotary embedding of ``[B, G, T, heads, h]`` at ``[B, G, T]`` positions, halves as in HF."""
    frequency = frequencies(arch.head_dim, arch.rope_theta, arch.rope_scaling)
    angle = positions[..., None].astype(jnp.float32) * frequency.reshape(1, 1, 1, -1)
    cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


class Block(nn.Module):
    """One layer; ``full`` trains, ``prefill`` and ``decode`` sample."""

    arch: Architecture
    dtype: Any

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
        normed = self.attn_norm(x)

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(*y.shape[:-1], -1, self.arch.head_dim)

        q, k = heads(self.q_proj(normed)), heads(self.k_proj(normed))
        if self.arch.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = _rotate(q, positions, self.arch), _rotate(k, positions, self.arch)
        return q, KeyValues(k, heads(self.v_proj(normed)))

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        x = x + self.o_proj(attended.reshape(*attended.shape[:-2], -1))
        normed = self.mlp_norm(x)
        return x + self.down_proj(nn.silu(self.gate_proj(normed)) * self.up_proj(normed))

    def prefill(self, x: jax.Array, layer: jax.Array, at: Positions) -> tuple[jax.Array, KeyValues]:
        """Prompt ``[B, 1, P, D]`` in and out, and its keys and values."""
        q, own = self._project(x, at.prompt)
        x = self._finish(x, _attend_prompt(q, own, at.prompt_mask))
        return x, KeyValues(own.k[:, 0], own.v[:, 0])

    def full(self, carry: tuple, layer: jax.Array, at: Positions) -> tuple[tuple, None]:
        """Prompt ``[B, 1, P, D]`` and completions ``[B, G, C, D]`` together."""
        prompt, completion = carry
        prompt, prefix = self.prefill(prompt, layer, at)
        q, own = self._project(completion, at.completion)
        slots = jnp.arange(completion.shape[2])
        causal = (slots[:, None] >= slots[None, :])[None, None]
        attended = _attend(q, own, causal, prefix, at.prompt_mask)
        return (prompt, self._finish(completion, attended)), None

    def decode(self, carry: tuple, scanned: tuple, at: Positions) -> tuple[tuple, None]:
        """One token of every completion, ``[B, G, 1, D]``; the cache is updated in place."""
        x, cache = carry
        layer, prefix = scanned
        q, new = self._project(x, at.completion)
        start = (layer, 0, 0, at.slot, 0, 0)
        cache = jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice(old, x[None].astype(old.dtype), start),
            cache,
            new,
        )
        own = jax.tree.map(lambda c: jax.lax.dynamic_index_in_dim(c, layer, 0, False), cache)
        written = (jnp.arange(own.k.shape[2]) <= at.slot)[None, None, None, :]
        attended = _attend(q, own, written, prefix, at.prompt_mask)
        return (self._finish(x, attended), cache), None


class Transformer(nn.Module):
    """The decoder. ``apply(..., method=...)`` with ``__call__``, ``prefill`` or ``decode``."""

    arch: Architecture
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        arch = self.arch
        self.embed = nn.Embed(
            arch.vocab_size,
            arch.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(0.02),
        )
        block: Any = nn.remat(Block, prevent_cse=False, methods=["full"]) if self.remat else Block
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=arch.num_layers,
            methods=["full", "prefill", "decode"],
        )(arch, self.dtype)
        self.norm = nn.RMSNorm(epsilon=arch.norm_eps, dtype=self.dtype)
        if not arch.tie_embeddings:
            self.lm_head = nn.Dense(arch.vocab_size, use_bias=False, dtype=self.dtype)

    def _unembed(self, x: jax.Array) -> jax.Array:
        x = self.norm(x)
        logits = self.embed.attend(x) if self.arch.tie_embeddings else self.lm_head(x)
        return logits.astype(jnp.float32)

    def _positions(self, prompt_mask: jax.Array, shape: tuple, slot: Any = 0) -> Positions:
        """Positions count real tokens only, so that padding on the left changes nothing."""
        prompt = jnp.maximum(jnp.cumsum(prompt_mask, axis=1) - 1, 0)
        length = jnp.sum(prompt_mask, axis=1)[:, None, None]
        steps = jnp.arange(shape[2])[None, None, :] + slot
        completion = jnp.broadcast_to(length + steps, shape)
        return Positions(prompt_mask, prompt[:, None, :], completion, jnp.asarray(slot))

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
        at = self._positions(prompt_mask, completions.shape)
        layers = jnp.arange(self.arch.num_layers)
        carry = (self.embed(prompts)[:, None], self.embed(completions))
        (prompt, completion), _ = self.layers.full(carry, layers, at)
        # The prompt's last token predicts the first of the completion.
        last = jnp.broadcast_to(prompt[:, :, -1:], (*completion.shape[:2], 1, prompt.shape[-1]))
        return self._unembed(jnp.concatenate([last, completion[:, :, :-1]], axis=2))

    def prefill(self, prompts: jax.Array, prompt_mask: jax.Array) -> tuple[jax.Array, KeyValues]:
        """Reads prompts once.

        Args:
          prompts: ``[B, P]`` int32, left-padded.
          prompt_mask: ``[B, P]`` bool.

        Returns:
          Logits ``[B, V]`` of the first completion token, keys and values ``[L, B, P, K, h]``.
        """
        at = self._positions(prompt_mask, (prompts.shape[0], 1, 1))
        layers = jnp.arange(self.arch.num_layers)
        x, prefix = self.layers.prefill(self.embed(prompts)[:, None], layers, at)
        return self._unembed(x[:, 0, -1]), prefix

    def decode(
        self,
        tokens: jax.Array,
        slot: jax.Array,
        prefix: KeyValues,
        prompt_mask: jax.Array,
        cache: KeyValues,
    ) -> tuple[jax.Array, KeyValues]:
        """Reads one more token of every completion.

        Args:
          tokens: ``[B, G]`` int32, the tokens at ``slot``.
          slot: scalar int32, how many tokens came before.
          prefix: keys and values of the prompts, ``[L, B, P, K, h]``.
          prompt_mask: ``[B, P]`` bool.
          cache: keys and values of the completions, ``[L, B, G, C, K, h]``.

        Returns:
          Logits ``[B, G, V]`` of the next token, and the updated cache.
        """
        at = self._positions(prompt_mask, (*tokens.shape, 1), slot)
        layers = jnp.arange(self.arch.num_layers)
        carry = (self.embed(tokens)[:, :, None], cache)
        (x, cache), _ = self.layers.decode(carry, (layers, prefix), at)
        return self._unembed(x[:, :, 0]), cache

    def empty_cache(self, num_prompts: int, group_size: int, max_tokens: int) -> KeyValues:
        """Room for completions: two zero arrays ``[L, B, G, C, K, h]``.

        Args:
          num_prompts: B.
          group_size: G.
          max_tokens: C.

        Returns:
          Keys and values, in the compute dtype.
        """
        arch = self.arch
        leading = (arch.num_layers, num_prompts, group_size, max_tokens)
        shape = (*leading, arch.num_kv_heads, arch.head_dim)
        return KeyValues(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))


def init_params(model: Transformer, key: jax.Array) -> Any:
    """Random parameters: a tree of float32 arrays, layers stacked on a leading ``L``.

    Args:
      model: the decoder.
      key: typed PRNG key.

    Returns:
      The parameter tree.
    """
    prompts = jnp.zeros((1, 1), jnp.int32)
    completions = jnp.zeros((1, 1, 1), jnp.int32)
    return jax.jit(model.init)(key, prompts, jnp.ones((1, 1), bool), completions)["params"]


def transformer_model(config: ModelConfig, vocab_size: int) -> Model:
    """The decoder of a preset or of a Hugging Face folder, behind the seam.

    Args:
      config: preset or path, type of the matrix products, rematerialisation.
      vocab_size: size of the tokenizer's vocabulary.

    Returns:
      The model; ``load`` takes a key of ``params_io.STARTS`` or a path.

    Raises:
      ValueError: on an unknown preset or a folder that cannot be used, or a vocabulary that the
        model does not hold.
    """
    name = str(config.preset) if config.path is None else Path(config.path).resolve().name
    if config.path is None:
        arch = architecture(name, vocab_size)
    else:
        arch = read_architecture(config.path)
        check_vocabulary(arch, vocab_size, f"model.path {config.path}")
    network = Transformer(arch, dtype=jnp.dtype(config.dtype), remat=config.remat)

    def apply(method: str) -> Any:
        return lambda params, *args: network.apply({"params": params}, *args, method=method)

    def load(start: Any) -> Any:
        shapes = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
        if start not in STARTS and Path(start).is_dir():
            return load_weights(start, shapes)
        return load_params(STARTS.get(start, start), shapes)

    return Model(
        logits=apply("__call__"),
        prefill=apply("prefill"),
        decode=apply("decode"),
        empty_cache=network.empty_cache,
        init=lambda key: init_params(network, key),
        load=load,
        name=name,
    )
