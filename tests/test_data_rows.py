"""Rows of a file through TensorFlow Datasets, and every kind of bad .jsonl and .parquet file."""

import datetime
import gzip
import json
import os
import shutil
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvpo_jax.basics.files import WriteError
from rvpo_jax.data import load_rows
from rvpo_jax.data import rows as rows_module
from rvpo_jax.data.plain_values import to_plain

MESSAGES = [{"role": "user", "content": "Hi"}]
ROWS = [
    {"prompt": "Say é.", "answer": {"text": "é", "marks": [1, 2.5, None, True]}, "tags": []},
    {"prompt": MESSAGES, "answer": None},
    {"prompt": "lone \ud800 surrogate\u2028", "answer": {"deep": [[[{"x": "\x00"}]]]}},
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes as a file and returns its path."""

    def write_file(content, name="rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_rows_of_a_jsonl_file_come_back_in_order_with_all_columns(tmp_path):
    source = load_rows(write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "cache")
    assert [source[index] for index in range(len(source))] == ROWS


def test_rows_stay_in_order_when_there_are_many(tmp_path):
    rows = [{"prompt": f"p{number}", "number": number} for number in range(300)]
    source = load_rows(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "cache")
    assert [row["number"] for row in source] == list(range(300))


def test_a_compressed_file_gives_the_same_rows(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    assert list(load_rows(path, tmp_path / "cache")) == ROWS


def test_a_parquet_file_gives_nested_columns_as_plain_values(tmp_path):
    table = pa.table(
        {
            "prompt": [MESSAGES, MESSAGES],
            "reward_model": [{"ground_truth": {"x": [1, 2]}}, None],
            "score": [1.5, float("nan")],
            "raw": [b"text", b"\xff"],
            "when": [datetime.datetime(2026, 1, 2, 3), None],
            "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    assert list(load_rows(tmp_path / "rows.parquet", tmp_path / "cache")) == [
        {
            "prompt": MESSAGES,
            "reward_model": {"ground_truth": {"x": [1, 2]}},
            "score": 1.5,
            "raw": "text",
            "when": "2026-01-02T03:00:00",
            "map": {"k": 1},
        },
        {
            "prompt": MESSAGES,
            "reward_model": None,
            "score": None,
            "raw": "/w==",  # base64 of the byte FF
            "when": None,
            "map": {},
        },
    ]


def test_another_column_can_be_the_prompt(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"question": "2+2", "answer": 4}])
    source = load_rows(path, tmp_path / "cache", prompt_column="question")
    assert source[0] == {"prompt": "2+2", "answer": 4}


def test_the_prompt_column_is_part_of_the_cache_key(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"a": "A", "b": "B"}])
    assert load_rows(path, tmp_path / "cache", "a")[0] == {"prompt": "A", "b": "B"}
    assert load_rows(path, tmp_path / "cache", "b")[0] == {"prompt": "B", "a": "A"}


def test_blank_lines_and_a_byte_order_mark_are_no_rows(write, tmp_path):
    path = write('\ufeff{"prompt": "a"}\n\n  \r\n{"prompt": "b"}')
    assert list(load_rows(path, tmp_path / "cache")) == [{"prompt": "a"}, {"prompt": "b"}]


def test_a_number_that_json_does_not_have_is_no_value(write, tmp_path):
    path = write('{"prompt": "a", "x": [NaN, -Infinity, 1.5]}')
    assert load_rows(path, tmp_path / "cache")[0]["x"] == [None, None, 1.5]


def test_a_deep_column_loads_or_gets_the_clear_error(write, tmp_path):
    # Which of the two depends on the Python version and its recursion limits.
    path = write('{"prompt": "a", "x": %s}' % ("[" * 700 + "]" * 700))
    try:
        source = load_rows(path, tmp_path / "cache")
    except ValueError as error:
        assert "line 1 of" in str(error) and "recursion" in str(error)
    else:
        assert len(source) == 1


def test_rows_are_numbered_like_a_list(tmp_path):
    source = load_rows(write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "cache")
    assert source[-1] == ROWS[-1]
    assert source[np.uint8(1)] == ROWS[1]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"row {index} of 3 rows"):
            source[index]


def test_a_second_call_reads_the_cache_and_not_the_file(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    first = load_rows(path, tmp_path / "cache")
    monkeypatch.setattr(rows_module, "_read_rows", None)  # calling it would fail
    second = load_rows(path, tmp_path / "cache")
    assert list(second) == ROWS
    assert second.fingerprint == first.fingerprint


def test_a_changed_file_is_read_again(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "old"}])
    old = load_rows(path, tmp_path / "cache")
    new = load_rows(write_jsonl(path, [{"prompt": "new"}]), tmp_path / "cache")
    assert new[0] == {"prompt": "new"}
    assert new.fingerprint != old.fingerprint


def test_the_cache_of_a_process_killed_while_building_is_not_used(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    killed = f"""
        import os
        from rvpo_jax.data import rows

        def build_and_die(self, rows):
            yield 0, {{"prompt": '"half"', "columns": "{{}}"}}
            os._exit(9)

        rows.PromptRows._generate_examples = build_and_die
        rows.load_rows({str(path)!r}, {str(tmp_path / "cache")!r})
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(killed)]).returncode == 9
    assert any("incomplete" in str(left) for left in (tmp_path / "cache").rglob("*"))
    assert list(load_rows(path, tmp_path / "cache")) == ROWS


