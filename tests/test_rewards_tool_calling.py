"""ToolRL's format and correctness rewards: reference vectors, frozen verdicts, hostile text."""

import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from rvpo_jax import rewards
from rvpo_jax.rewards import score
from rvpo_jax.rewards.tool_calling import toolrl_correctness, toolrl_format

THINK = "<think> x </think>"


def calls(*lines, think=THINK):
    return f"{think}\n<tool_call>\n" + "\n".join(lines) + "\n</tool_call>"


F = '{"name": "f", "parameters": {"x": 1, "y": "b"}}'
G = '{"name": "g", "parameters": {}}'
H = '{"name": "h", "parameters": {"z": 2}}'
F1 = '{"name": "f", "parameters": {"x": 1}}'
ONE, TWO, TWO_SHORT = calls(F), calls(F, H), calls(F1, H)
RESPONSE = f"{THINK}\n<response> Hi. </response>"
BOTH = f"{ONE}\n<response> Hi. </response>"


def of(reference, completion):
    example = [{"ground_truth": reference}]
    return toolrl_format([completion], example)[0], toolrl_correctness([completion], example)[0]


# The largest score of F is 1 + 1 + 2 = 4, of F and H 6, of F1 and H 5.
@pytest.mark.parametrize(
    ("reference", "completion", "form", "correctness"),
    [
        pytest.param(ONE, ONE, 1, 3.0, id="exact"),
        # 1 + 1 + 1 of 4
        pytest.param(ONE, ONE.replace("1", "7"), 1, 1.5, id="wrong value"),
        pytest.param(ONE, ONE.replace("1", '"1"'), 1, 1.5, id="number as text"),
        pytest.param(ONE, ONE.replace("1", "1.0"), 1, 3.0, id="number as float"),
        pytest.param(ONE, ONE.replace("1", "true"), 1, 3.0, id="number as true"),
        # 1 + 1/2 + 1 of 4
        pytest.param(ONE, ONE.replace(', "y": "b"', ""), 1, 0.75, id="parameter missing"),
        # 1 + 2/3 + 2 of 4
        pytest.param(ONE, ONE.replace('"b"', '"b", "z": 0'), 1, 2.5, id="extra parameter"),
        pytest.param(
            ONE, ONE.replace("1", "true").replace('"b"', '"b", "z": 0'), 1, 2.5, id="true and extra"
        ),
        pytest.param(ONE, ONE.replace('"f"', '"g"'), 1, -3.0, id="wrong tool"),
        # 1 + 0 + 0 of 4
        pytest.param(
            ONE, ONE.replace('"x"', '"u"').replace('"y"', '"v"'), 1, -1.5, id="other parameters"
        ),
        pytest.param(ONE, calls('{"name": "f", "parameters": {}}'), 1, -1.5, id="no parameters"),
        # 1/2 + 1 + 2 of 4
        pytest.param(ONE, calls(F, G), 1, 2.25, id="extra call"),
        pytest.param(ONE, calls(F, F), 1, 2.25, id="same call twice"),
        # 1/3 + 1 + 2 of 4
        pytest.param(ONE, calls(F, F, F), 1, 2.0, id="same call three times"),
        # The call that matches is taken, not the first one of that name.
        pytest.param(
            ONE, calls('{"name": "f", "parameters": {}}', F), 1, 2.25, id="best of two calls"
        ),
        # Not equal as a list because of "id", yet the full score.
        pytest.param(ONE, ONE.replace("}}", '}, "id": 9}'), 1, 3.0, id="extra top-level key"),
        pytest.param(ONE, calls('{"name": "f"}'), 1, -3.0, id="no parameters key"),
        pytest.param(ONE, calls('{"parameters": {"x": 1}}'), 1, -3.0, id="no name key"),
        pytest.param(
            ONE, calls('{"name": "f", "parameters": ["x"]}'), 1, -3.0, id="parameters a list"
        ),
        pytest.param(
            ONE, calls('{"name": ["f"], "parameters": {}}'), 1, -3.0, id="name not hashable"
        ),
        pytest.param(ONE, calls(F[:-1]), 1, -3.0, id="invalid JSON"),
        pytest.param(ONE, calls(f"[{F}]"), 1, -3.0, id="JSON array"),
        pytest.param(ONE, calls(json.dumps(json.loads(F), indent=1)), 1, -3.0, id="pretty-printed"),
        pytest.param(ONE, ONE.removesuffix("\n</tool_call>"), 0, -3.0, id="block never closed"),
        pytest.param(ONE, ONE[:-20], 0, -3.0, id="truncated"),
        pytest.param(ONE, "", 0, -3.0, id="empty"),
        pytest.param(ONE, calls(""), 1, -3.0, id="empty block"),
        pytest.param(
            ONE, f"{THINK}\n<tool_call>\n</tool_call>", 0, -3.0, id="block without a line"
        ),
        pytest.param(ONE, ONE.removeprefix(THINK + "\n"), 0, 3.0, id="no thought"),
        pytest.param(ONE, ONE + "\nDone.", 0, 3.0, id="text after"),
        pytest.param(ONE, "So: " + ONE, 0, 3.0, id="text before"),
        pytest.param(ONE, f" \n{ONE}\n ", 1, 3.0, id="white space around"),
        pytest.param(ONE, BOTH, 0, 3.0, id="extra response"),
        pytest.param(ONE, ONE.replace("</think>\n", "</think> "), 0, 3.0, id="space after thought"),
        pytest.param(ONE, f"{ONE}\n<tool_call>\n{F}\n</tool_call>", 0, 3.0, id="block repeated"),
        pytest.param(ONE, RESPONSE, 0, -3.0, id="response instead"),
        pytest.param(
            ONE, calls(F, think="<think> a <tool_call> b </think>"), 0, -3.0, id="tag in thought"
        ),
        pytest.param(
            ONE, calls(F, think="<think> a </think> b </think>"), 1, 3.0, id="thought closed twice"
        ),
        pytest.param(ONE, "</tool_call>" + ONE, 0, 3.0, id="closing tag first"),
        pytest.param(
            ONE, calls(F, "<tool_call>", "rest"), 0, 3.0, id="opened again before it is closed"
        ),
        pytest.param(TWO, calls(H, F), 1, 3.0, id="two calls swapped"),
        # 1/2 + 1 + 2 of 6
        pytest.param(TWO, ONE, 1, 0.5, id="one of two calls"),
        # 1/2 + 1 + 1 of 5
        pytest.param(
            TWO_SHORT,
            f"{calls(F1)}\n<tool_call>\n{H}\n</tool_call>",
            0,
            0.0,
            id="two blocks of one call",
        ),
        pytest.param(TWO, calls(F, "", H), 1, -3.0, id="blank line between calls"),
        # f(x) shares nothing with f() and does not take it; the second f does. 1/2 + 1 of 4
        pytest.param(
            calls(F1, '{"name": "f", "parameters": {}}'),
            calls('{"name": "f", "parameters": {}}'),
            1,
            -0.75,
            id="nothing shared takes nothing",
        ),
        # Greedy: the first f takes the call that the second one needs. Names 1; f(x=1, y=2)
        # finds f(x=1): 1/2 + 1; f(x=1) finds f(): 0 and takes nothing. 2.5 of 1 + 3 + 2.
        pytest.param(
            calls(
                '{"name": "f", "parameters": {"x": 1, "y": 2}}',
                '{"name": "f", "parameters": {"x": 1}}',
            ),
            calls('{"name": "f", "parameters": {"x": 1}}', '{"name": "f", "parameters": {}}'),
            1,
            -0.5,
            id="greedy pairing",
        ),
        pytest.param(RESPONSE, RESPONSE, 1, 0.0, id="response answered by response"),
        pytest.param(RESPONSE, ONE, 0, 0.0, id="response answered by call"),
        pytest.param(RESPONSE, RESPONSE * 2, 0, 0.0, id="response repeated"),
        pytest.param(RESPONSE, "", 0, 0.0, id="response answered by nothing"),
        pytest.param(BOTH, BOTH, 1, 3.0, id="call and response"),
        pytest.param(BOTH, ONE, 0, 3.0, id="response left out"),
        pytest.param(BOTH, BOTH.replace("\n<resp", "<resp"), 0, 3.0, id="no line break between"),
        pytest.param(THINK, THINK, 1, 0.0, id="thought only"),
        pytest.param(THINK, "<think>", 0, 0.0, id="thought not closed"),
        pytest.param(
            calls('{"name": "mañana", "parameters": {"κ": "日本"}}'),
            calls(r'{"name": "ma\u00f1ana", "parameters": {"\u03ba": "\u65e5\u672c"}}'),
            1,
            3.0,
            id="non-ASCII and its escapes",
        ),
        pytest.param(
            *[calls('{"name": "f", "parameters": {"x": "\u2028"}}')] * 2, 1, 3.0, id="U+2028"
        ),
        # Equal to the eye, different in code points: NFC against NFD.
        pytest.param(
            calls('{"name": "f", "parameters": {"x": "\u00e9"}}'),
            calls('{"name": "f", "parameters": {"x": "e\u0301"}}'),
            1,
            1.0,  # 1 + 1 + 0 of 3
            id="no Unicode normalisation",
        ),
    ],
)
def test_toolrl_by_hand(reference, completion, form, correctness):
    assert of(reference, completion) == (form, correctness)


