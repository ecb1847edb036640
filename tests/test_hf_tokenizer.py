"""Tokenizers of Hugging Face folders: golden encodings and renderings of the originals."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from rvpo_jax.data.hf_tokenizer import HfTokenizer

TEMPLATE = Path(__file__).parent / "data" / "qwen2.5_chat_template.jinja"


def golden(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def qwen_folder(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copyfile(shared_data / "tokenizer_qwen2.5" / name, folder / name)
    shutil.copyfile(TEMPLATE, folder / "chat_template.jinja")
    (folder / "generation_config.json").write_text('{"eos_token_id": [151645, 151643]}')
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    return folder


@pytest.fixture(scope="module")
def qwen(qwen_folder):
    return HfTokenizer(qwen_folder)


def test_all_golden_encodings_of_qwen_agree(qwen, shared_data):
    rows = golden(shared_data / "tokenizer_qwen2.5" / "golden_encode.jsonl.gz")
    assert len(rows) == 81
    for row in rows:
        assert qwen.encode(row["text"]) == row["ids"], row["text"]
        kept = qwen._tokenizer.decode(row["ids"], skip_special_tokens=False)
        assert kept == row["decoded"]


def test_all_golden_renderings_of_qwen_agree(qwen, shared_data):
    rows = golden(shared_data / "tokenizer_qwen2.5" / "golden_chat.jsonl.gz")
    assert len(rows) == 14
    for row in rows:
        names = ("tools", "add_generation_prompt")
        text = qwen.render(row["messages"], **{name: row[name] for name in names})
        assert text == row["text"]
        assert qwen.encode(text) == row["ids"]


def test_all_golden_encodings_of_gpt2_agree(shared_data, tmp_path):
    source = shared_data / "tokenizer_gpt2"
    shutil.copyfile(source / "encoder.json", tmp_path / "vocab.json")
    shutil.copyfile(source / "vocab.bpe", tmp_path / "merges.txt")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    tokenizer = HfTokenizer(tmp_path)
    for row in golden(source / "golden_encode.jsonl.gz"):
        assert tokenizer.encode(row["text"]) == row["ids"], row["text"]


def test_stops_padding_and_size_are_those_of_the_files(qwen):
    assert (qwen.eos_id, qwen.pad_id, qwen.vocab_size) == ((151645, 151643), 151643, 151665)
    assert qwen.decode_batch([[9707, 1879, 151645, 151643], [151657, 9707]]) == [
        "Hello world",
        "<tool_call>Hello",  # not special: it survives
    ]


def test_a_lone_surrogate_is_encoded(qwen):
    assert qwen.decode_batch([qwen.encode("a\ud800b")]) == ["a?b"]


def test_a_saved_tokenizer_json_is_the_same_tokenizer(qwen, qwen_folder, tmp_path):
    qwen._tokenizer.save(str(tmp_path / "tokenizer.json"))
    for name in ("generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(qwen_folder / name, tmp_path / name)
    other = HfTokenizer(tmp_path)
    assert other.name == qwen.name
    text = "Ünï<|im_start|> 12345\n\n  x"
    assert other.encode(text) == qwen.encode(text)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content.__class__.__mro__ }}", "unsafe"),
        ("{{ messages + 1 }}", "can only concatenate list"),
    ],
)
def test_a_template_that_fails_is_one_message(qwen_folder, tmp_path, template, message):
    folder = shutil.copytree(qwen_folder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=f"chat template cannot render this prompt: .*{message}"):
        HfTokenizer(folder).render([{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("template", ["{% for x in", '[{"name": "default"}]', "7"])
def test_a_template_that_cannot_be_read_is_refused_at_once(qwen_folder, tmp_path, template):
    folder = shutil.copytree(qwen_folder, tmp_path / "model")
    if template.startswith("{"):
        (folder / "chat_template.jinja").write_text(template)
    else:
        (folder / "chat_template.jinja").unlink()
        (folder / "tokenizer_config.json").write_text(f'{{"chat_template": {template}}}')
    with pytest.raises(ValueError, match=r"the chat template of model\.path .* cannot be read"):
        HfTokenizer(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "{", "must hold tokenizer.json, or vocab.json and merges.txt"),
        ("merges.txt", None, "must hold tokenizer.json, or vocab.json and merges.txt"),
        (
            "tokenizer_config.json",
            "[]",
            r"must hold a JSON object, got .* which holds",
        ),
        ("generation_config.json", "{}", "must name a token that ends a completion"),
        ("added_tokens.json", '{"<|im_start|>": 7}', "does not follow on vocab.json"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(qwen_folder, tmp_path, name, content, message):
    folder = shutil.copytree(qwen_folder, tmp_path / "model")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        HfTokenizer(folder)
