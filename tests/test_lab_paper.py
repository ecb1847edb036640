"""A paper's figures filled from runs: folders as runs and evaluations leave them, cells by hand."""

import dataclasses
import json
import runpy

import pytest
from test_architecture import ROOT

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.cli import main
from rvpo_jax.config import AdvantageConfig, Config, ModelConfig, RiskScheduleConfig
from rvpo_jax.lab.finished_runs import find_runs

GDPO = AdvantageConfig(method="gdpo_sum")
HARD_MIN = AdvantageConfig(method="hard_min")


def figure(name):
    return runpy.run_path(str(ROOT / "experiments" / name / "run.py"))["build"]


def write_run(folder, *, size="7B", advantage=GDPO, seed=0, rows=({"step": 99},), **others):
    """A run's folder as ``rvpo train`` leaves it, without arrays."""
    config = Config(
        steps=100, model=ModelConfig(path=f"Qwen2.5-{size}"), advantage=advantage, seed=seed
    )
    folder.mkdir(parents=True)
    config = dataclasses.replace(config, **others)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    lines = [{"header": {}}, *rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_evaluation(folder, task, step, rates, run="elsewhere"):
    """eval.json as ``rvpo eval --task`` leaves it."""
    measures = {
        name: {"rate": rate, "low": rate - 0.05, "high": rate + 0.05, "count": 198}
        for name, rate in rates.items()
    }
    report = {"task": task, "measures": measures, "settings": {"run": run, "step": step}}
    folder.mkdir(parents=True)
    (folder / "eval.json").write_text(json.dumps(report))


def rows(table, size, rule):
    return [row[2:] for row in table.rows if row[:2] == (size, rule)]


def test_runs_are_labelled_by_size_and_rule(tmp_path):
    schedule = RiskScheduleConfig(kind="linear", start=0.5, end=2.0)
    write_run(tmp_path / "a", size="1.5B-Instruct", advantage=AdvantageConfig(risk_coef=5.0))
    write_run(tmp_path / "b", size="14B", advantage=AdvantageConfig(), risk=schedule)
    write_run(tmp_path / "c", model=ModelConfig(preset="tiny"), advantage=HARD_MIN)
    runs, notes = find_runs([tmp_path, tmp_path / "a"])
    assert [(run.size, run.rule) for run in runs] == [
        ("1.5B", "RVPO k=5"),
        ("14B", "RVPO k=0.5-2"),
        ("tiny", "hard-min"),
    ]
    assert notes == []


def test_an_evaluation_belongs_to_the_run_that_it_lies_in_or_names(tmp_path):
    write_run(tmp_path / "runs" / "one")
    write_run(tmp_path / "runs" / "two", seed=1)
    write_evaluation(tmp_path / "runs" / "one" / "evals" / "x", "gsm8k", 100, {"accuracy": 0.5})
    write_evaluation(tmp_path / "others" / "x", "gsm8k", 50, {"accuracy": 0.25}, run="two")
    write_evaluation(tmp_path / "others" / "y", "gsm8k", 50, {"accuracy": 0.25}, run="three")
    runs, notes = find_runs([tmp_path / "runs", tmp_path / "others"])
    assert [
        [(e.step, e.measures["accuracy"]["rate"]) for e in run.evaluations] for run in runs
    ] == [
        [(100, 0.5)],
        [(50, 0.25)],
    ]
    assert len(notes) == 1
    assert "others/y" in notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "with neither metrics.jsonl nor eval.json"),
        ("{", "eval.json cannot be read: which is not valid JSON"),
    ],
)
def test_a_folder_without_runs_and_a_broken_evaluation_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "eval.json").write_text(content)
    with pytest.raises(Refusal, match=message):
        find_runs([tmp_path])


