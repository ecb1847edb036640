"""What data.source and data.eval_source name, and what a run says of its prompts."""

import dataclasses
import json

import pytest

from rvpo_jax.cli import main
from rvpo_jax.config import Config, DataConfig, RolloutConfig
from rvpo_jax.data.overlap import find_repeats
from rvpo_jax.data.sources import load_eval_source, load_source, named, read_source
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.setup import build_task


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(first, number):
    return [
        {"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(first, first + number)
    ]


def config(source, **data):
    return Config(data=DataConfig(source=str(source), rewards=("gsm8k_correctness",), **data))


def questions(rows):
    return [row["question"] for row in rows]


@pytest.fixture
def gsm8k(tmp_path):
    """A folder with the files of GSM8K, of few rows; the first of test is one of train, too."""
    write(tmp_path / "gsm8k" / "train.jsonl", sums(0, 20))
    write(tmp_path / "gsm8k" / "test.jsonl", sums(19, 4))
    return tmp_path / "gsm8k"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gsm8k", ("gsm8k", None)),
        ("bfcl_v3:a/b c", ("bfcl_v3", "a/b c")),
        ("rows.jsonl", None),
        ("./gsm8k", None),
        ("folder/gsm8k:x", None),
    ],
)
def test_a_source_is_a_data_set_by_name_or_else_a_file(source, expected):
    assert named(source) == expected


@pytest.mark.parametrize("source", ["healthbenhc", "healthbenhc:folder"])
def test_a_name_that_no_data_set_has_suggests_the_nearest(source):
    with pytest.raises(ValueError, match=r"no data set 'healthbenhc'.\n  Did you mean healthbench"):
        named(source)


def test_a_data_set_is_evaluated_on_what_it_keeps_for_that(gsm8k, tmp_path):
    train, held_out, others = load_source(f"gsm8k:{gsm8k}", tmp_path / "cache", "prompt")
    assert others == {}
    assert questions(train) == [f"{n} + 1?" for n in range(20)]
    assert questions(held_out) == [f"{n} + 1?" for n in range(19, 23)]
    task = build_task(config(f"gsm8k:{gsm8k}"), tmp_path / "cache")
    assert (len(task.train), len(task.held_out)) == (20, 4)


def test_without_such_rows_a_share_is_held_out(gsm8k, tmp_path):
    (gsm8k / "test.jsonl").unlink()
    task = build_task(config(f"gsm8k:{gsm8k}", eval_frac=0.5), tmp_path / "cache")
    assert len(task.train) + len(task.held_out) == 20
    assert 4 <= len(task.held_out) <= 16
    assert not set(questions(task.train)) & set(questions(task.held_out))


def test_an_evaluation_file_takes_the_place_of_what_would_be_held_out(gsm8k, tmp_path):
    own = write(tmp_path / "own.jsonl", [{"prompt": "5 + 5?", "answer": "10"}])
    task = build_task(config(f"gsm8k:{gsm8k}", eval_source=str(own)), tmp_path / "cache")
    assert (len(task.train), [row["prompt"] for row in task.held_out]) == (20, ["5 + 5?"])
    both = build_task(config(own, eval_source=f"gsm8k:{gsm8k}"), tmp_path / "cache")
    assert (len(both.train), questions(both.held_out)) == (1, [f"{n} + 1?" for n in range(19, 23)])


def test_another_evaluation_file_is_other_data_for_a_resumed_run(gsm8k, tmp_path):
    prints = set()
    for answer in ("10", "11", None):
        own = write(tmp_path / "own.jsonl", [{"prompt": "5 + 5?", "answer": answer}])
        eval_source = None if answer is None else str(own)
        task = build_task(config(f"gsm8k:{gsm8k}", eval_source=eval_source), tmp_path / "cache")
        prints.add(task.fingerprint)
    assert len(prints) == 3


def test_all_rows_of_a_source_without_parts_are_evaluated_on(tmp_path):
    rows = write(tmp_path / "own.csv", [])
    rows.write_text("prompt\na\nb\n")
    assert len(load_eval_source(str(rows), tmp_path / "cache", "prompt")) == 2
    assert list(read_source(str(rows), "prompt")) == [{"prompt": "a"}, {"prompt": "b"}]


def test_the_embedded_task_takes_no_other_evaluation():
    with pytest.raises(ValueError, match=r"data.eval_source 'a.jsonl' .*\n  Leave it out"):
        DataConfig(eval_source="a.jsonl")


@pytest.mark.parametrize(
    ("source", "rewards"),
    [("gsm8k:x", "gsm8k_format gsm8k_correctness"), ("a.csv", "toolrl_format toolrl_correctness")],
)
def test_a_source_without_rewards_names_the_usual_ones(source, rewards):
    with pytest.raises(ValueError, match=rf"--data.rewards {rewards}\."):
        DataConfig(source=source)


