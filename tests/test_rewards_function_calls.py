"""BFCL's checker: all frozen verdicts, its oddities by hand, hostile answers, the table."""

import gzip
import json
import math
import time

import numpy as np
import pytest

from rvpo_jax import rewards
from rvpo_jax.rewards.function_calls import (
    AST_CATEGORIES,
    RELEVANCE_CATEGORIES,
    bfcl,
    check_answer,
    check_calls,
    check_relevance,
    parse_calls,
    parse_json_calls,
    parse_python_calls,
    summarize,
)
from rvpo_jax.rewards.function_calls.parsing import MAX_CHARACTERS


def lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@pytest.fixture(scope="module")
def rows(shared_data):
    """Rows of the checked categories by id, with their possible answers in ``ground_truth``."""
    folder = shared_data / "bfcl_v3"
    if not folder.is_dir():
        pytest.skip("needs bfcl_v3 in the folder of RVPO_TEST_DATA")
    found = {}
    for category in AST_CATEGORIES + RELEVANCE_CATEGORIES:
        found |= {row["id"]: row for row in lines(folder / f"BFCL_v3_{category}.json.gz")}
    for category in AST_CATEGORIES:
        for answer in lines(folder / "possible_answer" / f"BFCL_v3_{category}.json.gz"):
            found[answer["id"]] |= answer
    return found


def test_all_frozen_verdicts_of_the_original_checker_are_reproduced(rows, shared_data):
    cases = lines(shared_data / "bfcl_v3" / "oracle" / "ast_checker_cases.jsonl.gz")
    ours = [
        check_calls(
            case["model_output"],
            rows[case["id"]]["function"],
            rows[case["id"]]["ground_truth"],
            case["category"],
        )
        for case in cases
    ]
    assert len(cases) == 29_933
    # The first error is the same too, not only that there is one.
    assert [(verdict.valid, verdict.error_type) for verdict in ours] == [
        (case["valid"], case["error_type"]) for case in cases
    ]
    assert all(verdict.valid == (not verdict.reason) for verdict in ours)


def as_python(calls):
    """Calls in the syntax that BFCL asks its models for."""
    texts = [
        f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
        for call in calls
        for name, values in call.items()
    ]
    return f"[{', '.join(texts)}]"


def as_json(calls):
    """Calls in the block of JSON lines that RLLA asks its models for."""
    found = [
        json.dumps({"name": name, "parameters": values})
        for call in calls
        for name, values in call.items()
    ]
    return "<think> x </think>\n<tool_call>\n" + "\n".join(found) + "\n</tool_call>"


def test_real_answers_are_read_alike_in_both_forms_and_judged_as_the_frozen_verdicts_say(
    rows, shared_data
):
    cases = lines(shared_data / "bfcl_v3" / "oracle" / "ast_checker_cases.jsonl.gz")
    cases = [case for case in cases if case["mutation"] in ("exact_min", "extra_param", "empty")]
    # "_from" and the like are parameters too; a few names are no Python names.
    python = [as_python(case["model_output"]) for case in cases]
    written = [parse_python_calls(text) for text in python]
    unreadable = [text for text, calls in zip(python, written, strict=True) if calls is None]
    examples = [rows[case["id"]] for case in cases]
    expected = [float(case["valid"]) for case in cases]
    np.testing.assert_array_equal(
        bfcl([as_json(case["model_output"]) for case in cases], examples), expected
    )
    assert unreadable == []
    assert written == [case["model_output"] for case in cases]
    np.testing.assert_array_equal(bfcl(python, examples), expected)


def function(name="f", required=(), **types):
    """A description; a type is a name, or a pair: a list of such elements."""
    properties = {
        key: {"type": kind}
        if isinstance(kind, str)
        else {"type": kind[0], "items": {"type": kind[1]}}
        for key, kind in types.items()
    }
    return {"name": name, "parameters": {"properties": properties, "required": list(required)}}


