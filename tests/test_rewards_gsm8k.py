"""GSM8K's rewards: the verdicts of the published solutions, the references, cases by hand."""

import gzip
import json

import numpy as np
import pytest

from rvpo_jax import rewards
from rvpo_jax.rewards.arithmetic import calculate
from rvpo_jax.rewards.gsm8k import (
    final_answer,
    gsm8k_calculations,
    gsm8k_correctness,
    gsm8k_format,
    gsm8k_length,
    has_calculations,
)

MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.fixture(scope="module")
def lines(shared_data):
    """Reads a file of GSM8K."""

    def read(name):
        path = shared_data / "gsm8k" / f"{name}.jsonl.gz"
        if not path.is_file():
            pytest.skip(f"needs gsm8k/{name}.jsonl.gz in the folder of RVPO_TEST_DATA")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    return read


def test_all_verdicts_of_the_published_solutions_are_reproduced(lines):
    rows = lines("example_model_solutions")
    judged = [(row, row[model]) for row in rows for model in MODELS]
    ours = gsm8k_correctness(
        [answer["solution"] for _, answer in judged],
        [{"ground_truth": row["ground_truth"]} for row, _ in judged],
    )
    assert len(judged) == 5_276
    np.testing.assert_array_equal(ours, [answer["is_correct"] for _, answer in judged])


def test_the_published_solutions_answer_the_rows_of_the_test_split(lines):
    # The same questions in the same order: the number after A: is the one after ####.
    solutions, rows = lines("example_model_solutions"), lines("test")
    assert [row["question"] for row in solutions] == [row["question"] for row in rows]
    ours = gsm8k_correctness([row["ground_truth"] for row in solutions], rows)
    np.testing.assert_array_equal(ours, np.ones(1_319))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reference_solution_passes_every_channel_that_applies(lines, split):
    rows = lines(split)
    answers = [row["answer"] for row in rows]
    fns = [gsm8k_correctness, gsm8k_format, gsm8k_calculations]
    out = rewards.score(fns, answers, rows)
    np.testing.assert_array_equal(out.rewards, out.where)
    # The others mark nothing, or numbers only: no sign but perhaps a first one.
    calculating = [
        any(set("+-*/") & set(part.partition("=")[0][1:]) for part in answer.split("<<")[1:])
        for answer in answers
    ]
    np.testing.assert_array_equal(out.where[:, 2], calculating)
    short = [len(answer.split()) <= 150 for answer in answers]
    np.testing.assert_array_equal(gsm8k_length(answers, rows) == 1.0, short)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("#### 18", "18", id="marked"),
        pytest.param("A: -1,234.50", "-1234.50", id="other mark, minus, commas"),
        pytest.param("#### 18\n#### 19", "18", id="first of two"),
        pytest.param("####  18", None, id="two spaces"),
        pytest.param("#### $18", None, id="currency"),
        pytest.param("Job A: 2000", None, id="mark inside a line"),
        pytest.param("A: 18 eggs", "18", id="unit after it"),
        pytest.param("#### 18.", "18.", id="full stop is kept"),
        pytest.param("#### ١٨", None, id="digits of other scripts"),
        pytest.param("", None, id="empty"),
        pytest.param("18", None, id="no mark"),
    ],
)
def test_the_answer_by_hand(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "row",
    [
        {"answer": "18 is right.\n#### 18"},
        {"ground_truth": "A: 18"},
        {"ground_truth": "18"},
        {"reward_model": {"ground_truth": "18", "style": "rule"}},
    ],
)
def test_the_reference_stands_in_one_of_three_columns(row):
    assert gsm8k_correctness(["#### 18", "#### 18.0"], [row, row]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("row", [{}, {"answer": None}, {"answer": "eighteen"}, {"answer": 18}])
def test_a_row_without_a_number_is_refused(row):
    with pytest.raises(ValueError, match="example 1 must have an answer that ends with ####"):
        gsm8k_correctness(["", ""], [{"answer": "#### 1"}, row])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        pytest.param("Step.\n#### 18", 1, id="as it should be"),
        pytest.param("#### 1,234.5\n", 1, id="answer only"),
        pytest.param("Step.\n#### 18 eggs", 0, id="unit"),
        pytest.param("Step. #### 18", 0, id="no line of its own"),
        pytest.param("#### 18\nSo it is.", 0, id="text after it"),
        pytest.param("#### 18\n#### 18", 0, id="twice"),
        pytest.param("A: 18", 0, id="other mark"),
        pytest.param("#### .", 0, id="no digit"),
        pytest.param("", 0, id="empty"),
    ],
)
def test_the_form_by_hand(text, form):
    assert gsm8k_format([text], [{}])[0] == form


ROW = {"answer": "<<9*2=18>>18\n#### 18"}


@pytest.mark.parametrize(
    ("text", "share"),
    [
        pytest.param("<<16-3-4=9>>9 and <<9*2=18>>18", 1.0, id="right"),
        pytest.param("<<16-3-4=9>>9 and <<9*2=19>>19", 0.5, id="one wrong"),
        pytest.param("<<1/3=0.3333333333333333>>", 1.0, id="float"),
        pytest.param("<<1/3=0.33>>", 0.0, id="two digits are not enough"),
        pytest.param("<<3/4=3/4>>", 1.0, id="fraction on the right"),
        pytest.param("<<1,000*2=2,000>>", 1.0, id="commas"),
        pytest.param("<<.5*4=2>> <<(1+2)*3=9>> <<5//2=2>>", 1.0, id="point, brackets, floor"),
        pytest.param("<<-3+5=2>>", 1.0, id="minus first"),
        pytest.param("<<18=18>>", 0.0, id="no calculation"),
        pytest.param("<<18=18>> <<1+1=3>>", 0.0, id="no calculation beside a wrong one"),
        pytest.param("<<1+1=2=2>>", 0.0, id="two signs of equality"),
        pytest.param("<<1+1=>>", 0.0, id="no right side"),
        pytest.param("<<1+x=2>>", 0.0, id="a letter"),
        pytest.param("<<1/0=1>>", 0.0, id="division by zero"),
        pytest.param("<<9**9**9=1>>", 0.0, id="tower"),
        pytest.param("<<2+2=4", 0.0, id="not closed"),
        pytest.param("18", 0.0, id="none"),
        pytest.param("", 0.0, id="empty"),
        pytest.param("<<1+1=2>>" * 100, 1.0, id="many"),
        pytest.param("<<1+1=2>>" * 101, 0.0, id="too many"),
    ],
)
def test_calculations_by_hand(text, share):
    assert gsm8k_calculations([text], [ROW])[0] == share


def test_calculations_are_not_scored_where_the_reference_has_none():
    assert [
        has_calculations(row) for row in (ROW, {"answer": "18"}, {"answer": "<<2=2>>2\n#### 2"})
    ] == [
        True,
        False,
        False,
    ]
    out = rewards.score([gsm8k_calculations], ["<<1+1=2>>"] * 2, [ROW, {"answer": "18"}])
    assert out.where[:, 0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("-(2-5)", 3),
        ("7%4", 3),
        ("2**64", None),  # above 1e15
        ("2**49", 2**49),
        ("(-8)**.5", None),
        ("1e400", None),
        ("True", None),
        ("'a'*9", None),
        ("1(2)", None),
        ("0**-1", None),
        ("1" * 5000, None),
        ("(" * 199, None),
        ("\0", None),
        ("\ud800", None),
        ("", None),
    ],
)
def test_arithmetic_by_hand(text, value):
    assert calculate(text) == value