def test_a_cache_that_another_process_finishes_first_is_used(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    generate = rows_module.PromptRows._generate_examples

    def overtaken(self, rows):
        monkeypatch.setattr(rows_module.PromptRows, "_generate_examples", generate)
        load_rows(path, tmp_path / "cache")  # what the faster process does
        yield from generate(self, rows)

    monkeypatch.setattr(rows_module.PromptRows, "_generate_examples", overtaken)
    assert list(load_rows(path, tmp_path / "cache")) == ROWS


DAMAGES = {
    "one bit": lambda data, place: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
    "cut": lambda data, place: data[:place],
    "emptied": lambda data, place: b"",
    "overwritten": lambda data, place: data[:place] + b"\xff" * 16 + data[place + 16 :],
}


@pytest.fixture(scope="module")
def pristine_cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    path = write_jsonl(folder / "rows.jsonl", ROWS)
    load_rows(path, folder / "cache")
    return path, folder / "cache"


@pytest.mark.parametrize("name", [*DAMAGES, "removed"])
@pytest.mark.parametrize("number", range(4), ids="file {}".format)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids="at {}".format)
def test_a_damaged_cache_is_built_again_and_says_so(
    pristine_cache, tmp_path, caplog, name, number, share
):
    path, pristine = pristine_cache
    shutil.copytree(pristine, tmp_path / "cache")
    files = sorted(file for file in (tmp_path / "cache").rglob("*") if file.is_file())
    assert len(files) == 4  # the list, the features, the info and the records
    data = files[number].read_bytes()
    if name == "removed":
        files[number].unlink()
    else:
        files[number].write_bytes(DAMAGES[name](data, int(share * len(data))))
    assert list(load_rows(path, tmp_path / "cache")) == ROWS
    (warning,) = caplog.records
    assert "is built again: file " in warning.getMessage()
    assert names(tmp_path / "cache") == names(pristine), "nothing is left over"
    caplog.clear()
    assert list(load_rows(path, tmp_path / "cache")) == ROWS
    assert not caplog.records


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_in_the_place_of_the_cache_is_replaced(pristine_cache, tmp_path, caplog):
    path, pristine = pristine_cache
    (folder,) = pristine.iterdir()
    (tmp_path / folder.name).write_text("")
    assert list(load_rows(path, tmp_path)) == ROWS
    assert "is built again" in caplog.text


def test_a_cache_from_before_there_were_checksums_is_built_again(pristine_cache, tmp_path):
    path, pristine = pristine_cache
    shutil.copytree(pristine, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "files.json").unlink()
    source = load_rows(path, tmp_path / "cache")
    assert list(source) == ROWS
    assert source.fingerprint == folder.name, "a resumed run still has the same rows"


def test_a_cache_that_does_not_fit_on_the_disk_is_one_message_and_leaves_nothing(
    tmp_path, small_disk
):
    rng = np.random.default_rng(0)  # noise, which does not compress
    rows = [{"prompt": rng.bytes(512).hex()} for _ in range(2000)]
    path, disk = write_jsonl(tmp_path / "rows.jsonl", rows), small_disk(200)
    with pytest.raises(WriteError, match=f"^{disk}/.* could not be written: the disk is full"):
        load_rows(path, disk / "data")
    assert names(disk) == ["data"]


def test_a_prompt_is_not_printed_while_it_is_fine(tmp_path):
    class Prompt(str):
        def __repr__(self):
            raise AssertionError("formatted for a message that nobody reads")

    rows_module._check_row({"prompt": Prompt("good")}, "line 1", "prompt")


