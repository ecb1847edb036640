"""A reward function that misbehaves: it raises, exits, or edits what it was given."""

import copy
import importlib.util
import json
import logging

import pytest

from rvpo_jax.rewards import RewardError, load_reward, reward_channel, score
from rvpo_jax.rewards.failures import frames_of

TEXTS = ["b", "a"]


def rows():
    return [
        {"prompt": [{"role": "user", "content": "hi"}], "answer": "b", "tools": ["f", "g"]},
        {"prompt": [{"role": "user", "content": "ho"}], "answer": "a", "tools": ["h", "i"]},
    ]


def sorts_completions(completions, examples):
    completions.sort()
    return [0.0] * len(completions)


def pops_completions(completions, examples):
    while completions:
        completions.pop()
    return [0.0, 0.0]


def sorts_examples(completions, examples):
    examples.sort(key=lambda row: row["answer"])
    return [0.0] * len(completions)


def pops_a_column(completions, examples):
    return [float(example.pop("answer") == "x") for example in examples]


def edits_deep_inside(completions, examples):
    for example in examples:
        example["prompt"][0]["content"] = "forged"
        example["tools"].reverse()
    return [0.0] * len(completions)


def sorts_a_column(completions, answer, **kwargs):
    answer.sort()
    return [0.0] * len(completions)


def edits_in_applies(completions, examples):
    return [0.0] * len(completions)


reward_channel(applies=lambda row: row.update(answer="forged") is None)(edits_in_applies)

EDITORS = [
    (sorts_completions, "completions"),
    (pops_completions, "completions"),
    (sorts_examples, "examples"),
    (pops_a_column, "examples"),
    (edits_deep_inside, "examples"),
    (sorts_a_column, "answer"),
]


def exact(completions, examples):
    """The channel beside the one that edits: 1 where all is as it was."""
    same = completions == TEXTS and examples == rows()
    return [float(same)] * 2


@pytest.mark.parametrize(
    "editor", [fn for fn, _ in EDITORS] + [edits_in_applies], ids=lambda fn: fn.__name__
)
def test_a_function_that_edits_its_input_changes_neither_other_channels_nor_the_log(editor):
    texts, examples = list(TEXTS), rows()
    out = score([editor, exact], texts, examples, threads=1)  # in turn: the editor goes first
    assert out.rewards[:, 1].tolist() == [1.0, 1.0]
    assert (texts, examples) == (TEXTS, rows())


@pytest.mark.parametrize(("editor", "argument"), EDITORS, ids=[fn.__name__ for fn, _ in EDITORS])
def test_a_function_that_edits_its_input_is_named_once(editor, argument, caplog):
    def fresh(*args, **kwargs):
        return editor(*args, **kwargs)

    fresh.__wrapped__ = editor  # a function that nobody has been warned about yet
    fresh.__name__ = "culprit"
    with caplog.at_level(logging.WARNING, logger="rvpo_jax"):
        for _ in range(2):
            score([fresh, exact], TEXTS, rows())
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith(f"reward function culprit edited its {argument}. It has copies")


def test_a_function_that_edits_nothing_is_not_named(caplog):
    with caplog.at_level(logging.WARNING, logger="rvpo_jax"):
        score([exact], TEXTS, [row | {"nan": float("nan")} for row in rows()])
    assert caplog.records == []


def test_the_rows_of_a_group_stay_one_row_for_the_function():
    row = {"answer": "a"}

    def reward(completions, examples):
        return [float(example is examples[0]) for example in examples]

    assert score([reward], TEXTS, [row, row]).rewards[:, 0].tolist() == [1.0, 1.0]


USER_FILE = """
import json

def inner(text):
    if text == "a":
        {failure}
    return 1.0

def outer(completions, examples):
    return [inner(text) for text in completions]
"""


@pytest.fixture
def fails_with(tmp_path):
    def make(failure):
        path = tmp_path / "mine.py"
        path.write_text(USER_FILE.format(failure=failure))
        return path, load_reward(f"{path}:outer")

    return make


