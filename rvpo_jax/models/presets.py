"""Named sizes of the decoder. Those of SmolLM2 and Qwen2.5 are from their published configs."""

import dataclasses

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.models.rope import RopeScaling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a decoder; letters of ``types.py`` where they exist."""

    vocab_size: int  # V
    num_layers: int  # L
    width: int  # D
    num_heads: int  # H, query heads
    num_kv_heads: int  # K, divides H
    head_dim: int
    mlp_width: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = True
    qk_norm: bool = False  # of each head, before the rotation (Qwen3)
    tie_embeddings: bool = True


_QWEN = {"vocab_size": 151_936, "head_dim": 128, "rope_theta": 1_000_000.0}

PRESETS: dict[str, dict] = {
    "tiny": dict(num_layers=3, width=64, num_heads=4, num_kv_heads=2, head_dim=16, mlp_width=192),
    "small": dict(num_layers=6, width=256, num_heads=8, num_kv_heads=4, head_dim=32, mlp_width=768),
    "smollm2-135m": dict(
        num_layers=30,
        width=576,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        mlp_width=1536,
        vocab_size=49_152,
        rope_theta=100_000.0,
        norm_eps=1e-5,
        qkv_bias=False,
    ),
    "qwen2.5-0.5b": dict(
        _QWEN, num_layers=24, width=896, num_heads=14, num_kv_heads=2, head_dim=64, mlp_width=4864
    ),
    "qwen2.5-1.5b": dict(
        _QWEN, num_layers=28, width=1536, num_heads=12, num_kv_heads=2, mlp_width=8960
    ),
    "qwen2.5-3b": dict(
        _QWEN, num_layers=36, width=2048, num_heads=16, num_kv_heads=2, mlp_width=11_008
    ),
    "qwen2.5-7b": dict(
        _QWEN,
        num_layers=28,
        width=3584,
        num_heads=28,
        num_kv_heads=4,
        mlp_width=18_944,
        vocab_size=152_064,
        tie_embeddings=False,
    ),
    "qwen2.5-14b": dict(
        _QWEN,
        num_layers=48,
        width=5120,
        num_heads=40,
        num_kv_heads=8,
        mlp_width=13_824,
        vocab_size=152_064,
        tie_embeddings=False,
    ),
}


def architecture(preset: str, vocab_size: int) -> Architecture:
    """The architecture of a preset for a tokenizer.

    Args:
      preset: a name in ``PRESETS``.
      vocab_size: size of the tokenizer's vocabulary; presets that fix their own must hold it.

    Returns:
      The architecture; its vocabulary is the preset's own where that is larger.

    Raises:
      ValueError: on an unknown preset, or a vocabulary larger than the preset's.

    >>> architecture("tiny", vocab_size=300).num_layers
    3
    """
    if preset not in PRESETS:
        raise Refusal(
            f"model.preset must be one of {', '.join(PRESETS)}, got {preset!r}.",
            "Choose one of these names.",
        )
    fields = dict(PRESETS[preset])
    own = fields.pop("vocab_size", vocab_size)
    arch = Architecture(vocab_size=own, **fields)
    check_vocabulary(arch, vocab_size, f"model.preset {preset}")
    return arch


def check_vocabulary(arch: Architecture, vocab_size: int, what: str) -> None:
    """Refuses a tokenizer with ids that the model lacks.

    Args:
      arch: the model.
      vocab_size: size of the tokenizer's vocabulary; the model's may be larger.
      what: the model, for the message.

    Raises:
      ValueError: naming both sizes.
    """
    if arch.vocab_size < vocab_size:
        raise Refusal(
            f"{what} has {arch.vocab_size} tokens, the tokenizer {vocab_size}.",
            "Use the tokenizer of that model.",
        )