def test_loading_prints_nothing_and_never_imports_tensorflow(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    program = f"""
        import sys
        from rvpo_jax.data import PromptStream, load_rows
        source = load_rows({str(path)!r}, {str(tmp_path / "cache")!r})
        next(PromptStream(source, 2, seed=0))
        assert "tensorflow" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path / "home")},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "home").exists()  # TensorFlow Datasets has a default folder there


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have at least one row, got none"),
        ("\n\n", "must have at least one row, got none"),
        ('{"prompt": "a"}\n{"prompt": "b', r"line 2 of .* must be valid JSON, got: Unterminated"),
        (b'{"prompt": "\xff"}', r"line 1 of .* must be valid JSON, got: 'utf-8' codec"),
        ('{"prompt": %s}' % ("9" * 5000), r"line 1 of .* must be valid JSON"),
        ("[" * 100_000, r"line 1 of .* must be valid JSON, got: .*recursion"),
        ('{"prompt": "a", "x": %s}' % ("[" * 5000 + "]" * 5000), r"line 1 of .*recursion"),
        ('["prompt"]', r"line 1 of .* must be a JSON object, got \['prompt'\]"),
        ('{"question": "a", "answer": 1}', "must have the column prompt, got .*: question, answer"),
        ('{"prompt": "a"}\n{}', "line 2 of .* must have the column prompt, got the columns: none"),
        ('{"prompt": 3}', "prompt in line 1 of .* must be a text or a list of messages"),
        ('{"prompt": null}', "must be a text or a list of messages.*got None"),
        ('{"prompt": [{"role": "user"}]}', "must be a text or a list of messages"),
        ('{"prompt": [{"role": "user", "content": null}]}', "must be a text or a list of messages"),
        ('{"prompt": ["a"]}', "must be a text or a list of messages"),
        ('{"prompt": ""}', "prompt in line 1 of .* is empty"),
        ('{"prompt": []}', "prompt in line 1 of .* is empty"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_jsonl_file_gets_one_clear_error_and_no_cache(write, tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"{message}.*\n  \S") as error:
        load_rows(write(content), tmp_path / "cache")
    assert str(error.value).count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["rows.tsv", "rows", "rows.parquet.gz", "rows.jsonl.zip"])
def test_an_unknown_suffix_is_refused(write, tmp_path, name):
    with pytest.raises(ValueError, match=r"^data.source must be a file ending in .*\n  \S"):
        load_rows(write("{}", name), tmp_path / "cache")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("absent.jsonl", "folder.jsonl"):
        with pytest.raises(
            ValueError, match=r"^data.source must be an existing file, got .*\n  \S"
        ):
            load_rows(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize("cut", [10, -4], ids=["head", "tail"])
def test_a_compressed_file_that_was_cut_off_is_refused(write, tmp_path, cut):
    whole = gzip.compress(b'{"prompt": "a"}\n' * 100)
    with pytest.raises(ValueError, match=r"must be a whole gzip file, got: .*\n  \S"):
        load_rows(write(whole[:cut], "rows.jsonl.gz"), tmp_path / "cache")


def test_a_file_that_only_has_the_name_of_a_compressed_one_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match=r"must be a whole gzip file, got: .*\n  \S"):
        load_rows(write('{"prompt": "a"}', "rows.jsonl.gz"), tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "middle", "text"])
def test_a_damaged_parquet_file_is_refused(write, tmp_path, damage):
    pq.write_table(pa.table({"prompt": [f"prompt {i}" for i in range(999)]}), tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    middle = good[:50] + b"\xff" * 200 + good[250:]
    content = {"cut": good[:-100], "middle": middle, "text": b"prompt"}[damage]
    with pytest.raises(ValueError, match=r"must be a readable Parquet file, got .*\n  \S") as error:
        load_rows(write(content, "rows.parquet"), tmp_path / "cache")
    assert str(error.value).count("\n") == 1


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="must have at least one row, got none"):
        load_rows(tmp_path / "rows.parquet", tmp_path / "cache")


def test_a_second_column_named_prompt_is_refused(write, tmp_path):
    path = write('{"question": "a", "prompt": "b"}')
    with pytest.raises(ValueError, match="must not have a column prompt beside .*question"):
        load_rows(path, tmp_path / "cache", prompt_column="question")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.array([[1, 2]]), [[1, 2]]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array(["a"], dtype=object), ["a"]),
        (pa.scalar({"x": [1]}), {"x": [1]}),
        (float("inf"), None),
        (Decimal("1.5"), 1.5),
        (Decimal("NaN"), None),
        (datetime.timedelta(minutes=2), 120.0),
        (datetime.time(1, 2), "01:02:00"),
        ((1, {2: b"b"}), [1, {"2": "b"}]),
    ],
    ids=repr,
)
def test_values_of_other_libraries_become_plain(value, plain):
    result = to_plain(value)
    assert result == plain
    assert type(result) is type(plain)


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"must hold values of JSON, got .*\n  \S"):
        to_plain(object())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_plain_values_stay_as_they_are(value):
    assert to_plain(value) == value
    json.dumps(to_plain(value), allow_nan=False)


@pytest.fixture(scope="module")
def rlla():
    """The RLLA rows that lie beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("RVPO_TEST_DATA", beside)) / "rlla" / "rl.parquet"
    if not path.is_file():
        pytest.skip("rlla/rl.parquet is not in the folder of test data (RVPO_TEST_DATA)")
    return path


def test_the_rlla_rows_load_unchanged(rlla, tmp_path):
    source = load_rows(rlla, tmp_path / "cache")
    assert len(source) == 374
    assert [message["role"] for message in source[0]["prompt"]] == ["system", "user"]
    assert set(source[0]["reward_model"]) == {"ground_truth", "style"}
    assert list(source) == pq.read_table(rlla).to_pylist()
