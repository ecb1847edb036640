"""Broken and hostile logs: what cannot be used is counted, what can be used is read."""

import csv
import gzip
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_logs import kinds_of

from rvpo_jax.auditing.read import ReadOptions, read_log
from rvpo_jax.auditing.read.log import listing, shown

ROWS = [
    {"prompt": f"p{row // 2}", "completion": f"c{row}", "r": row % 2, "q": row / 8, "step": 1}
    for row in range(6)
]
LINES = [json.dumps(row).encode() for row in ROWS]


def read_bytes(tmp_path, content, name="log.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(content)
    return read_log(path, ReadOptions(**options))


def lines_with(extra, place=2):
    """The valid rows with one more line among them; the last line has no line break."""
    return b"\n".join([*LINES[:place], extra, *LINES[place:]])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param(LINES[0][:30], "bad_line", id="cut"),
        pytest.param(b"[1, 2]", "not_object", id="list"),
        pytest.param(b"17", "not_object", id="number"),
        pytest.param(b"null", "not_object", id="null"),
        pytest.param(b"\0\0\0\0", "bad_line", id="NUL bytes"),
        pytest.param(b"\xff\xfe\xfa", "bad_line", id="not UTF-8"),
        pytest.param(b"[" * 200_000, "bad_line", id="deep nesting"),
        pytest.param(b'{"x": ' * 200_000, "bad_line", id="deep objects"),
        pytest.param(b"x" * (2 << 20), "bad_line", id="two megabytes"),
    ],
)
def test_a_bad_line_is_counted_and_the_rows_around_it_are_read(tmp_path, line, kind):
    log = read_bytes(tmp_path, lines_with(line))
    assert log.rewards[:, 0].tolist() == [0, 1] * 3
    assert log.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert log.read_texts([5, 2]) == [("p2", "c5"), ("p1", "c2")]
    assert kinds_of(log)[kind] == 1
    assert "line 3 of log.jsonl" in next(note.text for note in log.notes if note.kind == kind)


def test_a_last_line_that_is_cut_is_named_as_such(tmp_path):
    log = read_bytes(tmp_path, lines_with(LINES[0][:30], place=6))
    assert len(log.group) == 6
    assert kinds_of(log)["cut_line"] == 1 and "bad_line" not in kinds_of(log)


@pytest.mark.parametrize(
    ("member", "kinds"),
    [
        pytest.param(b'"x": "\xff"', {"bad_utf8": 1}, id="bytes that are not UTF-8"),
        pytest.param(b'"x": "\\ud800"', {}, id="lone surrogate"),
        pytest.param(b'"x": "\0"', {}, id="NUL in a text"),
        pytest.param(b'"x": ' + b"9" * 6000, {}, id="integer of 6,000 digits"),
        pytest.param(b'"x": NaN', {}, id="NaN"),
        pytest.param(b'"x": "' + b"y" * (2 << 20) + b'"', {}, id="text of two megabytes"),
        pytest.param(b'"x": {"a": [{"b": null}]}', {}, id="structure"),
        pytest.param(b'"": 1, "\\u001b[2J": "z"', {}, id="names"),
    ],
)
def test_a_strange_value_does_not_cost_its_row(tmp_path, member, kinds):
    line = b'{"prompt": "p0", "completion": "new", "r": 1, "q": 1, "step": 1, ' + member + b"}"
    log = read_bytes(tmp_path, lines_with(line), rewards=("r", "q"))
    assert log.rewards[:, 0].tolist() == [0, 1, 1, 0, 1, 0, 1]
    found = {name: count for name, count in kinds_of(log).items() if name.startswith("bad")}
    assert found == kinds
    assert log.read_texts([2]) == [("p0", "new")]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        pytest.param("null", "missing", id="null"),
        pytest.param("NaN", "missing", id="NaN"),
        pytest.param('"nan"', "missing", id="nan as text"),
        pytest.param('" "', "missing", id="blank"),
        pytest.param('"abc"', "not_numeric", id="text"),
        pytest.param("[1, 2]", "not_numeric", id="list"),
        pytest.param("{}", "not_numeric", id="object"),
        pytest.param("Infinity", "not_finite", id="infinity"),
        pytest.param('"-inf"', "not_finite", id="infinity as text"),
        pytest.param("1e39", "not_finite", id="beyond float32"),
        pytest.param("9" * 400, "not_finite", id="huge integer"),
    ],
)
def test_a_reward_that_is_no_number_is_not_scored(tmp_path, value, kind):
    line = f'{{"prompt": "p0", "completion": "x", "r": {value}, "q": 1, "step": 1}}'.encode()
    log = read_bytes(tmp_path, lines_with(line))
    assert np.isnan(log.rewards[2, 0]) and log.rewards[2, 1] == 1
    assert np.isfinite(log.rewards[[0, 1, 3, 4, 5, 6]]).all()
    found = {name: kinds_of(log).get(name, 0) for name in ("missing", "not_numeric", "not_finite")}
    assert found == {"missing": 0, "not_numeric": 0, "not_finite": 0} | {kind: 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", 1), ("false", 0), ('"True"', 1), ('"false"', 0), ('"0.25"', 0.25), ("[0.5]", 0.5)],
)
def test_a_reward_in_another_spelling_is_its_number(tmp_path, value, expected):
    line = f'{{"prompt": "p0", "completion": "x", "r": {value}, "q": 1, "step": 1}}'.encode()
    assert read_bytes(tmp_path, lines_with(line)).rewards[2, 0] == expected


