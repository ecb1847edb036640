"""``rvpo eval --task``: what a user types, sees and finds; answers of files and models."""

import csv
import dataclasses
import gzip
import json
import math
import time

import jax.numpy as jnp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rvpo_jax import cli
from rvpo_jax.config import Config, ParallelConfig, RolloutConfig
from rvpo_jax.run.checkpoint import Checkpoints
from rvpo_jax.run.evaluation import endpoint_writer
from rvpo_jax.run.setup import build_run
from rvpo_jax.run.workdir import write_config
from tests.judge_server import KEY, drips, hang_up, judging, says, sends
from tests.test_pretrained import make_folder

QUESTIONS = [
    {"question": f"What is {number} + {number}?", "answer": f"<<>> \n#### {2 * number}"}
    for number in range(1, 5)
]
RIGHT = [f"#### {2 * number}" for number in range(1, 5)]


def run(capsys, *args):
    """Exit code and everything printed, on one line."""
    try:
        code = cli.main(["eval", *map(str, args)])
    except SystemExit as stop:  # tyro's own usage errors
        code = stop.code
    printed = capsys.readouterr()
    return code, " ".join((printed.out + printed.err).split())


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def measures(folder):
    return json.loads((folder / "eval.json").read_text())["measures"]


@pytest.fixture
def task(tmp_path):
    return ["--task", "gsm8k", "--task-path", write_lines(tmp_path / "task.jsonl", QUESTIONS)]


def stored(texts, **columns):
    return [{"key": i, "response": text, **columns} for i, text in enumerate(texts)]


# Stored answers


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "csv"])
def test_stored_answers_are_graded_from_any_kind_of_file(capsys, tmp_path, task, kind):
    rows, path = stored([*RIGHT[:3], "#### 0"]), tmp_path / f"answers.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines, mtime=0) if kind.endswith("gz") else lines)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 0
    assert "gsm8k: answers, 4 answers to 4 prompts, 95 % intervals over prompts" in text
    assert "accuracy 75.0% [30.1, 95.4] 4" in text
    accuracy = measures(tmp_path / "out")["accuracy"]
    assert (accuracy["rate"], accuracy["count"]) == (0.75, 4)
    kept = read_lines(tmp_path / "out" / "rows.jsonl")
    assert [row["values"]["correctness"] for row in kept] == [1, 1, 1, 0]
    assert [row["response"] for row in kept] == [*RIGHT[:3], "#### 0"]


def test_answers_find_their_prompt_by_its_text_too(capsys, tmp_path, task):
    rows = [
        {"question": q["question"], "response": r} for q, r in zip(QUESTIONS, RIGHT, strict=True)
    ][::-1]
    path = write_lines(tmp_path / "answers.jsonl", rows)
    assert run(capsys, *task, "--responses", path, "--out", tmp_path / "out")[0] == 0
    assert measures(tmp_path / "out")["accuracy"]["rate"] == 1


def test_missing_and_foreign_answers_are_counted_and_said(capsys, tmp_path, task):
    rows = [*stored(RIGHT[:3]), {"key": "another", "response": ""}]
    path = write_lines(tmp_path / "answers.jsonl", rows)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 0
    assert "3 answers to 4 prompts" in text
    assert "1 of 4 answers are missing (such as '3'): every number is a share of those" in text
    assert "1 answer(s) to prompts outside the task are left out." in text
    assert len(json.loads((tmp_path / "out" / "eval.json").read_text())["notes"]) == 2


def test_several_seeds_have_a_spread_and_pass_at_k(capsys, tmp_path, task):
    rows = stored(RIGHT, seed=0) + stored([RIGHT[0], "", "", ""], seed=1)
    path = write_lines(tmp_path / "answers.jsonl", rows)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 0
    # Seed 0 is right on all, seed 1 on a quarter: mean 62.5 %, spread 0.75 / sqrt(2).
    assert "accuracy 62.5%" in text
    assert f"{75 / math.sqrt(2):.1f}% 8" in text
    found = {name: one["rate"] for name, one in measures(tmp_path / "out").items()}
    assert (found["pass@1"], found["pass@2"]) == (0.625, 1)


