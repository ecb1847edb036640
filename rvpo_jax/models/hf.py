"""Weights in a Hugging Face folder, safetensors, both ways and a piece at a time.

Ours stacks the layers on a leading ``L`` and stores matrices ``[in, out]``; a folder has one tensor
per layer, ``[out, in]``. Nothing larger than a piece of a tensor is held on the host.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

from rvpo_jax.basics.files import cannot_write, to_json, write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.models.hf_config import read_json
from rvpo_jax.models.params_io import leaves_by_name

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PIECE = 64 << 20  # bytes of a tensor that are on the host at once
FILE_SIZE = 96 << 20  # bytes per exported file, or one tensor; writing holds them twice
DTYPES = {"F32": jnp.float32, "BF16": jnp.bfloat16, "F16": jnp.float16}
# What belongs to a model beside its weights.
COMPANIONS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json"),
)
_TOP = {
    "embed/embedding": "model.embed_tokens.weight",
    "norm/scale": "model.norm.weight",
    "lm_head/kernel": "lm_head.weight",
}
_NORMS = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}


class Tensor(NamedTuple):
    """One tensor of a folder and its place in our tree."""

    name: str
    leaf: str  # path in our tree, with slashes
    layer: int | None
    shape: tuple[int, ...]  # as in the folder
    transposed: bool


class Source(NamedTuple):
    """Where a folder has a tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def load_weights(folder: str | Path, shapes: Any) -> Any:
    """The parameters of a folder, where their shapes say, else on the first local device.

    Everything is checked before anything is loaded. Beyond the parameters the host holds a few
    pieces of 64 MB.

    Args:
      folder: holds ``model.safetensors``, or several files and their index.
      shapes: our tree of shapes and types, from ``jax.eval_shape``, perhaps with shardings.

    Returns:
      The tree of arrays, of these types whatever the folder's.

    Raises:
      ValueError: naming tensors that are missing, unknown, of another shape or type, or files that
        are missing or cut.
    """
    sources = read_sources(folder)
    tensors = list(tensors_of(shapes))
    _check(sources, tensors, folder)
    put = jax.jit(jax.lax.dynamic_update_slice, donate_argnums=0)
    leaves = {
        path: jnp.zeros(leaf.shape, leaf.dtype, device=getattr(leaf, "sharding", None))
        for path, leaf in leaves_by_name(shapes).items()
    }
    for tensor in tensors:
        dtype = leaves[tensor.leaf].dtype
        for start, piece in _pieces(tensor, sources[tensor.name], dtype):
            at = start if tensor.layer is None else (tensor.layer, *start)
            new = piece if tensor.layer is None else piece[None]
            leaves[tensor.leaf] = put(leaves[tensor.leaf], new, at)
            jax.block_until_ready(leaves[tensor.leaf])  # else pieces queue up on the host
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves.values())


def save_weights(params: Any, source: str | Path, out: str | Path) -> None:
    """Writes parameters as a folder like the one they came from: names, types, config, tokenizer.

    Args:
      params: our tree.
      source: folder that the training started from.
      out: folder to write; must be absent or empty. It appears when it is complete.

    Raises:
      ValueError: if ``out`` holds something, or the source is not there.
      WriteError: when the disk is full or the folder cannot be written to; nothing is left then.
    """
    with new_folder(out) as part:
        sources, leaves = read_sources(source), leaves_by_name(params)
        tensors = [tensor for tensor in tensors_of(params) if tensor.name in sources]
        _write_folder(part, Path(source), tensors, sources, leaves)


