"""Our decoder against the original implementation: transformers on torch, float32, random weights.

Needs the extra rvpo-jax[parity]; skipped without it.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.config import ModelConfig
from rvpo_jax.method.losses import token_logprobs
from rvpo_jax.method.sampling import make_sampler
from rvpo_jax.models import build_model
from rvpo_jax.models.hf import read_sources, save_weights, tensors_of

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rvpo-jax[parity]'")
transformers = pytest.importorskip("transformers", reason="pip install 'rvpo-jax[parity]'")

B, G, P, C, V = 3, 2, 20, 12, 300
SIZES = dict(
    vocab_size=V, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
    rms_norm_eps=1e-6, initializer_range=0.08, bos_token_id=None, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 1e6}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "qwen2 tied": ("Qwen2", dict(tie_word_embeddings=True, rope_parameters=ROPE)),
    "qwen2 untied": ("Qwen2", dict(tie_word_embeddings=False, rope_parameters=ROPE)),
    "qwen3": ("Qwen3", dict(tie_word_embeddings=True, head_dim=32, rope_parameters=ROPE)),
    "llama": ("Llama", dict(tie_word_embeddings=True, rope_parameters=ROPE)),
    "llama 3 scaling": ("Llama", dict(tie_word_embeddings=False, rope_parameters=LLAMA3)),
}


@pytest.fixture(scope="module", params=MODELS)
def peer(request, tmp_path_factory):
    """A model of theirs with perturbed norms and biases, and its folder."""
    kind, options = MODELS[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **options)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(kind)
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def ours(peer):
    _, folder = peer
    model = build_model(ModelConfig(path=str(folder)), V)
    return model, model.load(folder)


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    prompts = rng.integers(2, V, (B, P)).astype(np.int32)
    mask = np.arange(P)[None] >= np.array([0, 7, 13])[:, None]  # left padding
    return np.where(mask, prompts, 0), mask, rng.integers(2, V, (B, G, C)).astype(np.int32)


def their_logits(model, prompts, mask, completions):
    """``[B, G, C, V]``, with each completion in a row of its own."""
    rows = np.concatenate([np.repeat(prompts[:, None], G, 1), completions], -1).reshape(B * G, -1)
    seen = np.concatenate([np.repeat(mask[:, None], G, 1), completions >= 0], -1).reshape(B * G, -1)
    places = np.maximum(np.cumsum(seen, 1) - 1, 0)
    out = model(
        input_ids=torch.tensor(rows, dtype=torch.long),
        attention_mask=torch.tensor(seen.astype(np.int64)),
        position_ids=torch.tensor(places, dtype=torch.long),
    )
    return out.logits[:, P - 1 : -1].reshape(B, G, C, V)


def test_logits_are_those_of_transformers(peer, ours, tokens):
    model, params = ours
    expected = their_logits(peer[0], *tokens).detach().numpy()
    np.testing.assert_allclose(jax.jit(model.logits)(params, *tokens), expected, atol=1e-5)


def test_gradients_of_the_token_logprobs_are_those_of_transformers(peer, ours, tokens):
    theirs, folder = peer
    model, params = ours
    theirs.zero_grad()
    logits = their_logits(theirs, *tokens)
    chosen = torch.tensor(tokens[2], dtype=torch.long)[..., None]
    torch.log_softmax(logits, -1).gather(-1, chosen).sum().backward()

    def total(params):
        return jnp.sum(token_logprobs(model.logits(params, *tokens), tokens[2])[0])

    gradients = jax.jit(jax.grad(total))(params)
    named = dict(theirs.named_parameters())
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]
    }
    for tensor in tensors_of(gradients):
        expected = named[tensor.name].grad.numpy()
        actual = leaves[tensor.leaf] if tensor.layer is None else leaves[tensor.leaf][tensor.layer]
        actual = actual.T if tensor.transposed else actual
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5, err_msg=tensor.name)


def test_64_greedy_tokens_are_those_of_transformers(peer, ours, tokens):
    model, params = ours
    prompts, mask, _ = tokens
    sample = make_sampler(model, group_size=1, max_tokens=64, eos_id=-1, pad_id=0, temperature=0.0)
    rollout = jax.jit(sample)(params, prompts, mask, jax.random.split(jax.random.key(0), B))
    for row in range(B):  # one by one and unpadded: nothing of theirs depends on padding
        ids = torch.tensor(prompts[row, mask[row]], dtype=torch.long)[None]
        out = peer[0].generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        np.testing.assert_array_equal(rollout.completions[row, 0], out[0, ids.shape[1] :].numpy())


def test_an_exported_folder_is_equal_byte_by_byte_and_gives_the_same_logits(
    peer, ours, tokens, tmp_path
):
    theirs, folder = peer
    save_weights(ours[1], folder, tmp_path / "out")
    from safetensors.numpy import load_file

    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        expected, actual = (their_logits(model, *tokens) for model in (theirs, loaded))
    assert torch.equal(expected, actual)


def test_bfloat16_weights_keep_their_bytes(peer, tmp_path):
    theirs, _ = peer
    folder = tmp_path / "bf16"
    theirs.to(torch.bfloat16).save_pretrained(folder)
    theirs.to(torch.float32)
    model = build_model(ModelConfig(path=str(folder)), V)
    save_weights(model.load(folder), folder, tmp_path / "out")
    for name, source in read_sources(folder).items():
        file = tmp_path / "out" / "model.safetensors"
        assert read_sources(tmp_path / "out")[name].dtype == source.dtype == "BF16"
        with open(source.file, "rb") as one, open(file, "rb") as other:
            assert _bytes(one, name) == _bytes(other, name)


def _bytes(file, name):
    size = int.from_bytes(file.read(8), "little")
    begin, end = json.loads(file.read(size))[name]["data_offsets"]
    file.seek(8 + size + begin)
    return file.read(end - begin)