def test_every_text_can_be_written_as_utf8(tmp_path):
    line = rb'{"prompt": "p0", "completion": "a\ud800b\u0000", "r": 1, "q": 1, "step": 1}'
    log = read_bytes(tmp_path, lines_with(line))
    assert log.read_texts([2]) == [("p0", "a?b\0")]


def test_a_column_of_texts_that_look_like_numbers_is_no_reward_unless_named(tmp_path):
    lines = [json.dumps(row | {"answer": str(row["r"])}).encode() for row in ROWS]
    content = b"\n".join(lines)
    assert [c.name for c in read_bytes(tmp_path, content).channels] == ["r", "q"]
    named = read_bytes(tmp_path, content, rewards=("answer",))
    assert named.rewards[:, 0].tolist() == [0, 1] * 3


CSV = "prompt,completion,r\np,a,1\np,b,0\nq,c,1\nq,d,0\n"


@pytest.mark.parametrize(
    ("content", "rewards", "kinds"),
    [
        pytest.param(CSV, [1, 0, 1, 0], {}, id="whole"),
        pytest.param(CSV + "q,e", [1, 0, 1, 0], {"cut_line": 1}, id="cut last row"),
        pytest.param(CSV + 'q,"e\nf,1\n', [1, 0, 1, 0], {"cut_line": 1}, id="cut in quotes"),
        pytest.param(
            CSV.replace("q,c,1", "q,c,1,9,9"), [1, 0, 1, 0], {"ragged_row": 1}, id="long row"
        ),
        pytest.param(CSV.replace("q,c,1", "q"), [1, 0, None, 0], {"ragged_row": 1}, id="short"),
        pytest.param(CSV.replace("c", "c\0"), [1, 0, 1, 0], {}, id="NUL"),
        pytest.param(CSV.replace("q,c", "q," + "c" * 200_000), [1, 0, 1, 0], {}, id="long field"),
        pytest.param(
            CSV.replace("q,c,1", "q,c,abc"), [1, 0, None, 0], {"not_numeric": 1}, id="abc"
        ),
        pytest.param(CSV.replace("q,c,1", "q,c,true"), [1, 0, 1, 0], {}, id="truth"),
        pytest.param(CSV.replace("\n", "\r\n\r\n"), [1, 0, 1, 0], {}, id="blank lines"),
        pytest.param("\ufeff" + CSV, [1, 0, 1, 0], {}, id="byte order mark"),
    ],
)
def test_a_csv_file_in_any_state(tmp_path, content, rewards, kinds):
    usual = csv.field_size_limit(1000)
    log = read_bytes(tmp_path, content.encode(), "log.csv", rewards=("r",))
    assert [None if r != r else r for r in log.rewards[:, 0].tolist()] == rewards
    wanted = {"cut_line", "bad_line", "ragged_row", "not_numeric", "bad_utf8", "cut_file"}
    assert {name: count for name, count in kinds_of(log).items() if name in wanted} == kinds
    assert csv.field_size_limit(usual) == 1000


