"""Public data sets from their original files, compared with a second reading of the same files."""

import collections
import gzip
import json
import random

import pandas as pd
import pyarrow.parquet as pq
import pytest
from judge_server import judging

from rvpo_jax.data import datasets
from rvpo_jax.data.datasets import DATASETS, load_dataset, permute_choices, read_dataset
from rvpo_jax.data.datasets.public import PublicRows
from rvpo_jax.data.datasets.rlla_prompt import rlla_prompt
from rvpo_jax.rewards import load_reward, score
from rvpo_jax.rewards.judge import Judge, rubric


def lines(path):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def place(shared_data):
    """The path of a file or folder of the shared data; skips where it is absent."""

    def find(name):
        if not (shared_data / name).exists():
            pytest.skip(f"needs {name} in the folder that RVPO_TEST_DATA names")
        return shared_data / name

    return find


def without_prompt(row):
    return {name: value for name, value in row.items() if name != "prompt"}


# Real files


def test_gsm8k_has_the_rows_of_its_two_files(place, tmp_path):
    folder = place("gsm8k")
    splits = load_dataset("gsm8k", tmp_path, folder)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 7473, "test": 1319}
    for name, rows in splits.items():
        assert list(map(without_prompt, rows)) == lines(folder / f"{name}.jsonl.gz")
    row = splits["test"][7]
    assert row["prompt"][0]["content"].startswith(row["question"] + " Let's think step by step")


def test_gsm8k_s_own_solutions_are_right_in_form_and_answer(place):
    rows = list(read_dataset("gsm8k", place("gsm8k/test.jsonl.gz")))
    for name in ("gsm8k_correctness", "gsm8k_format"):
        assert all(load_reward(name)([row["answer"] for row in rows], rows) == 1)


def test_ifbench_has_300_prompts_of_58_kinds(place, tmp_path):
    path = place("ifbench/IFBench_test.jsonl.gz")
    rows = list(load_dataset("ifbench", tmp_path, path.parent)["test"])
    assert len(rows) == 300
    assert len({kind for row in rows for kind in row["instruction_id_list"]}) == 58
    assert all(row["prompt"][0]["role"] == "user" for row in rows)


def test_ifeval_has_541_prompts_with_834_instructions_that_the_rewards_read(place, tmp_path):
    path = place("ifeval/input_data.jsonl.gz")
    rows = list(load_dataset("ifeval", tmp_path, path.parent)["train"])
    originals = lines(path)
    assert [row["prompt"] for row in rows] == [
        [{"role": "user", "content": original["prompt"]}] for original in originals
    ]
    assert list(map(without_prompt, rows)) == list(map(without_prompt, originals))
    counts = collections.Counter(len(row["kwargs"]) for row in rows)
    assert counts == {1: 305, 2: 179, 3: 57}
    # The first prompt: no comma, highlighted sections, at least 300 words.
    (share,) = load_reward("instructions_share")(["no comma and few words"], rows[:1])
    assert share == pytest.approx(1 / 3)


def test_rlla_has_the_rows_of_the_parquet_file_and_its_references_earn_everything(place, tmp_path):
    path = place("rlla/rl.parquet")
    rows = list(load_dataset("rlla", tmp_path, path.parent)["train"])
    assert rows == pq.read_table(path).to_pylist()
    references = [row["reward_model"]["ground_truth"] for row in rows]
    assert all(load_reward("toolrl_format")(references, rows) == 1)
    correct = load_reward("toolrl_correctness")(references, rows)
    assert set(correct[["<tool_call>" in text for text in references]]) == {3.0}


def test_the_prompt_of_bfcl_is_what_rlla_trains_on(place):
    """With its own tools and dialogue put in, our template is each system message of RLLA."""
    for row in pq.read_table(place("rlla/rl.parquet")).to_pylist():
        system = row["prompt"][0]["content"]
        head, tail = "you can use the following tools:\n", "\n\n**Steps for Each Turn**"
        listed = system.partition(head)[2].partition(tail)[0]
        ours = rlla_prompt([], [])[0]["content"]
        assert ours.replace(f"{head}{tail}", f"{head}{listed}{tail}") == system