def test_an_error_names_file_line_and_the_innermost_frames(fails_with):
    path, fn = fails_with("raise KeyError('missing')")
    with pytest.raises(RewardError) as caught:
        score([fn], TEXTS, rows())
    lines = str(caught.value).splitlines()
    assert lines[0] == "reward function outer raised KeyError: \"'missing'\"."
    # The file starts with an empty line: raise stands on line 6, the call on line 10.
    assert lines[-2] == f"  {path}, line 6, in inner: raise KeyError('missing')"
    assert f"  {path}, line 10, in outer: return [inner(text) for text in completions]" in lines
    assert lines[-1].startswith("  Fix the function, or set data.on_reward_error to skip")
    assert "rewards/scoring.py" not in str(caught.value)


def test_the_users_frames_stay_in_sight_when_a_library_raises(fails_with):
    path, fn = fails_with("json.loads('{')")
    with pytest.raises(RewardError) as caught:
        score([fn], TEXTS, rows())
    *_, users, library, _ = str(caught.value).splitlines()
    assert users == f"  {path}, line 6, in inner: json.loads('{{')"
    assert json.decoder.__file__ in library


def test_skip_says_where_the_first_failure_was(fails_with, caplog):
    path, fn = fails_with("raise KeyError('missing')")
    with caplog.at_level(logging.WARNING, logger="rvpo_jax"):
        out = score([fn], TEXTS, rows(), on_error="skip")
    assert out.num_failed.tolist() == [1]
    assert f"{path}, line 6, in inner" in caplog.text


def test_an_import_that_fails_inside_names_file_and_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\nx.absent\n")
    with pytest.raises(ValueError, match="raised AttributeError") as caught:
        load_reward(f"{path}:f")
    assert f"\n  {path}, line 2, in <module>: x.absent\n" in str(caught.value)


def test_endless_recursion_is_told_in_a_few_lines(fails_with):
    _, fn = fails_with("return inner(text)")
    with pytest.raises(RewardError, match="raised RecursionError") as caught:
        score([fn], TEXTS, rows())
    assert len(str(caught.value).splitlines()) <= 6


class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit(9)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(SystemExit(3), "raised SystemExit: '3'", id="sys.exit"),
        pytest.param(
            Unspeakable(),
            "raised Unspeakable: '<Unspeakable whose text cannot be had>'",
            id="its text raises",
        ),
    ],
)
def test_an_exit_and_an_error_without_a_text_are_errors_of_the_function(failure, told, caplog):
    def probe(completions, examples):
        if "a" in completions:
            raise failure
        return [1.0] * len(completions)

    with pytest.raises(RewardError) as caught:
        score([probe], TEXTS, rows())
    assert told in str(caught.value)
    with caplog.at_level(logging.WARNING, logger="rvpo_jax"):
        out = score([probe], TEXTS, rows(), on_error="skip")
    assert (out.where[:, 0].tolist(), out.num_failed.tolist()) == ([True, False], [1])
    assert "probe raised on 1 of 2 completions" in caplog.text


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_ctrl_c_in_a_reward_passes(on_error):
    def probe(completions, examples):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score([probe], TEXTS, rows(), on_error=on_error)


def test_hostile_names_and_sources_are_escaped_and_cut(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "kind = type('x\\x1b[2J' * 100, (Exception,), {})\n"
        "def probe(completions, examples):\n"
        f"    raise kind('\\x1b[2J\\u202e' * 1000)  # \x1b[31m{'y' * 500}\n"
    )
    with pytest.raises(RewardError) as caught:
        score([load_reward(f"{path}:probe")], TEXTS, rows())
    message = str(caught.value)
    assert "\x1b" not in message and "\u202e" not in message
    assert len(message) < 3000


def test_frames_of_a_package_are_shown_where_no_frame_is_the_users():
    try:
        json.loads("{")
    except ValueError as error:
        error.__traceback__ = error.__traceback__.tb_next  # without the frame of this test
        frames = frames_of(error)
    assert 1 <= len(frames) <= 3
    assert all(importlib.util.find_spec("json").submodule_search_locations[0] in f for f in frames)


def test_a_failure_in_a_built_in_reward_keeps_its_own_remedy():
    with pytest.raises(RewardError) as caught:
        score([load_reward("privacy")], ["a"], [copy.deepcopy(rows()[0])])
    assert str(caught.value) == (
        "reward function privacy: example 0 must have a secret, a non-empty text, got None.\n"
        "  Add the column secret, or leave privacy out of data.rewards."
    )
