"""Our decoder as a config names it, behind the seam: a preset or a Hugging Face folder, LoRA."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rvpo_jax.config import ModelConfig
from rvpo_jax.method.packing import pack_rows
from rvpo_jax.method.vocabulary import vocabulary_logprobs
from rvpo_jax.models import lora
from rvpo_jax.models.hf import load_weights
from rvpo_jax.models.hf_config import read_architecture
from rvpo_jax.models.model import Model, Placement
from rvpo_jax.models.params_io import STARTS, load_params
from rvpo_jax.models.presets import Architecture, architecture, check_vocabulary
from rvpo_jax.models.transformer import ATTENTION, Transformer, init_params
from rvpo_jax.types import Batch


def transformer_model(
    config: ModelConfig, vocab_size: int, placement: Placement | None = None
) -> Model:
    """The decoder of a preset or of a Hugging Face folder, behind the seam.

    Args:
      config: preset or path, type of the matrix products, rematerialisation, adapters.
      vocab_size: size of the tokenizer's vocabulary.
      placement: see ``build_model``.

    Returns:
      The model; ``load`` takes a key of ``params_io.STARTS`` or a path.

    Raises:
      ValueError: on an unknown preset or a folder that cannot be used, or a vocabulary that the
        model does not hold, or adapters without qwix.
    """
    arch, name = architecture_of(config, vocab_size)
    base, dtype = _network(config, arch, placement), jnp.dtype(config.dtype)
    network = lora.with_adapters(base, config) if config.lora_rank else base

    def apply(method: str) -> Any:
        def run(params: Any, *args: Any) -> Any:
            params = lora.in_compute_dtype(params, dtype)
            return network.apply({"params": params}, *args, method=method)

        return run

    def logprobs(
        params: Any, batch: Batch, temperature: float, capacity: int | None
    ) -> tuple[jax.Array, jax.Array]:
        if placement is not None:
            embedding = placement.table(params["embed"]["embedding"])
            params = params | {"embed": {"embedding": embedding}}
        if arch.tie_embeddings:
            table = params["embed"]["embedding"]
        else:
            table = params["lm_head"]["kernel"].T
            # Whole before the loop over chunks, or each of them would gather it.
            table = table if placement is None else placement.table(table)
        unembed = functools.partial(
            vocabulary_logprobs,
            table=table,
            temperature=temperature,
            num_shards=1 if placement is None else placement.num_shards,
        )
        inputs = (batch.prompts, batch.prompt_mask, batch.completions)
        if capacity is None:
            return unembed(apply("states")(params, *inputs), tokens=batch.completions)
        rows = pack_rows(batch.completion_mask, capacity)
        tokens = jnp.take(batch.completions.reshape(-1), rows.source, mode="clip")
        states = apply("packed_states")(params, *inputs, rows)
        # One axis of tokens: chunks of the vocabulary's work are then of equal length.
        packed = unembed(states.reshape(tokens.size, -1), tokens=tokens.reshape(-1))
        return jax.tree.map(lambda x: jnp.take(x, rows.place, mode="fill", fill_value=0.0), packed)

    def adapters(key: jax.Array) -> Any:
        in_float32 = lora.with_adapters(base.clone(dtype=jnp.float32), config)
        return lora.adapters_of(init_params(in_float32, key))

    kept_shapes = functools.cache(lambda: _kept_shapes(config, base))

    def init(key: jax.Array) -> Any:
        return jax.tree.map(lambda x, to: x.astype(to.dtype), init_params(base, key), kept_shapes())

    def load(start: Any) -> Any:
        if start not in STARTS and Path(start).is_dir():
            shapes = kept_shapes()
            return load_weights(start, shapes if placement is None else placement.shapes(shapes))
        return load_params(STARTS.get(start, start), kept_shapes())

    return Model(
        logits=apply("__call__"),
        prefill=apply("prefill"),
        decode=apply("decode"),
        empty_cache=base.empty_cache,
        logprobs=logprobs,
        init=init,
        load=load,
        name=name,
        adapters=adapters if config.lora_rank else None,
        kv_heads=arch.num_kv_heads,
    )


def architecture_of(config: ModelConfig, vocab_size: int) -> tuple[Architecture, str]:
    """The architecture that a config names, a preset or a folder.

    Args:
      config: the model.
      vocab_size: size of the tokenizer's vocabulary.

    Returns:
      The architecture and its name.

    Raises:
      ValueError: on an unknown preset, a folder that is none, a vocabulary that does not fit.
    """
    if config.path is None:
        name = str(config.preset)
        return architecture(name, vocab_size), name
    arch = read_architecture(config.path)
    check_vocabulary(arch, vocab_size, f"model.path {config.path}")
    return arch, Path(config.path).resolve().name


def _network(config: ModelConfig, arch: Architecture, placement: Placement | None) -> Transformer:
    kind = config.attention
    return Transformer(
        arch,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
        remat_keeps=config.remat_keeps,
        attention=kind if kind != "auto" else ATTENTION.get(jax.default_backend(), "streams"),
        constrain=None if placement is None else placement.activations,
        by_shard=None if placement is None else placement.by_shard,
    )


def _kept_shapes(config: ModelConfig, network: Transformer) -> Any:
    """Shapes and types of the parameters: float32 but where they are frozen."""
    shapes = jax.eval_shape(lambda: init_params(network, jax.random.key(0)))
    return lora.frozen_shapes(shapes, config.dtype) if config.lora_rank else shapes
