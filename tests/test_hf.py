"""Hugging Face folders: config.json, safetensors in and out, and what is refused."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rvpo_jax.basics.files import WriteError
from rvpo_jax.config import ModelConfig
from rvpo_jax.models import build_model, hf
from rvpo_jax.models.hf import load_weights, read_sources, save_weights, tensors_of
from rvpo_jax.models.hf_config import read_architecture
from rvpo_jax.models.rope import RopeScaling, frequencies

CONFIG = {
    "model_type": "qwen3",
    "vocab_size": 40,
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e4,
    "tie_word_embeddings": False,
}


def write_folder(folder, config=CONFIG, dtype=np.float32, seed=0):
    """A folder of random weights with the names and shapes that its config asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    model = build_model(ModelConfig(path=str(folder)), 40)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    tensors = {
        t.name: rng.standard_normal(t.shape).astype(np.float32).astype(dtype)
        for t in tensors_of(shapes)
    }
    save_file(tensors, folder / "model.safetensors")
    return tensors


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "model")
    return tmp_path / "model"


def load(folder):
    return build_model(ModelConfig(path=str(folder)), 40).load(str(folder))


def test_every_tensor_goes_to_its_layer_and_turns_around(folder):
    tensors, params = load_file(folder / "model.safetensors"), load(folder)
    for layer in range(2):
        for ours, theirs in {
            "q_proj": "self_attn.q_proj", "o_proj": "self_attn.o_proj", "down_proj": "mlp.down_proj"
        }.items():  # fmt: skip
            expected = tensors[f"model.layers.{layer}.{theirs}.weight"].T
            np.testing.assert_array_equal(params["layers"][ours]["kernel"][layer], expected)
        norm = tensors[f"model.layers.{layer}.post_attention_layernorm.weight"]
        np.testing.assert_array_equal(params["layers"]["mlp_norm"]["scale"][layer], norm)
    np.testing.assert_array_equal(params["lm_head"]["kernel"], tensors["lm_head.weight"].T)
    embedding = tensors["model.embed_tokens.weight"]
    np.testing.assert_array_equal(params["embed"]["embedding"], embedding)


@pytest.mark.parametrize("piece", [64, 200, 64 << 20])
def test_the_size_of_a_piece_changes_nothing(folder, monkeypatch, piece):
    whole = load(folder)
    monkeypatch.setattr(hf, "PIECE", piece)
    jax.tree.map(np.testing.assert_array_equal, load(folder), whole)


@pytest.mark.parametrize("stored", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("wanted", [np.float32, jnp.bfloat16])
def test_parameters_have_the_types_of_the_shapes(tmp_path, stored, wanted):
    tensors = write_folder(tmp_path, dtype=stored)
    model = build_model(ModelConfig(path=str(tmp_path)), 40)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, wanted), shapes)
    params = load_weights(tmp_path, shapes)
    jax.tree.map(lambda x, y: chex.assert_type(x, y.dtype), params, shapes)
    for layer in range(2):
        expected = tensors[f"model.layers.{layer}.mlp.up_proj.weight"].T.astype(wanted)
        np.testing.assert_array_equal(params["layers"]["up_proj"]["kernel"][layer], expected)


@pytest.mark.parametrize("file_size", [100, 1500, 96 << 20])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
def test_load_and_export_keep_every_byte(tmp_path, monkeypatch, file_size, dtype):
    monkeypatch.setattr(hf, "FILE_SIZE", file_size)
    source, out = tmp_path / "model", tmp_path / "out"
    before = write_folder(source, dtype=dtype)
    save_weights(load(source), source, out)
    after = {}
    for file in {entry.file for entry in read_sources(out).values()}:
        after |= load_file(file)
    assert after.keys() == before.keys()
    for name, values in before.items():
        assert (after[name].dtype, after[name].tobytes()) == (values.dtype, values.tobytes()), name
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()
    # What was exported can be trained further.
    jax.tree.map(np.testing.assert_array_equal, load(out), load(source))


