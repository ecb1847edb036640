"""Ranges of channels: rules that read levels need them, and a pass mark can rest on them."""

import numpy as np
import pytest

import rvpo_jax
from rvpo_jax import AdvantageConfig, Channel, cli, compute_advantages
from rvpo_jax.auditing.read import ReadOptions, read_log

PROMPT = ["a", "a", "a", "b", "b", "b"]
JUDGE = [10.0, 40, 70, 20, 20, 30]
GOOD = [0.0, 1, 1, 1, 0, 0]


def read(**options):
    return read_log({"prompt": PROMPT, "judge": JUDGE, "good": GOOD}, ReadOptions(**options))


def both(what_if=("rvpo_level:k=2",), **options):
    columns = {"prompt": PROMPT, "judge": JUDGE, "good": GOOD}
    return rvpo_jax.audit(columns, what_if=what_if, **options)


def test_a_rule_that_reads_levels_gives_what_training_gives():
    # One batch of two groups. The gap of a channel is a difference of mean advantages, which the
    # original computes from the same rewards and the declared channels.
    ranges = {"judge": (0.0, 100.0), "good": (0.0, 1.0)}
    report = both(ranges=ranges, pass_at={"judge": 30, "good": 1}).report
    channels = [Channel(name="judge", high=100, pass_at=30), Channel(name="good")]
    rewards = np.stack([np.reshape(JUDGE, (2, 3)), np.reshape(GOOD, (2, 3))], -1)
    config = AdvantageConfig(method="rvpo_level", risk_coef=2)
    advantage = np.asarray(compute_advantages(rewards, config=config, channels=channels).advantages)
    failed = rewards < [30, 1]
    for name, of_channel in zip(("judge", "good"), np.moveaxis(failed, -1, 0), strict=True):
        gaps = [a[f].mean() - a[~f].mean() for a, f in zip(advantage, of_channel, strict=True)]
        [row] = [
            row
            for row in report["quiet_failures"]
            if row["channel"] == name and row["rule"] == "rvpo_level:k=2"
        ]
        assert row["gap"]["value"] == pytest.approx(np.mean(gaps), abs=1e-5)


def test_levels_depend_on_the_range():
    # Of 0..70 the judge is about half way, as good is; of 0..1000 it is the harder one by far.
    narrow, wide = (
        both(
            ranges={"judge": (0.0, high), "good": (0.0, 1.0)}, pass_at={"judge": 30, "good": 1}
        ).report
        for high in (70.0, 1000.0)
    )
    gap = [
        next(r["gap"]["value"] for r in report["quiet_failures"] if r["rule"] == "rvpo_level:k=2")
        for report in (narrow, wide)
    ]
    assert abs(gap[0] - gap[1]) > 0.01


def test_without_ranges_the_rule_is_refused_with_the_channels():
    with pytest.raises(
        ValueError, match=r"rvpo_level needs the range of every channel.*good\."
    ) as e:
        both(ranges={"judge": (0.0, 100.0)})
    assert "--range good=LOW,HIGH" in str(e.value)
    assert "judge" not in str(e.value)


def test_the_mark_of_a_channel_with_a_range_is_its_middle_unless_two_values_make_it_up():
    log = read(ranges={"judge": (0.0, 100.0), "good": (0.0, 1.0)})
    assert [channel.pass_at for channel in log.channels] == [50, 1]
    assert [(channel.low, channel.high) for channel in log.channels] == [(0, 100), (0, 1)]
    assert log.observed_range == frozenset()
    assert read().observed_range == {"judge", "good"}


def test_a_constant_in_a_range_is_met_or_failed_by_the_middle():
    # Without the range, 40 of who knows what counts as met.
    for high, mark in ((100.0, 50.0), (60.0, 30.0)):
        log = read_log(
            {"prompt": PROMPT, "judge": [40.0] * 6}, ReadOptions(ranges={"judge": (0.0, high)})
        )
        assert log.channels[0].pass_at == mark


def test_rewards_outside_the_range_are_counted_on_the_first_screen():
    report = both(what_if=(), ranges={"judge": (0.0, 50.0)}).report
    assert (
        "judge is outside its --range of 0 to 50 in 1 row(s), from 10 to 70"
        in (report["sentences"][-1]["text"])
    )


def test_a_range_turns_with_its_channel():
    log = read(lower_is_better=("judge",), ranges={"judge": (0.0, 100.0)})
    channel = log.channels[0]
    assert (channel.low, channel.high, channel.pass_at) == (-100, 0, -50)
    # Met from 30 to 40: 0 is 30 away, 100 is 60.
    log = read(pass_at={"judge": 30}, pass_below={"judge": 40}, ranges={"judge": (0.0, 100.0)})
    channel = log.channels[0]
    assert (channel.low, channel.high, channel.pass_at) == (-60, 0, 0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ranges": {"price": (0.0, 1.0)}}, "--range must name channels of the log, got price"),
        ({"ranges": {"judge": (1.0, 1.0)}}, "--range of channel judge must be finite with low"),
        ({"ranges": {"judge": (0.0, float("inf"))}}, "must be finite"),
        ({"ranges": {"judge": (0.0, 9.0)}, "pass_at": {"judge": 10}}, "got 10"),
    ],
)
def test_what_does_not_fit_is_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        read(**options)


@pytest.mark.parametrize("text", ["judge", "judge=1", "judge=1,2,3", "=1,2", "judge=a,b"])
def test_a_range_that_is_none_is_refused_by_the_command(tmp_path, capsys, text):
    log = tmp_path / "log.csv"
    log.write_text("prompt,judge\na,1\na,2\n")
    assert cli.main(["audit", str(log), "--range", text, "--out", str(tmp_path)]) == 2
    assert "--range must read CHANNEL=LOW,HIGH" in capsys.readouterr().err


def test_the_command_takes_ranges(tmp_path):
    log = tmp_path / "log.csv"
    rows = zip(PROMPT, JUDGE, GOOD, strict=True)
    log.write_text("prompt,judge,good\n" + "".join(f"{p},{j},{g}\n" for p, j, g in rows))
    arguments = ["--range", "judge=0,100", "good=0,1", "--what-if", "rvpo_level"]
    assert cli.main(["audit", str(log), *arguments, "--out", str(tmp_path)]) == 0
    assert "soft minimum by level" in (tmp_path / "audit.json").read_text()
