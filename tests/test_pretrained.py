"""A run that starts from a Hugging Face folder and ends as one."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rvpo_jax.cli import main
from rvpo_jax.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.models import build_model
from rvpo_jax.train import train
from tests.test_hf import CONFIG, write_folder

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_tokenizer(folder):
    """A byte-level BPE with two tokens that end a completion."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|stop|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["say something about the sea"] * 9, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"pad_token": "<|pad|>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    return tokenizer.get_vocab_size()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("model"))


def make_folder(folder):
    """A random model and its tokenizer."""
    config = CONFIG | {"vocab_size": 320, "tie_word_embeddings": True}
    write_folder(folder, config)
    assert write_tokenizer(folder) <= 320
    return folder


def run_config(folder, rows, steps):
    return Config(
        steps=steps,
        model=ModelConfig(path=str(folder)),
        data=DataConfig(source=str(rows), rewards=(short, polite), eval_frac=0.5),
        rollout=RolloutConfig(num_prompts=2, group_size=2, max_completion_tokens=8),
        optim=OptimConfig(learning_rate=1e-2),
        checkpoint=CheckpointConfig(every=1),
        eval=EvalConfig(num_prompts=2),
        log=LogConfig(audit=False),
        parallel=ParallelConfig(num_devices=1),
    )


def write_rows(path):
    prompts = [[{"role": "user", "content": f"say something {i}"}] for i in range(8)]
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


def short(completions, **kwargs):
    return [1.0 - min(len(text), 20) / 20 for text in completions]


def polite(completions, **kwargs):
    return [float("e" in text) for text in completions]


@pytest.mark.slow
def test_a_run_starts_from_a_folder_and_is_exported_as_one(folder, tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.jsonl")
    state = train(run_config(folder, rows, 2), tmp_path / "run", Console(quiet=True))
    out = tmp_path / "out"
    assert main(["export", "--workdir", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {out}: the policy of {tmp_path / 'run'}")
    model = build_model(ModelConfig(path=str(out)), 300)
    jax.tree.map(np.testing.assert_array_equal, model.load(str(out)), state.params)
    started = build_model(ModelConfig(path=str(folder)), 300).load(str(folder))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), started, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-3
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_a_run_goes_on_without_the_weights_it_started_from(folder, tmp_path):
    rows, lent = write_rows(tmp_path / "rows.jsonl"), tmp_path / "lent"
    shutil.copytree(folder, lent)
    whole = train(run_config(lent, rows, 2), tmp_path / "whole", Console(quiet=True))
    train(run_config(lent, rows, 1), tmp_path / "again", Console(quiet=True))
    (lent / "model.safetensors").unlink()
    again = train(run_config(lent, rows, 2), tmp_path / "again", Console(quiet=True))
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    jax.tree.map(np.testing.assert_array_equal, again.opt_state, whole.opt_state)


@pytest.mark.slow
def test_a_run_with_a_kl_term_needs_its_start_again(folder, tmp_path):
    rows, lent = write_rows(tmp_path / "rows.jsonl"), tmp_path / "lent"
    shutil.copytree(folder, lent)

    def config(steps):
        return dataclasses.replace(run_config(lent, rows, steps), loss=LossConfig(kl_coef=0.1))

    train(config(1), tmp_path / "run", Console(quiet=True))
    (lent / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.path must hold model\.safetensors, got .*lent"):
        train(config(2), tmp_path / "run", Console(quiet=True))


def test_a_run_of_a_preset_cannot_be_exported(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    code = main(["export", "--workdir", str(tmp_path), "--out", str(tmp_path / "out")])
    assert code == 2
    assert "Runs with --model.path can be exported." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys):
    path, workdir = str(tmp_path / "nothing"), tmp_path / "run"
    assert main(["train", "--workdir", str(workdir), "--model.path", path]) == 2
    assert "rvpo: model.path must hold tokenizer.json" in capsys.readouterr().err
    assert not (workdir / "config.json").exists()