# Rows of each file, as the folder's README counts them.
BFCL = {
    "simple": 318,
    "multiple": 161,
    "parallel": 163,
    "parallel_multiple": 161,
    "live_simple": 209,
    "live_multiple": 852,
    "live_parallel": 9,
    "live_parallel_multiple": 21,
    "irrelevance": 189,
    "live_irrelevance": 687,
    "live_relevance": 16,
}


def test_bfcl_has_its_checked_categories_with_their_possible_answers(place, tmp_path):
    folder = place("bfcl_v3")
    rows = list(load_dataset("bfcl_v3", tmp_path, folder)["test"])
    assert collections.Counter(row["id"].rpartition("_")[0] for row in rows) == BFCL
    expected = {}
    for name in BFCL:
        expected |= {row["id"]: row for row in lines(folder / f"BFCL_v3_{name}.json.gz")}
        answers = folder / "possible_answer" / f"BFCL_v3_{name}.json.gz"
        for answer in lines(answers) if answers.exists() else ():
            expected[answer["id"]] = expected[answer["id"]] | answer
    assert {row["id"]: without_prompt(row) for row in rows} == expected


def test_the_prompt_of_bfcl_lists_the_tools_and_the_turns_of_the_user(place):
    rows = list(read_dataset("bfcl_v3", place("bfcl_v3")))
    for row in random.Random(0).sample(rows, 200):
        system, user = (message["content"] for message in row["prompt"])
        for number, function in enumerate(row["function"], start=1):
            assert f"\n{number}. Name: {function['name']}\nDescription: " in system
        turns = row["question"][0]
        for message in turns:
            assert (message["content"].strip() in user) == (message["role"] != "system")
        # Each turn of the user is told what to do where no tool fits.
        told = user.count("call the tool with the name as 'None'.")
        assert told == sum(message["role"] == "user" for message in turns)
    simple = [row for row in rows if row["id"] == "simple_1"]
    answer = '<tool_call>\n{"name": "math.factorial", "parameters": {"number": 5}}\n</tool_call>'
    assert load_reward("bfcl")([answer], simple) == [1.0]


# Synthetic rows in the schema of what is not passed on


@pytest.mark.parametrize("domain", ["medicine", "science"])
def test_rar_keeps_its_items_as_they_are(place, tmp_path, domain):
    path = place(f"schema_fixtures/rar_{domain}_like.parquet")
    rows = list(load_dataset(f"rar_{domain}", tmp_path, path)["train"])
    originals = pq.read_table(path).to_pylist()
    assert list(map(without_prompt, rows)) == originals
    assert [row["prompt"] for row in rows] == [
        [{"role": "user", "content": original["question"]}] for original in originals
    ]


def test_healthbench_has_its_rubrics_in_the_column_that_a_judge_reads(place, tmp_path):
    path = place("schema_fixtures/healthbench_like.jsonl")
    rows = list(load_dataset("healthbench", tmp_path, path)["test"])
    for row, original in zip(rows, lines(path), strict=True):
        assert row.pop("rubric") == original.pop("rubrics")
        assert row == original


def test_gpqa_has_its_right_answer_at_the_letter(place, tmp_path):
    path = place("schema_fixtures/gpqa_diamond_like.csv")
    rows = list(load_dataset("gpqa_diamond", tmp_path, path)["test"])
    table = pd.read_csv(path, dtype=str)
    for row, original in zip(rows, table.to_dict("records"), strict=True):
        right = original["Correct Answer"].strip()
        wrong = {original[f"Incorrect Answer {n}"].strip() for n in (1, 2, 3)}
        assert row["choices"]["ABCD".index(row["answer"])] == right
        assert set(row["choices"]) == {right} | wrong
        (message,) = row["prompt"]
        assert f"\n{row['answer']}) {right}" in message["content"] + "\n"
        assert original["Question"].strip() in message["content"]
        assert row["record_id"] == original["Record ID"]


