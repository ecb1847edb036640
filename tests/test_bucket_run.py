"""A run in a bucket: the same as on a disk, whatever command looks at it, also after kills."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import fsspec
import pytest
from rich.console import Console

from rvpo_jax.cli import main
from rvpo_jax.config import CheckpointConfig, LogConfig
from rvpo_jax.run import lock
from rvpo_jax.run.bucket import run_folder
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.rollout_log import written_steps
from rvpo_jax.train import train
from tests.test_pretrained import make_folder, run_config, write_rows
from tests.test_train import OPTIONS, TINY, wait_for

STEPS = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run that reads a model's folder and a file of rows, with a checkpoint at its end only."""
    place = tmp_path_factory.mktemp("inputs")
    folder = place / "model"
    folder.mkdir()
    config = run_config(make_folder(folder), write_rows(place / "rows.jsonl"), STEPS)
    return dataclasses.replace(
        config,
        checkpoint=CheckpointConfig(every=STEPS),
        log=LogConfig(samples_every=1, num_samples=2),
    )


@pytest.fixture(scope="module")
def finished(config, server, tmp_path_factory):
    """The run in a bucket, the same on a disk, and what the bucket was asked meanwhile."""
    local = tmp_path_factory.mktemp("local")
    train(config, local, Console(quiet=True))
    address = f"gs://{server.bucket}/finished/run"
    before = len(server.requests())
    train(config, address, Console(quiet=True))
    return address, local, server.requests()[before:]


def files(folder):
    """What a run leaves but its checkpoints, its data cache and its lock; parts of a log as one."""
    bucket = fsspec.filesystem("gs")
    if isinstance(folder, str):
        found = [name.partition("/finished/run/")[2] for name in bucket.find(folder)]
    else:
        paths = (path for path in folder.rglob("*") if path.is_file())
        found = [path.relative_to(folder).as_posix() for path in paths]
    names = {re.sub(r"\.\d{8}$", "", name) for name in found}
    return {name for name in names if not name.startswith(("checkpoints/", "data/", ".lock"))}


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.startswith(("time", "perf/"))} for row in rows]


@pytest.mark.slow
def test_a_run_in_a_bucket_leaves_what_one_on_a_disk_does(finished):
    address, local, _ = finished
    assert files(address) == files(local)
    for name in ("metrics.jsonl", "evals.jsonl", "samples.jsonl"):
        rows = [without_times(read_metrics(run_folder(at) / name)) for at in (address, local)]
        assert rows[0] == rows[1] != []
    for name in ("config.json", "rollouts/00000002.parquet", "run.png"):
        assert (run_folder(address) / name).read_bytes() == (local / name).read_bytes(), name


def test_a_step_asks_the_bucket_for_nothing_and_writes_its_rollouts(finished):
    _, _, requests = finished
    uploads = [i for i, request in enumerate(requests) if "rollouts/00000001" in request]
    end = next(i for i, request in enumerate(requests) if "rollouts/00000003" in request)
    between = requests[uploads[0] : end]
    assert {request.split("&upload_id")[0] for request in between} == {
        f"POST /upload/storage/v1/b/a-bucket/o?name=finished/run/rollouts/0000000{step}.parquet"
        "&uploadType=resumable"
        for step in (1, 2)
    }


def test_eval_and_sample_read_a_run_in_a_bucket(finished, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text("def brief(completions, **kwargs):\n    return [0.25] * len(completions)\n")
    place = ["--workdir", finished[0], "--rewards", f"{own}:brief"]
    assert main(["eval", *place, "--num-prompts", "1"]) == 0
    assert f"Step {STEPS}, 1 held-out prompts" in capsys.readouterr().out
    assert main(["sample", *place, "--num", "1"]) == 0
    assert "brief 0.25" in capsys.readouterr().out


def test_export_reads_the_same_parameters_from_a_bucket(finished, tmp_path):
    for name, workdir in zip(("bucket", "disk"), finished[:2], strict=True):
        assert main(["export", "--workdir", str(workdir), "--out", str(tmp_path / name)]) == 0
    exported = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("bucket", "disk")]
    assert exported[0] == exported[1]


def test_the_audit_of_a_run_in_a_bucket_is_that_of_the_run_on_a_disk(
    finished, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", finished[0]]) == 0
    report = json.loads((tmp_path / "audit.json").read_text())
    own = json.loads((finished[1] / "audit.json").read_text())
    same = set(own) - {"title", "source_id"}
    assert report["title"] == "run"
    assert {name: report[name] for name in same} == {name: own[name] for name in same}
    assert [note for note in report["notes"] if note["kind"] == "absent_step"] == []


@pytest.mark.parametrize("address", ["gs://a-bucket/nothing", "gs://no-bucket/run"])
@pytest.mark.parametrize("command", [["audit"], ["eval", "--workdir"], ["export", "--workdir"]])
def test_a_run_that_is_not_there_is_one_message(server, command, address, capsys, tmp_path):
    out = ["--out", str(tmp_path)] if command[0] == "export" else []
    assert main([*command, address, *out]) == 2
    assert re.match(rf"rvpo: .*{address}.*\n  \S", capsys.readouterr().err)


# Kills


TRAIN = """
    import sys
    from rvpo_jax.cli import main
    from rvpo_jax.run import lock

    lock.RENEW_S, lock.LEASE_S = 0.5, 2.0
    sys.exit(main(["train", *sys.argv[1:]]))
"""


def start(address):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TRAIN), "--workdir", address, *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )


def committed(folder):
    """The newest checkpoint that is complete, 0 for none, and whether one is not."""
    names = fsspec.filesystem("gs").find(f"{folder}/checkpoints")
    steps = {name.partition("/checkpoints/")[2].partition("/")[0] for name in names} - {".keep"}
    done = [s for s in steps if f"{folder}/checkpoints/{s}/commit_success.txt"[5:] in names]
    return max(map(int, done), default=0), len(done) < len(steps)


def assert_whole_up_to(folder, step):
    assert set(range(step)) <= {row["step"] for row in read_metrics(folder)}
    assert set(range(step)) <= written_steps(folder)


@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_killed_again_and_again_ends_as_if_it_were_not(
    bucket, tmp_path, monkeypatch
):
    folder = run_folder(bucket)
    with start(bucket) as process:  # while it writes its first checkpoint
        wait_for(process, "step     0")
        deadline = time.monotonic() + 60
        while not committed(folder)[1]:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)  # else this loop and the run would share a core
        process.send_signal(signal.SIGKILL)
    assert_whole_up_to(folder, committed(folder)[0])
    with start(bucket) as process:  # after one
        seen = wait_for(process, "step     [45]")
        process.send_signal(signal.SIGKILL)
    assert "was in use by process" in seen
    saved, _ = committed(folder)
    assert saved >= 2
    assert_whole_up_to(folder, saved)
    monkeypatch.setattr(lock, "LEASE_S", 2.0)
    train(TINY, bucket, Console(quiet=True))
    train(TINY, tmp_path, Console(quiet=True))
    for name in ("metrics.jsonl", "evals.jsonl", "samples.jsonl"):
        rows = [without_times(read_metrics(at / name)) for at in (folder, tmp_path)]
        assert rows[0] == rows[1] != []
    for path in (tmp_path / "rollouts").iterdir():
        assert path.read_bytes() == (folder / "rollouts" / path.name).read_bytes(), path.name
    assert (folder / "run.png").read_bytes() == (tmp_path / "run.png").read_bytes()
