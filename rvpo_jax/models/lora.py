"""Low-rank adapters beside frozen parameters (LoRA, arXiv 2106.09685); qwix computes with them.

A matrix ``W`` of a layer, ``[in, out]``, becomes ``W + (alpha / rank) A B`` with ``A [in, rank]``
random and ``B [rank, out]`` 0 at the start, so that a run begins as the model it starts from.
"""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from safetensors.flax import save_file

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import ModelConfig
from rvpo_jax.models.hf import new_folder, tensors_of
from rvpo_jax.models.params_io import leaves_by_name

METHODS = ("__call__", "states", "packed_states", "prefill", "decode")
A, B = "kernel_lora_a", "kernel_lora_b"  # qwix's names, beside ``kernel``


def scale(config: ModelConfig) -> float:
    """The factor of ``A B``.

    Args:
      config: with a rank.

    Returns:
      ``alpha / rank``; alpha is twice the rank where it is not given.

    >>> scale(ModelConfig(lora_rank=8)), scale(ModelConfig(lora_rank=8, lora_alpha=4.0))
    (2.0, 0.5)
    """
    return 2.0 if config.lora_alpha is None else config.lora_alpha / config.lora_rank


def with_adapters(network: nn.Module, config: ModelConfig) -> nn.Module:
    """The network with adapters at its targets.

    Args:
      network: the decoder.
      config: rank, alpha and targets.

    Returns:
      A network whose parameters hold an A and a B beside each adapted kernel.

    Raises:
      ValueError: if qwix is not installed.
    """
    try:
        import qwix
    except ImportError:
        raise Refusal(
            f"model.lora_rank {config.lora_rank} needs qwix, which is not installed.",
            "Install it: pip install 'rvpo-jax[lora]'",
        ) from None
    provider = qwix.LoraProvider(
        module_path=f".*/({'|'.join(config.lora_targets)})",
        rank=config.lora_rank,
        alpha=scale(config) * config.lora_rank,
    )
    return qwix.apply_lora_to_model(network, provider, methods=METHODS)


def adapters_of(params: Any) -> Any:
    """The adapters in a parameter tree.

    Args:
      params: of a network with adapters.

    Returns:
      The tree without anything else.
    """
    layers = {
        target: {name: leaf for name, leaf in module.items() if name in (A, B)}
        for target, module in params["layers"].items()
    }
    return {"layers": {target: pair for target, pair in layers.items() if pair}}


def in_compute_dtype(params: Any, dtype: Any) -> Any:
    """Adapters in the type of the matrix products, so that these are not promoted.

    Args:
      params: of a network, perhaps with adapters.
      dtype: of the matrix products.

    Returns:
      The tree; all else is as it was.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.astype(dtype) if path[-1].key in (A, B) else leaf, params
    )


def frozen_shapes(shapes: Any, dtype: Any) -> Any:
    """How frozen parameters are kept: matrices as they are multiplied, the rest in float32.

    Training needs no float32 master copy of them, and no product changes by it.

    Args:
      shapes: tree of shapes, a leading ``L`` for what is in a layer.
      dtype: of the matrix products.

    Returns:
      The shapes with their types.
    """

    def kept(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        matrix = path[-1].key in ("kernel", "embedding")
        return jax.ShapeDtypeStruct(leaf.shape, dtype if matrix else jnp.float32)

    return jax.tree_util.tree_map_with_path(kept, shapes)


def merge(adapters: Any, frozen: Any, config: ModelConfig) -> Any:
    """The parameters of a network without adapters that computes the same.

    Args:
      adapters: A ``[L, in, rank]`` and B ``[L, rank, out]`` by target.
      frozen: the parameters beside them.
      config: rank and alpha.

    Returns:
      The tree; adapted kernels are float32.
    """
    factor = scale(config)

    @jax.jit
    def merged(kernel: jax.Array, pair: dict[str, jax.Array]) -> jax.Array:
        product = jnp.matmul(pair[A], pair[B], precision="highest")
        return kernel.astype(jnp.float32) + factor * product

    layers = dict(frozen["layers"])
    for target, pair in adapters["layers"].items():
        layers[target] = layers[target] | {"kernel": merged(layers[target]["kernel"], pair)}
    return frozen | {"layers": layers}


def save_adapters(adapters: Any, config: ModelConfig, out: str | Path) -> None:
    """Writes adapters as a folder in the format of PEFT, which transformers and vLLM read.

    Args:
      adapters: A and B by target.
      config: rank, alpha and targets.
      out: folder to write; must be absent or empty. It appears when it is complete.

    Raises:
      ValueError: if ``out`` holds something.
      WriteError: when the disk is full or the folder cannot be written to; nothing is left then.
    """
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": Path(str(config.path)).name,
        "r": config.lora_rank,
        "lora_alpha": scale(config) * config.lora_rank,
        "target_modules": list(config.lora_targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    with new_folder(out) as part:
        save_file(_peft_tensors(adapters), part / "adapter_model.safetensors", {"format": "pt"})
        write_text(part / "adapter_config.json", to_json(described, indent=2) + "\n")


def _peft_tensors(adapters: Any) -> dict[str, jax.Array]:
    """``[rank, in]`` and ``[out, rank]`` of each layer, under PEFT's names."""
    leaves, tensors = leaves_by_name(adapters), {}
    for ours, theirs in ((A, "lora_A"), (B, "lora_B")):
        kernels = {target: {"kernel": pair[ours]} for target, pair in adapters["layers"].items()}
        for tensor in tensors_of({"layers": kernels}):
            name = tensor.name.replace(".weight", f".{theirs}.weight")
            leaf = leaves[tensor.leaf.replace("kernel", ours)]
            tensors[f"base_model.model.{name}"] = leaf[tensor.layer].T
    return tensors