def test_the_rows_of_an_evaluation_are_stored_answers_again(capsys, tmp_path, task):
    path = write_lines(tmp_path / "answers.jsonl", stored(RIGHT[:2], note="mine"))
    assert run(capsys, *task, "--responses", path, "--out", tmp_path / "out")[0] == 0
    rows = tmp_path / "out" / "rows.jsonl"
    assert run(capsys, *task, "--responses", rows, "--out", tmp_path / "again")[0] == 0
    assert read_lines(tmp_path / "again" / "rows.jsonl") == read_lines(rows)
    assert measures(tmp_path / "again") == measures(tmp_path / "out")


def test_a_text_that_two_prompts_share_names_neither(capsys, tmp_path):
    questions = [*QUESTIONS, QUESTIONS[0] | {"answer": "#### 99"}]
    task = ["--task", "gsm8k", "--task-path", write_lines(tmp_path / "task.jsonl", questions)]
    rows = [{"prompt": q["question"], "response": r} for q, r in zip(QUESTIONS, RIGHT, strict=True)]
    path = write_lines(tmp_path / "answers.jsonl", rows)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 0
    assert "2 of 5 answers are missing" in text
    assert "1 answer(s) to prompts outside the task" in text


def test_several_models_in_one_file_are_evaluated_one_by_one(capsys, tmp_path, task):
    rows = stored(RIGHT, model="a/good") + stored([""] * 4, model="../bad")
    path = write_lines(tmp_path / "answers.jsonl", rows)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 0
    assert "gsm8k: 2 models" in text
    assert measures(tmp_path / "out" / "a-good")["accuracy"]["rate"] == 1
    assert measures(tmp_path / "out" / "bad")["accuracy"]["rate"] == 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([{"response": "x"}], "must name its prompt in a column key", id="no key"),
        pytest.param([{"key": 0, "text": "x"}], "a text, in a column response", id="no answer"),
        pytest.param([{"key": 0, "response": 5}], "got 5", id="a number for an answer"),
        pytest.param([{"key": "x", "response": ""}], "got none that does", id="another task"),
        pytest.param(stored(RIGHT) * 2, "a second answer of seed 0 to '0'", id="twice"),
        pytest.param(stored(RIGHT, seed="x"), "must be a whole number, got 'x'", id="seed"),
        pytest.param([], "must have at least one row", id="empty"),
    ],
)
def test_answers_that_cannot_be_used_are_refused(capsys, tmp_path, task, rows, expected):
    path = write_lines(tmp_path / "answers.jsonl", rows)
    code, text = run(capsys, *task, "--responses", path, "--out", tmp_path / "out")
    assert code == 2
    assert expected in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"key": 0, "resp', "must be valid JSON"),
        ("a.jsonl", b"\xff\xfe\x00", "must be valid JSON, got: 'utf-8'"),
        ("a.jsonl", b"[1]\n", "must be a JSON object"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "a whole gzip file"),
        ("a.parquet", b"PAR1", "a readable Parquet file"),
        ("a.csv", b"key,response\n1,2,3\n", "must have 2 fields, as the header has, got 3"),
        ("a.txt", b"", "must be a file ending in"),
        ("a.jsonl", b"[" * 100_000, "must be valid JSON"),
    ],
)
def test_damaged_files_are_one_message(capsys, tmp_path, task, name, content, expected):
    (tmp_path / name).write_bytes(content)
    code, text = run(capsys, *task, "--responses", tmp_path / name)
    assert code == 2
    assert expected in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["--task", "gsm9k", "--responses", "x"], "Did you mean gsm8k?", id="task"),
        pytest.param(["--task", "gsm8k"], "got none", id="nobody answers"),
        pytest.param(
            ["--task", "gsm8k", "--responses", "x", "--endpoint", "y"],
            "--endpoint and --responses",
            id="two answer",
        ),
        pytest.param([], "rvpo eval needs --workdir", id="nothing"),
        pytest.param(
            ["--task", "healthbench_meta", "--workdir", "x"], "needs --task-path", id="no rows"
        ),
        pytest.param(
            ["--task", "gsm8k", "--endpoint", "x"], "needs --endpoint-model", id="no model"
        ),
        pytest.param(
            ["--task", "gsm8k", "--responses", "x", "--rewards", "format"],
            "a task has its own grading",
            id="rewards",
        ),
        pytest.param(["--workdir", "x", "--task-path", "y"], "or --task", id="rows of no task"),
        pytest.param(["--compare", "x", "y"], "folders of finished evaluations", id="compare"),
        pytest.param(
            ["--task", "gsm8k", "--responses", "x", "--num-prompts", "0"], "must be >= 1", id="0"
        ),
    ],
)
def test_bad_usage_is_one_message(capsys, options, expected):
    code, text = run(capsys, *options)
    assert code == 2
    assert expected in text


