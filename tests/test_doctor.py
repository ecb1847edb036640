"""What ``rvpo doctor`` looks at: the folder, the coordinator, the clock, versions, devices."""

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
from importlib import metadata

import pytest
from rich.console import Console
from test_architecture import ROOT

from rvpo_jax import cli
from rvpo_jax.run import doctor, worker


def found(findings, what):
    (one,) = (one for one in findings if one.what == what)
    return one


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_folder_is_created_written_read_back_and_left_empty(tmp_path):
    folder = tmp_path / "runs" / "a"
    findings = worker.find_storage(str(folder))
    stored = found(findings, "workdir")
    assert stored.found.startswith(f"{folder}: 512 KiB written and read back in ")
    assert "GiB free" in found(findings, "disk").found
    assert list(folder.iterdir()) == []
    assert not any(one.missing for one in findings)


def test_a_folder_that_cannot_be_made_is_missing(tmp_path):
    (tmp_path / "file").touch()
    stored, clock = worker.find_storage(str(tmp_path / "file" / "run"))
    assert stored.missing and "Not a directory" in stored.found
    assert clock.found == "not looked at: there is no file to compare with"


def test_a_disk_without_room_for_the_file_is_missing_and_holds_nothing(small_disk):
    folder = small_disk(256)  # KiB, of 512
    stored, _ = worker.find_storage(str(folder))
    assert stored.missing and "No space left on device" in stored.found
    assert list(folder.iterdir()) == []


def test_what_comes_back_otherwise_is_missing(tmp_path):
    stored = worker._written_and_read("a disk", lambda data: None, lambda: b"other", "another")
    assert (stored.missing, stored.remedy) == (True, "another")
    assert stored.found == "a disk: read back otherwise than written"


def test_the_clock_of_a_local_disk_is_not_looked_at_and_that_is_said(tmp_path):
    clock = found(worker.find_storage(str(tmp_path)), "clock")
    assert clock.found.startswith("not looked at: ") and "has this machine's own" in clock.found
    assert not clock.missing


@pytest.mark.parametrize(
    ("shift", "says", "missing"),
    [(0, "0.0 s", False), (-29, "29.0 s", False), (31, "31.0 s", True)],
)
def test_the_clock_is_compared_with_a_shared_disks(tmp_path, monkeypatch, shift, says, missing):
    # The disk's stamps are right; this machine's clock is moved.
    monkeypatch.setattr(worker, "_kind_of", lambda folder: "nfs4")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + shift)
    clock = found(worker.find_storage(str(tmp_path)), "clock")
    side = "ahead of" if shift > 0 else "behind" if shift else ""
    assert clock.found.startswith(says) and side in clock.found
    assert clock.found.endswith(f"that of {tmp_path} (nfs4)")
    assert clock.missing is missing and bool(clock.remedy) is missing


def test_a_file_system_is_called_what_linux_calls_it(tmp_path, small_disk):
    assert worker._kind_of(small_disk(64)) == "tmpfs"
    if os.path.ismount("/proc"):
        assert worker._kind_of(type(tmp_path)("/proc/self")) == "proc"


def test_a_bucket_without_the_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    stored, clock = worker.find_storage("gs://a-bucket/run")
    assert stored.missing and stored.remedy == "pip install 'rvpo-jax[gcs]'"
    assert "not looked at" in clock.found


def test_a_coordinator_that_listens_answers_and_another_does_not():
    with listening() as address:
        there = worker.find_coordinator(address)
        assert not there.missing and there.found.startswith(f"{address} answers in ")
    gone = worker.find_coordinator(address)
    assert gone.missing and "refused" in gone.found and gone.remedy.startswith("start process 0")


def test_a_coordinator_that_is_silent_is_waited_for_only_so_long(monkeypatch):
    # The queue of one that never accepts is full, so further connections get no answer.
    monkeypatch.setattr(worker, "CONNECT_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as held,
    ):
        address = server.getsockname()
        for _ in range(8):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        silent = worker.find_coordinator(f"127.0.0.1:{address[1]}")
    assert silent.missing and "no answer within" in silent.found


@pytest.mark.parametrize("text", ["host", "host:", ":80", "host:0", "host:70000", "host:x", ""])
def test_a_coordinator_that_is_no_address_is_bad_usage(capsys, text):
    assert cli.main(["doctor", "--coordinator", text]) == 2
    assert "--coordinator must read HOST:PORT" in capsys.readouterr().err


def test_an_older_version_than_is_required_is_missing(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.4.1" if name == "jax" else real(name))
    missing = {one.what: one.remedy for one in doctor._versions() if one.missing}
    assert missing == {"jax": "pip install 'jax>=0.10.2'"}


def test_the_command_says_what_was_not_looked_at_and_what_a_run_would_fail_for(capsys, tmp_path):
    assert cli.main(["doctor"]) == 0
    plain = capsys.readouterr().out
    assert "cpu: cpu" in plain and "orbax-checkpoint" in plain
    assert plain.count("not looked at") == 3  # workdir, clock, coordinator
    assert "Nothing that was looked at is missing." in plain
    (tmp_path / "file").touch()
    assert cli.main(["doctor", "--workdir", str(tmp_path / "file")]) == 1
    assert "A run would fail here: workdir." in capsys.readouterr().out


@pytest.mark.slow
def test_a_machine_without_a_device_is_missing_one():
    code = "import sys; from rvpo_jax.cli import main; sys.exit(main(['doctor']))"
    env = {**os.environ, "JAX_PLATFORMS": "tpu", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "A run would fail here: device." in done.stdout


def test_names_are_shown_as_they_are_and_not_taken_for_markup():
    console = Console(record=True, width=200, file=io.StringIO())
    assert doctor.doctor(console, "[red]nowhere\0") == 1
    assert "[red]nowhere" in console.export_text()


def test_a_bucket_is_written_read_back_left_empty_and_tells_the_time(bucket, server):
    from rvpo_jax.run.bucket import run_folder

    before = len(server.requests())
    stored, clock = worker.find_storage(bucket)
    assert stored.found.startswith(f"{bucket}: 512 KiB written and read back in ")
    assert f"that of {bucket}, when its object was made" in clock.found
    # The server runs on this machine, so its clock is the same.
    assert float(clock.found.split()[0]) < worker.MAX_CLOCK_S and not clock.missing
    assert list(run_folder(bucket).glob("*")) == []
    assert {request.split()[0] for request in server.requests()[before:]} >= {"GET", "DELETE"}


def test_a_bucket_that_is_not_there_is_missing(bucket):
    stored, clock = worker.find_storage(bucket.replace("//", "//no-"))
    assert stored.missing and "storage.objectUser" in stored.remedy
    assert clock.found == "not looked at: there is no object to compare with"
