"""The audit as its users call it: from a shell, from Python, from a notebook."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import CHANNELS, make_rewards

import rvpo_jax
from rvpo_jax import cli
from rvpo_jax.basics.files import WriteError

FIXTURES = Path(__file__).resolve().parent / "fixtures"
NAMES = [channel.name for channel in CHANNELS]
ESCAPE = "\x1b[2J\x1b]0;owned\x07"
HOSTILE = f"<script>window.x=1</script> {{{{ 7*7 }}}} {ESCAPE} \u202e \0"


def write_log(path, problems=(), names=NAMES, texts=True, **shape):
    rewards = make_rewards(problems, **{"steps": 12, "num_prompts": 8, **shape})
    steps, num_prompts, group_size, _ = rewards.shape
    count = steps * num_prompts * group_size
    step, prompt, _ = np.unravel_index(np.arange(count), rewards.shape[:3])
    columns = {"step": step, "prompt_id": prompt}
    if texts:
        columns["prompt"] = [f"{HOSTILE} {p}" for p in prompt]
        columns["completion"] = [f"{HOSTILE} {i}" for i in range(count)]
    flat = rewards.reshape(count, -1)
    columns |= {name: flat[:, index] for index, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)
    return path


def run(capsys, *args):
    try:
        code = cli.main(["audit", *map(str, args)])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_the_command_of_the_readme_prints_and_writes_what_it_says(capsys, tmp_path):
    log = write_log(tmp_path / "completions.parquet", ("paid",))
    options = ["--rewards", *NAMES, "--group", "prompt_id", "--pass", "safety>=1", "correctness=3"]
    options += ["--constraint", "safety", "--what-if", "rvpo:k=2", "--out", tmp_path / "out"]
    code, text = run(capsys, log, *options)
    assert code == 0
    flat = " ".join(text.replace("│", " ").split())
    assert "Failing safety is paid (sum (GRPO))" in flat
    assert "safety !" in flat and "k=2" in flat
    report = json.loads((tmp_path / "out" / "audit.json").read_text(), parse_constant=pytest.fail)
    assert [rule["name"] for rule in report["rules"]][-1] == "rvpo:k=2"
    assert report["channels"][0]["pass_at"] == 3
    assert {c["name"]: c["kind"] for c in report["channels"]}["safety"] == "constraint"
    page = (tmp_path / "out" / "audit.html").read_text()
    assert page.startswith("<!doctype html>") and "Failing safety is paid" in page


def test_the_terminal_shows_no_raw_escape_of_a_hostile_log(capsys, tmp_path):
    names = [f"ev{ESCAPE}il[red]", "format", "safety", "brevity"]
    log = write_log(tmp_path / "log.parquet", ("paid", "dead_fail"), names=names)
    code, text = run(capsys, log, "--group", "prompt_id", "--out", tmp_path)
    assert code == 0
    # rich writes no colours here: whatever escape is left came from the log.
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    assert "[red]" in text  # no markup either


@pytest.mark.parametrize(
    ("condition", "code"),
    [("quiet_failures[safety] > 0.02", 1), ("quiet_failures[safety] > 0.99", 0)],
)
def test_fail_on_decides_the_exit_code(capsys, tmp_path, condition, code):
    log = write_log(tmp_path / "log.parquet", ("paid",))
    got, text = run(capsys, log, "--group", "prompt_id", "--fail-on", condition, "--out", tmp_path)
    assert got == code
    assert ("fail-on quiet_failures[safety] > 0.02: it is 0." in text) == (code == 1)
    assert (tmp_path / "audit.html").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["--fail-on", "safety > 1"], "must read like", id="condition"),
        pytest.param(["--what-if", "median"], "a rule must be one of", id="rule"),
        pytest.param(["--pass", "safety"], "in quotes", id="pass mark without a value"),
        pytest.param(["--pass", "privacy=1"], "Its channels are:", id="unknown channel"),
        pytest.param(["--rewards", "speed"], "speed", id="unknown column"),
        pytest.param(["--format", "wandb"], "wandb", id="unknown format"),
    ],
)
def test_bad_usage_is_exit_code_2_and_leaves_nothing(capsys, tmp_path, options, expected):
    log = write_log(tmp_path / "log.parquet")
    code, text = run(capsys, log, "--group", "prompt_id", *options, "--out", tmp_path / "out")
    assert code == 2
    assert expected in " ".join(text.replace("│", " ").split())
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_a_log_that_is_not_there_and_three_logs_are_refused(capsys, tmp_path):
    assert run(capsys, tmp_path / "nothing.parquet")[0] == 2
    code, text = run(capsys, tmp_path, tmp_path, tmp_path)
    assert code == 2 and "one or two logs, got 3" in text


def test_two_logs_are_compared(capsys, tmp_path):
    shape = {"steps": 24, "num_prompts": 16}
    bad = write_log(tmp_path / "bad.parquet", ("neglect",), **shape)
    good = write_log(tmp_path / "good.parquet", seed=1, **shape)
    code, text = run(capsys, bad, good, "--group", "prompt_id", "--out", tmp_path)
    flat = " ".join(text.split())
    assert code == 0
    assert "good.parquet neglects less than bad.parquet" in flat and "better" in flat
    assert json.loads((tmp_path / "audit.json").read_text())["comparison"]["a"] == "bad.parquet"
    assert "neglects less" in (tmp_path / "audit.html").read_text()


def test_redact_leaves_no_text_of_the_log_in_any_file(tmp_path):
    log = write_log(tmp_path / "log.parquet", ("paid",))
    result = rvpo_jax.audit(log, group="prompt_id", redact=True)
    for path in result.save(tmp_path / "out"):
        text = path.read_text()
        assert "window.x" not in text and "7*7" not in text
    assert rvpo_jax.audit(log, group="prompt_id").report["cases"][0]["prompt"] is not None


def test_the_real_trl_log_is_recognised_and_its_failure_named():
    """192 completions of a real TRL run whose length reward pays for digits (see peers/)."""
    result = rvpo_jax.audit(
        FIXTURES / "trl_completions", pass_at={"no_digits": 1}, constraints=("no_digits",)
    )
    assert result.report["format"] == "trl"
    assert result.report["counts"]["completions"] == 192
    assert result.report["rule_in_use"] == "logged"
    assert "Failing no_digits is paid" in result.sentences[0]
    # What TRL used is the sum: the two rules agree about every completion but ties at 0.
    report = result.report
    names = [rule["name"] for rule in report["rules"]]
    assert report["flips"][names.index("logged")][names.index("grpo")] == 0


def test_stored_answers_with_one_to_three_channels_each(shared_data, tmp_path):
    from importlib.util import module_from_spec, spec_from_file_location

    root = Path(__file__).resolve().parent.parent
    spec = spec_from_file_location("audit_ifeval", root / "experiments" / "audit_ifeval" / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    import gzip

    path = shared_data / "ifeval" / "qwen2.5_responses_with_verdicts.jsonl.gz"
    table = module.to_table(gzip.open(path, "rt", encoding="utf-8").read().splitlines())
    kinds = table.column_names[3:]
    result = rvpo_jax.audit(table, rewards=tuple(kinds), group="prompt_id")
    assert result.report["counts"] == {
        "completions": 1623, "groups": 541, "prompts": 541, "steps": 0, "channels": 9,
    }  # fmt: skip
    # Strict accuracy of the three models together, from the data's own documentation.
    joint = result.report["joint_pass_rate"]["value"]
    assert joint == pytest.approx((0.238 + 0.372 + 0.730) / 3, abs=1e-3)


def test_tables_figures_and_a_page_for_notebooks(tmp_path):
    result = rvpo_jax.audit(write_log(tmp_path / "log.parquet"), group="prompt_id")
    tables = result.tables
    assert tables["channels"].column("name").to_pylist() == NAMES
    assert tables["channels"].to_pandas().pass_rate.between(0, 1).all()
    rates = tables["quiet_failures"].select(["channel", "rule", "rate", "rate_low", "rate_high"])
    assert rates.num_rows == 4 * 4
    assert set(result.figures) >= {"pass_rates", "weights", "conditional", "compensation"}
    shown = result._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and 'sandbox="allow-scripts"' in shown
    assert "<script>window.x" not in shown
    assert repr(result) == "Audit('log.parquet': no_alarm)"


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow"])
def test_frames_in_memory_are_logs_too(tmp_path, library):
    table = pq.read_table(write_log(tmp_path / "log.parquet", texts=False))
    frame = {
        "arrow": lambda: table,
        "pandas": table.to_pandas,
        "polars": lambda: pytest.importorskip("polars").from_arrow(table),
    }[library]()
    result = rvpo_jax.audit(frame, group="prompt_id")
    expected = rvpo_jax.audit(tmp_path / "log.parquet", group="prompt_id")
    assert result.sentences == expected.sentences


def test_a_save_that_fails_leaves_the_report_before(tmp_path, monkeypatch):
    result = rvpo_jax.audit(write_log(tmp_path / "log.parquet", texts=False), group="prompt_id")
    result.save(tmp_path)
    before = (tmp_path / "audit.json").read_text()
    monkeypatch.setattr(Path, "write_text", lambda *a, **k: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(WriteError, match="audit.json could not be written: full"):
        result.save(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "audit.json").read_text() == before


def test_a_broken_log_is_audited_and_its_losses_are_said(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"step": i // 32, "prompt": f"p{i // 4 % 8}", "a": float(rng.random() < 0.5), "b": 1.0}
        for i in range(96)
    ]
    rows[5]["a"], rows[9]["a"], rows[13]["b"] = "abc", None, float("inf")
    lines = [json.dumps(row) for row in rows]
    lines.insert(40, "not json")
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + '\n{"step": 3, "prompt": "cut')
    report = rvpo_jax.audit(path).report
    kinds = {note["kind"] for note in report["notes"]}
    assert {"cut_line", "bad_line", "not_numeric", "not_finite", "constant_channel"} <= kinds
    assert report["counts"]["completions"] == 96
    assert report["sentences"][5]["level"] == "watch"
