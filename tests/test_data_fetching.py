"""Downloads of public data sets, from a server on this machine: there is no other here."""

import functools
import http.server
import json
import socket
import sys
import threading
from pathlib import Path

import pytest

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets import (
    DownloadFailed,
    fetching,
    load_dataset,
    original,
    read_dataset,
)
from rvpo_jax.data.datasets.gsm8k import Gsm8k
from rvpo_jax.data.datasets.public import Origin, Split
from rvpo_jax.run.evaluation.programs import items_of_task
from rvpo_jax.run.evaluation.tasks import find_task

TRAIN = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(5)]
TEST = [{"question": "0 + 0?", "answer": "#### 0"}]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """GSM8K at a server of this machine; what was asked of it, and when something was said."""
    site = tmp_path / "site"
    site.mkdir()
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (site / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            events.append(f"{self.command} {self.path}")

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = Origin(
            base=f"http://127.0.0.1:{server.server_port}/",
            homepage="https://example.org",
            licence="MIT",
            citation="Nobody 2026",
            megabytes=4.9,
            redistribution="Keep it.",
        )
        monkeypatch.setattr(Gsm8k, "origin", origin)
        monkeypatch.setattr(
            fetching._LOG, "warning", lambda text, *values: events.append(text % values)
        )
        yield site, events
        server.shutdown()


def load(tmp_path, cache="cache"):
    return load_dataset("gsm8k", tmp_path / cache, download_dir=tmp_path / "downloads")


def test_what_is_downloaded_is_said_before_and_then_loaded_and_kept(published, tmp_path):
    _, events = published
    splits = load(tmp_path)
    assert [row["question"] for row in splits["train"]] == [row["question"] for row in TRAIN]
    assert len(splits["test"]) == 1
    said, *asked = events
    for part in ("gsm8k", "2 file(s)", "4.9 MB", "http://127.0.0.1", "train.jsonl, test.jsonl"):
        assert part in said
    for part in ("Licence: MIT.", "Cite: Nobody 2026.", "Keep it.", str(tmp_path / "downloads")):
        assert part in said
    assert asked[0] == "HEAD /train.jsonl"
    assert sorted(asked[1:]) == ["GET /test.jsonl", "GET /train.jsonl"]
    events.clear()
    again = load(tmp_path, "another cache")
    assert (list(again["train"]), events) == (list(splits["train"]), [])
    assert "tensorflow" not in sys.modules


def test_a_task_without_a_path_has_the_rows_that_its_authors_publish(
    published, tmp_path, monkeypatch
):
    monkeypatch.setattr(fetching.tfds.core.constants, "DATA_DIR", str(tmp_path))
    _, events = published
    assert [item.row for item in items_of_task(find_task("gsm8k"), None)] == TEST
    assert "Licence: MIT." in events[0]
    with pytest.raises(Refusal, match="--task healthbench_meta needs --task-path"):
        items_of_task(find_task("healthbench_meta"), None)


def test_original_files_have_the_names_that_they_were_published_under(
    published, tmp_path, monkeypatch
):
    site, _ = published
    several = {"all": Split(files=("train.jsonl", "test.jsonl"))}
    one = original(Gsm8k, "test", tmp_path / "downloads")
    assert (one.name, one.read_bytes()) == ("test.jsonl", (site / "test.jsonl").read_bytes())
    monkeypatch.setattr(Gsm8k, "splits", several)
    folder = original(Gsm8k, "all", tmp_path / "downloads")
    assert sorted(path.name for path in folder.iterdir()) == ["test.jsonl", "train.jsonl"]


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_download_is_fetched_again(published, tmp_path, damage):
    _, events = published
    first = load(tmp_path)
    (file,) = (tmp_path / "downloads").rglob("*train*.jsonl")
    events.clear()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        file.unlink()
    assert list(load(tmp_path)["train"]) == list(first["train"])
    assert "GET /train.jsonl" in events


def test_a_file_that_the_server_lacks_is_one_message_and_nothing_is_kept(published, tmp_path):
    site, _ = published
    (site / "test.jsonl").unlink()
    with pytest.raises(
        DownloadFailed,
        match=r"^data set gsm8k could not be downloaded from http.*404.*\n  Fetch train.jsonl, "
        r"test.jsonl yourself and give data.source gsm8k:FOLDER.$",
    ):
        load(tmp_path)
    assert not (tmp_path / "downloads" / "gsm8k" / "kept.json").exists()
    (site / "test.jsonl").write_text(json.dumps(TEST[0]))
    assert len(load(tmp_path)["test"]) == 1


def test_without_a_way_to_the_server_it_fails_at_once(published, tmp_path, monkeypatch):
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        base = f"http://127.0.0.1:{port}/"
        monkeypatch.setattr(
            Gsm8k, "origin", Origin(base=base, homepage="", licence="MIT", citation="x")
        )
        # TFDS alone would try ten times, for minutes.
        monkeypatch.setattr(Gsm8k, "download", None)
        with pytest.raises(DownloadFailed, match=r"refused.*\n  Fetch"):
            load(tmp_path)


def test_the_builder_alone_downloads_as_any_of_tensorflow_datasets_does(published, tmp_path):
    builder = Gsm8k(data_dir=tmp_path / "data")
    builder.download_and_prepare(download_dir=tmp_path / "downloads")
    source = builder.as_data_source(split="train[1:3]")
    assert [json.loads(source[i]["columns"])["question"] for i in range(2)] == ["1 + 1?", "2 + 1?"]
    assert builder.info.splits["test"].num_examples == 1


def test_the_first_rows_are_read_without_a_cache(published, tmp_path):
    rows = read_dataset("gsm8k", download_dir=tmp_path / "downloads")
    assert next(rows)["answer"] == "#### 1"
    assert [path.name for path in Path(tmp_path).iterdir() if path.name != "site"] == ["downloads"]
