"""Files of rows as .json and .csv, and what a file of any kind may do to the reader."""

import csv
import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvpo_jax.data import load_rows, read_rows, row_files
from rvpo_jax.data.row_files import read_file

ROWS = [{"prompt": "Say é.", "answer": "1,2"}, {"prompt": 'line\nbreak "quoted"', "answer": ""}]


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes as a file and returns its path."""

    def write_file(content, name):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "indented"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_a_json_file_holds_one_list_of_objects(write, tmp_path, indent, zipped):
    content = json.dumps(ROWS, indent=indent).encode()
    name = "rows.json.gz" if zipped else "rows.json"
    path = write(gzip.compress(content, mtime=0) if zipped else content, name)
    assert list(load_rows(path, tmp_path / "cache")) == ROWS


def test_a_json_file_may_have_one_object_per_line_as_bfcl_has(write, tmp_path):
    path = write("\ufeff" + "\n".join(map(json.dumps, ROWS)), "rows.json")
    assert list(load_rows(path, tmp_path / "cache")) == ROWS


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_csv_file_gives_texts_under_its_header(tmp_path, name):
    pd.DataFrame(ROWS).to_csv(tmp_path / name, index=False)
    assert list(load_rows(tmp_path / name, tmp_path / "cache")) == ROWS


def test_nothing_is_guessed_from_a_text_of_a_csv_file(write):
    path = write("prompt,code,day,list\r\n1,007,2026-01-02,[1]\r\n\r\n", "rows.csv")
    assert list(read_rows(path)) == [
        {"prompt": "1", "code": "007", "day": "2026-01-02", "list": "[1]"}
    ]


# Alone in its line, an empty text would be a blank line, which is no row.
cells = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)


@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_whatever_texts_a_csv_file_holds_come_back(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *pairs])
    assert [(row["a"], row["b"]) for _, row in read_file(path)] == pairs


def test_the_limit_of_the_csv_module_is_left_as_it_was(write):
    limit = csv.field_size_limit()
    path = write(f'prompt\n"{"x" * (limit + 1)}"\n', "rows.csv")
    assert len(next(read_rows(path))["prompt"]) == limit + 1
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", "at least one row, got none"),
        ("a.json", '[{"prompt": "a"}', "a.json must be valid JSON, got: Expecting"),
        ("a.json", '[{"prompt": "a"}, 3]', "item 2 of .*a.json must be a JSON object, got 3"),
        ("a.json", '{"prompt":\n "a"}', "line 1 of .*a.json must be valid JSON"),
        ("a.json", b'[{"prompt": "\xff"}]', "a.json must be valid JSON, got: 'utf-8' codec"),
        ("a.json", "[" * 100_000, "a.json must be valid JSON, got: .*recursion"),
        ("a.json.gz", b"[]", "must be a whole gzip file"),
        ("a.csv", "", "at least one row, got none"),
        ("a.csv", "prompt\n", "at least one row, got none"),
        ("a.csv", "prompt,\na,b\n", "a header of different names, got 'prompt,'"),
        ("a.csv", "prompt,prompt\na,b\n", "a header of different names"),
        ("a.csv", "prompt,x\na\n", "row 1 of .*a.csv must have 2 fields, .*got 1"),
        ("a.csv", "prompt\na\nb,c\n", "row 2 of .*a.csv must have 1 fields, .*got 2"),
        ("a.csv", 'prompt\n"a\n', "valid CSV in UTF-8, got after line .: unexpected end"),
        ("a.csv", b"prompt\n\xff\n", "valid CSV in UTF-8, got after line .: 'utf-8' codec"),
        ("a.csv", "question\na\n", "row 1 of .*a.csv must have the column prompt"),
        ("a.csv.gz", gzip.compress(b"prompt\na\n", mtime=0)[:-4], "must be a whole gzip file"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_bad_file_gets_one_clear_error_and_no_cache(write, tmp_path, name, content, message):
    with pytest.raises(ValueError, match=rf"{message}.*\n  \S") as error:
        load_rows(write(content, name), tmp_path / "cache")
    assert str(error.value).count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_a_line_of_100_megabytes_is_refused_and_not_read_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:  # sparse: a hole of zeros, which takes no room
        file.write(b'{"prompt": "')
        file.truncate(100 << 20)
    with pytest.raises(ValueError, match=r"line 1 of .* at most 67,108,864 bytes, got more.\n  \S"):
        next(read_rows(path))


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_a_row_that_is_too_large_is_refused_in_every_kind_of_file(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(row_files, "MAX_ROW_BYTES", 1000)
    path, rows = tmp_path / f"rows.{kind}", [{"prompt": "a"}, {"prompt": "b" * 1000}]
    if kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        path.write_text("".join(f"{row}\n" for row in ("prompt", "a", "b" * 990)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match=r"2 of .* must have at most 1,000 bytes, got 1,0\d\d"):
        list(read_rows(path))
