"""Intervals and tests by hand; a check that fails when a value is off; files written whole."""

import json
import math
import os

import numpy as np
import pytest

from rvpo_jax.basics.files import WriteError
from rvpo_jax.lab import evidence, experiment, style
from rvpo_jax.lab.experiment import Outcome, run_experiment

RECORDED = {"commit": "abc", "jax": "0", "device": "cpu", "seconds": 1, "date": "2026-01-01"}


def expected_with(**values):
    return {
        "claim": "x",
        "command": "rvpo figure x",
        "seeds": 1,
        "recorded": RECORDED,
        "values": values,
    }


def test_the_interval_of_two_values_ends_at_them():
    # Resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4: the 2.5 % and 97.5 %
    # points are 0 and 1.
    assert evidence.interval([0.0, 1.0]) == {"ours": 0.5, "low": 0.0, "high": 1.0, "n": 2}


def test_the_interval_of_many_values_is_near_the_normal_one():
    values = np.random.default_rng(0).normal(size=200)
    found = evidence.interval(values)
    half = 1.96 * values.std() / math.sqrt(200)
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.02)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.02)
    assert evidence.interval(values) == found, "the resampling is seeded"


def test_the_interval_of_nearly_equal_values_is_finite():
    found = evidence.interval([1.0] * 23 + [0.0])
    assert 0.7 < found["low"] < found["ours"] < found["high"] <= 1.0
    # So small that the bias correction underflows to 0 / 0.
    found = evidence.interval([0.0, 0.0, 1e-160])
    assert 0 <= found["low"] <= found["high"] <= 1e-160


def test_a_paired_test_flips_every_sign():
    # Five differences of the same sign: 2 of the 2^5 sign patterns are as extreme.
    found = evidence.paired([2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 2.0, 4.0, 4.0])
    assert found["p"] == pytest.approx(2 / 32)
    assert found["ours"] == pytest.approx(1.4)


def test_equal_runs_give_no_evidence_and_unequal_numbers_are_refused():
    assert evidence.paired([1.0, 2.0], [1.0, 2.0])["p"] == 1.0
    with pytest.raises(ValueError, match="same seeds"):
        evidence.paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("ours", "complaint"),
    [
        (0.51, None),
        (0.53, "0.53, expected 0.5"),
        (0.47, "0.47, expected 0.5"),
        (math.nan, "nan"),
        (None, "not measured"),
    ],
)
def test_a_check_fails_where_a_value_is_off(ours, complaint):
    expected = expected_with(**{"GDPO/mean": {"ours": 0.5, "atol": 0.02, "paper": None}})
    values = {} if ours is None else {"GDPO/mean": {"ours": ours}}
    failures = evidence.check_values(values, expected)
    assert len(failures) == (complaint is not None)
    assert complaint is None or complaint in failures[0]


