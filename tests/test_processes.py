"""Several processes: real ones, which train as one does, end together and go on together."""

import importlib.util
import shutil
import signal
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from test_architecture import ROOT

from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LogConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.run import launcher
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.parallel import processes
from rvpo_jax.train import train

STEPS = 10


def load_kills():
    path = ROOT / "experiments" / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


kills = load_kills()
# A busy machine may take more than the benchmark's 15 s to compile the first step.
kills.STALL_TIMEOUT = 25.0
# Half the work of the benchmark's run: starting and compiling stay.
kills.SETTINGS = (
    "--eval.num-prompts 8 --eval.every 4 --rollout.num-prompts 8 --rollout.group-size 2 "
    "--rollout.max-completion-tokens 16 --checkpoint.every 2 --log.no-audit --log.samples-every 1"
).split()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nobody interrupts."""
    workdir = tmp_path_factory.mktemp("processes") / "whole"
    attempt = kills.finished(workdir, STEPS)
    assert attempt.code == 0, attempt.message
    return workdir


def in_one_process(workdir, mesh, num_devices):
    """The same run, or its rest, in this process."""
    config = Config(
        eval=EvalConfig(num_prompts=8, every=4),
        rollout=RolloutConfig(num_prompts=8, group_size=2, max_completion_tokens=16),
        checkpoint=CheckpointConfig(every=2),
        log=LogConfig(audit=False, samples_every=1),
        parallel=ParallelConfig(impl="mesh", mesh=mesh, num_devices=num_devices),
        steps=STEPS,
    )
    train(config, workdir, Console(quiet=True))


def assert_same_run(one, other):
    """The same completions with the same rewards, and numbers that differ by rounding."""
    columns = ["step", "group", "prompt", "completion", "format", "privacy"]
    logs = [
        pq.read_table(run / "rollouts").select(columns).sort_by([("step", "ascending")])
        for run in (one, other)
    ]
    assert logs[0].equals(logs[1])
    for row, same in zip(read_metrics(one), read_metrics(other), strict=True):
        for name in row.keys() - {"time"}:
            if not name.startswith(("time/", "perf/")):
                assert row[name] == pytest.approx(same[name], rel=1e-4, abs=1e-5), name
    states = kills.state_of(one), kills.state_of(other)
    for name in states[0]:
        np.testing.assert_allclose(states[0][name], states[1][name], atol=2e-4)


@pytest.mark.slow
def test_two_processes_train_as_one_does_with_their_devices(whole, tmp_path):
    in_one_process(tmp_path, "data=4", 4)
    assert_same_run(whole, tmp_path)
    parts = sorted(path.name for path in (whole / "rollouts").iterdir())
    assert parts[:2] == ["00000000-000.parquet", "00000000-001.parquet"]
    evaluations = [kills.rows_of(run / "evals.jsonl") for run in (whole, tmp_path)]
    assert [row["rates"] for row in evaluations[0]] == [row["rates"] for row in evaluations[1]]


@pytest.mark.slow
def test_another_number_of_processes_goes_on_on_another_mesh(whole, tmp_path):
    workdir = tmp_path / "moved"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    in_one_process(workdir, "fsdp=8", 8)
    assert_same_run(whole, workdir)


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_killed_and_halted_goes_on_bit_for_bit(whole, tmp_path):
    workdir = tmp_path / "broken"
    asked = kills.interrupted(workdir, STEPS, None, 0, signal.SIGTERM, step=1)
    assert "the state is saved" in asked.message
    assert kills.newest(workdir) == len(kills.rows_of(workdir / "metrics.jsonl")) < STEPS
    killed = kills.interrupted(workdir, STEPS, 1, 0, signal.SIGKILL, step=asked.first + 5)
    assert "process 1 was ended by SIGKILL after the " in killed.message
    newest = kills.newest(workdir)
    assert f"goes on from {workdir / 'checkpoints'}/{newest}." in killed.message
    halted = kills.interrupted(workdir, STEPS, 0, 0, signal.SIGSTOP, step=newest + 1)
    assert f"has made no progress for {kills.STALL_TIMEOUT:g} s, " in halted.message
    for attempt in (asked, killed, halted):
        assert attempt.code == 1
        assert attempt.seconds < kills.LIMIT
        assert attempt.left == 0
        assert "Traceback" not in attempt.message
        assert "Check failure" not in attempt.message
    assert kills.finished(workdir, STEPS).code == 0
    assert kills.differences(whole, workdir) == []


@pytest.mark.slow
def test_what_the_first_process_refuses_is_said_once(tmp_path):
    command = kills.start(tmp_path, 1, "--parallel.mesh", "data=3")
    _, message = command.communicate(timeout=120)
    assert command.returncode == 2
    assert message.count("parallel.mesh must have 4 device(s), got 'data=3'") == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"processes": 2, "impl": "pmap"}, "parallel.impl pmap is of one process, got 2"),
        ({"coordinator": "here"}, "must read HOST:PORT or auto, got 'here'"),
        ({"coordinator": "a:1"}, "needs parallel.processes and parallel.rank, got None and None"),
        ({"coordinator": "a:1", "processes": 2, "rank": 2}, "must be below parallel.processes = 2"),
        ({"processes": 2, "rank": 0}, "and have a parallel.coordinator, got 0 and None"),
        ({"coordinator": "auto", "rank": 0}, "parallel.rank must be below"),
    ],
)
def test_processes_that_do_not_go_together_are_refused(options, problem):
    with pytest.raises(Refusal) as error:
        ParallelConfig(**options)
    assert problem in str(error.value)


def test_train_in_python_says_who_starts_several_processes(tmp_path):
    with pytest.raises(Refusal, match="are started by rvpo train, got a call"):
        train(Config(parallel=ParallelConfig(processes=2)), tmp_path)


def test_a_coordinator_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(processes, "COORDINATOR_WITHIN", 0.1)
    with pytest.raises(Failure, match=r"nobody answers at parallel.coordinator 127.0.0.1:9:"):
        processes.connect(ParallelConfig(coordinator="127.0.0.1:9", processes=2, rank=1))


@pytest.mark.parametrize(
    ("device", "platforms", "expected"),
    [("0x0062", None, True), ("0x0042", None, False), ("0x0062", "cpu", False)],
)
def test_a_machine_with_tpus_is_told_from_one_with_googles_network_card(
    tmp_path, monkeypatch, device, platforms, expected
):
    folder = tmp_path / "0000:00:04.0"
    folder.mkdir()
    (folder / "vendor").write_text("0x1ae0\n")
    (folder / "device").write_text(f"{device}\n")
    monkeypatch.setattr(launcher, "BUS", tmp_path)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if platforms:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert launcher.is_needed(ParallelConfig()) == expected