def test_a_tied_model_may_carry_its_head_and_exports_without_it(tmp_path):
    config = CONFIG | {"tie_word_embeddings": True}
    tensors = write_folder(tmp_path / "model", config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    params = load(tmp_path / "model")
    assert "lm_head" not in params
    save_weights(params, tmp_path / "model", tmp_path / "out")
    assert "lm_head.weight" not in read_sources(tmp_path / "out")


def test_an_export_never_replaces_a_folder(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="out must be an empty or new folder"):
        save_weights(load(folder), folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_export_onto_a_full_disk_is_one_message_and_leaves_nothing(folder, small_disk):
    disk = small_disk(12)  # the weights take 19 KB
    with pytest.raises(WriteError, match=r"out could not be written: the disk is full\."):
        save_weights(load(folder), folder, disk / "out")
    assert list(disk.iterdir()) == []


def test_a_preset_beside_a_path_is_refused(folder):
    with pytest.raises(ValueError, match=r"model\.preset .*small.* and model\.path .* two models"):
        ModelConfig(path=folder, preset="small")


def drop(tensors):
    del tensors["model.layers.1.mlp.up_proj.weight"]


def add(tensors):
    tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((24, 16), np.float32)


def reshape(tensors):
    tensors["model.norm.weight"] = np.zeros(17, np.float32)


def integers(tensors):
    tensors["model.norm.weight"] = np.zeros(16, np.int8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"lacks tensor model\.layers\.1\.mlp\.up_proj\.weight"),
        (add, r"has an unknown tensor model\.layers\.2\.mlp\.up_proj\.weight"),
        (reshape, r"tensor model\.norm\.weight .* must be \[16\] .*, got \[17\]"),
        (integers, r"must be \[16\] of F32, BF16, F16, got \[16\] of I8"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, damage, message):
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_cut_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors must be a whole safetensors file"):
        load(folder)


def test_missing_files_are_named(folder):
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    with pytest.raises(ValueError, match=r"must hold model\.safetensors"):
        load(folder)
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / hf.INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="must hold model-00001-of-00002"):
        load(folder)
    (folder / hf.INDEX).write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with pytest.raises(ValueError, match="must map tensors to files beside it"):
        load(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder):
    with pytest.raises(ValueError, match="has 40 tokens, the tokenizer 41"):
        build_model(ModelConfig(path=str(folder)), 41)


# config.json


def test_the_architecture_is_that_of_the_config(folder):
    arch = read_architecture(folder)
    assert (arch.num_layers, arch.width, arch.head_dim, arch.rope_theta) == (2, 16, 8, 5e4)
    assert (arch.qk_norm, arch.qkv_bias, arch.tie_embeddings) == (True, False, False)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 7.0}}, "rope_theta", 7.0),
        ({"num_key_value_heads": None}, "num_kv_heads", 4),
        ({"head_dim": None}, "head_dim", 4),
        ({"model_type": "llama"}, "qk_norm", False),
        ({"model_type": "qwen2"}, "qkv_bias", True),
        ({"use_sliding_window": False, "sliding_window": 32}, "qk_norm", True),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                }
            },
            "rope_scaling",
            RopeScaling(
                factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
        ),
    ],
)  # fmt: skip
def test_configs_are_read_as_published(folder, changes, field, value):
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    assert getattr(read_architecture(folder), field) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen3_moe"}, "model_type must be one of llama, qwen2, qwen3, got .*moe"),
        ({"use_sliding_window": True, "sliding_window": 32}, "got a sliding window in use"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "got a sliding window in use"),
        ({"rope_scaling": {"type": "yarn"}}, "rope scaling must be none or llama3, got .*yarn"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "factor must be a number above 0, got .*None"),
        ({"rope_scaling": "yes"}, "rope_parameters must be an object, got .*yes"),
        ({"rope_theta": "1e6"}, "rope_theta must be a number above 0, got .*1e6"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be a number above 0, got .*-1.0"),
        ({"num_key_value_heads": 3}, "got 4 heads, 3 key/value heads of size 8"),
        ({"head_dim": 7}, "head_dim be even, got 4 heads, 2 key/value heads of size 7"),
        ({"hidden_act": "gelu"}, "hidden_act must be silu, got .*gelu"),
        ({"attention_bias": True}, "attention_bias must be false"),
        ({"quantization_config": {"bits": 4}}, "got quantized weights"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number above 0, got .*many"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(folder, changes, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(ValueError, match=message):
        read_architecture(folder)


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_config_that_cannot_be_read_is_one_message(folder, content):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"must be a Hugging Face folder with config\.json"):
        read_architecture(folder)


def test_llama_3_stretches_low_frequencies_only():
    # By hand: pairs turn 64, .64 and .0064 times / 2 pi within 64 positions: 10.2, 0.1, 0.001.
    scaling = RopeScaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
    )
    plain, scaled = frequencies(6, 1e6), frequencies(6, 1e6, scaling)
    np.testing.assert_allclose(plain, [1.0, 1e-2, 1e-4], rtol=1e-6)
    np.testing.assert_allclose(scaled, [1.0, 1e-2 / 8, 1e-4 / 8], rtol=1e-6)