@pytest.mark.parametrize("absent", ["claim", "seeds", "recorded.jax", "values.a/b.atol"])
def test_an_expected_json_without_a_field_is_refused_and_names_it(tmp_path, absent):
    expected = expected_with(**{"a/b": {"ours": 0.5, "atol": 0.02, "paper": None}})
    expected["recorded"] = dict(RECORDED)
    inside = expected
    *parents, last = absent.split(".")
    for parent in parents:
        inside = inside[parent]
    del inside[last]
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    with pytest.raises(ValueError, match=absent):
        evidence.read_expected(tmp_path / "expected.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "new" / "results.json"
    evidence.write_json(path, {"x": np.array([1.0, math.nan]), "n": np.int64(3)})
    assert json.loads(path.read_text()) == {"x": [1.0, None], "n": 3}
    with pytest.raises(TypeError):
        evidence.write_json(path, {"x": object()})

    def killed(part, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(WriteError, match="results.json could not be written: no space"):
        evidence.write_json(path, {"x": 2.0})
    assert json.loads(path.read_text()) == {"x": [1.0, None], "n": 3}


def test_recording_keeps_the_claim_the_tolerance_and_the_papers_number(tmp_path):
    path = tmp_path / "expected.json"
    old = expected_with(**{"a/b": {"ours": 0.1, "atol": 0.3, "paper": 0.9}})
    path.write_text(json.dumps(old))
    values = {"a/b": {"ours": 0.25, "low": 0.2, "high": 0.3, "n": 9}, "a/c": {"ours": 7.0}}
    evidence.record_expected(path, values, RECORDED, num_seeds=9)
    found = evidence.read_expected(path)
    assert found["claim"] == "x"
    assert found["seeds"] == 9
    assert found["values"]["a/b"] == {
        "ours": 0.25,
        "low": 0.2,
        "high": 0.3,
        "atol": 0.3,
        "paper": 0.9,
    }
    assert found["values"]["a/c"] == {"ours": 7.0, "atol": 0.005, "paper": None}


def draw(results, path):
    figure = style.new_figure(3, 2)
    figure.subplots().plot(results["data"]["curve"])
    style.save_figure(figure, path)


def experiment_of(level):
    def measure(seeds, smoke):
        del smoke
        return Outcome(values={"a/b": evidence.interval([level] * len(seeds))}, data={"curve": [1]})

    return {"doc": "x", "measure": measure, "plot": draw, "seeds": (0, 1), "smoke_seeds": (0,)}


def test_an_experiment_writes_checks_and_fails_when_the_outcome_moves(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "toy"
    folder.mkdir(parents=True)
    assert run_experiment(folder, argv=["--record"], **experiment_of(0.5)) == 0
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "runs/toy/results.json").read_text())
    assert results["seeds"] == [0, 1]
    assert results["recorded"]["jax"]
    assert run_experiment(folder, argv=["--check"], **experiment_of(0.5)) == 0
    assert run_experiment(folder, argv=["--check"], **experiment_of(0.6)) == 1
    assert "a/b: 0.6, expected 0.5" in capsys.readouterr().out


def test_a_smoke_run_is_kept_apart_and_never_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_experiment(tmp_path / "toy", argv=["--smoke"], **experiment_of(0.5)) == 0
    assert (tmp_path / "runs/toy/smoke/figure.png").exists()
    assert not (tmp_path / "runs/toy/results.json").exists()
    with pytest.raises(SystemExit) as stop:
        run_experiment(tmp_path / "toy", argv=["--smoke", "--check"], **experiment_of(0.5))
    assert stop.value.code == 2
    assert "need the full run" in capsys.readouterr().err


def test_a_variant_has_files_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "experiments" / "toy"
    folder.mkdir(parents=True)
    levels = {"warm": 0.5, "cold": 0.25}

    def measure(seeds, smoke, start):
        del smoke
        values = {"a/b": evidence.interval([levels[start]] * len(seeds))}
        return Outcome(values=values, data={"curve": [1]})

    toy = {**experiment_of(0), "measure": measure, "options": {"start": ("warm", "cold")}}
    assert run_experiment(folder, argv=["--record"], **toy) == 0
    assert run_experiment(folder, argv=["--record", "--start", "cold"], **toy) == 0
    for suffix, level in (("", 0.5), ("_cold", 0.25)):
        recorded = json.loads((folder / f"expected{suffix}.json").read_text())
        assert recorded["values"]["a/b"]["ours"] == level
        assert (folder / f"figure{suffix}.png").exists()
    assert (tmp_path / "runs/toy/cold/results.json").exists()
    assert run_experiment(folder, argv=["--check", "--start", "cold"], **toy) == 0


def test_summarize_pairs_seeds_and_corrects_for_the_number_of_rules():
    base = [{"x": float(i)} for i in range(8)]
    shifted = [{"x": i + 1.0} for i in range(8)]
    values, tests = evidence.summarize({"ref": base, "up": shifted, "same": base}, "ref")
    assert values["up/x"]["ours"] == 4.5
    # All eight differences have one sign: p = 2 / 2^8, times the two comparisons.
    assert tests == [
        "x, up minus ref: 1.000 [1.000, 1.000], p = 0.016 (Holm)",
        "x, same minus ref: 0.000 [0.000, 0.000], p = 1 (Holm)",
    ]


def test_a_rounded_zero_has_no_sign():
    value = {"ours": -1e-5, "low": -0.01, "high": 1e-5}
    assert evidence.value_text(value) == "0.000 [-0.010, 0.000]"


def test_seeds_may_be_numbers_or_a_range():
    args = experiment.experiment_parser("x").parse_args(["--seeds", "7", "0:2"])
    assert args.seeds == [7, 0, 1]


def test_a_picture_too_large_to_commit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="1000 bytes"):
        draw({"data": {"curve": [1, 2]}}, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()
