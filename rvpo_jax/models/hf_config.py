"""A Hugging Face ``config.json`` as an architecture of ours; what ours lacks is refused by name."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rvpo_jax.basics.files import read_object
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.models.presets import Architecture
from rvpo_jax.models.rope import RopeScaling

KINDS = ("llama", "qwen2", "qwen3")


def read_architecture(folder: str | Path) -> Architecture:
    """The architecture in a model's folder.

    Args:
      folder: holds ``config.json``.

    Returns:
      The architecture.

    Raises:
      ValueError: if there is no such file, or the model is not one of Qwen2, Qwen3 and Llama.
    """
    config = read_json(Path(folder) / "config.json")
    kind = config.get("model_type")
    if kind not in KINDS:
        _refuse(f"model_type {kind!r}", f"model_type must be one of {', '.join(KINDS)}")
    _check_supported(config)
    heads = _number(config, "num_attention_heads")
    kv_heads = _number(config, "num_key_value_heads", heads)
    head_dim = _number(config, "head_dim", _number(config, "hidden_size") // heads)
    if heads % kv_heads or head_dim % 2:
        _refuse(
            f"{heads} heads, {kv_heads} key/value heads of size {head_dim}",
            "num_key_value_heads must divide num_attention_heads, and head_dim be even",
        )
    return Architecture(
        vocab_size=_number(config, "vocab_size"),
        num_layers=_number(config, "num_hidden_layers"),
        width=_number(config, "hidden_size"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=_number(config, "intermediate_size"),
        norm_eps=_real(config, "rms_norm_eps", 1e-6),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        tie_embeddings=bool(config.get("tie_word_embeddings", False)),
        **_rope(config),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder.

    Args:
      path: the file.

    Returns:
      Its fields.

    Raises:
      ValueError: if there is none, or it holds no JSON object.
    """
    found, problem = read_object(path)
    if found is None:
        raise Refusal(
            f"model.path must be a Hugging Face folder with {path.name}, got {path}, {problem}.",
            "Download the whole folder of the model.",
        )
    return found


def _check_supported(config: Mapping[str, Any]) -> None:
    if config.get("hidden_act", "silu") != "silu":
        _refuse(f"hidden_act {config['hidden_act']!r}", "hidden_act must be silu")
    sliding = "sliding_attention" in str(config.get("layer_types"))
    if sliding or (config.get("use_sliding_window") and config.get("sliding_window")):
        _refuse("a sliding window in use", "attention must be full")
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            _refuse(f"{name} true", f"{name} must be false")
    if config.get("quantization_config"):
        _refuse("quantized weights", "weights must be plain float32, bfloat16 or float16")


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """``rope_theta`` stands at the top in published files, under ``rope_parameters`` in newer."""
    nested = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(nested, Mapping):
        _refuse(f"rope_parameters {nested!r:.40}", "rope_parameters must be an object")
    theta = _real({**config, **nested}, "rope_theta", 10_000.0)
    kind = nested.get("rope_type", nested.get("type", "default"))
    if kind == "default":
        return {"rope_theta": theta}
    if kind != "llama3":
        _refuse(f"rope scaling {kind!r}", "rope scaling must be none or llama3")
    scaling = RopeScaling(
        factor=_real(nested, "factor"),
        low_freq_factor=_real(nested, "low_freq_factor"),
        high_freq_factor=_real(nested, "high_freq_factor"),
        original_max_position_embeddings=_number(nested, "original_max_position_embeddings"),
    )
    return {"rope_theta": theta, "rope_scaling": scaling}


def _real(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        _refuse(f"{name} {value!r:.40}", f"{name} must be a number above 0")
    return float(value)


def _number(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        _refuse(f"{name} {value!r:.40}", f"{name} must be a whole number above 0")
    return value


def _refuse(what: str, rule: str) -> NoReturn:
    raise Refusal(
        f"config.json of model.path: {rule}, got {printable(what)}.",
        f"Supported are {', '.join(KINDS)} with full attention; choose such a model.",
    )