def test_bytes_of_a_csv_file_that_are_not_utf8_are_counted_but_a_replacement_character_is_not(
    tmp_path,
):
    content = CSV.encode().replace(b"c,1", b"c\xff,1").replace(b"d,0", "d\ufffd,0".encode())
    log = read_bytes(tmp_path, content, "log.csv")
    assert kinds_of(log)["bad_utf8"] == 1
    assert log.read_texts([2, 3]) == [("q", "c\ufffd"), ("q", "d\ufffd")]


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.csv.gz"])
def test_a_compressed_file_that_is_cut_gives_its_first_rows(tmp_path, name):
    rows = [f"p{row // 4},{row * 7919 % 10007},{row % 2}" for row in range(4000)]
    if "csv" in name:
        text = "\n".join(["prompt,completion,r", *rows])
    else:
        split = [row.split(",") for row in rows]
        text = "\n".join(json.dumps({"prompt": p, "r": int(r), "c": c}) for p, c, r in split)
    content = gzip.compress(text.encode())
    log = read_bytes(tmp_path, content[: len(content) // 2], name)
    assert 100 < len(log.group) < 4000
    assert log.rewards[:100, 0].tolist() == [0, 1] * 50
    assert kinds_of(log)["cut_file"] == 1


def parquet_bytes(tmp_path, columns, **options):
    path = tmp_path / "made"
    pq.write_table(pa.table(columns), path, **options)
    return path.read_bytes()


COLUMNS = {"prompt": ["a", "a", "b", "b"], "r": [0, 1, 1, 0], "step": [1] * 4}


def test_a_parquet_file_without_its_footer_is_left_out_where_others_remain(tmp_path):
    content = parquet_bytes(tmp_path, COLUMNS)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "1.parquet").write_bytes(content)
    (folder / "2.parquet").write_bytes(content[:-20])
    (folder / "3.parquet").write_bytes(b"")
    log = read_log(folder)
    assert len(log.group) == 4 and kinds_of(log)["unreadable_file"] == 2
    with pytest.raises(ValueError, match=r"readable file, got 2.parquet: .*\n  A file that was"):
        read_log(folder / "2.parquet")


def test_a_parquet_file_with_damage_inside_gives_the_rows_before_it(tmp_path):
    columns = {name: values * 5000 for name, values in COLUMNS.items()}
    columns["r"] = np.random.default_rng(0).normal(size=20_000)
    content = bytearray(
        parquet_bytes(tmp_path, columns, row_group_size=10_000, write_page_checksum=True)
    )
    middle = len(content) * 3 // 4  # inside the second row group
    content[middle : middle + 6000] = b"\xff" * 6000
    path = tmp_path / "damaged.parquet"
    path.write_bytes(content)
    log = read_log(path)
    assert kinds_of(log)["cut_file"] == 1
    np.testing.assert_array_equal(
        log.rewards[:, 0], columns["r"][: len(log.group)].astype(np.float32)
    )
    assert 8_192 <= len(log.group) < 20_000


def test_parquet_texts_that_are_not_utf8_are_read(tmp_path):
    raw = pa.array([b"\xff\x00", b"b"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(
        pa.table({"prompt": ["p", "p"], "completion": text, "r": [0, 1]}), tmp_path / "a.parquet"
    )
    log = read_log(tmp_path / "a.parquet")
    assert log.read_texts([0]) == [("p", "\ufffd\x00")]


def test_files_with_other_columns_are_joined(tmp_path):
    for number, columns in enumerate([COLUMNS, COLUMNS | {"late": [1, 2, 3, 4]}]):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    log = read_log(tmp_path)
    assert [channel.name for channel in log.channels] == ["r", "late"]
    assert np.isnan(log.rewards[:4, 1]).all() and log.rewards[4:, 1].tolist() == [1, 2, 3, 4]
    assert kinds_of(log)["different_columns"] == 1 and kinds_of(log)["missing"] == 4


def test_many_columns_do_not_fill_the_memory(tmp_path):
    lines = [json.dumps({"prompt": "p", "r": row} | {f"{row}_{i}": 1.5 for i in range(3000)})
             for row in range(8)]  # fmt: skip
    log = read_bytes(tmp_path, "\n".join(lines).encode())
    assert len(log.channels) <= 256 and kinds_of(log)["too_many_columns"] >= 256
    assert log.channels[0].name == "r"


def test_steps_that_are_no_integers_are_not_used():
    log = read_log(COLUMNS | {"step": [0.5, 1.5, 2.5, 3.5]})
    assert log.step is None and kinds_of(log)["bad_step"] == 4
    assert log.group.tolist() == [0, 0, 1, 1]


def test_few_rows_without_a_step_are_left_out():
    columns = {
        "prompt": ["a"] * 22,
        "r": list(range(22)),
        "completion": [str(i) for i in range(22)],
    }
    log = read_log(columns | {"step": [1] * 10 + [None] + [2] * 11})
    assert log.step.tolist() == [1] * 10 + [2] * 11
    assert log.rewards[10, 0] == 11 and log.read_texts([10]) == [("a", "11")]
    assert kinds_of(log)["bad_step"] == 1


def test_what_is_odd_about_groups_is_counted():
    rows = [
        ("a", "x", 1),
        ("a", "x", 1),
        ("a", "y", 1),
        ("b", "x", 1),
        ("b", "x", 1),
        ("c", "z", 1),
    ]
    rows += [(None, "u", 1), (None, "u", 1), ("d", "1", 1), ("d", "2", 1)]
    prompt, completion, r = map(list, zip(*rows, strict=True))
    log = read_log({"prompt": prompt, "completion": completion, "r": r, "step": [1] * 10})
    # Groups: a has 3, b and d 2, c and the two rows without a prompt 1.
    assert log.group.tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 5, 5]
    kinds = kinds_of(log)
    assert kinds["group_of_one"] == 3 and kinds["missing_group"] == 2
    assert kinds["unequal_groups"] == 3  # one is the usual size
    assert kinds["duplicate_rows"] == 2  # the second (a, x) and the second (b, x)
    assert kinds["constant_channel"] == 10


@pytest.mark.parametrize(
    ("values", "option", "expected"),
    [
        pytest.param([0, 1], None, (0, 1, 1), id="two values"),
        pytest.param([-1, 3], None, (-1, 3, 3), id="two others"),
        pytest.param([0, 0], None, (0, 1, 1), id="all zero fails"),
        pytest.param([-2, -2], None, (-2, 0, 0), id="a negative constant fails"),
        pytest.param([5, 5], None, (0, 5, 5), id="a positive constant is met"),
        pytest.param([0, 1, 4], None, (0, 4, 2), id="many values"),
        pytest.param([0, 1, 4], 0.5, (0, 4, 0.5), id="given"),
        pytest.param([0, 1, 4], 9, (0, 9, 9), id="given above all"),
        pytest.param([2, 3, 4], 1, (0, 4, 1), id="given below all"),
        pytest.param([2, 3, 4], -1, (-2, 4, -1), id="given below zero"),
        pytest.param([1e-45, 1e-45], None, (0, 2.0**-149, 2.0**-149), id="smallest number"),
    ],
)
def test_the_range_and_threshold_of_a_channel(values, option, expected):
    given = {} if option is None else {"r": option}
    columns = {"prompt": ["p"] * len(values), "r": values}
    log = read_log(columns, ReadOptions(pass_at=given, constraints=("r",)))
    channel = log.channels[0]
    assert (channel.low, channel.high, channel.pass_at) == expected
    assert channel.kind == "constraint"
    assert log.assumed_pass == (set() if given else {"r"})
    assert ("assumed_pass" in kinds_of(log)) == (option is None)


@given(st.lists(st.floats(width=32), min_size=2, max_size=6), st.none() | st.floats(width=32))
def test_a_channel_holds_whatever_the_numbers_are(values, option):
    columns = {"prompt": ["p"] * (len(values) + 1), "r": [*values, 1.0]}
    usable = option is not None and np.isfinite(option)
    log = read_log(columns, ReadOptions(pass_at={"r": option} if usable else {}))
    channel = log.channels[0]  # Channel checks itself
    scored = log.rewards[np.isfinite(log.rewards)]
    assert channel.low <= scored.min() and scored.max() <= channel.high


@pytest.mark.parametrize(
    ("source", "options", "problem", "remedy"),
    [
        pytest.param("nowhere.csv", {}, "must be an existing file", "Check the path", id="path"),
        pytest.param({"r": []}, {}, "at least one row, got none", "", id="no rows"),
        pytest.param(
            {"prompt": ["a", "a"], "x": ["u", "v"]},
            {},
            "must have a reward column with numbers, got the columns prompt, x",
            "--rewards",
            id="no rewards",
        ),
        pytest.param({"r": [1, 2]}, {}, "must say which completions", "--group", id="no group"),
        pytest.param(
            {"prompt": ["a", "b"], "r": [1, 2]},
            {},
            "must have two completions, got 2 group(s) of one row by equal values of prompt",
            "--group-size",
            id="all distinct",
        ),
        pytest.param(COLUMNS, {"rewards": ("r", "\x1b[2J")}, r"got \x1b[2J", "prompt, r", id="col"),
        pytest.param(COLUMNS, {"group": "uid"}, "--group must name a column", "prompt", id="group"),
        pytest.param(COLUMNS, {"pass_at": {"s": 1}}, "--pass must name", "are: r", id="pass_at"),
        pytest.param(COLUMNS, {"constraints": ("s",)}, "--constraint must", "are: r", id="constr"),
        pytest.param(
            {f"c{i}": [1, 1] for i in range(40)}, {"step": "s"}, "--step", "and 20 more", id="many"
        ),
        pytest.param(3, {}, "must be a path or a table, got int", "Give a file", id="no table"),
    ],
)
def test_what_cannot_be_read_gets_a_clear_error(source, options, problem, remedy):
    with pytest.raises(ValueError) as error:
        read_log(source, ReadOptions(**options))
    first, second = str(error.value).split("\n")
    assert problem in first and first.endswith(".")
    assert second.startswith("  ") and remedy in second


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "csv"}, "--format must be one of"),
        ({"group_size": 1}, "--group-size must be >= 2"),
        ({"group_size": 2, "group": "g"}, "only one of --group"),
        ({"pass_at": {"r": float("nan")}}, "--pass of channel r"),
        ({"pass_at": {"r": 1e300}}, "--pass of channel r"),
    ],
)
def test_options_are_checked_where_they_are_made(options, problem):
    with pytest.raises(ValueError, match=problem):
        ReadOptions(**options)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([], "must hold files ending in"),
        (["a.txt"], "must hold files ending in"),
        (["a.csv", "b.jsonl"], "must hold files of one kind, got CSV, JSON lines"),
    ],
)
def test_a_folder_that_is_no_log_gets_a_clear_error(tmp_path, names, problem):
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=problem):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"\n\n"),
        ("a.csv", b""),
        ("a.csv", b"prompt,r\n"),
        ("a.json", b"[]"),
        ("a.json", b"["),
        ("a.jsonl.gz", b"no gzip"),
        ("a.csv.gz", b""),
    ],
)
def test_a_file_without_rows_gets_a_clear_error(tmp_path, name, content):
    with pytest.raises(ValueError, match="at least one row, got none"):
        read_bytes(tmp_path, content, name)


