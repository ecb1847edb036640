"""Which trainings an experiment starts, in what order, and what it reads of them."""

import dataclasses
import json

import jax
import pytest
from rich.console import Console

from rvpo_jax import AdvantageConfig, Config
from rvpo_jax.config import RolloutConfig
from rvpo_jax.lab import language_runs


def test_a_sweep_cut_short_is_balanced_and_what_is_kept_is_said(tmp_path, monkeypatch, capsys):
    trained = []

    def train(config, workdir, console):  # stands for minutes of training; writes what it writes
        del console
        trained.append((config.advantage.method, config.seed, config.steps, workdir.name))
        workdir.mkdir(parents=True, exist_ok=True)
        row = {"step": 0, "reward/a/mean": float(config.seed)}
        (workdir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        rates = [{"step": 3 * i, "rates": {"a": {"rate": i / 2}}} for i in range(2)]
        (workdir / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rates))

    monkeypatch.setattr(language_runs, "train", train)
    methods = {"GDPO": AdvantageConfig(method="gdpo"), "RVPO k=1": AdvantageConfig(method="rvpo")}
    runs = language_runs.train_methods(Config(steps=3), (7, 2), tmp_path, methods)
    assert trained == [
        ("gdpo", 7, 3, "GDPO-7"),
        ("rvpo", 7, 3, "RVPO_k1-7"),
        ("gdpo", 2, 3, "GDPO-2"),
        ("rvpo", 2, 3, "RVPO_k1-2"),
    ]
    assert [run.rows[0]["reward/a/mean"] for run in runs["RVPO k=1"]] == [7.0, 2.0]
    assert runs["GDPO"][0].rates(0) == {"a": 0.0}
    assert runs["GDPO"][0].rates() == {"a": 0.5}
    assert "kept" not in capsys.readouterr().out
    language_runs.train_methods(Config(steps=3), (2,), tmp_path, methods)
    assert capsys.readouterr().out.count("finished before and kept") == 2
    language_runs.train_methods(Config(steps=5), (2,), tmp_path, methods)  # goes on
    assert "kept" not in capsys.readouterr().out


def test_a_sweep_does_not_keep_the_programs_of_its_finished_runs(tmp_path, monkeypatch):
    kept, live = [], []  # the functions stay alive, as those of a real training do in JAX's caches

    def train(config, workdir, console):
        del console
        live.append(len(jax.devices()[0].client.live_executables()))
        kept.append(jax.jit(lambda x: x * config.seed))
        kept[-1](1.5)
        workdir.mkdir(parents=True)
        (workdir / "metrics.jsonl").write_text('{"step": 0}\n')
        (workdir / "evals.jsonl").write_text("")

    monkeypatch.setattr(language_runs, "train", train)
    methods = {"GDPO": AdvantageConfig(method="gdpo")}
    language_runs.train_methods(Config(steps=1), (2, 3, 4), tmp_path, methods)
    assert live[2] == live[1] <= live[0]


def test_a_run_that_is_recorded_is_read_and_not_trained(tmp_path, monkeypatch, capsys):
    config = Config(steps=1)
    rewards = {"reward/a/mean": 0.123456789, "reward/a/pass_rate": None}

    def train(config, workdir, console):  # stands for minutes of training; writes what it writes
        assert isinstance(console, Console)
        workdir.mkdir(parents=True)
        row = {"step": 0, "loss": 1.0, "time/step_s": 2.0, **rewards}
        (workdir / "metrics.jsonl").write_text(
            '{"header": {"git_commit": "abc"}}\n' + json.dumps(row) + "\n"
        )
        (workdir / "evals.jsonl").write_text('{"step": 1, "rates": {"a": {"rate": 0.5}}}\n')
        (workdir / "config.json").write_text(json.dumps(config.to_dict()))
        monkeypatch.setattr(language_runs, "train", None)  # once

    monkeypatch.setattr(language_runs, "train", train)
    methods = {"GDPO": AdvantageConfig(method="gdpo")}

    def run(config, folder):
        trained = language_runs.train_methods(config, (3,), folder, methods, tmp_path / "recorded")
        return trained["GDPO"][0]

    assert run(config, tmp_path / "runs").rows[0]["loss"] == 1.0
    found = run(config, tmp_path / "elsewhere")
    assert found.rows == [{"step": 0, "time/step_s": 2.0, **rewards, "reward/a/mean": 0.123457}]
    assert found.rates() == {"a": 0.5}
    assert "GDPO-3: recorded at abc;" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"GDPO-3.json with steps: 1 -> 2\."):
        run(Config(steps=2), tmp_path / "runs")
    with pytest.raises(ValueError, match=r"GDPO-3.json with rollout.group_size: 8 -> 4\."):
        run(dataclasses.replace(config, rollout=RolloutConfig(group_size=4)), tmp_path / "runs")