def test_the_order_of_choices_belongs_to_the_seed_and_the_question_alone():
    row = {"question": "1 + 1?", "choices": ["2", "3", "4", "5"], "answer": "A"}
    once = permute_choices(row, 1)
    assert permute_choices(row, 1) == once
    assert permute_choices(permute_choices(row, 7), 1) == once
    letters = collections.Counter(permute_choices(row, seed)["answer"] for seed in range(400))
    assert all(60 < letters[letter] < 140 for letter in "ABCD")  # 100 each, +- 4.6 deviations


@pytest.mark.parametrize(
    ("name", "file", "numbers"),
    [
        ("rar_medicine", "rar_medicine_like.parquet", [7, 4]),
        ("rar_science", "rar_science_like.parquet", [5, 3]),
        ("healthbench", "healthbench_like.jsonl", [4, 2, 2]),
    ],
)
def test_each_item_is_a_channel_of_its_row_and_all_rows_have_one_shape(place, name, file, numbers):
    pytest.importorskip("httpx2", reason="pip install 'rvpo-jax[judge]'")
    rows = list(read_dataset(name, place(f"schema_fixtures/{file}")))
    with judging() as server:
        judge = rubric(Judge(endpoint=server.endpoint, model="m", key_variable=None))
        found = score([judge], ["A text."] * len(rows), rows)
    assert found.rewards.shape == (len(rows), 17)
    assert found.where.sum(-1).tolist() == numbers
    assert all(found.where[i, :number].all() for i, number in enumerate(numbers))


# What is said of them, and where they are looked for


@pytest.mark.parametrize("name", DATASETS)
def test_a_builder_names_its_source_its_licence_and_its_paper(name):
    builder = DATASETS[name](path="anywhere")
    assert "rvpo_jax" in builder.data_path.parts  # not where TFDS would have its own gsm8k
    info = builder.info
    assert info.name == name
    origin = DATASETS[name].origin
    assert origin.base.startswith("https://") and origin.base.endswith("/")
    assert origin.licence in info.redistribution_info.license
    assert info.citation == origin.citation != ""
    assert info.homepage.startswith("https://")


@pytest.mark.parametrize("name", ["rar_medicine", "rar_science", "healthbench", "gpqa_diamond"])
def test_what_is_not_to_be_passed_on_says_so(name):
    assert "not to be passed on" in DATASETS[name].origin.redistribution


def write(folder, files):
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SUM = {"question": "1 + 1?", "answer": "#### 2"}


def test_a_part_of_a_data_set_is_loaded_and_said_to_be_one(tmp_path, caplog):
    folder = write(tmp_path / "files", {"train.jsonl": [SUM], "other.jsonl": [{}]})
    assert list(load_dataset("gsm8k", tmp_path / "cache", folder)) == ["train"]
    assert caplog.messages == ["gsm8k/train has 1 rows; 7,473 were published."]


def test_another_file_of_the_same_data_set_has_another_cache(tmp_path):
    folder = write(tmp_path / "files", {"train.jsonl": [SUM]})
    first = load_dataset("gsm8k", tmp_path / "cache", folder)["train"]
    write(folder, {"train.jsonl": [SUM, SUM]})
    second = load_dataset("gsm8k", tmp_path / "cache", folder)["train"]
    assert (len(first), len(second)) == (1, 2)
    assert first.fingerprint != second.fingerprint


def test_the_same_files_are_read_from_the_cache(tmp_path, monkeypatch):
    folder = write(tmp_path / "files", {"train.jsonl": [SUM]})
    first = load_dataset("gsm8k", tmp_path / "cache", folder)["train"]
    monkeypatch.setattr(PublicRows, "read", None)  # calling it would fail
    assert list(load_dataset("gsm8k", tmp_path / "cache", folder)["train"]) == list(first)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("gsmk8", "Did you mean gsm8k"), ("rar-medicine", "rar_medicine"), ("squad", "There are: ")],
)
def test_a_data_set_that_does_not_exist_suggests_the_nearest(name, advice):
    with pytest.raises(ValueError, match=rf"no data set '{name}'.\n  .*{advice}"):
        datasets.builder_of(name)