def test_a_name_of_another_kind_gets_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="must end in .parquet.*got a.txt"):
        read_bytes(tmp_path, b"x", "a.txt")


def test_names_from_a_file_are_harmless_in_messages():
    name = "\x1b[31m\nr\u202e" + "x" * 100
    log = read_log({"prompt": ["p", "p"], name: [0.0, 1.0]})
    assert log.channels[0].name == name
    assert all(note.text.isprintable() for note in log.notes)
    assert len(shown(name)) < 120 and listing([""]) == "''"


@given(st.binary(max_size=200), st.integers(0, len(ROWS)))
@settings(max_examples=200)
def test_any_bytes_between_the_lines_leave_the_rows_as_they_are(tmp_path_factory, junk, place):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_bytes(b"\n".join([*LINES[:place], junk, *LINES[place:]]) + b"\n")
    log = read_log(path, ReadOptions(rewards=("r", "q")))
    valid = [row for row in range(len(log.group)) if (log.read_texts([row])[0][1] or "")[:1] == "c"]
    assert log.rewards[valid].tolist() == [[row["r"], row["q"]] for row in ROWS]


@given(st.data())
@settings(max_examples=50)
def test_the_order_of_rows_changes_the_names_of_groups_and_nothing_else(data):
    cells = st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from([0.0, 0.5, None]))
    rows = data.draw(st.lists(cells, min_size=1, max_size=12)) + [("a", 0, 1.0)] * 2
    order = data.draw(st.permutations(range(len(rows))))

    def groups(places):
        prompt, step, r = map(list, zip(*(rows[place] for place in places), strict=True))
        log = read_log({"prompt": prompt, "step": step, "r": r})
        found = {}
        for place, group in zip(places, log.group.tolist(), strict=True):
            found.setdefault(group, set()).add(place)
        kinds = {name: n for name, n in kinds_of(log).items() if name != "constant_channel"}
        return sorted(map(sorted, found.values())), kinds

    assert groups(order) == groups(range(len(rows)))


def test_recursion_limits_stay_as_they_are(tmp_path):
    limit = sys.getrecursionlimit()
    read_bytes(tmp_path, lines_with(b"[" * 10_000))
    assert sys.getrecursionlimit() == limit