def test_a_run_that_is_not_finished_and_one_that_is_there_twice_are_told(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    write_run(tmp_path / "c", seed=1, rows=({"step": 0}, {"step": 24}))
    _, (again, early) = find_runs([tmp_path])
    assert "b: same model, rule and seed as" in again
    assert "c: not finished, 25 of 100 steps." in early


def test_best_and_final_are_of_the_evaluated_checkpoints(tmp_path):
    for step, score in ((50, 0.3), (100, 0.1)):
        run = tmp_path / "gdpo"
        if step == 50:
            write_run(run)
        write_evaluation(run / "evals" / str(step), "healthbench", step, {"score": score})
    [table], [panel] = figure("paper_risk_ablation")(find_runs([tmp_path])[0])
    assert rows(table, "7B", "GDPO") == [
        ("19.8%", "30.0% [25.0, 35.0]", "step 50 of 100")
        + ("2.6%", "10.0% [5.0, 15.0]", "step 100 of 100")
    ]
    assert rows(table, "7B", "RVPO k=5") == [("24.1%", "not run", "", "9.5%", "not run", "")]
    [curve] = panel.curves
    assert (curve.rule, curve.steps, curve.values) == ("GDPO", [50, 100], [0.3, 0.1])
    assert ("hard-min", 0.0, False) in panel.levels


def test_several_seeds_are_a_mean_and_a_deviation_over_runs(tmp_path):
    for seed, accuracy in ((0, 0.1), (1, 0.3)):
        run = write_run(tmp_path / str(seed), seed=seed)
        write_evaluation(run / "e", "gpqa_diamond", 100, {"accuracy": accuracy})
    tables, _ = figure("paper_rubrics")(find_runs([tmp_path])[0])
    # The sample deviation of 10 and 30 is 20 / sqrt(2).
    assert rows(tables[2], "7B", "GDPO") == [
        ("not known", "20.0% ± 14.1 (2 runs)", "step 100 of 100")
    ]


def test_axes_are_those_of_the_checkpoint_with_the_best_score(tmp_path):
    run = write_run(tmp_path / "run")
    axes = ("communication_quality", "completeness")
    for step, score, share in ((50, 0.3, 0.4), (100, 0.1, 0.6)):
        rates = {"score": score} | {f"axis:{axis}": share for axis in axes}
        write_evaluation(run / str(step), "healthbench", step, rates)
    tables, _ = figure("paper_rubrics")(find_runs([tmp_path])[0])
    [cells] = rows(tables[1], "7B", "GDPO")
    assert cells[0] == "47.0% / 40.0% [35.0, 45.0]"
    assert cells[2] == "30.0% / not run"
    assert cells[-1] == "step 50 of 100"


def test_learning_of_tools_is_read_from_the_logged_rewards(tmp_path):
    logged = [
        {"step": s, "reward/toolrl_format/mean": f, "reward/toolrl_correctness/mean": c}
        for s, f, c in ((0, 0.5, -3.0), (1, 0.8, 0.0), (2, 0.7, 3.0))
    ]
    run = write_run(tmp_path / "run", size="1.5B-Instruct", rows=logged)
    write_evaluation(run / "e", "bfcl_v3_toolrl", 100, {"live_ast": 0.65, "ast": 0.7})
    (bfcl, learning), panels = figure("paper_tool_calling")(find_runs([tmp_path])[0])
    assert rows(learning, "1.5B", "GDPO") == [("1", "0.00, 0.67")]
    assert rows(learning, "3B", "GDPO") == [("not run", "not run")]
    [cells] = rows(bfcl, "1.5B", "GDPO")
    assert cells[0] == "71.9%"
    assert cells[2:5] == ("65.0% [60.0, 70.0]", "not run", "70.0% [65.0, 75.0]")
    assert [len(panel.curves) for panel in panels] == [1, 1, 0, 0]
    assert panels[1].curves[0].values == [0.5, 0.8, 0.7]


@pytest.mark.slow
def test_the_command_writes_tables_and_a_picture_without_any_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    root = ["--root", str(ROOT / "experiments")]
    assert main(["figure", "paper_risk_ablation", *root]) == 0
    out = tmp_path / "runs" / "paper_risk_ablation"
    assert (out / "figure.png").stat().st_size > 1000
    assert (out / "tables.md").read_text().count("not run") == 8
    assert "give their folders with --runs" in capfd.readouterr().out
    assert main(["figure", "paper_risk_ablation", *root, "--runs", str(tmp_path / "none")]) == 2
    said = capfd.readouterr().err
    assert said.startswith("--runs takes folders of finished runs")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["paper_rubrics", "--check"], "does not take --check"),
        (["rubrics", "--runs", "there"], "does not take --runs"),
    ],
)
def test_options_of_other_figures_are_refused(options, message, capfd):
    assert main(["figure", *options, "--root", str(ROOT / "experiments")]) == 2
    assert message in capfd.readouterr().err