def test_a_path_without_its_files_says_which_they_are(tmp_path):
    for path in (tmp_path, tmp_path / "absent", write(tmp_path, {"a.txt": []}) / "a.txt"):
        with pytest.raises(ValueError, match=r"gsm8k must .*\n  Its files are: train.jsonl"):
            load_dataset("gsm8k", tmp_path / "cache", path)


ITEM = {"description": "Essential Criteria: Says so.", "title": "Says", "weight": 5}
HEALTH = {"prompt": [{"role": "user", "content": "Hi"}], "rubrics": [{"criterion": "Greets."}]}
GPQA = {"Question": "Q", "Correct Answer": "1", "Incorrect Answer 1": "2"}
CALL = {"id": "simple_1", "question": [[{"role": "user", "content": "Hi"}]], "function": []}


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"answer": "2"}, "must have the column question, got the columns: 'answer'"),
        ("gsm8k", SUM | {"answer": 2}, "answer in line 1 of .* must be a text, got int '2'"),
        ("gsm8k", SUM | {"question": " "}, "question in line 1 of .* is empty"),
        ("ifeval", {"prompt": "a", "kwargs": []}, "must have the column instruction_id_list"),
        (
            "ifeval",
            {"prompt": "a", "kwargs": [{}], "instruction_id_list": []},
            "as many kwargs as instructions, one or more, got 1 and 0",
        ),
        (
            "rlla",
            {"prompt": "a", "reward_model": {}},
            "prompt in line 1 of .* must be a list, got str",
        ),
        (
            "rlla",
            {"prompt": HEALTH["prompt"], "reward_model": {}},
            "reward_model of line 1 of .* must have the column ground_truth",
        ),
        ("rlla", {"prompt": []}, "prompt in line 1 of .* must be a list of messages"),
        ("rar_medicine", {"question": "Q", "rubric": []}, "rubric in .* an item or more, got none"),
        (
            "rar_science",
            {"question": "Q", "rubric": [ITEM, ITEM | {"weight": "5"}]},
            "weight of item 2 of rubric in line 1 of .* must be a number, got '5'",
        ),
        ("rar_science", {"question": "Q", "rubric": ["a"]}, "item 1 of rubric .* be an object"),
        ("healthbench", HEALTH, "points of item 1 of rubrics in .* must be a number, got 'None'"),
        ("healthbench", HEALTH | {"prompt": ["Hi"]}, "prompt in .* must be a list of messages"),
        ("gpqa_diamond", GPQA, "must have the column Incorrect Answer 2"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 16 else "",
)
def test_a_bad_row_gets_one_clear_error_and_no_cache(tmp_path, name, row, message):
    path = write(tmp_path, {"rows.jsonl": [row]}) / "rows.jsonl"
    with pytest.raises(ValueError, match=rf"{message}.*\n  \S") as error:
        load_dataset(name, tmp_path / "cache", path)
    assert str(error.value).count("\n") == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "answers", "message"),
    [
        ({}, None, "must have possible_answer/BFCL_v3_simple.json beside BFCL_v3_simple.json"),
        ({}, [{"id": "simple_2", "ground_truth": [{}]}], "possible answer for its id, got 'simple"),
        ({}, [{"id": "simple_1"}], "must have the column ground_truth"),
        ({"question": [[], []]}, [{"id": "simple_1", "ground_truth": []}], "must have one turn"),
        ({"function": [3]}, [{"id": "simple_1", "ground_truth": []}], "a list of objects, got '3'"),
    ],
)
def test_files_of_bfcl_that_do_not_fit_together_are_refused(tmp_path, changes, answers, message):
    files = {"BFCL_v3_simple.json": [CALL | changes]}
    if answers is not None:
        files["possible_answer/BFCL_v3_simple.json"] = answers
    with pytest.raises(ValueError, match=rf"{message}.*\n  \S"):
        load_dataset("bfcl_v3", tmp_path / "cache", write(tmp_path / "files", files))
