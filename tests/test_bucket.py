"""What an object store lacks and a run needs: a lock, logs that grow, whole checkpoints."""

import importlib.util
import json
import os
import socket
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from rvpo_jax.auditing.read.absent_steps import absent_step_notes
from rvpo_jax.basics.files import WriteError, replacing
from rvpo_jax.config import Config
from rvpo_jax.run import json_lines, lock
from rvpo_jax.run.bucket import is_complete, run_folder
from rvpo_jax.run.checkpoint import CheckpointError, Checkpoints
from rvpo_jax.run.json_lines import JsonLines, read_rows
from rvpo_jax.run.lock import Lease, LostLockError, lock_workdir
from rvpo_jax.run.metrics import MetricsWriter, read_metrics
from rvpo_jax.run.workdir import check_workdir
from tests.test_checkpoint import assert_is_step, restore, save_steps


@pytest.fixture
def folder(bucket):
    return run_folder(bucket)


def objects(folder):
    """Names of the objects in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# Names


@pytest.mark.parametrize("name", ["gs://b-1/runs/a", "gs://b-1/runs/a/", Path("gs://b-1/runs/a")])
def test_the_folder_of_a_bucket_has_one_name_also_after_pathlib(name):
    assert str(run_folder(name)) == "gs://b-1/runs/a"
    assert str(run_folder(run_folder(name)) / "x") == "gs://b-1/runs/a/x"


@pytest.mark.parametrize("name", ["runs/a", "/runs/a", "../a", "a:b/c", "C:x"])
def test_other_names_are_local_paths(name):
    assert run_folder(name) == Path(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("gs://b-1", "gs://b-1"), (Path("gs://b-1/"), "gs://b-1"), ("s3://b-1/a", "s3://b-1/a")],
)
def test_an_address_that_names_no_folder_is_refused(name, shown):
    with pytest.raises(ValueError, match=rf"^workdir must be .* got {shown}\.\n  \S"):
        run_folder(name)


def test_without_gcsfs_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"gcsfs.*\n  .*rvpo-jax\[gcs\]"):
        run_folder("gs://b-1/a")


# One process at a time


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 0.1)
    monkeypatch.setattr(lock, "LEASE_S", 3.0)


def test_a_folder_whose_holder_lives_is_refused_with_its_name(folder, short_lease):
    who = f"process {os.getpid()} on host {socket.gethostname()}"
    with lock_workdir(folder), pytest.raises(ValueError, match=f"{folder} is in use by {who}"):
        with lock_workdir(folder):
            pass
    assert objects(folder) == []  # the one that was refused took nothing, the other cleaned up


@pytest.mark.slow
def test_the_lock_of_a_dead_process_is_taken_over_by_one_of_those_that_wait(folder, short_lease):
    (folder / ".lock").write_text('{"process": 1, "host": "gone"}')
    outcomes, both_tried = [], threading.Barrier(2)

    def wait():
        try:
            with lock_workdir(folder):
                outcomes.append("got it")
                both_tried.wait(timeout=60)
        except ValueError as error:
            outcomes.append(str(error))
            both_tried.wait(timeout=60)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused, got = sorted(outcomes, key=len, reverse=True)
    assert got == "got it"
    assert f"in use by process {os.getpid()}" in refused


def test_a_lock_that_was_taken_over_is_noticed_and_left_to_its_new_holder(folder, short_lease):
    with lock_workdir(folder) as held:
        held.check()
        (folder / ".lock").write_text("of another")
        held._renewed -= 3.0  # as after a pause
        with pytest.raises(LostLockError, match="another process took it over"):
            held.check()
    assert (folder / ".lock").read_text() == "of another"


def test_a_pause_without_another_process_costs_nothing(folder, short_lease, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 60.0)
    with lock_workdir(folder) as held:
        held._renewed -= 3.0
        held.check()


def test_a_renewal_whose_answer_was_lost_is_recognised(folder):
    lease = Lease(folder)
    assert lease._put()
    before = lease._generation
    lease._generation = 0  # as if the first answer had never come
    assert lease._put()
    assert lease._generation == before


def test_a_bucket_that_is_not_there_is_one_message(server):
    with pytest.raises(ValueError, match=r"^workdir must be .* got gs://no-bucket/a: .*\n  \S"):
        with lock_workdir(run_folder("gs://no-bucket/a")):
            pass


# Logs


def write(log, *steps):
    for step in steps:
        log.append({"step": step})


def steps(path):
    return [row["step"] for row in read_rows(path)]


def test_lines_are_kept_until_a_flush_and_are_one_object_then(folder, server):
    log = JsonLines(folder / "a.jsonl")
    before = len(server.requests())
    write(log, 3, 3, 4)
    assert len(server.requests()) == before
    log.flush()
    log.flush()
    write(log, 5)
    log.flush()
    assert objects(folder) == ["a.jsonl.00000003", "a.jsonl.00000005"]
    assert steps(folder / "a.jsonl") == [3, 3, 4, 5]


def test_lines_do_not_wait_for_a_flush_forever_and_a_step_stays_in_one_part(folder, monkeypatch):
    monkeypatch.setattr(json_lines, "FLUSH_S", 0.0)
    log = JsonLines(folder / "a.jsonl")
    write(log, 0, 0, 1, 1, 2)
    assert steps(folder / "a.jsonl") == [0, 0, 1, 1]
    log.flush()
    assert steps(folder / "a.jsonl") == [0, 0, 1, 1, 2]


def write_metrics(workdir, *steps, resume_step=None):
    with MetricsWriter(workdir, resume_step=resume_step, header={"at": resume_step}) as writer:
        for step in steps:
            writer.write(step, {})
            if step % 2:  # a checkpoint follows
                writer.flush()


@pytest.mark.parametrize("resume_step", [0, 1, 2, 3, 4, 9])
def test_resuming_in_a_bucket_drops_the_steps_that_come_again(folder, resume_step):
    write_metrics(folder, 0, 1, 2, 3)  # parts 0 and 2
    write_metrics(folder, resume_step=resume_step)
    assert [row["step"] for row in read_metrics(folder)] == list(range(min(resume_step, 4)))
    assert json.loads((folder / "metrics.jsonl").read_text()) == {"header": {"at": None}}
    parts = ["metrics.jsonl.00000000", "metrics.jsonl.00000002"][: (resume_step + 1) // 2]
    assert objects(folder) == ["metrics.jsonl", *parts]


def test_a_new_run_in_a_bucket_keeps_no_part_of_an_old_one(folder):
    write_metrics(folder, 0, 1, 2, 3)
    write_metrics(folder, 0, 1)
    assert objects(folder) == ["metrics.jsonl", "metrics.jsonl.00000000"]


def test_a_run_that_was_copied_to_a_disk_is_read_there_and_goes_on(folder, tmp_path):
    write_metrics(folder, 0, 1, 2, 3)
    fsspec.filesystem("gs").get(f"{folder}/", f"{tmp_path}/", recursive=True)
    write_metrics(tmp_path, 3, 4, resume_step=3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 1, 2, 3, 4]
    (tmp_path / "config.json").write_text('{"log": {"every": 1}}')
    assert absent_step_notes(np.arange(5), tmp_path, True) == []  # the audit joins the parts too


# Whole files


def test_an_object_is_replaced_as_a_whole_or_not_at_all(folder):
    path = folder / "run.png"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with replacing(path) as part:
        assert part.suffix == ".png"
        part.write_text("new")
    assert path.read_text() == "new"


def test_an_object_that_cannot_be_written_is_named(server):
    path = run_folder("gs://no-bucket/a/b.txt")
    with pytest.raises(WriteError, match=rf"^{path} could not be written: .*\n  .*bucket writable"):
        with replacing(path) as part:
            part.write_text("x")


# Checkpoints


@pytest.mark.slow
def test_checkpoints_in_a_bucket_come_back_bit_for_bit_and_old_ones_go(folder):
    save_steps(folder, 1, 2, 3, keep=2)
    assert_is_step(restore(folder), 3)
    assert objects(folder) == [".keep", "2", "3"]


def copied(folder, step, to, leave_out):
    """A copy of a checkpoint without the objects of a name, as a killed save leaves one."""
    bucket = fsspec.filesystem("gs")
    for name in bucket.find(f"{folder}/{step}"):
        if leave_out not in name:
            bucket.copy(name, name.replace(f"/{step}/", f"/{to}/"))


# Without the first a killed save, without the second a bucket that lost something.
@pytest.mark.parametrize("leave_out", ["commit_success.txt", "manifest.ocdbt"])
def test_a_half_written_checkpoint_is_not_taken_for_one_and_gives_way(folder, leave_out):
    save_steps(folder, 1)
    copied(folder, 1, 2, leave_out)
    if leave_out == "commit_success.txt":  # nor by the message of the launcher
        assert [path.name for path in folder.glob("?") if is_complete(path)] == ["1"]
    assert_is_step(restore(folder), 1)
    save_steps(folder, 2)
    assert_is_step(restore(folder), 2)


def test_a_folder_without_checkpoints_has_nothing_to_read(folder):
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.read_meta() is None
    assert objects(folder) == []


def test_damaged_checkpoints_alone_are_an_error_and_stay(folder):
    save_steps(folder, 1)
    (folder / "1" / "meta" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match="None of the 1 checkpoint"):
        restore(folder)
    assert "1" in objects(folder)


def test_a_run_that_was_killed_before_its_first_checkpoint_may_start_again(folder):
    write_metrics(folder, 0, 1)
    with pytest.raises(ValueError, match="holds the logs of a run without its folder checkpoints"):
        check_workdir(Config(), folder)
    with Checkpoints(folder / "checkpoints"):
        check_workdir(Config(), folder)
