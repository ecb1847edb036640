"""Folders of runs that cannot lie: one process at a time, what is missing is said, full disks."""

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rvpo_jax.auditing import audit
from rvpo_jax.auditing.read import read_log
from rvpo_jax.basics.gaps import spans
from rvpo_jax.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LogConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.data import PromptStream
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.json_lines import append_jsonl
from rvpo_jax.run.lock import lock_workdir
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.restore import restore_run, start_or_resume
from rvpo_jax.run.resume import log_history, missing_records
from rvpo_jax.run.rollout_log import write_rollouts
from rvpo_jax.run.setup import build_run
from rvpo_jax.run.workdir import (
    check_workdir,
    differing_fields,
    read_config,
    write_config,
)
from rvpo_jax.train import train

TINY = Config(
    steps=4,
    rollout=RolloutConfig(num_prompts=4, group_size=2, max_completion_tokens=32),
    checkpoint=CheckpointConfig(every=2),
    eval=EvalConfig(num_prompts=8),
    log=LogConfig(samples_every=2, num_samples=2, console_every=1, audit=False),
    parallel=ParallelConfig(num_devices=1),
)
# The same run as command-line options, for runs in a process of their own.
OPTIONS = (
    "--steps 4 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.max-completion-tokens 32 "
    "--checkpoint.every 1 --eval.num-prompts 8 --log.samples-every 2 --log.num-samples 2 "
    "--log.console-every 1 --log.no-audit --parallel.num-devices 1"
).split()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    train(TINY, workdir, Console(quiet=True))
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that may be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


# One process at a time