@pytest.mark.parametrize(
    ("kind", "accepted", "value", "error"),
    [
        pytest.param("string", ["San Jose, CA"], "san-jose CA", None, id="text is standardised"),
        pytest.param("string", ["it's"], 'it"s', None, id="one kind of quote"),
        pytest.param("string", ["é"], "e", "value_error:string", id="accents count"),
        pytest.param("string", ["5"], 5, "type_error:simple", id="number for text"),
        pytest.param("integer", [5], 5.0, "type_error:simple", id="float for integer"),
        pytest.param("integer", [1], True, "type_error:simple", id="true is no integer"),
        pytest.param("float", [5.0], 5, None, id="integer for float"),
        pytest.param("float", [5.0], 10**400, "type_error:simple", id="beyond all floats"),
        pytest.param("float", [5.0], math.inf, "value_error:others", id="inf"),
        pytest.param("float", [5.0], math.nan, "value_error:others", id="NaN"),
        pytest.param("integer", ["n"], "n", None, id="variable"),
        pytest.param("integer", ["n"], "N", "value_error:others", id="variables to the letter"),
        pytest.param("integer", ["n"], 5, "value_error:others", id="value where a variable is"),
        pytest.param("any", [5], 5, None, id="any is text, or the accepted type"),
        pytest.param("boolean", [True, ""], False, "value_error:others", id="boolean"),
        pytest.param(("tuple", "integer"), [[1, 2]], (1, 2), None, id="tuple"),
        pytest.param(("array", "integer"), [[1, 2]], (1, 2), "type_error:simple", id="no tuple"),
        pytest.param(("array", "integer"), [[1, 2]], [1, "2"], "type_error:nested", id="element"),
        pytest.param(("array", "integer"), [[1, 2]], [2, 1], "value_error:list/tuple", id="order"),
        pytest.param(("array", "string"), [["A b"]], ["ab"], None, id="texts of a list"),
        # The empty text says "may be left out", and reads as an empty list here.
        pytest.param(("array", "integer"), [[1], ""], [], None, id="empty list"),
        pytest.param("dict", [{"a": ["X", ""], "b": [1]}], {"b": 1}, None, id="key left out"),
        pytest.param("dict", [{"a": ["X"]}], {"a": "x."}, None, id="text in a dict"),
        pytest.param("dict", [{"a": ["X"]}], {"a": "y"}, "value_error:dict_value", id="dict value"),
        pytest.param("dict", [{"a": [1]}], {"a": 1, "b": 2}, "value_error:dict_key", id="new key"),
        pytest.param(
            "dict", [{"a": [1], "b": [1]}], {"a": 2}, "value_error:dict_key", id="missing key hides"
        ),
        pytest.param("dict", [{"a": [1]}, {"b": [2]}], {"b": 2}, None, id="second of two dicts"),
        pytest.param(("array", "dict"), [[{"a": [1]}]], [{"a": 1}], None, id="list of dicts"),
        pytest.param(
            ("array", "dict"),
            [[{"a": [1]}]],
            [{"a": 1}] * 2,
            "value_error:list_dict_count",
            id="too many dicts",
        ),
        pytest.param(
            ("array", "dict"), ["", [{"a": [1]}]], [7], "dict_checker:unclear", id="not a dict"
        ),
    ],
)
def test_a_value_by_hand(kind, accepted, value, error):
    verdict = check_calls(
        [{"f": {"x": value}}], [function(x=kind)], [{"f": {"x": accepted}}], "simple"
    )
    assert (verdict.valid, verdict.error_type) == (error is None, error)


TWO = [function(x="integer", required=["x"]), function("g", y="string")]


