"""Channels of which less is better, or a middle."""

import numpy as np
import pyarrow as pa
import pytest

import rvpo_jax
from rvpo_jax import cli
from rvpo_jax.auditing.read import ReadOptions, read_log

PROMPT = ["a", "a", "a", "b", "b", "b"]


def read(options=None, **columns):
    return read_log({"prompt": PROMPT, **columns}, ReadOptions(**(options or {})))


def test_a_channel_that_is_better_when_lower_is_its_negative():
    log = read({"lower_is_better": ("cost",)}, cost=[1, 2, 4, 0, 0, 3], good=[0, 1] * 3)
    assert log.rewards[:, 0].tolist() == [-1, -2, -4, 0, 0, -3]
    channel = log.channels[0]
    assert (channel.low, channel.high, channel.pass_at) == (-4, 0, -2)  # the middle of the range
    assert "better when lower" in next(n.text for n in log.notes if n.kind == "turned")


def test_a_mark_up_to_which_a_channel_is_met():
    log = read({"pass_below": {"latency": 1.5}}, latency=[1, 1.5, 4, 0, 2, 3], good=[0, 1] * 3)
    met = log.rewards[:, 1 - [c.name for c in log.channels].index("good")] >= -1.5
    assert met.tolist() == [True, True, False, True, False, False]


def test_marks_on_both_sides():
    options = {"pass_at": {"words": 10}, "pass_below": {"words": 20}}
    log = read(options, words=[9, 10, 15, 20, 22, None], good=[0, 1] * 3)
    channel = next(c for c in log.channels if c.name == "words")
    values = log.rewards[:, log.channels.index(channel)]
    np.testing.assert_array_equal(values, [-1, 0, 0, 0, -2, np.nan])
    assert channel.pass_at == 0


@pytest.mark.parametrize(
    "name", ["hallucination_rate", "cost", "num_errors", "judge/toxicity", "privacy_violations"]
)
def test_a_name_that_sounds_like_less_is_asked_about(name):
    if name != "num_errors":  # a count of something is a measure, and no reward at all
        log = read({}, **{name: [0.5, 0.25, 0, 1, 1, 0], "good": [0, 1] * 3})
        [note] = [note for note in log.notes if note.kind == "asked"]
        assert f"--lower-is-better {name}" in note.text
    said = {"lower_is_better": (name,)}
    log = read(said, **{name: [0.5, 0.25, 0, 1, 1, 0], "good": [0, 1] * 3})
    assert not any(note.kind == "asked" for note in log.notes)


def test_a_penalty_that_is_0_at_best_needs_no_question():
    log = read({}, cost=[-1, 0, 0, -2, 0, 0], good=[0, 1] * 3)
    assert not any(note.kind == "asked" for note in log.notes)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"lower_is_better": ("price",)}, "--lower-is-better must name channels of the log"),
        ({"pass_below": {"price": 1}}, "--pass must name channels of the log, got price"),
        ({"pass_at": {"cost": 1}, "lower_is_better": ("cost",)}, "better in one direction"),
        ({"pass_at": {"cost": 3}, "pass_below": {"cost": 2}}, "must be met somewhere"),
    ],
)
def test_what_does_not_fit_is_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        read(options, cost=[1, 2, 4, 0, 0, 3], good=[0, 1] * 3)


def test_a_cost_that_is_paid_is_found_once_its_direction_is_known(capsys, tmp_path):
    rng = np.random.default_rng(0)
    good = rng.random(2000) < 0.5
    cost = np.where(rng.random(2000) < 0.5, 3.0, 1.0)
    score = good + 4.0 * (cost == 3)  # what is dear scores higher by more than it costs
    columns = {"prompt": np.arange(2000) // 8, "score_a": score, "cost": cost}
    path = tmp_path / "log.parquet"
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    asked = rvpo_jax.audit(path, group="prompt")
    assert "--lower-is-better cost" in asked.sentences[5] and asked.level != "no_alarm"
    code = cli.main(["audit", str(path), "--group", "prompt", "--pass", "cost<=2", "score_a>=1",
                     "--constraint", "cost", "--out", str(tmp_path / "out")])  # fmt: skip
    assert code == 0
    assert "Failing cost is paid" in " ".join(capsys.readouterr().out.split())