HOLDS_THE_LOCK = """
    import pathlib, sys, time
    from rvpo_jax.run.lock import lock_workdir

    with lock_workdir(pathlib.Path(sys.argv[1])):
        print("locked", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def hold():
    """Starts processes that train in a folder, as far as the lock is concerned."""
    holders = []

    def start(workdir):
        command = [sys.executable, "-c", textwrap.dedent(HOLDS_THE_LOCK), str(workdir)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout.readline() == "locked\n"
        return holder

    yield start
    for holder in holders:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_folder_in_use_is_refused_with_the_process_and_its_host(tmp_path, hold):
    holder = hold(tmp_path)
    who = f"process {holder.pid} on host {re.escape(socket.gethostname())}"
    with pytest.raises(ValueError, match=rf"^workdir {tmp_path} is in use by {who}\.\n  \S"):
        train(TINY, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".lock.json"}


def test_the_lock_of_a_killed_process_is_free(tmp_path, hold):
    holder = hold(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock_workdir(tmp_path):
        note = json.loads((tmp_path / ".lock.json").read_text())
    assert note == {"process": os.getpid(), "host": socket.gethostname()}


def test_the_lock_is_free_after_the_block_also_when_it_raises(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), lock_workdir(tmp_path):
            raise KeyboardInterrupt
    assert not (tmp_path / ".lock.json").exists()


@pytest.mark.parametrize(
    "note", [None, "", "[]", '{"process": "x", "host": "y"}', '{"process": 1}', "[" * 100_000]
)
def test_a_holder_whose_note_cannot_be_read_is_another_process(tmp_path, hold, note):
    hold(tmp_path)
    path = tmp_path / ".lock.json"
    path.unlink() if note is None else path.write_text(note)
    with pytest.raises(ValueError, match="is in use by another process"):
        with lock_workdir(tmp_path):
            pass


def test_a_host_name_is_shown_without_terminal_codes(tmp_path, hold):
    hold(tmp_path)
    (tmp_path / ".lock.json").write_text(json.dumps({"process": 7, "host": "a\x1b[2J\n"}))
    with pytest.raises(ValueError, match=r"process 7 on host a\\x1b\[2J\\n\."):
        with lock_workdir(tmp_path):
            pass


@pytest.mark.slow
def test_a_run_in_use_can_be_read(run, hold):
    hold(run)
    assert len(read_metrics(run)) == 4
    assert audit(run).report["counts"]["steps"] == 4
    assert restore_run(TINY, run)[2] == 4


# What is missing


def write_run(workdir, first, config=TINY):
    """What a run of ``config`` has logged before ``first``, in its shortest form."""
    for step in range(first):
        if step % config.log.every == 0:
            append_jsonl(workdir / "metrics.jsonl", {"step": step})
        if config.log.samples_every and step % config.log.samples_every == 0:
            append_jsonl(workdir / "samples.jsonl", {"step": step})
        if step == 0 or (config.eval.every and step % config.eval.every == 0):
            append_jsonl(workdir / "evals.jsonl", {"step": step})
        if config.log.rollouts != "none":
            (workdir / "rollouts").mkdir(exist_ok=True)
            (workdir / "rollouts" / f"{step:08d}.parquet").touch()


def drop_lines(path, *steps):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line).get("step") not in steps))


SPARSE = dataclasses.replace(
    TINY,
    log=LogConfig(every=5, samples_every=0, rollouts="none", audit=False),
    eval=EvalConfig(every=10),
)
DENSE = dataclasses.replace(TINY, eval=EvalConfig(every=3))


@pytest.mark.parametrize("first", [0, 1, 2, 40])
@pytest.mark.parametrize("config", [TINY, SPARSE, DENSE], ids=["tiny", "sparse", "dense"])
def test_nothing_is_missing_from_what_a_run_logs(tmp_path, config, first):
    write_run(tmp_path, first, config)
    assert missing_records(tmp_path, log_history(None, config, 0), first) == []


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("config", "damage", "sentence"),
    [
        pytest.param(
            TINY,
            lambda run: drop_lines(run / "metrics.jsonl", *range(3, 15)),
            "metrics.jsonl lacks 12 of the 40 steps that it should have before 40: 3-14.",
            id="a gap in the metrics",
        ),
        pytest.param(
            TINY,
            lambda run: remove(run / "metrics.jsonl"),
            "metrics.jsonl lacks 40 of the 40 steps that it should have before 40: 0-39.",
            id="no metrics",
        ),
        pytest.param(
            SPARSE,
            lambda run: drop_lines(run / "metrics.jsonl", 5, 10, 35),
            "metrics.jsonl lacks 3 of the 8 steps that it should have before 40: 5-10, 35.",
            id="metrics every five steps",
        ),
        pytest.param(
            DENSE,
            lambda run: (run / "evals.jsonl").write_text(""),
            "evals.jsonl lacks 14 of the 14 steps that it should have before 40: 0-39.",
            id="emptied evaluations",
        ),
        pytest.param(
            TINY,
            lambda run: remove(run / "evals.jsonl"),
            "evals.jsonl lacks 1 of the 1 steps that it should have before 40: 0.",
            id="no evaluation of the start",
        ),
        pytest.param(
            TINY,
            lambda run: drop_lines(run / "samples.jsonl", 38),
            "samples.jsonl lacks 1 of the 20 steps that it should have before 40: 38.",
            id="a sample",
        ),
        pytest.param(
            TINY,
            lambda run: remove(run / "rollouts" / "00000007.parquet"),
            "rollouts lacks 1 of the 40 steps that it should have before 40: 7.",
            id="a rollouts file",
        ),
        pytest.param(
            TINY,
            lambda run: remove(run / "rollouts"),
            "rollouts lacks 40 of the 40 steps that it should have before 40: 0-39.",
            id="all rollouts",
        ),
    ],
)
def test_what_is_missing_is_counted_with_its_steps(tmp_path, config, damage, sentence):
    write_run(tmp_path, 40, config)
    damage(tmp_path)
    assert missing_records(tmp_path, log_history(None, config, 0), 40) == [sentence]


def test_settings_of_the_log_that_changed_on_resuming_are_no_gaps(tmp_path):
    write_run(tmp_path, 20, SPARSE)
    rest = tmp_path / "rest"
    rest.mkdir()
    write_run(rest, 40, TINY)
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.writelines(
                line + "\n"
                for line in (rest / name).read_text().splitlines()
                if json.loads(line)["step"] >= 20
            )
    (rest / "rollouts").rename(tmp_path / "rollouts")
    history = log_history(None, SPARSE, 0)
    history = log_history({"log_history": history}, TINY, 20)
    assert missing_records(tmp_path, history, 40) == []
    drop_lines(tmp_path / "metrics.jsonl", 10, 22)
    assert missing_records(tmp_path, history, 40) == [
        "metrics.jsonl lacks 2 of the 24 steps that it should have before 40: 10, 22."
    ]


def test_a_history_keeps_what_is_older_than_the_restored_step_and_grows_only_by_changes():
    start = log_history(None, SPARSE, 0)
    same = log_history({"log_history": start}, SPARSE, 10)
    assert same == start
    changed = log_history({"log_history": same}, TINY, 20)
    assert [entry["from"] for entry in changed] == [0, 20]
    again = log_history({"log_history": changed}, SPARSE, 15)  # an older checkpoint was taken
    assert again == start


def test_a_checkpoint_from_before_there_was_a_history_counts_by_its_config(tmp_path):
    write_run(tmp_path, 20, SPARSE)
    history = log_history({"config": SPARSE.to_dict()}, TINY, 20)
    assert missing_records(tmp_path, history, 20) == []


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ([1], "1"),
        ([1, 2, 3], "1-3"),
        ([0, 2, 4], "0, 2, 4"),
        (range(0, 20, 2), "0, 2, 4, 6, 8, 10 and 4 more ranges"),
    ],
)
def test_steps_are_shown_as_ranges_and_no_message_is_longer_than_six(missing, text):
    assert spans(missing, range(20)) == text


def test_a_run_with_gaps_says_so_when_it_goes_on_and_its_audit_counts_them(run, caplog):
    drop_lines(run / "metrics.jsonl", 1, 2)
    (run / "evals.jsonl").write_text("")
    remove(run / "samples.jsonl")
    remove(run / "rollouts" / "00000001.parquet")
    with caplog.at_level(logging.WARNING):
        train(TINY, run, Console(quiet=True))
    assert [record.getMessage().split(" that")[0] for record in caplog.records] == [
        "metrics.jsonl lacks 2 of the 4 steps",
        "samples.jsonl lacks 2 of the 2 steps",
        "evals.jsonl lacks 1 of the 1 steps",
        "rollouts lacks 1 of the 4 steps",
    ]
    report = audit(run).report
    notes = [note["text"] for note in report["notes"] if note["kind"] == "absent_step"]
    assert notes == [
        "rollouts/ lacks 1 of the 4 steps from 0 to 3: 1.",
        "metrics.jsonl lacks 2 of the 4 steps from 0 to 3: 1-2.",
    ]
    assert not any("nothing was left out" in each["text"] for each in report["sentences"])


# What the audit counts


def absent_notes(source):
    return [(note.count, note.text) for note in read_log(source).notes if "absent" in note.kind]


def write_own(workdir, steps):
    for step in steps:
        write_rollouts(
            workdir,
            step,
            [],
            np.zeros((2, 2, 0), np.float32),
            np.zeros((2, 2, 0), bool),
            np.zeros((2, 2), np.float32),
            prompts=["a", "b"],
            completions=None,
            method="rvpo",
            risk_coef=1.0,
        )
        path = workdir / "rollouts" / f"{step:08d}.parquet"
        table = pq.read_table(path)  # a channel, without the checksum of the header
        about = {b"rvpo": table.schema.metadata[b"rvpo"]}
        table = table.append_column("safe", [np.float32([0, 1, 1, 0])])
        pq.write_table(table.replace_schema_metadata(about), path)


@pytest.mark.parametrize(
    ("steps", "logged", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], []),
        ([0, 2, 3], [], [(1, "rollouts/ lacks 1 of the 4 steps from 0 to 3: 1.")]),
        ([2, 3], [], [(2, "rollouts/ lacks 2 of the 4 steps from 0 to 3: 0-1.")]),
        ([0, 1], [0, 1, 2, 3], [(2, "rollouts/ lacks 2 of the 4 steps from 0 to 3: 2-3.")]),
        ([0, 1], [0, 1, "x", None, 2**60], []),
    ],
    ids=["whole", "interior", "start", "end", "odd steps in the metrics"],
)
def test_the_audit_of_a_run_counts_absent_steps(tmp_path, steps, logged, expected):
    write_own(tmp_path, steps)
    for step in logged:
        append_jsonl(tmp_path / "metrics.jsonl", {"step": step})
    assert absent_notes(tmp_path) == absent_notes(tmp_path / "rollouts") == expected


def test_the_audit_of_a_run_counts_the_steps_that_its_metrics_lack(tmp_path):
    write_own(tmp_path, range(10))
    write_config(SPARSE, tmp_path)  # a line every five steps
    assert absent_notes(tmp_path) == [(2, "metrics.jsonl lacks 2 of the 2 steps from 0 to 5: 0-5.")]
    for step in (0, 5):
        append_jsonl(tmp_path / "metrics.jsonl", {"step": step})
    assert absent_notes(tmp_path) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([10, 20, 30], []),
        ([10, 20, 30, 50], [(1, "The log lacks 1 of the 5 steps from 10 to 50: 40.")]),
        ([1, 2, 3, 4, 6, 9], [(3, "The log lacks 3 of the 9 steps from 1 to 9: 5, 7-8.")]),
        ([1, 4, 6], []),
        ([1, 2, 3, 1_700_000_000], []),
    ],
    ids=["whole", "one", "two gaps", "no spacing", "a time stamp"],
)
def test_interior_gaps_of_step_files_are_counted(tmp_path, steps, expected):
    for step in steps:
        rows = [
            {"input": "p", "output": f"o{i}", "score": i, "step": step, "reward": i}
            for i in range(2)
        ]
        (tmp_path / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert absent_notes(tmp_path) == expected


# The config


@pytest.mark.parametrize("content", ["[]", "null", "3", "[" * 100_000, "{", b"\xff", None])
def test_a_config_that_is_no_object_is_one_message(tmp_path, content):
    path = tmp_path / "config.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for reads in (lambda: check_workdir(TINY, tmp_path), lambda: read_config(path)):
        with pytest.raises(ValueError, match=rf"^config.json must be .* got {path}, .*\n  \S"):
            reads()


def test_a_group_of_fields_that_is_no_object_is_a_differing_field(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**TINY.to_dict(), "optim": 3, "loss": []}))
    with pytest.raises(ValueError, match=r"(?s)differing fields .*loss: \[\] -> .*optim: 3 -> "):
        check_workdir(TINY, tmp_path)


def test_without_config_json_the_config_of_the_newest_checkpoint_counts(run, caplog):
    remove(run / "config.json")
    check_workdir(TINY, run)
    assert f"{run / 'config.json'} is missing" in caplog.text
    with pytest.raises(ValueError, match=r"(?s)another config.*seed: 0 -> 5"):
        check_workdir(dataclasses.replace(TINY, seed=5), run)


def test_a_config_json_that_was_exchanged_does_not_hide_the_config_of_the_checkpoint(run):
    other = dataclasses.replace(TINY, seed=5)
    write_config(other, run)
    with pytest.raises(ValueError, match=r"(?s)another config.*seed: 0 -> 5"):
        train(other, run, Console(quiet=True))


CLIPPED = {"objective": "clipped", "denominator": None, "ratio_level": None}


@pytest.mark.parametrize(
    ("stored", "current", "differing"),
    [
        ({"denominator": "token", "ratio_level": "token"}, CLIPPED, []),
        (CLIPPED, {"denominator": "token", "ratio_level": "token"}, []),
        ({}, CLIPPED, []),
        ({"denominator": "sequence"}, CLIPPED, ["loss.denominator: sequence -> token"]),
        (CLIPPED, {**CLIPPED, "ratio_level": "sequence"}, ["loss.ratio_level: token -> sequence"]),
        (
            {**CLIPPED, "objective": "gspo"},
            {**CLIPPED, "objective": "gspo", "denominator": "token"},
            ["loss.denominator: None -> token"],
        ),
    ],
    ids=["old to new", "new to old", "absent", "denominator", "level", "another objective"],
)
def test_none_in_the_clipped_loss_is_what_older_runs_stored_by_name(stored, current, differing):
    assert differing_fields({"loss": stored}, {"loss": current}) == differing


# A full disk


def test_a_run_without_its_folder_of_checkpoints_is_refused_and_keeps_its_logs(run):
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="holds the logs of a run without its folder checkpoints"):
        train(TINY, run, Console(quiet=True))
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_run_killed_before_its_first_checkpoint_says_that_it_starts_again(run, caplog):
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    built = build_run(TINY, run)
    with Checkpoints(run / "checkpoints") as checkpoints:
        stream = PromptStream(built.task.train, TINY.rollout.num_prompts, seed=0)
        state, _ = start_or_resume(built, run, checkpoints, stream)
    assert int(state.step) == 0
    assert f"{run} has no checkpoint: the run starts again, and its 4 logged step(s)" in caplog.text


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_one_message_and_the_path(small_disk):
    workdir = small_disk(3500) / "run"  # the first checkpoint fits, the third does not
    command = [sys.executable, "-m", "rvpo_jax", "train", "--workdir", str(workdir), *OPTIONS]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )
    assert done.returncode == 1
    assert re.fullmatch(
        f"rvpo: A checkpoint could not be written to {re.escape(str(workdir / 'checkpoints'))}: "
        r"the disk is full \([\d,]+ bytes needed, [\d,]+ free\)\.\n"
        r"  Earlier checkpoints are intact\. Free some space, then start the run again\.\n",
        done.stderr,
    )
    assert all(path.name.isdecimal() for path in (workdir / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["[red]x", "runs*", "a?"])
def test_a_folder_whose_name_is_a_pattern_is_refused_before_anything_is_written(tmp_path, name):
    # Orbax saves into such a folder and cannot restore from it.
    with pytest.raises(ValueError, match=r"workdir must be a path without \[, \], \* and \?"):
        check_workdir(Config(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
