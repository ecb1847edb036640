"""How many devices a CPU is taken for."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from rvpo_jax.config import Config, LossConfig, ModelConfig, ParallelConfig, RolloutConfig
from rvpo_jax.run.cpu_devices import num_cpu_devices
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.stored import stored_config
from rvpo_jax.train import train


@pytest.mark.parametrize(
    "changes, num_cores, expected",
    [
        ({}, 2, 2),
        ({}, 64, 2),
        ({}, 1, 1),
        ({"model": ModelConfig(preset="small")}, 2, 2),
        ({"model": ModelConfig(preset="qwen2.5-0.5b")}, 2, 1),
        ({"model": ModelConfig(path="a/folder")}, 2, 1),
        ({"model": ModelConfig(preset=len)}, 2, 1),
        ({"rollout": RolloutConfig(num_prompts=3)}, 2, 1),
        ({"rollout": RolloutConfig(num_prompts=6)}, 2, 2),
        (
            {"rollout": RolloutConfig(num_prompts=6), "loss": LossConfig(num_minibatches=2)},
            2,
            1,
        ),
        ({"parallel": ParallelConfig(impl="jit")}, 2, 1),
    ],
)
def test_a_new_run_has_two_where_its_model_is_small(tmp_path, changes, num_cores, expected):
    config = dataclasses.replace(Config(), **changes)
    assert num_cpu_devices(config, tmp_path, num_cores) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ('{"header": {"devices": ["cpu:0"]}}\n', 1),
        ('{"header": {"devices": ["cpu:0", "cpu:1", "cpu:2"]}}\n', 3),
        ('{"header": {"devices": ["cuda:0"]}}\n', 2),  # now on a CPU: as if it were new
        ('{"header": {"devices": []}}\n', 2),
        ('{"header": 3}\n', 2),
        ("[]\n", 2),
        ("\xff", 2),
        ("", 2),
    ],
)
def test_a_run_that_goes_on_keeps_its_number(tmp_path, text, expected):
    (tmp_path / "metrics.jsonl").write_text(text, encoding="latin-1")
    assert num_cpu_devices(Config(), tmp_path, 2) == expected


OPTIONS = (
    "--steps 1 --eval.num-prompts 2 --rollout.num-prompts 2 --rollout.group-size 2 "
    "--rollout.max-completion-tokens 8 --log.no-audit --checkpoint.every 1"
).split()


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core is one device")
def test_a_command_takes_a_cpu_for_two_and_resumes_bit_for_bit(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    command = [sys.executable, "-m", "rvpo_jax", "train", "--workdir", str(parts), *OPTIONS]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    header = json.loads((parts / "metrics.jsonl").read_text().partition("\n")[0])["header"]
    assert header["devices"] == ["cpu:0", "cpu:1"]
    two = dataclasses.replace(stored_config(parts), steps=2, parallel=ParallelConfig(num_devices=2))
    states = [train(two, folder, Console(quiet=True)) for folder in (parts, whole)]
    assert [row["step"] for row in read_metrics(parts)] == [0, 1]
    jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)


COUNT = """
from pathlib import Path
from rvpo_jax.config import Config, ParallelConfig
from rvpo_jax.run.cpu_devices import prepare_cpu_devices
prepare_cpu_devices(Config(parallel=ParallelConfig(num_devices={num_devices})), Path("nowhere"))
import jax
print(jax.local_device_count())
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core is one device")
@pytest.mark.parametrize(
    ("num_devices", "flag", "expected"),
    [
        (None, "", 2),
        # What the user says counts.
        (1, "", 1),
        (None, "--xla_force_host_platform_device_count=1", 1),
    ],
)
def test_jax_starts_with_so_many(num_devices, flag, expected):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flag}
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(num_devices=num_devices)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) == expected
