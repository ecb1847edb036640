"""The decoder against a float64 NumPy forward pass, and its own invariances."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.method import losses
from rvpo_jax.models import attention
from rvpo_jax.models.presets import PRESETS, Architecture, architecture
from rvpo_jax.models.transformer import Transformer, init_params

ARCH = Architecture(
    vocab_size=31,
    num_layers=2,
    width=16,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_width=24,
)


def perturbed_params(model, seed=0):
    """Random parameters with norms and biases away from their start at 1 and 0."""
    params = init_params(model, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [x + 0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def numpy_forward(params, arch, tokens):
    """Logits ``[T, V]`` of one unpadded sequence, float64, token by token and head by head."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    layers = p["layers"]

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + arch.norm_eps) * scale

    def rotate(x, position):
        half = arch.head_dim // 2
        angle = position * arch.rope_theta ** (-np.arange(half) / half)
        a, b = x[:half], x[half:]
        return np.concatenate(
            [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
        )

    x = p["embed"]["embedding"][tokens]
    for layer in range(arch.num_layers):

        def dense(name, value, layer=layer):
            out = value @ layers[name]["kernel"][layer]
            return out + layers[name]["bias"][layer] if "bias" in layers[name] else out

        h = norm(x, layers["attn_norm"]["scale"][layer])
        q, k, v = (dense(name, h) for name in ("q_proj", "k_proj", "v_proj"))
        out = np.zeros((len(tokens), arch.num_heads * arch.head_dim))
        for t in range(len(tokens)):
            for head in range(arch.num_heads):
                kv = head // (arch.num_heads // arch.num_kv_heads)
                of = slice(kv * arch.head_dim, (kv + 1) * arch.head_dim)
                mine = slice(head * arch.head_dim, (head + 1) * arch.head_dim)
                query = rotate(q[t, mine], t)
                logits = [
                    query @ rotate(k[s, of], s) / np.sqrt(arch.head_dim) for s in range(t + 1)
                ]
                weights = np.exp(logits - np.max(logits))
                out[t, mine] = (weights / weights.sum()) @ v[: t + 1, of]
        x = x + dense("o_proj", out)
        h = norm(x, layers["mlp_norm"]["scale"][layer])
        gate = dense("gate_proj", h)
        x = x + dense("down_proj", gate / (1 + np.exp(-gate)) * dense("up_proj", h))
    return norm(x, p["norm"]["scale"]) @ p["embed"]["embedding"].T


def apply(model, params, *inputs):
    """One program: op by op, each shape of each op would be compiled."""
    return jax.jit(model.apply)({"params": params}, *inputs)


def inputs(num_prompts=3, group_size=2, prompt_len=6, completion_len=5):
    rng = np.random.default_rng(0)
    prompts = rng.integers(0, ARCH.vocab_size, (num_prompts, prompt_len))
    lengths = np.array([prompt_len, 3, 1])[:num_prompts]
    mask = np.arange(prompt_len) >= prompt_len - lengths[:, None]
    completions = rng.integers(0, ARCH.vocab_size, (num_prompts, group_size, completion_len))
    return jnp.asarray(prompts), jnp.asarray(mask), jnp.asarray(completions)


@pytest.mark.slow
def test_logits_equal_a_float64_forward_pass_of_each_sequence_alone():
    model = Transformer(ARCH)
    params = perturbed_params(model)
    prompts, mask, completions = inputs()
    actual = np.asarray(apply(model, params, prompts, mask, completions))
    for b in range(3):
        prompt = np.asarray(prompts[b])[np.asarray(mask[b])]
        for g in range(2):
            tokens = np.concatenate([prompt, np.asarray(completions[b, g])])
            expected = numpy_forward(params, ARCH, tokens)[len(prompt) - 1 : -1]
            np.testing.assert_allclose(actual[b, g], expected, atol=2e-5)


def test_cached_decoding_equals_the_full_forward_pass():
    model = Transformer(ARCH)
    params = perturbed_params(model)
    prompts, mask, completions = inputs()
    full = apply(model, params, prompts, mask, completions)
    params = {"params": params}
    first, prefix = jax.jit(functools.partial(model.apply, method="prefill"))(params, prompts, mask)
    decode = jax.jit(functools.partial(model.apply, method="decode"))
    steps = [jnp.broadcast_to(first[:, None], full[:, :, 0].shape)]
    cache = model.empty_cache(3, 2, 5)
    for slot in range(4):
        tokens = completions[:, :, slot]
        age = jnp.full(tokens.shape, slot)
        logits, cache = decode(params, tokens, age, slot, prefix, mask, cache)
        steps.append(logits)
    np.testing.assert_allclose(jnp.stack(steps, axis=2), full, atol=1e-5)


def test_left_padding_changes_nothing_whatever_it_holds():
    model = Transformer(ARCH)
    params = perturbed_params(model)
    prompts, mask, completions = inputs()
    expected = apply(model, params, prompts, mask, completions)
    wide = jnp.concatenate([jnp.full((3, 4), 7), prompts], axis=1)
    wide_mask = jnp.concatenate([jnp.zeros((3, 4), bool), mask], axis=1)
    actual = apply(model, params, wide, wide_mask, completions)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_later_completion_tokens_do_not_reach_earlier_ones():
    model = Transformer(ARCH)
    params = perturbed_params(model)
    prompts, mask, completions = inputs()
    expected = apply(model, params, prompts, mask, completions)
    actual = apply(model, params, prompts, mask, completions.at[:, :, 3:].set(0))
    np.testing.assert_allclose(actual[:, :, :4], expected[:, :, :4], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("length", [6, 7])
def test_attention_in_chunks_equals_attention_at_once(monkeypatch, length):
    model = Transformer(ARCH)
    params = {"params": perturbed_params(model)}
    prompts, mask, completions = inputs(prompt_len=length)

    def loss(params):
        logits = model.apply(params, prompts, mask, completions)
        return jnp.sum(losses.token_logprobs(logits, completions)[0])

    # Traced anew: the constants are read when it is.
    expected, expected_grad = jax.jit(jax.value_and_grad(lambda x: loss(x)))(params)
    monkeypatch.setattr(attention, "KEY_STEP", 4)
    monkeypatch.setattr(attention, "QUERY_CHUNK", 3)
    actual, actual_grad = jax.jit(jax.value_and_grad(lambda x: loss(x)))(params)
    assert actual == pytest.approx(float(expected), abs=1e-4)
    chex.assert_trees_all_close(actual_grad, expected_grad, atol=1e-4)


@functools.cache
def gradient(**options):
    prompts, mask, completions = inputs()
    model = Transformer(ARCH, **options)

    def loss(params):
        logits = model.apply({"params": params}, prompts, mask, completions)
        return jnp.sum(losses.token_logprobs(logits, completions)[0])

    return jax.jit(jax.grad(loss))(perturbed_params(Transformer(ARCH)))


@pytest.mark.slow
@pytest.mark.parametrize("keeps", ["nothing", "products"])
def test_recomputing_layers_gives_the_same_gradient(keeps):
    actual = gradient(remat=True, remat_keeps=keeps)
    chex.assert_trees_all_close(actual, gradient(), rtol=1e-4, atol=1e-5)


def test_bfloat16_keeps_float32_parameters_and_logits():
    model = Transformer(ARCH, dtype=jnp.bfloat16)
    params = init_params(model, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    logits = apply(model, params, *inputs())
    assert logits.dtype == jnp.float32
    exact = apply(Transformer(ARCH), params, *inputs())
    np.testing.assert_allclose(logits, exact, atol=0.05)


@pytest.mark.parametrize(
    ("preset", "billions"),
    # Published parameter counts, embeddings included.
    [("qwen2.5-0.5b", 0.494), ("qwen2.5-1.5b", 1.544), ("qwen2.5-3b", 3.086)]
    + [("qwen2.5-7b", 7.616), ("qwen2.5-14b", 14.770), ("smollm2-135m", 0.1345)],
)
def test_presets_have_the_published_number_of_parameters(preset, billions):
    model = Transformer(architecture(preset, 300))
    tree = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert count / 1e9 == pytest.approx(billions, abs=1e-3)


def test_unknown_preset_and_too_large_vocabulary_are_refused():
    with pytest.raises(ValueError, match="model.preset must be one of tiny"):
        architecture("tyny", 300)
    with pytest.raises(ValueError, match="the tokenizer 200000"):
        architecture("qwen2.5-3b", 200_000)
    assert "tiny" in PRESETS


@functools.cache
def logits_and_gradients(attention, dead):
    # 40 + 3 x 37 tokens: not a multiple of the kernel's 128. Also with a prompt of one token.
    rng = np.random.default_rng(0)
    prompts = jnp.asarray(rng.integers(0, 31, (2, 40)))
    start = jnp.array([0, 39 if dead else 13])
    mask = jnp.arange(40)[None] >= start[:, None]
    completions = jnp.asarray(rng.integers(0, 31, (2, 3, 37)))
    weights = jnp.asarray(rng.normal(size=completions.shape), jnp.float32)
    model = Transformer(ARCH, attention=attention)

    def loss(params):
        logits = model.apply({"params": params}, prompts, mask, completions)
        logprobs, entropy = losses.token_logprobs(logits, completions)
        return jnp.sum(weights * (logprobs + 0.2 * entropy)), logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        perturbed_params(Transformer(ARCH))
    )
    return logits, gradients


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["repeat", "splash_interpret"])
@pytest.mark.parametrize("dead", [False, True])
def test_every_kind_of_attention_gives_the_logits_and_gradients_of_the_streams(kind, dead):
    expected, expected_grad = logits_and_gradients("streams", dead)
    actual, actual_grad = logits_and_gradients(kind, dead)
    np.testing.assert_allclose(actual, expected, atol=3e-5)
    chex.assert_trees_all_close(actual_grad, expected_grad, rtol=1e-3, atol=2e-4)