@pytest.mark.parametrize(
    ("category", "answers", "calls", "error"),
    [
        pytest.param(
            "parallel", [{"f": {"x": [1]}}, {"f": {"x": [2]}}], "f(x=2), f(x=1)", None, id="order"
        ),
        # The first answer takes the first call that fits, and the second finds none.
        pytest.param(
            "parallel",
            [{"f": {"x": [1, 2]}}, {"f": {"x": [1]}}],
            "f(x=1), f(x=2)",
            "parallel_function_checker_no_order:cannot_find_match",
            id="greedy",
        ),
        pytest.param(
            "live_parallel_multiple",
            [{"g": {"y": ["a"]}}, {"f": {"x": [2]}}],
            "f(x=2), g(y='a')",
            None,
            id="two functions",
        ),
        pytest.param("multiple", [{"g": {"y": ["a"]}}], "g(y='A')", None, id="one of two"),
        pytest.param(
            "multiple",
            [{"g": {"y": ["a"]}}],
            "[]",
            "multiple_function_checker:wrong_count",
            id="none",
        ),
        pytest.param(
            "simple",
            [{"f": {"x": [1]}}],
            "f(1)",
            "simple_function_checker:missing_required",
            id="positional",
        ),
        # simple_363 of the data: the documented name counts, not the answer's.
        pytest.param("simple", [{"h": {"x": [1]}}], "f(x=1)", None, id="documented name"),
    ],
)
def test_calls_by_hand(category, answers, calls, error):
    row = {"id": f"{category}_1", "function": TWO, "ground_truth": answers}
    verdict = check_answer(calls, row)
    assert (verdict.valid, verdict.error_type) == (error is None, error)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param("[]", [], id="no call"),
        pytest.param("", [], id="empty text"),
        pytest.param("I cannot.", None, id="prose"),
        pytest.param("```[f()]```", [{"f": {}}], id="back-ticks"),
        pytest.param(
            "f(x=1), a.b.g(y=[True, None])",
            [{"f": {"x": 1}}, {"a.b.g": {"y": [True, None]}}],
            id="two",
        ),
        pytest.param("f(x=(1, 'a'))", [{"f": {"x": (1, "a")}}], id="tuple"),
        pytest.param("f(x={'a': [1], 2: {}})", [{"f": {"x": {"a": [1], 2: {}}}}], id="dict"),
        pytest.param("f(x={[1]: 2})", None, id="list as a key"),
        pytest.param("f(x={**y})", None, id="unpacked dict"),
        pytest.param("f(**y)", [{"f": {"**": "y"}}], id="unpacked parameters"),
        pytest.param("f(x=name)", [{"f": {"x": "name"}}], id="variable"),
        pytest.param("f(x=...)", [{"f": {"x": "..."}}], id="ellipsis"),
        pytest.param("f(x=-1.5, y=+2)", [{"f": {"x": -1.5, "y": 2}}], id="signs"),
        pytest.param(
            "f(x=0.05/12, y=2**10)", [{"f": {"x": 0.05 / 12, "y": 1024}}], id="arithmetic"
        ),
        pytest.param("f(x=1/0)", None, id="division by zero"),
        pytest.param("f(x=9**9**9)", None, id="tower of powers"),
        pytest.param("f(x=10**15**2)", None, id="large power"),
        pytest.param("f(x='a'*10**9)", None, id="repeated text"),
        pytest.param("f(x=not 1)", None, id="not"),
        pytest.param("f(x=g(y=1))", [{"f": {"x": {"g": {"y": 1}}}}], id="call in a call"),
        pytest.param("f(x=g(1))", [{"f": {"x": "g(1)"}}], id="call without parameters"),
        pytest.param("f(x=a[0])", [{"f": {"x": "a[0]"}}], id="subscript"),
        pytest.param("f(x=lambda: 1)", None, id="lambda"),
        pytest.param("f(x=f'{1}')", None, id="f-string"),
        pytest.param("__import__('os').system('true')", [{"system": {}}], id="code is only read"),
        pytest.param(r"f(x='\d')", [{"f": {"x": r"\d"}}], id="unknown escape"),
        pytest.param("1 + 1", None, id="no list of calls"),
        pytest.param("{f()}", None, id="set"),
        pytest.param("f(x='\0')", None, id="NUL"),
        pytest.param("f(x='\ud800')", None, id="lone surrogate"),
        pytest.param(f"f(x={'9' * 5000})", None, id="5,000 digits"),
        pytest.param("f(x=[[[]]])", [{"f": {"x": [[[]]]}}], id="nested lists"),
        pytest.param(f"f(x={'[' * 999}{']' * 999})", None, id="deep nesting"),
        pytest.param("f(x='日本')", [{"f": {"x": "日本"}}], id="non-ASCII"),
        pytest.param(f"f(x='{'a' * MAX_CHARACTERS}')", None, id="too long"),
    ],
)
def test_python_calls_by_hand(text, calls):
    assert parse_python_calls(text) == calls


