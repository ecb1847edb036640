"""The metrics file: exact lines, resuming, cut lines, values that JSON does not have."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rvpo_jax.basics.files import WriteError
from rvpo_jax.run.json_lines import append_jsonl, read_rows, truncate_jsonl
from rvpo_jax.run.metrics import MetricsWriter, read_metrics


def lines(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def write_steps(workdir, *steps, resume_step=None, value=0.0):
    with MetricsWriter(workdir, resume_step=resume_step, header={"devices": 8}) as writer:
        for step in steps:
            writer.write(step, {"policy/loss": value})


def test_the_first_line_is_the_header_and_each_step_is_one_line(tmp_path):
    write_steps(tmp_path / "run", 1, 2, value=0.5)
    header, first, second = lines(tmp_path / "run" / "metrics.jsonl")
    assert header == {"header": {"devices": 8}}
    assert (first["step"], first["policy/loss"]) == (1, 0.5)
    assert list(second) == ["step", "time", "policy/loss"]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"policy/loss": 1.0})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize("value", [1.5, np.float32(1.5), jnp.float32(1.5), np.array(1.5)])
def test_scalars_of_any_library_become_numbers(tmp_path, value):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"risk_coef": value})
    assert read_metrics(tmp_path)[0]["risk_coef"] == 1.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), jnp.float32("nan")])
def test_a_value_that_is_not_finite_is_null(tmp_path, value):
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, {"policy/loss": value})
    assert read_metrics(tmp_path)[0]["policy/loss"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_resuming_drops_the_steps_that_come_again(tmp_path):
    write_steps(tmp_path, 1, 2, 3, value=1.0)
    write_steps(tmp_path, 3, 4, resume_step=3, value=2.0)
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["policy/loss"]) for row in rows] == [
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
        (4, 2.0),
    ]
    assert [row for row in lines(tmp_path / "metrics.jsonl") if "header" in row] == [
        {"header": {"devices": 8}}
    ]


def test_a_new_run_starts_a_new_file(tmp_path):
    write_steps(tmp_path, 1, 2)
    write_steps(tmp_path, 1)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize(
    "tail", ['{"step": 3, "time"', '{"step": 3}', '{"text": "\\u00', "\x00\x00"]
)
def test_a_cut_last_line_is_skipped_by_readers_and_dropped_on_resuming(tmp_path, tail):
    write_steps(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(tail)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    write_steps(tmp_path, 3, resume_step=3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]


def test_resuming_without_a_file_writes_the_header(tmp_path):
    write_steps(tmp_path, 5, resume_step=5)
    assert lines(tmp_path / "metrics.jsonl")[0] == {"header": {"devices": 8}}


DEEP = "[" * 100_000 + "]" * 100_000
ODD_LINES = ['{"step": "2"}', '{"step": 2.5}', '{"step": null}', '{"step": true}', DEEP, "[2]", "2"]


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: line[:14])
def test_a_line_whose_step_is_no_whole_number_is_no_step(tmp_path, line):
    write_steps(tmp_path, 1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    write_steps(tmp_path, 3, resume_step=3)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 3]


def test_an_emptied_file_gets_its_header_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_steps(tmp_path, 5, resume_step=5)
    assert lines(tmp_path / "metrics.jsonl")[0] == {"header": {"devices": 8}}


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"metrics.jsonl must be a file that can be read.*\n  \S"):
        read_metrics(tmp_path)


def test_a_full_disk_is_told_with_the_path(tmp_path, small_disk):
    path = small_disk(8) / "samples.jsonl"
    append_jsonl(path, {"step": 1})
    with pytest.raises(WriteError, match=f"^{path} could not be written: the disk is full"):
        append_jsonl(path, {"step": 2, "text": "x" * 10_000})
    assert [row["step"] for row in read_rows(path)] == [1]


def test_truncation_is_all_or_nothing(tmp_path, monkeypatch):
    write_steps(tmp_path, 1, 2)
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        truncate_jsonl(tmp_path / "metrics.jsonl", 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_samples_keep_any_text_and_are_truncated_like_metrics(tmp_path):
    path = tmp_path / "samples.jsonl"
    rows = [
        {"step": step, "text": "a\u2028b\n\ud7ff\U0001f600", "rewards": np.array([1.0, np.nan])}
        for step in (1, 2)
    ]
    for row in rows:
        append_jsonl(path, row)
    truncate_jsonl(path, 2)
    assert lines(path) == [{**rows[0], "rewards": [1.0, None]}]


def test_a_lone_surrogate_in_a_completion_does_not_end_the_run(tmp_path):
    append_jsonl(tmp_path / "samples.jsonl", {"step": 1, "text": "\ud800"})
    assert lines(tmp_path / "samples.jsonl") == [{"step": 1, "text": "\ud800"}]


def test_truncating_an_absent_file_does_nothing(tmp_path):
    truncate_jsonl(tmp_path / "absent.jsonl", 1)
    assert list(tmp_path.iterdir()) == []


def test_reading_an_absent_file_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a metrics.jsonl .* got .*\n  "):
        read_metrics(tmp_path)


def test_an_unknown_sink_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"log.sinks must name tensorboard or wandb, got 'clu'"):
        MetricsWriter(tmp_path, sinks=("clu",))


@pytest.mark.parametrize(("sink", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_sink_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, sink, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*\n.*rvpo-jax\[log\]"):
        MetricsWriter(tmp_path, sinks=(sink,))


def test_tensorboard_gets_every_metric(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra rvpo-jax[log] is not installed")
    with MetricsWriter(tmp_path, sinks=("tensorboard",)) as writer:
        writer.write(1, {"policy/loss": 0.5})
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"policy/loss" in events.read_bytes()