def test_a_task_file_of_another_kind_is_refused(capsys, tmp_path):
    rows = write_lines(tmp_path / "task.jsonl", [{"prompt": "x", "answer": "#### 1"}])
    answers = write_lines(tmp_path / "answers.jsonl", stored(RIGHT))
    options = ["--task", "gsm8k", "--task-path", rows, "--responses", answers]
    code, text = run(capsys, *options)
    assert code == 2
    assert "must have the columns of gsm8k: question, answer; question is missing" in text


def test_another_evaluation_is_never_written_over(capsys, tmp_path, task):
    options = ["--responses", write_lines(tmp_path / "a.jsonl", stored(RIGHT))]
    assert run(capsys, *task, *options, "--out", tmp_path / "out")[0] == 0
    assert run(capsys, *task, *options, "--out", tmp_path / "out")[0] == 0, "the same one is"
    other = write_lines(tmp_path / "b.jsonl", stored(RIGHT))
    code, text = run(capsys, *task, "--responses", other, "--out", tmp_path / "out")
    assert code == 2
    assert "Give another folder with --out" in text


def test_hostile_answers_do_nothing_to_the_terminal(capsys, tmp_path, task):
    rows = stored(["\x1b[31m", "[bold]x[/nothing]", "\ud800", RIGHT[3]], model="[red]\x1b[1m")
    path = write_lines(tmp_path / "answers.jsonl", rows)
    assert cli.main(["eval", *map(str, [*task, "--responses", path, "--out", tmp_path / "o"])]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"[red]\x1b[1m" in printed


# Two evaluations


def test_two_evaluations_are_compared(capsys, tmp_path, task):
    for name, texts in (("a", ["", "", *RIGHT[2:]]), ("b", RIGHT)):
        path = write_lines(tmp_path / f"{name}.jsonl", stored(texts))
        assert run(capsys, *task, "--responses", path, "--out", tmp_path / name)[0] == 0
    folders = ["--compare", tmp_path / "a", tmp_path / "b"]
    code, text = run(capsys, *folders, "--out", tmp_path / "both")
    assert code == 0
    assert "B - A on 4 prompts: A a, B b" in text
    assert "correctness 0.500 1.000 +0.500" in text
    found = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert [one["name"] for one in found["differences"]] == [
        *("worst channel", "all met", "correctness", "format")
    ]


# An endpoint


@pytest.fixture
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def calculates(body):
    """What an honest model says to a question of ours."""
    number = int(body["messages"][0]["content"].split()[2])
    return f"#### {2 * number}"


def asking(server, task, out, *more):
    return [*task, "--endpoint", server.endpoint, "--endpoint-model", "m", "--out", out, *more]


def test_an_endpoint_answers_and_each_answer_is_kept(capsys, tmp_path, task, no_key):
    with judging(answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out", "--max-tokens", "9"))
    assert code == 0
    assert "accuracy 100.0%" in text
    assert len(server.bodies) == 4
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 9)
    assert not any("Authorization" in headers for headers in server.headers)
    header, *answers = read_lines(tmp_path / "out" / "answers.jsonl")
    assert header["settings"]["task"] == "gsm8k"
    assert sorted(answer["key"] for answer in answers) == ["0", "1", "2", "3"]


def test_what_was_answered_is_not_asked_again(capsys, tmp_path, task, no_key, monkeypatch):
    monkeypatch.setattr(endpoint_writer, "TIMEOUT_S", 5.0)
    options = ("--concurrency", "1")
    with judging(None, None, 403, answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out", *options))
        assert code == 1
        assert "start again: the answers so far are kept" in text
        path = tmp_path / "out" / "answers.jsonl"
        with path.open("a") as file:
            file.write('{"key": "2", "seed": 0, "resp')  # a process that was killed
        code, text = run(capsys, *asking(server, task, tmp_path / "out", *options))
        assert code == 0
        assert "going on: 2 of 4 answers are there" in text
        assert len(server.bodies) == 3 + 2
        code, text = run(capsys, *asking(server, task, tmp_path / "out", *options))
        assert (code, len(server.bodies)) == (0, 5), "nothing is left to ask"
        seeds = ("--seeds", "0", "1", "--temperature", "0.5")
        code, text = run(capsys, *asking(server, task, tmp_path / "out", *seeds))
    assert code == 2
    assert "answers of other settings: temperature '0.0' there, '0.5' here" in text
    assert measures(tmp_path / "out")["accuracy"]["rate"] == 1


def test_an_endpoint_is_asked_no_faster_than_allowed(capsys, tmp_path, task, no_key):
    begun = time.monotonic()
    with judging(answer=calculates) as server:
        rate = ("--requests-per-min", "600")
        assert run(capsys, *asking(server, task, tmp_path / "out", *rate))[0] == 0
        assert len(server.bodies) == 4
        # A tenth of a second between any two of the four: never less, however slow the machine is.
        assert time.monotonic() - begun >= 0.3
        rate = ("--requests-per-min", "0")
        code, text = run(capsys, *asking(server, task, tmp_path / "other", *rate))
    assert (code, "--requests-per-min must be > 0" in text) == (2, True)


def test_each_seed_is_an_answer_of_its_own(capsys, tmp_path, task, no_key):
    options = ("--seeds", "3", "5", "--temperature", "0.5", "--num-prompts", "2")
    with judging(answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out", *options))
        assert (code, len(server.bodies)) == (0, 4)
        assert sorted(body["seed"] for body in server.bodies) == [3, 3, 5, 5]
        code, text = run(capsys, *asking(server, task, tmp_path / "new", "--seeds", "3", "5"))
    assert code == 2
    assert "--seeds 3 5 with temperature 0 would give the same answer" in text


def test_greedy_answers_to_permuted_options_are_several(capsys, tmp_path, no_key, shared_data):
    path = shared_data / "schema_fixtures" / "gpqa_diamond_like.csv"
    if not path.is_file():
        pytest.skip("needs schema_fixtures in the folder that RVPO_TEST_DATA names")
    task = ["--task", "gpqa_diamond", "--task-path", path]

    def knows(body):
        """The letter of the option that is right: 56, C or 3."""
        lines = body["messages"][0]["content"].splitlines()
        options = [line for line in lines if line[1:3] == ") "]
        return f"Answer: {next(line[0] for line in options if line[3:] in ('56', 'C', '3'))}"

    with judging(answer=knows) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out", "--seeds", "0", "1"))
    assert (code, len(server.bodies)) == (0, 6)
    assert "accuracy 100.0%" in text
    assert {row["permutation"][0] for row in read_lines(tmp_path / "out" / "rows.jsonl")} > {0}


def test_a_busy_endpoint_is_asked_again(capsys, tmp_path, task, no_key):
    script = [(429, {"Retry-After": "0.01"}), None, 500, None]
    with judging(*script, answer=calculates) as server:
        code, _ = run(capsys, *asking(server, task, tmp_path / "out"))
    assert (code, len(server.bodies)) == (0, 6)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(403, "the key may not use this model", id="key"),
        pytest.param(404, "there is no such address or model", id="address"),
        pytest.param(sends(b"<html>"), "does not speak OpenAI's chat protocol", id="html"),
        pytest.param(sends(b'{"choices": []}'), "does not speak OpenAI's", id="no choices"),
        pytest.param(drips, "no whole answer within 1 s", id="a byte now and then"),
        pytest.param(hang_up, "it broke off", id="breaks off"),
        pytest.param(400, "it refuses every question", id="refuses all"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_one_message(
    capsys, tmp_path, task, no_key, monkeypatch, act, expected
):
    monkeypatch.setattr(endpoint_writer, "TIMEOUT_S", 1.0 if act is drips else 60.0)
    with judging(always=act, answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out"))
    assert code == 1
    assert f"the endpoint {server.endpoint} cannot be used: " in text
    assert expected in text
    assert len(server.bodies) == (3 if act == 400 else 1), "one error, not one per question"


def test_an_endpoint_that_is_not_there_is_one_message(capsys, tmp_path, task, no_key):
    with judging() as server:
        pass
    code, text = run(capsys, *asking(server, task, tmp_path / "out"))
    assert code == 1
    assert "cannot be used" in text


def test_a_question_that_is_refused_is_missing_and_said(capsys, tmp_path, task, no_key):
    with judging(None, 400, answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out"))
    assert (code, len(server.bodies)) == (0, 4)
    assert "1 of 4 answers are missing" in text


def test_the_key_goes_to_the_endpoint_and_nowhere_else(capsys, tmp_path, task, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = json.dumps({"error": {"message": f"{KEY} is not accepted"}}).encode()
    with judging(None, sends(said, 401), answer=calculates) as server:
        code, text = run(capsys, *asking(server, task, tmp_path / "out", "--concurrency", "1"))
    assert code == 1
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in text + caplog.text
    assert not any(KEY in path.read_text() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("address", ["localhost:8000", "http://", "ftp://x/v1", "http://a:b@c/v1"])
def test_what_is_no_address_is_refused(capsys, tmp_path, task, address):
    code, text = run(capsys, *task, "--endpoint", address, "--endpoint-model", "m")
    assert code == 2
    assert "--endpoint must" in text
    assert "a:b" not in text


def test_a_grader_judges_the_answers_to_healthbench(capsys, tmp_path, no_key, shared_data):
    path = shared_data / "schema_fixtures" / "healthbench_like.jsonl"
    if not path.is_file():
        pytest.skip("needs schema_fixtures in the folder that RVPO_TEST_DATA names")
    items = read_lines(path)
    answers = [{"prompt_id": item["prompt_id"], "response": "Oil it."} for item in items]
    stored_answers = write_lines(tmp_path / "answers.jsonl", answers)

    def grades(body):
        met = "oiling" in body["messages"][0]["content"]
        return json.dumps({"explanation": "", "criteria_met": met})

    options = ["--task", "healthbench", "--task-path", path, "--responses", stored_answers]
    with judging(says("I will not say."), answer=grades) as server:
        grader = ["--grader", server.endpoint, "--grader-model", "g"]
        code, text = run(capsys, *options, *grader, "--out", tmp_path / "out")
        # Four, two and two criteria, and once more the one whose reply held no verdict.
        assert (code, len(server.bodies)) == (0, 9)
        assert run(capsys, *options, *grader, "--out", tmp_path / "out")[0] == 0
        assert len(server.bodies) == 9, "no verdict is asked for twice"
    # Row 1 meets the one about oil, 5 of 22; the other rows nothing.
    assert measures(tmp_path / "out")["score"]["rate"] == pytest.approx(5 / 22 / 3)
    assert "Agreement with the original grader (gpt-4.1) is not run" in text


# Policies


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run after one step, which changed nothing: its start as a checkpoint."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    config = Config(
        rollout=RolloutConfig(num_prompts=2, group_size=2, max_completion_tokens=8),
        parallel=ParallelConfig(num_devices=1),
    )
    state = build_run(config, workdir).initial_state()
    state = dataclasses.replace(state, step=jnp.int32(1))
    workdir.mkdir()
    write_config(config, workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"config": config.to_dict()})
    return workdir


@pytest.mark.slow
def test_a_runs_newest_checkpoint_answers(capsys, task, trained):
    code, text = run(capsys, *task, "--workdir", trained)
    assert code == 0
    assert "4 answers to 4 prompts" in text
    out = trained / "evals" / "gsm8k-1"
    header, *answers = read_lines(out / "answers.jsonl")
    assert header["settings"]["max_tokens"] == 8
    assert all(isinstance(answer["columns"]["truncated"], bool) for answer in answers)
    report = json.loads((out / "eval.json").read_text())
    assert report["answered_by"].endswith("run, step 1")
    assert (report["settings"]["run"], report["settings"]["step"]) == ("run", 1)
    assert run(capsys, *task, "--workdir", trained, "--step", "7")[0] == 2
    assert run(capsys, *task, "--model.path", trained, "--step", "1")[0] == 2


def test_an_answer_depends_on_its_prompt_and_seed_not_on_what_was_answered_before(
    capsys, tmp_path, task, trained
):
    options = [*task, "--workdir", trained, "--seeds", "0", "1", "--temperature", "1"]
    assert run(capsys, *options, "--out", tmp_path / "whole")[0] == 0
    whole = read_lines(tmp_path / "whole" / "answers.jsonl")
    by_seed = [
        {row["key"]: row["response"] for row in whole[1:] if row["seed"] == s} for s in (0, 1)
    ]
    assert by_seed[0] != by_seed[1]
    (tmp_path / "part").mkdir()
    write_lines(tmp_path / "part" / "answers.jsonl", [*whole[:2], *whole[5:6]])
    assert run(capsys, *options, "--out", tmp_path / "part")[0] == 0
    rows = [read_lines(tmp_path / name / "rows.jsonl") for name in ("whole", "part")]
    assert rows[0] == rows[1]


def test_a_prompt_that_is_there_twice_has_two_answers(capsys, tmp_path, trained):
    path = write_lines(tmp_path / "task.jsonl", QUESTIONS[:1] * 2)
    task = ["--task", "gsm8k", "--task-path", path, "--temperature", "1"]
    assert run(capsys, *task, "--workdir", trained, "--out", tmp_path / "out")[0] == 0
    first, second = read_lines(tmp_path / "out" / "rows.jsonl")
    assert first["response"] != second["response"]


def test_a_hugging_face_folder_answers(capsys, tmp_path, task):
    (tmp_path / "model").mkdir()
    folder = make_folder(tmp_path / "model")
    options = ["--model.path", folder, "--max-tokens", "8", "--num-prompts", "2"]
    code, text = run(capsys, *task, *options, "--out", tmp_path / "out")
    assert code == 0
    assert "2 answers to 2 prompts" in text
    first = read_lines(tmp_path / "out" / "rows.jsonl")
    # Greedy: a second evaluation writes the same.
    assert run(capsys, *task, *options, "--out", tmp_path / "again")[0] == 0
    assert read_lines(tmp_path / "again" / "rows.jsonl") == first


def test_a_folder_without_a_model_is_refused(capsys, tmp_path, task):
    code, text = run(capsys, *task, "--model.path", tmp_path)
    assert code == 2
    assert "--model.path must be a Hugging Face folder" in text
