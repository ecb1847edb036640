"""Scoring: what a reward function may return, and what is refused with a clear message."""

import logging
import os
import threading
from fractions import Fraction

import numpy as np
import pytest

from rvpo_jax import rewards
from rvpo_jax.config import Channel
from rvpo_jax.rewards import RewardError, score


def constant(values, **channel):
    """A reward function called ``probe`` that returns ``values`` whatever it sees."""

    def probe(completions, examples):
        return values

    return rewards.reward_channel(**channel)(probe) if channel else probe


@pytest.mark.parametrize(
    ("values", "expected", "where"),
    [
        pytest.param([0.5, 1.0], [0.5, 1.0], [True, True], id="floats"),
        pytest.param((0, 1), [0.0, 1.0], [True, True], id="ints in a tuple"),
        pytest.param([False, True], [0.0, 1.0], [True, True], id="bools"),
        pytest.param([None, 0.5], [0.0, 0.5], [False, True], id="None is not applicable"),
        pytest.param([float("nan"), 0.5], [0.0, 0.5], [False, True], id="NaN is not applicable"),
        pytest.param([None, None], [0.0, 0.0], [False, False], id="none applicable"),
        pytest.param(np.array([0.25, np.nan], np.float16), [0.25, 0.0], [True, False], id="half"),
        pytest.param(np.array([True, False]), [1.0, 0.0], [True, True], id="bool array"),
        pytest.param([np.float32(0.5), np.bool_(True)], [0.5, 1.0], [True, True], id="numpy"),
        pytest.param(
            [np.array(0.5), Fraction(1, 4)], [0.5, 0.25], [True, True], id="0-d, fraction"
        ),
        pytest.param(
            [1.0 + 1e-9, -1e-9], [1.0, 0.0], [True, True], id="rounding excess is clipped"
        ),
    ],
)
def test_numbers_bools_none_and_nan_become_rewards_and_a_mask(values, expected, where):
    out = score([constant(values)], ["a", "b"], [{}, {}])
    assert out.rewards.dtype == np.float32 and out.where.dtype == np.bool_
    assert out.rewards[:, 0].tolist() == expected
    assert out.where[:, 0].tolist() == where
    assert out.num_failed.tolist() == [0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param([1.0], r"shape \(2,\), got list of shape \(1,\)", id="too short"),
        pytest.param([1.0] * 3, r"got list of shape \(3,\)", id="too long"),
        pytest.param(1.0, r"got float of shape \(\)", id="one number is not broadcast"),
        pytest.param(None, r"got NoneType of shape \(\)", id="forgot to return"),
        pytest.param([[1.0], [0.0]], r"got list of shape \(2, 1\)", id="two axes"),
        pytest.param([[1.0], [0.0, 1.0]], r"got '\[1.0\]' \(list\) for example 0", id="ragged"),
        pytest.param("ab", r"got str of shape \(\)", id="text"),
        pytest.param({0: 1.0, 1: 1.0}, r"got dict of shape \(\)", id="mapping"),
        pytest.param(["1", "0"], r"got '1' \(str\) for example 0", id="numbers as text"),
        pytest.param([1.0, "0"], r"got '0' \(str\) for example 1", id="one number as text"),
        pytest.param(np.array(["1", "0"]), "got dtype <U1", id="text array"),
        pytest.param([1.0, 1j], r"\(complex\) for example 1", id="complex"),
        pytest.param([1.0, float("inf")], "got inf for example 1, completion 'b'", id="inf"),
        pytest.param([1.0, -np.inf], "got -inf for example 1", id="minus inf"),
        pytest.param([10**400, 1.0], "got inf for example 0", id="integer beyond float"),
        pytest.param([1.0, 1.1], r"in \[0.0, 1.0\], got 1.1 for example 1", id="above the range"),
        pytest.param([-0.1, 1.0], "got -0.1 for example 0, completion 'a'", id="below the range"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_bad_return_value_is_one_error_that_names_the_function(values, message, on_error):
    with pytest.raises(RewardError, match=message) as caught:
        score([constant(values)], ["a", "b"], [{}, {}], on_error=on_error)
    assert str(caught.value).startswith("reward function probe ")
    assert "\n  " in str(caught.value)


def test_the_declared_range_decides_what_is_out_of_range():
    out = score([constant([-3.0, 3.0], low=-3.0, high=3.0)], ["a", "b"], [{}, {}])
    assert out.rewards[:, 0].tolist() == [-3.0, 3.0]
    with pytest.raises(RewardError, match=r"in \[-3.0, 3.0\], got 3.01"):
        score([constant([0.0, 3.01], low=-3.0, high=3.0)], ["a", "b"], [{}, {}])


def test_the_quoted_completion_is_short_and_escaped():
    hostile = "\x1b[2J\x00\ud800\n" + "x" * 1000
    with pytest.raises(RewardError) as caught:
        score([constant([2.0])], [hostile], [{}])
    message = str(caught.value)
    assert r"'\x1b[2J\x00\ud800\nxxx" in message and "..." in message
    assert len(message) < 500
    message.encode()  # a lone surrogate would make this raise, and a log file with it


def sometimes(completions, examples):
    """Raises on any batch that holds "bad"."""
    if "bad" in completions:
        raise OSError("no such\nthing")
    return [len(text) / 10 for text in completions]


def test_a_function_that_raises_stops_with_its_name_and_error():
    with pytest.raises(
        RewardError, match="function sometimes raised OSError: 'no such thing'"
    ) as caught:
        score([sometimes], ["good", "bad"], [{}, {}])
    assert isinstance(caught.value.__cause__, OSError)
    _, frame, remedy = str(caught.value).splitlines()
    assert frame.startswith(f"  {__file__}, line ")
    assert frame.endswith('in sometimes: raise OSError("no such\\nthing")')
    assert remedy.startswith("  Fix the function")


def test_skip_masks_counts_and_logs_only_the_completions_that_fail(caplog):
    def fine(completions, examples):
        return [1.0 for _ in completions]

    with caplog.at_level(logging.WARNING, logger="rvpo_jax"):
        out = score([fine, sometimes], ["good", "bad", "x", "bad"], [{}] * 4, on_error="skip")
    np.testing.assert_array_equal(out.where[:, 0], [True, True, True, True])
    np.testing.assert_array_equal(out.where[:, 1], [True, False, True, False])
    np.testing.assert_allclose(out.rewards[:, 1], [0.4, 0.0, 0.1, 0.0], rtol=1e-6)
    assert out.num_failed.tolist() == [0, 2]
    assert "sometimes raised on 2 of 4 completions; first on example 1, 'bad'" in caplog.text


def test_skip_reports_a_bad_value_at_its_place_in_the_whole_batch():
    def probe(completions, examples):
        if "bad" in completions:
            raise ValueError
        return [7.0 if text == "big" else 0.0 for text in completions]

    with pytest.raises(RewardError, match="got 7.0 for example 2, completion 'big'"):
        score([probe], ["a", "bad", "big"], [{}] * 3, on_error="skip")


def test_a_channel_is_masked_where_it_does_not_apply():
    probe = constant([0.0, 1.0], applies=lambda example: example["on"])
    out = score([probe], ["a", "b"], [{"on": False}, {"on": True}])
    assert out.where[:, 0].tolist() == [False, True]
    assert out.rewards[:, 0].tolist() == [0.0, 1.0]
    out = score([probe], ["a", "b"], [{"on": True}, {"on": False}])
    assert out.where[:, 0].tolist() == [True, False]
    assert out.rewards[:, 0].tolist() == [0.0, 0.0]  # not 1: a masked reward is stored as 0


def test_columns_follow_the_order_of_the_functions_whichever_ends_first():
    second_ran = threading.Event()

    def first(completions, examples):
        assert second_ran.wait(10)  # only passes when both run at the same time
        return [0.25]

    def second(completions, examples):
        second_ran.set()
        return [0.75]

    assert score([first, second], ["a"], [{}]).rewards.tolist() == [[0.25, 0.75]]


def test_an_empty_batch_gives_empty_arrays():
    out = score([constant([]), sometimes], [], [])
    assert out.rewards.shape == out.where.shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        pytest.param(([], ["a"], [{}]), {}, "at least one function", id="no function"),
        pytest.param(([sometimes] * 2, ["a"], [{}]), {}, "got sometimes twice", id="same name"),
        pytest.param(([sometimes], "a", [{}]), {}, "got one text: 'a'", id="one text"),
        pytest.param(([sometimes], ["a"], [{}] * 2), {}, "got 1 and 2", id="lengths differ"),
        pytest.param(([sometimes], ["a"], [{}]), {"threads": 0}, "got 0", id="no thread"),
        pytest.param(([sometimes], ["a"], [{}]), {"on_error": "x"}, "got 'x'", id="on_error"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        score(*arguments, **options)


def test_a_plain_function_has_the_default_channel_and_a_declared_one_its_own():
    assert rewards.channel_of(sometimes) == Channel(name="sometimes")
    declared = constant([], name="marks", high=5.0, pass_at=3.3, kind="constraint")
    assert rewards.channel_of(declared) == Channel(
        name="marks", high=5.0, pass_at=3.3, kind="constraint"
    )
    with pytest.raises(ValueError, match="pass_at of channel probe"):
        constant([], low=0.0, high=1.0, pass_at=0.0)


def test_a_channel_that_never_scored_is_named():
    where = np.array([[[True, False]], [[False, False]]])  # [B, G, M] = [2, 1, 2]
    with pytest.raises(RewardError, match="channel\\(s\\) brevity scored none of 2 completions"):
        rewards.check_any_scored(where, ["format", "brevity"])
    where[1, 0, 1] = True
    rewards.check_any_scored(where, ["format", "brevity"])


def test_few_completions_may_be_without_a_prompt_that_has_a_channel(caplog):
    where = np.array([[True, False]] * 3)
    rewards.check_any_scored(where, ["format", "brevity"], enough=4)
    assert "channel(s) brevity scored none of 3 completions" in caplog.text
    with pytest.raises(RewardError, match="brevity"):
        rewards.check_any_scored(where, ["format", "brevity"], enough=3)
    with pytest.raises(RewardError, match="format, brevity scored none of 3 completions"):
        rewards.check_any_scored(where & False, ["format", "brevity"], enough=4)


USER_FILE = """
import dataclasses
from posixpath import join

@dataclasses.dataclass
class Options:
    bonus: "float" = 0.5

limit = 3
calls = []

def mine(completions, examples):
    calls.append(len(completions))
    return [Options().bonus for _ in completions]

def other(completions, examples):
    return calls

def wrong(texts):
    return texts
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "my rewards.py"
    path.write_text(USER_FILE)
    return path


def test_a_users_file_is_loaded_and_executed_once(user_file):
    mine = rewards.load_reward(f"{user_file}:mine")
    assert score([mine], ["a"], [{}]).rewards.tolist() == [[0.5]]
    assert rewards.load_reward(f"{user_file}:other")([], []) == [1]  # the same module


def test_an_edited_file_is_loaded_anew(user_file):
    first = rewards.load_reward(f"{user_file}:mine")
    user_file.write_text(USER_FILE.replace("0.5", "0.25") + "# of another size\n")
    os.utime(user_file, ns=(1, 1))
    second = rewards.load_reward(f"{user_file}:mine")
    assert (first([""], [{}]), second([""], [{}])) == ([0.5], [0.25])


def test_a_function_of_a_package_is_loaded():
    loaded = rewards.load_reward("rvpo_jax.rewards.tool_task:brevity")
    assert loaded is rewards.REWARDS["brevity"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "brevty",
            "got 'brevty'.\n  Perhaps brevity. Built in are: toolrl_format, ",
            id="unknown",
        ),
        pytest.param("", "got ''", id="empty"),
        pytest.param("FILE:", "got '.*:'.\n  Built in", id="no function name"),
        pytest.param("missing.py:f", "there is no file missing.py", id="no file"),
        pytest.param(
            "FILE:absent", "has no function absent.\n  It has: mine, other, wrong.$", id="absent"
        ),
        pytest.param("FILE:limit", "must be a function, got int", id="not callable"),
        pytest.param(
            "FILE:wrong",
            r"must take \(completions, examples\), or .* got \(texts\)",
            id="signature",
        ),
        pytest.param("BROKEN:f", "raised SyntaxError: ", id="syntax error"),
        pytest.param("RAISES:f", "raised ZeroDivisionError: division", id="import raises"),
        pytest.param("EXITS:f", "raised SystemExit: 3", id="import exits"),
        pytest.param("no_such_package.x:f", "raised ModuleNotFoundError", id="no package"),
    ],
)
def test_a_reward_that_cannot_be_loaded_is_one_clear_message(name, message, user_file):
    sources = {"BROKEN": "def f(", "RAISES": "1 / 0", "EXITS": "raise SystemExit(3)"}
    for key, source in sources.items():
        (user_file.parent / f"{key}.py").write_text(source)
        name = name.replace(key, str(user_file.parent / f"{key}.py"))
    with pytest.raises(ValueError, match=message) as caught:
        rewards.load_reward(name.replace("FILE", str(user_file)))
    assert "\n  " in str(caught.value)


def test_every_built_in_reward_is_known_by_the_name_of_its_channel():
    names = {name: rewards.channel_of(fn).name for name, fn in rewards.REWARDS.items()}
    assert all(key == name for key, name in names.items())
    assert set(rewards.EMBEDDED_REWARDS) <= set(names)


def several(values, width=3):
    """A reward function that fills several channels."""

    def probe(completions, examples):
        return values

    probe.channels = tuple(Channel(name=f"probe_{place}", high=2.0) for place in range(width))
    return probe


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([[1.0, 2.0], [0.5]], id="lists"),
        pytest.param([(1, 2, None), (0.5,)], id="tuples, None"),
        pytest.param([np.array([1.0, 2.0]), np.array([0.5, np.nan, np.nan])], id="arrays"),
        pytest.param(np.array([[1.0, 2.0], [0.5, np.nan]]), id="table"),
    ],
)
def test_a_function_may_fill_several_channels_and_a_row_may_lack_some(values):
    fns = [constant([1.0, 0.0], name="before"), several(values), constant([0.0, 1.0], name="after")]
    assert [c.name for c in rewards.channels_of(fns)] == [
        "before", "probe_0", "probe_1", "probe_2", "after",
    ]  # fmt: skip
    out = score(fns, ["a", "b"], [{}, {}])
    assert out.rewards.tolist() == [[1, 1, 2, 0, 0], [0, 0.5, 0, 0, 1]]
    assert out.where.tolist() == [[True, True, True, False, True], [True, True, False, False, True]]
    assert out.num_failed.tolist() == [0] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param([[1.0]], "must return 2 lists of at most 3 numbers.*got 1 entries", id="one"),
        pytest.param([1.0, 1.0], "got one that is no list, or longer", id="numbers"),
        pytest.param([[1.0] * 4, []], "got one that is no list, or longer", id="too wide"),
        pytest.param(None, "got NoneType", id="nothing"),
        pytest.param([[0.0, 3.0], []], r"in \[0.0, 2.0\], got 3.0 for example 0", id="range"),
        pytest.param([[], ["x"]], r"got 'x' \(str\) for example 1", id="text"),
    ],
)
def test_what_does_not_fit_several_channels_is_one_error(values, message):
    with pytest.raises(RewardError, match=message):
        score([several(values)], ["a", "b"], [{}, {}])


def test_skip_masks_all_channels_of_a_completion_that_fails():
    def probe(completions, examples):
        if "bad" in completions:
            raise ValueError
        return [[1.0, 0.0] for _ in completions]

    probe.channels = several([]).channels
    out = score([probe], ["good", "bad"], [{}, {}], on_error="skip")
    assert out.where.tolist() == [[True, True, False], [False] * 3]
    assert out.num_failed.tolist() == [1, 1, 1]


def test_only_the_first_of_several_channels_must_have_been_scored():
    fns = [constant([1.0, 1.0], name="plain"), several([[1.0], [1.0]])]
    names = [channel.name for channel in rewards.channels_of(fns)]
    absent = rewards.may_be_absent(fns)
    assert absent == {"probe_1", "probe_2"}
    where = score(fns, ["a", "b"], [{}, {}]).where
    rewards.check_any_scored(where, names, may_be_absent=absent)
    with pytest.raises(RewardError, match=r"probe_1, probe_2 scored none of 2"):
        rewards.check_any_scored(where, names)
    where[:, 1] = False
    with pytest.raises(RewardError, match=r"channel\(s\) probe_0 scored none of 2"):
        rewards.check_any_scored(where, names, may_be_absent=absent)
    with pytest.raises(RewardError, match=r"plain, probe_0, probe_1, probe_2 scored none"):
        rewards.check_any_scored(where & False, names, may_be_absent=absent)