F = '{"name": "f", "parameters": {"x": 1}}'


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        pytest.param(
            f"<tool_call>\n{F}\n\nno JSON\n{F}\n</tool_call>", [{"f": {"x": 1}}] * 2, id="skips"
        ),
        pytest.param(
            f"<tool_call>{{}}</tool_call><tool_call>{F}</tool_call>",
            [{"f": {"x": 1}}],
            id="last block",
        ),
        pytest.param('<tool_call>{"name": "None", "parameters": {}}</tool_call>', [], id="None"),
        pytest.param(f"<tool_call>{F}", None, id="never closed"),
        pytest.param(f"</tool_call>{F}<tool_call>", None, id="wrong order"),
        pytest.param('<tool_call>{"name": 1, "parameters": {}}</tool_call>', [], id="no name"),
        pytest.param('<tool_call>{"name": "f", "parameters": []}</tool_call>', [], id="no object"),
        pytest.param(f"<tool_call>{'1' * 5000}</tool_call>", [], id="5,000 digits"),
        pytest.param(f"<tool_call>{'[' * 10**5}</tool_call>", [], id="deep nesting"),
        pytest.param("<tool_call>" + "1\n" * 2000 + "</tool_call>", None, id="2,000 lines"),
    ],
)
def test_json_calls_by_hand(text, calls):
    assert parse_json_calls(text) == calls
    assert parse_calls(text) == calls


@pytest.mark.parametrize(
    ("category", "text", "valid"),
    [
        ("irrelevance", "There is no such tool.", True),
        ("irrelevance", "[]", True),
        ("live_irrelevance", "f(x=1)", False),
        ("irrelevance", '<tool_call>{"name": "None", "parameters": {}}</tool_call>', True),
        ("live_relevance", "f(x=1)", True),
        ("live_relevance", "[]", False),
        ("live_relevance", "There is no such tool.", False),
    ],
)
def test_relevance_by_hand(category, text, valid):
    assert check_answer(text, {"id": f"{category}_3", "function": TWO}).valid == valid


def test_other_languages_and_several_turns_are_not_scored_and_not_zero():
    row = {"function": TWO, "ground_truth": [{"f": {"x": [1]}}]}
    examples = [
        row | {"id": name} for name in ("simple_1", "java_1", "javascript_1", "multi_turn_base_1")
    ]
    out = rewards.score([rewards.REWARDS["bfcl"]], ["f(x=1)"] * 4, examples)
    assert out.where[:, 0].tolist() == [True, False, False, False]
    assert out.rewards[0, 0] == 1.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({}, "must have an id", id="no id"),
        pytest.param({"id": "simple_1"}, "must have function", id="no function"),
        pytest.param({"id": "simple_1", "function": TWO}, "must have ground_truth", id="no answer"),
        pytest.param(
            {"id": "multiple_1", "function": TWO, "ground_truth": [{"h": {}}]},
            "must describe the function of each answer",
            id="undescribed answer",
        ),
        pytest.param(
            {
                "id": "simple_1",
                "function": [function(x="char")],
                "ground_truth": [{"f": {"x": [1]}}],
            },
            "the type of parameter 'x' must be one of",
            id="type of Java",
        ),
    ],
)
def test_a_broken_row_is_the_users_fault_and_not_the_policys(row, message):
    with pytest.raises(ValueError, match=message):
        bfcl(["f(x=1)"], [row])


def test_a_category_has_one_checker():
    with pytest.raises(ValueError, match="category must be one of simple"):
        check_calls([], TWO, [], "irrelevance")
    with pytest.raises(ValueError, match="category must be one of irrelevance"):
        check_relevance([], "simple")


