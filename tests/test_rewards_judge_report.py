"""Repeated verdicts: flip rates and agreement by hand, and from a judge that was asked again."""

import math

import pytest
from judge_server import judging

from rvpo_jax import cli
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.judge import Judge, rubric
from rvpo_jax.rewards.judge.report import Answer, judge_report, read_answers

pytest.importorskip("httpx2", reason="pip install 'rvpo-jax[judge]'")


def repeats(*met, request="r", text="x"):
    return [Answer(request, (text,), (bool(one),), 0.5) for one in met]


def test_flip_rates_by_hand():
    # x: of the pairs of (1, 1, 0) two of three differ, of (1, 1) none: mean 1/3. y: none.
    found = judge_report(
        [
            *repeats(1, 1, 0, request="a"),
            *repeats(1, 1, request="b"),
            *repeats(0, 0, request="a2", text="y"),
            *repeats(1, request="once", text="z"),
        ]
    )
    assert [(row.name, row.units, row.verdicts) for row in found.items] == [
        ("x", 2, 5),
        ("y", 1, 2),
    ]
    assert [row.flip_rate for row in found.items] == pytest.approx([1 / 3, 0])
    assert found.all_items.flip_rate == pytest.approx(2 / 9)
    assert found.items[0].met_frac == pytest.approx(4 / 5)
    assert (found.calls, found.cost) == (8, 4.0)
    low, high = found.all_items.interval
    assert 0 <= low < 2 / 9 < high <= 1


def test_krippendorffs_alpha_by_hand():
    # Four units, two verdicts each: 11 00 10 11. Coincidences: n = 8, five 1 and three 0; observed
    # disagreement 2 / 8, expected 2 * 5 * 3 / (8 * 7): alpha = 1 - 0.25 / 0.535714 = 0.5333.
    pairs = [(1, 1), (0, 0), (1, 0), (1, 1)]
    answers = [a for i, pair in enumerate(pairs) for a in repeats(*pair, request=str(i))]
    assert judge_report(answers).alpha == pytest.approx(1 - 0.25 / (30 / 56))


def test_agreement_is_1_without_flips_and_alpha_unknown_without_variation():
    both = judge_report([*repeats(1, 1, request="a"), *repeats(0, 0, request="b")])
    assert (both.alpha, both.wrong_rate) == (1, 0)
    assert math.isnan(judge_report(repeats(1, 1)).alpha)


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.2])
def test_the_rate_of_wrong_verdicts_is_the_one_that_gives_the_flips(wrong):
    # Of 100 units, 2 p (1 - p) * 100 differ: 0, 18, 32.
    flips = round(200 * wrong * (1 - wrong))
    answers = [a for i in range(100) for a in repeats(1, i >= flips, request=str(i))]
    assert judge_report(answers).wrong_rate == pytest.approx(wrong)


def test_verdicts_that_were_never_repeated_are_refused(tmp_path):
    with pytest.raises(Refusal, match="needs repeated verdicts, got 1 item"):
        judge_report(repeats(1))
    with pytest.raises(Refusal, match="there is no file"):
        read_answers(tmp_path / "judge.sqlite")


def test_a_judge_that_flips_is_seen_through_its_file(tmp_path, capsys):
    asked = []

    def flips(handler, verdicts):
        # Every other time it says the opposite on the second item.
        asked.append(1)
        verdicts[1]["met"] ^= len(asked) % 2 == 0
        handler.reply(verdicts)

    row = {"prompt": "p", "rubric": [{"text": "steady"}, {"text": "un\x1bsteady"}]}
    file = tmp_path / "judge.sqlite"
    with judging(always=flips) as server:
        judge = Judge(
            endpoint=server.endpoint, model="m", key_variable=None, file=str(file),
            input_price=1000, concurrency=1,
        )  # fmt: skip
        reward = rubric(judge)
        for repeat in range(2):
            reward.repeated(["steady"], [row], repeat)
    report = judge_report(read_answers(file))
    assert [(row.name, row.flip_rate) for row in report.items] == [
        ("un\x1bsteady", 1),
        ("steady", 0),
    ]
    assert report.cost == pytest.approx(2 * 100 * 1000 / 1e6)
    text = "\n".join(report.lines())
    assert "agreement 0.500" in text and "un\\x1bsteady" in text and "\x1b" not in text
    assert "cost 0.2 for 2 replies" in text
    for path in (file, tmp_path):
        assert cli.main(["judge-report", str(path), "--items", "1"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(text.partition("\n")[0]) and shown.endswith("1 further items\n")
    assert cli.main(["judge-report", str(tmp_path / "none")]) == 2
    assert "there is no file" in capsys.readouterr().err
