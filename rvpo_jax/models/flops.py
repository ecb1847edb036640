"""FLOPs of a decoder by arithmetic: the one convention of all our shares of a peak.

2 per parameter and token of a matrix product in a forward pass; a prompt is computed once per
group, and only completion tokens pass the output head. Attention: 4 per layer, head, head size and
token that is seen, by causal counting. Norms, rotations and softmaxes are left out.
"""

from rvpo_jax.models.presets import Architecture


def matmul_params(arch: Architecture) -> tuple[int, int]:
    """Parameters that a token is multiplied by.

    Args:
      arch: the decoder.

    Returns:
      Those in the layers, and those in the output head.
    """
    heads = arch.num_heads * arch.head_dim
    attention = 2 * arch.width * heads + 2 * arch.width * arch.num_kv_heads * arch.head_dim
    layers = arch.num_layers * (attention + 3 * arch.width * arch.mlp_width)
    return layers, arch.vocab_size * arch.width


def forward_flops(
    arch: Architecture, num_prompts: int, group_size: int, prompt_tokens: int, tokens: int
) -> tuple[float, float]:
    """FLOPs of one forward pass over a batch: of matrix products with weights, of attention.

    Args:
      arch: the decoder.
      num_prompts: B.
      group_size: G.
      prompt_tokens: P.
      tokens: C.

    Returns:
      Both counts.
    """
    layers, head = matmul_params(arch)
    prompts = num_prompts * prompt_tokens
    completions = num_prompts * group_size * tokens
    seen = prompts * prompt_tokens / 2 + completions * (prompt_tokens + tokens / 2)
    products = 2.0 * (layers * (prompts + completions) + head * completions)
    return products, 4.0 * arch.num_layers * arch.num_heads * arch.head_dim * seen