@contextlib.contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` when the block ends well.

    Args:
      out: must be absent or empty.

    Yields:
      The folder to write to. It is removed when the block raises.

    Raises:
      ValueError: if ``out`` holds something.
      WriteError: when the disk is full or the folder cannot be written to; nothing is left then.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"out must be an empty or new folder, got {out}.", "Choose another.")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except (OSError, SafetensorError) as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_folder(
    out: Path,
    source: Path,
    tensors: list[Tensor],
    sources: Mapping[str, Source],
    leaves: Mapping[str, Any],
) -> None:
    groups = list(_files(tensors, sources))
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        name = f"model-{number:05d}-of-{len(groups):05d}.safetensors" if groups[1:] else SINGLE
        arrays = {t.name: _exported(leaves[t.leaf], t, sources[t.name]) for t in group}
        save_file(arrays, out / name, metadata={"format": "pt"})
        weight_map |= {tensor.name: name for tensor in group}
    if groups[1:]:
        size = sum(_num_bytes(sources[tensor.name]) for tensor in tensors)
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_text(out / INDEX, to_json(index, indent=2) + "\n")
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


def read_sources(folder: str | Path) -> dict[str, Source]:
    """The tensors of a folder, from the headers of its files.

    Args:
      folder: a Hugging Face folder.

    Returns:
      Where each tensor is, by name.

    Raises:
      ValueError: if a file is missing, cut or no safetensors.
    """
    folder = Path(folder)
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        names: set[Any] = set(weight_map.values()) if isinstance(weight_map, Mapping) else {None}
        # A name that leaves the folder is somebody else's file.
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise Refusal(
                f"{folder / INDEX} must map tensors to files beside it.", "Download it again."
            )
        files = [folder / name for name in sorted(names)]
    else:
        files = [folder / SINGLE]
    return {name: source for file in files for name, source in _header(file).items()}


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The tensors that a folder of our parameters has.

    Args:
      tree: our tree, of arrays or shapes.

    Yields:
      One per tensor, in the order of our leaves and their layers.
    """
    for path, leaf in leaves_by_name(tree).items():
        if path in _TOP:
            transposed = path == "lm_head/kernel"
            shape = leaf.shape[::-1] if transposed else leaf.shape
            yield Tensor(_TOP[path], path, None, shape, transposed)
            continue
        _, module, field = path.split("/")
        transposed = field == "kernel"
        shape = leaf.shape[:0:-1] if transposed else leaf.shape[1:]
        kind = "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        name = f"{_NORMS.get(module, f'{kind}.{module}')}.{'bias' if field == 'bias' else 'weight'}"
        for layer in range(leaf.shape[0]):
            yield Tensor(f"model.layers.{layer}.{name}", path, layer, shape, transposed)


def _header(file: Path) -> dict[str, Source]:
    try:
        with safe_open(file, framework="flax") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}
            return {
                name: Source(file, tuple(part.get_shape()), part.get_dtype())
                for name, part in slices.items()
            }
    except FileNotFoundError:
        raise Refusal(
            f"model.path must hold {file.name}, got {file.parent} without it.",
            "Download the whole folder of the model.",
        ) from None
    except (OSError, SafetensorError) as error:
        raise Refusal(
            f"{file} must be a whole safetensors file, got: {printable(error)}.",
            "It may be cut: download it again.",
        ) from None


def _check(sources: Mapping[str, Source], tensors: list[Tensor], folder: str | Path) -> None:
    known = {tensor.name for tensor in tensors}
    missing = [name for name in known if name not in sources]
    # Tied models may still carry their head, old ones the rotary frequencies.
    unused = [n for n in sources if n != "lm_head.weight" and not n.endswith("rotary_emb.inv_freq")]
    extra = [name for name in unused if name not in known]
    for what, names in (("lacks", missing), ("has an unknown", extra)):
        if names:
            raise Refusal(
                f"model.path {folder} {what} tensor {printable(sorted(names)[0])} "
                f"({len(names)} of {len(known)}).",
                "Its config.json and its weights belong to different models.",
            )
    for tensor in tensors:
        source = sources[tensor.name]
        if source.shape != tensor.shape or source.dtype not in DTYPES:
            raise Refusal(
                f"tensor {printable(tensor.name)} of model.path {folder} must be "
                f"{list(tensor.shape)} of {', '.join(DTYPES)}, got {list(source.shape)} of "
                f"{printable(source.dtype)}.",
                "Its config.json and its weights belong to different models.",
            )


def _pieces(
    tensor: Tensor, source: Source, dtype: Any
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Pieces of a tensor in our orientation, and where each begins."""
    rows = max(PIECE // (4 * int(np.prod(source.shape[1:]))), 1)
    with safe_open(source.file, framework="flax") as opened:
        part = opened.get_slice(tensor.name)
        for first in range(0, source.shape[0], rows):
            last = min(first + rows, source.shape[0])
            values = np.asarray(part[first:last], dtype)
            if tensor.transposed:
                yield (0, first), values.T
            else:
                yield (first, *(0,) * (values.ndim - 1)), values


def _files(tensors: list[Tensor], sources: Mapping[str, Source]) -> Iterator[list[Tensor]]:
    group: list[Tensor] = []
    size = 0
    for tensor in tensors:
        new = _num_bytes(sources[tensor.name])
        if group and size + new > FILE_SIZE:
            yield group
            group, size = [], 0
        group.append(tensor)
        size += new
    yield group


def _num_bytes(source: Source) -> int:
    return int(np.prod(source.shape)) * jnp.dtype(DTYPES[source.dtype]).itemsize


def _exported(leaf: Any, tensor: Tensor, source: Source) -> jax.Array:
    value = leaf if tensor.layer is None else leaf[tensor.layer]
    value = value.T if tensor.transposed else value
    return jnp.asarray(value, DTYPES[source.dtype])
