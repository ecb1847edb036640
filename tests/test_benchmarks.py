"""The benchmarks of a GPU, devices, the judge and rewards: their arithmetic, and that they run."""

import json
import os
import re
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_architecture import ROOT

sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))

import devices
import gpu

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.models.flops import forward_flops, matmul_params
from rvpo_jax.models.presets import architecture
from rvpo_jax.models.transformer import Transformer, init_params
from rvpo_jax.rewards import REWARDS

TINY = architecture("tiny", 258)


@pytest.mark.parametrize("preset", ["tiny", "smollm2-135m", "qwen2.5-7b"])
def test_the_parameters_of_products_are_the_kernels(preset):
    arch = architecture(preset, 258)
    model = Transformer(arch)
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    kernels = [np.prod(x["kernel"].shape) for x in shapes["layers"].values() if "kernel" in x]
    assert matmul_params(arch) == (sum(kernels), np.prod(shapes["embed"]["embedding"].shape))


def test_a_forward_pass_by_hand():
    layers, head = matmul_params(TINY)
    products, attention = forward_flops(TINY, 2, 3, 4, 6)
    # 2 prompts of 4 tokens, 6 completions of 6; only the latter pass the head.
    assert products == 2 * (layers * (8 + 36) + head * 36)
    # A prompt's tokens see 2 on average, a completion's 4 + 3: 8 * 2 + 36 * 7 = 268. Scores and
    # sums of values: 2 products of 2 FLOPs in 3 layers, 4 heads of 16.
    assert attention == 2 * 2 * 3 * 4 * 16 * 268


def test_what_a_decoding_step_reads_by_hand():
    work = gpu.SMOKE._replace(num_prompts=2, group_size=3, prompt_tokens=4, tokens=6)
    layers, head = matmul_params(TINY)
    # Keys and values of 3 layers, 2 heads of 16: of 2 prompts of 4, of half of 6 completions of 6.
    cache = 2 * 3 * 2 * 16 * (2 * 4 + 6 * 3)
    assert gpu.step_bytes(TINY, work, "float32") == 4 * (layers + head + cache)
    assert gpu.step_bytes(TINY, work, "bfloat16") == 2 * (layers + head + cache)


def test_a_model_that_does_not_fit_is_a_row_of_its_own(monkeypatch):
    def refuse(model, work):
        raise Refusal("this run needs 99 GiB.", "Take less.")

    monkeypatch.setattr(gpu, "_build", refuse)
    found = gpu.measure("tiny", gpu.SMOKE)
    assert found == {"refused": "this run needs 99 GiB."}
    assert gpu.row_of("tiny", found, {}) == ["tiny", "refused"]


def test_every_size_has_a_model_that_can_be_built():
    for name, size in gpu.SIZES.items():
        assert gpu.architecture(str(size.model.preset), 258).num_layers > 0, name
        assert size.backward in (1, 2)


@pytest.mark.slow
def test_without_a_gpu_tiny_is_measured_and_that_is_said(tmp_path):
    done = subprocess.run(
        [sys.executable, gpu.__file__, "--smoke"],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "No GPU here: the CPU is measured" in done.stdout
    record = json.loads((tmp_path / "runs" / "benchmarks" / "gpu.json").read_text())
    assert record["device"] == jax.devices()[0].device_kind
    assert f"{record['device']}, jax {jax.__version__}, 2 prompts" in done.stdout
    assert record["ceilings"].keys() == {"float32", "bfloat16", "copy"}
    found = record["models"]["tiny"]
    assert found["completion_tokens"] == 2 * 2 * 8  # none of them ends before
    shares = (found["decode_bytes_per_s"], found["update_flops_per_s"])
    assert all(rate > 0 for rate in (*record["ceilings"].values(), *shares))
    assert found["peak_bytes"]["all"] >= found["peak_bytes"]["rollout"] > 0
    assert found["predicted"].startswith("memory per device:")


def test_devices_are_compared_with_the_cheapest_of_their_axis():
    # Two tokens. Medians of 1, 2 and 6 s are 2 s: 1,000,000 us per token.
    answers = [{"cpu": 6.0, "wall": 4.0}, {"cpu": 1.0, "wall": 2.0}, {"cpu": 2.0, "wall": 8.0}]
    found = devices.summary(answers, 2)
    assert found == {"cpu": 1e6, "least": 0.5e6, "most": 3e6, "wall": 2e6}
    other = {**found, "cpu": 1.25e6}
    results = {"data 1": other, "data 8": found, "fsdp 1": other}
    *_, over = devices.table_of(results, "").columns
    assert list(over.cells) == ["+25%", "+0%", "+0%"]


@pytest.mark.slow
def test_a_worker_makes_the_steps_that_it_is_asked_for():
    command = [sys.executable, devices.__file__, "--worker", "fsdp", "2"]
    done = subprocess.run(
        [*command, "--preset", "tiny", "--num-prompts", "2"],
        input="\n\n",
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2 and all(answer["cpu"] > 0 for answer in answers)


@pytest.mark.slow
def test_a_judge_run_again_makes_no_call():
    pytest.importorskip("httpx2", reason="pip install 'rvpo-jax[judge]'")
    script = ROOT / "experiments" / "benchmarks" / "judge.py"
    done = subprocess.run(
        [sys.executable, script, "--smoke"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), *sys.path)))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    [row] = [line.split("\u2502") for line in done.stdout.splitlines() if " item " in line]
    ask, allowed, calls, _, reached, _, again, _ = (cell.strip() for cell in row[1:-1])
    assert (ask, allowed, calls, again) == ("item", "6000", "160", "0")
    assert 0 < float(reached) < 6000 * 1.05


def test_every_rule_based_reward_has_a_speed(monkeypatch, capsys):
    script = ROOT / "experiments" / "benchmarks" / "rewards.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--seconds", "0.001"])
    monkeypatch.setenv("COLUMNS", "120")
    runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().out
    # Without a file of answers there are no instructions to follow.
    missing = {name for name in REWARDS if not re.search(rf"\b{name}\b.* [\d,]+ ", shown)}
    assert missing == {name for name in REWARDS if name.startswith("instructions")}
