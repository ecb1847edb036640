"""The Hugging Face folder that is made of a GGUF file."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

SCRIPT = Path(__file__).parents[1] / "experiments" / "smollm2" / "make_folder.py"


@pytest.fixture
def make_folder():
    spec = importlib.util.spec_from_file_location("make_folder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interleaved(weight, num_heads):
    """Rows as llama.cpp stores queries and keys: the halves of each head in turn."""
    rows, width = weight.shape
    halves = weight.reshape(num_heads, 2, rows // num_heads // 2, width)
    return halves.swapaxes(1, 2).reshape(rows, width)


def test_queries_and_keys_get_their_halves_back_and_the_rest_stays(make_folder, tmp_path):
    gguf = pytest.importorskip("gguf", reason="needs gguf: pip install 'rvpo-jax[gguf]'")
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((rows, 6)).astype(np.float32) for rows in (16, 8, 8))
    stored = {
        "blk.1.attn_q.weight": interleaved(q, 4),
        "blk.1.attn_k.weight": interleaved(k, 2),
        "blk.1.attn_v.weight": v,
        "output_norm.weight": v[0],
    }
    kind = gguf.GGMLQuantizationType.F32
    tensors = [SimpleNamespace(name=n, data=x, tensor_type=kind) for n, x in stored.items()]
    fields = {"llama.attention.head_count": 4, "llama.attention.head_count_kv": 2}
    make_folder.write_weights(tmp_path, SimpleNamespace(tensors=tensors), fields)
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == {
        *(f"model.layers.1.self_attn.{letter}_proj.weight" for letter in "qkv"),
        "model.norm.weight",
    }
    for letter, expected in zip("qkv", (q, k, v), strict=True):
        name = f"model.layers.1.self_attn.{letter}_proj.weight"
        np.testing.assert_array_equal(written[name], expected)


def test_a_file_with_another_checksum_is_not_used(make_folder, tmp_path):
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    with pytest.raises(SystemExit, match="has the sha256 .*: delete it and start again"):
        make_folder.download(tmp_path)