def shared_file(name):
    root = os.environ.get("RVPO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(root) / name
    if not path.is_file():
        pytest.skip(f"needs {name}: set RVPO_TEST_DATA to the folder that holds it")
    return path


@pytest.fixture(scope="module")
def frozen():
    """The cases that the authors' code judged, and the row of each."""
    parquet = pytest.importorskip("pyarrow.parquet")
    with gzip.open(
        shared_file("rlla/oracle/reward_cases.jsonl.gz"), "rt", encoding="utf-8"
    ) as file:
        cases = [json.loads(line) for line in file]
    rows = parquet.read_table(shared_file("rlla/rl.parquet")).to_pylist()
    rows = {row["origin"]: row for row in rows}
    return cases, [rows[case["origin"]] for case in cases]


def test_all_frozen_verdicts_of_the_authors_code_are_reproduced(frozen):
    cases, examples = frozen
    completions = [case["response"] for case in cases]

    form = toolrl_format(completions, examples)
    correctness = toolrl_correctness(completions, examples)

    assert len(cases) == 11_012
    # Exactly: the same operations in the same order as the authors'.
    np.testing.assert_array_equal(form, [case["format"] for case in cases])
    np.testing.assert_array_equal(correctness, [case["correctness"] for case in cases])


PARTS = ("toolrl_tool_names", "toolrl_argument_names", "toolrl_argument_values")


def joined(completions, examples):
    """Correctness from its three channels, and the channels; NaN where the reference calls nothing.

    The calls of the references are counted here on their own, with a line for each.
    """
    tools, names, values = (rewards.REWARDS[part](completions, examples) for part in PARTS)
    references = [example["reward_model"]["ground_truth"] for example in examples]
    blocks = [
        text.partition("<tool_call>\n")[2].partition("\n</tool_call>")[0] for text in references
    ]
    calls = [[json.loads(line) for line in block.splitlines()] for block in blocks]
    num_calls = np.array([len(each) for each in calls])
    num_arguments = np.array([sum(len(call["parameters"]) for call in each) for each in calls])
    of_values = np.where(num_arguments > 0, num_arguments * np.nan_to_num(values), 0.0)
    score = tools + num_calls * names + of_values
    return 6 * score / (1 + num_calls + num_arguments) - 3, np.stack([tools, names, values], 1)


def test_the_three_channels_add_up_to_correctness_on_all_frozen_cases(frozen):
    cases, examples = frozen
    correctness, parts = joined([case["response"] for case in cases], examples)
    has_call = np.array(["<tool_call>" in row["reward_model"]["ground_truth"] for row in examples])
    expected = np.array([case["correctness"] for case in cases])
    np.testing.assert_array_equal(np.isnan(correctness), ~has_call)
    # Not to the last digit: the parts are divided and multiplied again.
    np.testing.assert_allclose(correctness[has_call], expected[has_call], rtol=0, atol=1e-12)
    assert np.nanmin(parts) == 0.0 and np.nanmax(parts) == 1.0
    # The cases tell the channels apart.
    assert len(np.unique(parts[has_call].round(6), axis=0)) > 50


@pytest.mark.parametrize(
    ("reference", "completion", "parts"),
    [
        pytest.param(ONE, ONE, (1, 1, 1), id="exact"),
        pytest.param(ONE, ONE.replace("1", "7"), (1, 1, 1 / 2), id="wrong value"),
        pytest.param(ONE, ONE.replace('"x"', '"u"'), (1, 1 / 3, 1 / 2), id="wrong name"),
        pytest.param(ONE, ONE.replace('"f"', '"g"'), (0, 0, 0), id="wrong tool"),
        pytest.param(ONE, calls(F, G), (1 / 2, 1, 1), id="extra call"),
        pytest.param(TWO, ONE, (1 / 2, 1 / 2, 2 / 3), id="one of two calls"),
        pytest.param(ONE, "", (0, 0, 0), id="empty"),
        pytest.param(ONE, calls('{"name": "f"}'), (0, 0, 0), id="no parameters key"),
        pytest.param(calls(G), calls(G), (1, 1, None), id="no argument to compare"),
        pytest.param(calls(G), calls(F.replace("f", "g")), (1, 0, None), id="unwanted arguments"),
        pytest.param(RESPONSE, ONE, (None, None, None), id="no call in the reference"),
    ],
)
def test_the_three_channels_by_hand(reference, completion, parts):
    out = score(
        [rewards.REWARDS[name] for name in PARTS], [completion], [{"ground_truth": reference}]
    )
    scored = zip(out.rewards[0].tolist(), out.where[0].tolist(), strict=True)
    assert [value if there else None for value, there in scored] == pytest.approx(list(parts))


def test_correctness_is_masked_where_the_reference_has_no_tool_call():
    fns = [rewards.REWARDS["toolrl_format"], rewards.REWARDS["toolrl_correctness"]]
    examples = [{"ground_truth": RESPONSE}, {"ground_truth": ONE}]
    out = score(fns, [RESPONSE, ONE], examples)
    np.testing.assert_array_equal(out.where, [[True, False], [True, True]])
    np.testing.assert_array_equal(out.rewards, [[1.0, 0.0], [1.0, 3.0]])


def test_format_is_a_constraint_and_correctness_is_met_by_equal_calls_only():
    form, correctness = map(rewards.channel_of, (toolrl_format, toolrl_correctness))
    assert (form.kind, form.low, form.high, form.pass_at) == ("constraint", 0, 1, 1)
    assert (correctness.low, correctness.high, correctness.pass_at) == (-3, 3, 3)


def test_the_reference_may_stand_in_the_column_of_rlla():
    row = {"reward_model": {"ground_truth": ONE, "style": "rule"}, "ground_truth": None}
    assert toolrl_correctness([ONE], [row])[0] == 3.0
    assert toolrl_correctness([ONE], [row | {"ground_truth": RESPONSE}])[0] == 0.0


@pytest.mark.parametrize(
    ("example", "message"),
    [
        pytest.param({"answer": "x"}, "example 1 must have a text ground_truth", id="missing"),
        pytest.param({"ground_truth": 3}, "got int", id="not text"),
        pytest.param({"ground_truth": calls("{}")}, "one JSON call per line", id="no call"),
        pytest.param({"ground_truth": calls('{"name": "f"}')}, "one JSON call", id="no parameters"),
        pytest.param({"ground_truth": ONE[:-1]}, "of example 1 must hold", id="not closed"),
    ],
)
def test_a_broken_reference_is_the_users_fault_and_not_the_policys(example, message):
    with pytest.raises(ValueError, match=message):
        toolrl_correctness([ONE, ONE], [{"ground_truth": ONE}, example])


MEGABYTE = 10**6
HOSTILE = {
    "deep lists": calls("[" * MEGABYTE),
    "deep objects": calls('{"name":' * (MEGABYTE // 8)),
    "deep value": calls(F1.replace("1", "[" * 900 + "]" * 900)),
    "5,000 digits": calls(F1.replace("1", "9" * 5000)),
    "a million digits": calls("9" * MEGABYTE),
    "overflowing float": calls(F1.replace("1", "1e999")),
    "NaN": calls(F1.replace("1", "NaN")),
    "lone surrogate": calls('{"name": "\ud800", "parameters": {}}'),
    "escaped surrogate": calls(r'{"name": "\udc00", "parameters": {}}'),
    "NULs": "\0" * MEGABYTE,
    "control characters": calls("\x01\x1b[2J\u2028\u202e"),
    "opened thoughts": "<think>" * (MEGABYTE // 7),
    "closed thoughts": "<think>" + "</think>\n<tool_call>\n" * (MEGABYTE // 21),
    "newlines": "<think></think>" + "\n" * MEGABYTE,
    "closings": "<think></think>\n<tool_call>\n" + "\n</tool_call>" * (MEGABYTE // 13),
    "numbers": calls("1\n" * (MEGABYTE // 2)),
    "small calls": calls('{"name":0}\n' * (MEGABYTE // 11)),
    "many calls": calls(*['{"name":"f","parameters":{}}'] * (MEGABYTE // 29)),
    "white space": " " * MEGABYTE,
    "combining marks": "<think>" + "\u0301\u0323" * (MEGABYTE // 4) + "</think>",
    "ligatures": "<think>" + "\ufdfa" * (MEGABYTE // 3) + "</think>",
}


# What a reward needs in place of the columns of a tool call, or beside them.
COLUMNS = {
    **dict.fromkeys(["gsm8k_correctness", "gsm8k_calculations"], {"answer": "#### 18"}),
    **dict.fromkeys(
        ["instructions_strict", "instructions_loose", "instructions_share"],
        {"instruction_id_list": ["detectable_format:title"], "kwargs": [{}]},
    ),
    "length": {"max_words": 9},
    "json_schema": {"json_schema": {"type": "object"}},
    "regex": {"regex": "(a+)+$"},
    "bfcl": {"id": "simple_1", "function": [{"name": "f"}], "ground_truth": [{"f": {}}]},
}


@pytest.mark.parametrize("name", rewards.REWARDS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_megabyte_of_hostile_text_is_judged_in_linear_time_and_earns_little(name, text):
    fn = rewards.REWARDS[name]
    example = {"ground_truth": ONE, "secret": "amber"} | COLUMNS.get(name, {})
    if name in ("json_schema", "regex"):
        pytest.importorskip("jsonschema", reason="pip install 'rvpo-jax[checks]'")
        pytest.importorskip("regex", reason="pip install 'rvpo-jax[checks]'")
    # A linear pass takes a second or two on a slow machine, a quadratic one hours.
    start = time.thread_time()
    value = fn([text], [example])[0]
    assert time.thread_time() - start < 30.0
    channel = rewards.channel_of(fn)
    # NaN: not scored, because checking took too long.
    assert channel.low <= value <= channel.high or np.isnan(value)
    if name == "toolrl_correctness":
        assert value < 3.0


def test_a_deep_reference_and_a_deep_answer_do_not_end_a_run():
    # Parsing stops at the recursion limit; so may comparing what was just not too deep to parse.
    deep = calls(F1.replace("1", "[" * 300 + "]" * 300))
    assert of(deep, deep)[1] in (3.0, -3.0)