def test_the_table_by_hand():
    yes, no = [True], [False]
    table = summarize(
        {
            "simple": yes * 3 + no,  # 3/4
            "multiple": yes + no,  # 1/2
            "parallel": yes,  # 1
            "parallel_multiple": no,  # 0
            "irrelevance": yes + no,  # 1/2
            "live_simple": yes + no,  # these six: 1 + 3 + 0 + 1 + 1 + 0 of 10
            "live_multiple": yes * 3,
            "live_parallel": no,
            "live_parallel_multiple": yes,
            "live_irrelevance": yes + no,
            "live_relevance": no,
        }
    )
    values = {name: average.value for name, average in table.items()}
    assert values == pytest.approx(
        {
            "live_ast": 5 / 7,
            "live": 6 / 10,
            "non_live_ast": (3 / 4 + 1 / 2 + 1 + 0) / 4,
            "non_live": (3 / 4 + 1 / 2 + 1 + 0 + 1 / 2) / 5,
            "irrelevance": 1 / 2,
            "relevance": 0,
            "ast": (5 / 7 + 9 / 16) / 2,
            "overall": (6 / 10 + 11 / 20) / 2,
        }
    )
    assert {name: average.num_answers for name, average in table.items()} == {
        "live_ast": 7,
        "live": 10,
        "non_live_ast": 8,
        "non_live": 10,
        "irrelevance": 4,
        "relevance": 1,
        "ast": 15,
        "overall": 20,
    }
    for name in ("non_live_ast", "non_live", "ast", "overall"):
        assert "Java and JavaScript are out" in table[name].note
    for name in ("ast", "overall"):
        assert "multi-turn is out" in table[name].note


def test_a_missing_category_leaves_no_number_that_needs_it():
    table = summarize({name: [True] for name in AST_CATEGORIES if name != "parallel"})
    known = {name for name, average in table.items() if not math.isnan(average.value)}
    assert known == {"live_ast"}
    with pytest.raises(ValueError, match="category must be one that is scored, got 'java'"):
        summarize({"java": [True]})


SIZE = 64 * 1024
REPEATED = {
    "calls": ("", "f(a=1),", ""),
    "formatted strings": ("f(a=f'", "{1}", "')"),
    "dict": ("f(a={", "1:1,", "})"),
    "names": ("", "a,", ""),
    "minus": ("f(a=", "-", "1)"),
    "sum": ("f(a=1", "+1", ")"),
    "chain of calls": ("f", "()", ""),
    "attributes": ("a", ".a", "()"),
    "conditions": ("f(a=", "1 if 1 else ", "1)"),
    "lambdas": ("f(a=", "lambda:", "1)"),
    "open brackets": ("", "[", ""),
    "call in a call": ("f(a=", "g(", ")"),
    "letters that normalise": ("", "ℌ", "()"),
    "prose": ("", "word ", ""),
    "JSON lines": ("<tool_call>", "{}\n", "</tool_call>"),
    "JSON in JSON": ('<tool_call>{"name":"f","parameters":', '{"a":', "1</tool_call>"),
    "long value": ('<tool_call>{"name":"f","parameters":{"x":"', "a", '"}}</tool_call>'),
    "long list": ('<tool_call>{"name":"f","parameters":{"x":[', "0,", "0]}}</tool_call>"),
    "blocks": ("", "<tool_call>{}</tool_call>", ""),
}


@pytest.mark.parametrize("size", [MAX_CHARACTERS - 2, SIZE], ids=["short", "long"])
@pytest.mark.parametrize("parts", REPEATED.values(), ids=REPEATED.keys())
def test_hostile_answers_are_refused_or_read_in_bounded_time(parts, size):
    start, middle, end = parts
    text = start + middle * ((size - len(start) - len(end)) // len(middle)) + end
    row = {"id": "simple_1", "function": TWO, "ground_truth": [{"f": {"x": [2]}}]}
    began = time.thread_time()
    assert not check_answer(text, row).valid
    assert time.thread_time() - began < 5.0  # milliseconds; a quadratic pass takes longer
