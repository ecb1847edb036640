"""The whole way as a user goes it: a folder, a run that is killed and resumed, an export, theirs.

Needs the extra rvpo-jax[parity]; skipped without it.
"""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from rvpo_jax.config import ModelConfig
from rvpo_jax.data.hf_tokenizer import HfTokenizer
from rvpo_jax.method.sampling import make_sampler
from rvpo_jax.models import build_model
from tests.test_hf import CONFIG, write_folder
from tests.test_pretrained import write_tokenizer

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rvpo-jax[parity]'")
transformers = pytest.importorskip("transformers", reason="pip install 'rvpo-jax[parity]'")

REWARDS = """
def short(completions, **kwargs):
    return [1.0 - min(len(text), 20) / 20 for text in completions]


def polite(completions, **kwargs):
    return [float("e" in text) for text in completions]
"""
MESSAGES = [{"role": "user", "content": "say something about the sea"}]


def rvpo(*arguments):
    return [sys.executable, "-m", "rvpo_jax", *map(str, arguments)]


def test_a_killed_run_of_a_folder_resumes_and_its_export_generates_in_transformers(tmp_path):
    folder, rows, functions = tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "my.py"
    # 350 rather than the tokenizer's size: published vocabularies are padded.
    write_folder(folder, CONFIG | {"vocab_size": 350, "architectures": ["Qwen3ForCausalLM"]})
    write_tokenizer(folder)
    rows.write_text((json.dumps({"prompt": MESSAGES}) + "\n") * 4 + json.dumps({"prompt": "x"}))
    functions.write_text(REWARDS)
    workdir, out = tmp_path / "run", tmp_path / "out"
    command = rvpo(
        "train", "--workdir", workdir, "--model.path", folder, "--data.source", rows,
        "--data.rewards", f"{functions}:short", f"{functions}:polite", "--data.eval-frac", "0.5",
        "--steps", "40", "--rollout.num-prompts", "2", "--rollout.group-size", "2",
        "--rollout.max-completion-tokens", "8", "--eval.num-prompts", "2",
        "--checkpoint.every", "1", "--log.console-every", "1", "--log.no-audit",
        "--parallel.num-devices", "1",
    )  # fmt: skip
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **options) as process:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("step     3"):
                break
        process.send_signal(signal.SIGKILL)
    assert printed[-1].startswith("step     3"), printed
    resumed = subprocess.run(command, text=True, **options)
    assert resumed.returncode == 0, resumed.stdout
    assert "resum" in resumed.stdout
    done = subprocess.run(rvpo("export", "--workdir", workdir, "--out", out), text=True, **options)
    assert done.returncode == 0, done.stdout

    theirs = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(out)
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    expected = theirs.generate(
        torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(ids) :]

    ours = HfTokenizer(str(out))
    assert ours.encode(ours.render(MESSAGES)) == ids
    model = build_model(ModelConfig(path=str(out)), ours.vocab_size)
    sample = make_sampler(model, group_size=1, max_tokens=24, eos_id=-1, pad_id=0, temperature=0.0)
    prompts, keys = np.array([ids], np.int32), jax.random.split(jax.random.key(0), 1)
    rollout = jax.jit(sample)(model.load(str(out)), prompts, np.ones_like(prompts, bool), keys)
    np.testing.assert_array_equal(rollout.completions[0, 0], expected.numpy())