# Prompts that stand twice


def row(prompt):
    return {"prompt": prompt}


def message(text, role="user"):
    return [{"role": role, "content": text}]


def test_repeats_are_counted_up_to_case_and_white_space():
    train = [row("A b"), row("a  B\n"), row("c"), row("a b"), row("ab")]
    held_out = [row("A B"), row("d"), row("C"), row("c ")]
    # Of A b there are two more; of the held-out prompts three are among them.
    assert find_repeats(train, {"x": held_out, "y": []}) == ((2, 5), {"x": (3, 4), "y": (0, 0)})


def test_messages_are_compared_by_role_and_text():
    train = [row(message("Hi")), row(message("Hi", "system")), row(message("hi "))]
    held_out = [row(message("HI")), row(message("Ho"))]
    assert find_repeats(train, {"held-out": held_out}) == ((1, 3), {"held-out": (1, 2)})


def test_a_task_counts_what_it_drops_and_looks_for_repeats_in_the_rest(gsm8k, tmp_path, caplog):
    write(gsm8k / "train.jsonl", [*sums(0, 20), *sums(3, 2), *sums(12, 2)])
    made = config(f"gsm8k:{gsm8k}")
    encode = build_task(made, tmp_path / "cache").encode
    # The questions of 0 to 9 have a digit less than those of 10 to 22.
    prompt = next(read_source(f"gsm8k:{gsm8k}", "prompt"))["prompt"]
    write(gsm8k / "test.jsonl", [*sums(4, 2), *sums(19, 2)])
    limit = RolloutConfig(max_prompt_tokens=len(encode(prompt)))
    task = build_task(dataclasses.replace(made, rollout=limit), tmp_path / "cache")
    assert task.num_dropped == 10 + 2 + 2
    assert task.repeats.lines() == [
        "duplicates: 2 of 12 training prompts (16.7 %) are repeated",
        "overlap: 2 of 2 held-out prompts (100.0 %) are among the training prompts",
    ]
    assert "Dropped 14 prompt(s) longer than" in caplog.text


def test_a_test_split_that_is_not_evaluated_on_is_compared_too(tmp_path):
    item = {"description": "Says so.", "title": "Says", "weight": 5}
    for name, asked in {"train": "abcd", "val": "xyz", "test": "dxyzuvwp"}.items():
        rows = [{"question": f"Why {letter}?", "rubric": [item]} for letter in asked]
        write(tmp_path / "rar" / f"{name}.jsonl", rows)
    task = build_task(config(f"rar_science:{tmp_path / 'rar'}"), tmp_path / "cache")
    assert questions(task.held_out) == ["Why x?", "Why y?", "Why z?"]
    assert task.repeats.lines()[1:] == [
        "overlap: 0 of 3 held-out prompts (0.0 %) are among the training prompts",
        "overlap: 1 of 8 rar_science/test prompts (12.5 %) is among the training prompts",
    ]


# The command

SMALL = (
    "--steps 1 --rollout.num-prompts 2 --rollout.group-size 2 --rollout.max-completion-tokens 8 "
    "--eval.num-prompts 2 --log.no-audit --log.audit-every 0 --log.rollouts none "
    "--parallel.num-devices 1 --parallel.impl jit"
).split()


@pytest.fixture
def options(shared_data):
    """Options that name a data set among the shared ones, and rewards."""

    def make(name, path, *rewards):
        if not (shared_data / path).exists():
            pytest.skip(f"needs {path} in the folder that RVPO_TEST_DATA names")
        return ["--data.source", f"{name}:{shared_data / path}", "--data.rewards", *rewards]

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path", "rewards"),
    [
        ("ifeval", "ifeval", ["instructions_strict", "instructions_share"]),
        ("gsm8k", "gsm8k/test.jsonl.gz", ["gsm8k_format", "gsm8k_correctness"]),
    ],
)
def test_a_run_trains_on_a_data_set(options, tmp_path, capsys, name, path, rewards):
    given = [*options(name, path, *rewards), "--rollout.max-prompt-tokens", "256"]
    assert main(["train", *given, "--workdir", str(tmp_path / "run"), *SMALL]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "dropped as too long duplicates: 0 of " in said
    assert "overlap: 0 of " in said
    (step,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {f"reward/{reward}/mean" for reward in rewards} <= set(step)


@pytest.mark.parametrize(
    ("name", "path", "rewards"),
    [
        ("rlla", "rlla", ["toolrl_format", "toolrl_correctness", "toolrl_tool_names"]),
        ("bfcl_v3", "bfcl_v3", ["bfcl"]),
    ],
)
def test_rewards_can_be_tried_on_a_data_set(options, capsys, name, path, rewards):
    assert main(["check-rewards", *options(name, path, *rewards)]) == 0
    said = capsys.readouterr().out
    assert all(reward in said for reward in rewards)
