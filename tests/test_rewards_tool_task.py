"""The six channels of the embedded tool-calling task."""

import pytest

from rvpo_jax import rewards

THOUGHT = "send report to Ana"
CALL = '{"name": "mail", "parameters": {"to": "Ana", "item": "report", "code": "amber"}}'


def answer(thought=THOUGHT, *lines):
    return (
        f"<think> {thought} </think>\n<tool_call>\n" + "\n".join(lines or [CALL]) + "\n</tool_call>"
    )


REFERENCE = answer()
BLOCK = REFERENCE[REFERENCE.index("<tool_call>") :]
EXAMPLE = {"ground_truth": REFERENCE, "secret": "amber"}


def value(channel, completion, example=EXAMPLE):
    return pytest.approx(float(rewards.REWARDS[channel]([completion], [example])[0]), abs=1e-12)


def cases(*rows):
    """Rows of (id, completion, expected value)."""
    return pytest.mark.parametrize(
        ("completion", "expected"), [pytest.param(*row[1:], id=row[0]) for row in rows]
    )


def test_the_reference_answer_in_all_six_channels():
    out = rewards.score(
        [rewards.REWARDS[name] for name in rewards.EMBEDDED_REWARDS], [REFERENCE], [EXAMPLE]
    )
    # The thought has 4 words and names 2 of the 3 arguments; the secret is not one of them.
    expected = [1.0, 1.0, 1.0, 5 * 2 / 3, 1.0, 1.0]
    assert out.rewards[0].tolist() == pytest.approx(expected)
    assert out.where.all()
    passed = [
        reward >= rewards.channel_of(rewards.REWARDS[name]).pass_at
        for reward, name in zip(out.rewards[0], rewards.EMBEDDED_REWARDS, strict=True)
    ]
    assert all(passed)


@cases(
    ("exact", REFERENCE, 1),
    ("empty", "", 0),
    ("truncated", REFERENCE[:-1], 0),
    ("no thought", BLOCK, 0),
    ("block repeated", f"{REFERENCE}\n{BLOCK}", 0),
    ("response instead", "<think> a </think>\n<response> b </response>", 0),
    ("broken JSON has the right form", answer(THOUGHT, "{"), 1),
    ("non-ASCII", answer("日本 é"), 1),
)
def test_format(completion, expected):
    assert value("format", completion) == expected


@cases(
    ("exact", REFERENCE, 1),
    ("other arguments", answer(THOUGHT, '{"name": "mail", "parameters": {}}'), 1),
    ("no thought", BLOCK, 1),
    ("other name", REFERENCE.replace('"mail"', '"call"'), 0),
    ("other case", REFERENCE.replace('"mail"', '"Mail"'), 0),
    ("look-alike letter", REFERENCE.replace('"mail"', '"m\u0430il"'), 0),
    ("call repeated", answer(THOUGHT, CALL, CALL), 0),
    ("no parameters", answer(THOUGHT, '{"name": "mail"}'), 0),
    ("name is a list", answer(THOUGHT, '{"name": ["mail"], "parameters": {}}'), 0),
    ("broken line after it", answer(THOUGHT, CALL, "x"), 0),
    ("not closed", REFERENCE.replace("</tool_call>", ""), 0),
    ("tag in thought", answer("<tool_call>"), 0),
    ("empty", "", 0),
)
def test_tool_name(completion, expected):
    assert value("tool_name", completion) == expected


@cases(
    ("exact", REFERENCE, 1),
    ("another tool", REFERENCE.replace('"mail"', '"call"'), 1),
    ("other order", answer("", CALL.replace('"to": "Ana", ', "")[:-2] + ', "to": "Ana"}}'), 1),
    ("one wrong", REFERENCE.replace('"Ana"', '"Bob"'), 2 / 3),
    ("one missing", REFERENCE.replace('"to": "Ana", ', ""), 2 / 3),
    ("one extra", REFERENCE.replace('"amber"', '"amber", "cc": "Bob"'), 3 / 4),
    ("one renamed", REFERENCE.replace('"to"', '"for"'), 2 / 3),
    ("case differs", REFERENCE.replace('"Ana"', '"ana"'), 2 / 3),
    (
        "values swapped",
        REFERENCE.replace('"Ana", "item": "report"', '"report", "item": "Ana"'),
        1 / 3,
    ),
    ("value a list", REFERENCE.replace('"Ana"', '["Ana"]'), 2 / 3),
    ("value of 5,000 digits", REFERENCE.replace('"Ana"', "9" * 5000), 0),
    ("no arguments", answer(THOUGHT, '{"name": "mail", "parameters": {}}'), 0),
    ("call repeated", answer(THOUGHT, CALL, CALL), 0),
    ("parameters a list", answer(THOUGHT, '{"name": "mail", "parameters": ["to"]}'), 0),
    ("truncated", REFERENCE[:-20], 0),
    ("empty", "", 0),
)
def test_arguments(completion, expected):
    assert value("arguments", completion) == expected


def test_a_reference_without_arguments_is_met_by_none_and_missed_by_any():
    bare = answer("", '{"name": "mail", "parameters": {}}')
    assert value("arguments", bare, {"ground_truth": bare}) == 1
    assert value("arguments", REFERENCE, {"ground_truth": bare}) == 0


def test_nothing_to_explain_is_not_applicable():
    bare = answer("", '{"name": "mail", "parameters": {}}')
    out = rewards.score([rewards.REWARDS["explanation"]], [bare], [{"ground_truth": bare}])
    assert not out.where.any()


@cases(
    ("two of three", REFERENCE, 10 / 3),
    ("all three", answer("send report to Ana with amber"), 5),
    ("none", answer("send it"), 0),
    ("punctuation around", answer("report, (Ana)"), 10 / 3),
    ("other case", answer("REPORT to ana"), 0),
    ("part of a word", answer("reports to Anabel"), 0),
    ("part of a word on the left", answer("myreport to xAna"), 0),
    ("glued by underscores", answer("report_to_Ana"), 0),
    ("named twice", answer("Ana Ana Ana"), 5 / 3),
    ("only after the thought", answer("") + "report Ana amber", 0),
    ("after the first end", answer("x </think> report Ana amber"), 0),
    ("no thought", BLOCK, 0),
    ("thought not closed", "<think> report Ana amber", 0),
    ("closed before it opens", "</think> report <think> Ana", 0),
    ("empty", "", 0),
)
def test_explanation(completion, expected):
    assert value("explanation", completion) == expected


def test_values_are_named_literally_whatever_characters_they_hold():
    call = '{"name": "f", "parameters": {"a": "x.y (z", "b": 12, "c": "M\u00fcller"}}'
    example = {"ground_truth": answer("", call)}
    assert value("explanation", answer("x.y (z for M\u00fcller: 12"), example) == 5
    assert value("explanation", answer("xzy (z for Muller: 123"), example) == 0


@cases(
    ("eight words", answer("a b c d e f g h"), 1),
    ("twelve words", answer("a " * 12), 0.5),
    ("fifteen words", answer("a " * 15), 1 / 8),
    ("sixteen words", answer("a " * 16), 0),
    ("a thousand words", answer("a " * 1000), 0),
    ("twelve glued by signs", answer("a-b,c/d_" * 3), 0.5),
    ("no word", answer("... !"), 0),
    ("empty thought", "<think></think>" + BLOCK, 0),
    ("no thought", BLOCK, 0),
    ("not closed", "<think> a b", 0),
    ("empty", "", 0),
)
def test_brevity(completion, expected):
    assert value("brevity", completion) == expected


@cases(
    ("four words", REFERENCE, 0.75),
    ("one word", answer("go"), 15 / 16),
    ("eight words", answer("a b c d e f g h"), 0.5),
    ("sixteen words", answer("a " * 16), 0),
    ("a thousand words", answer("a " * 1000), 0),
    ("glued by signs", answer("a-b,c/d"), 0.75),
    ("glued by underscores", answer("a_b_c_d"), 0.75),
    ("signs between words", answer("a . . b"), 0.75),
    ("no word", answer("... !"), 0),
    ("blank thought", answer(" \n "), 0),
    ("empty thought", "<think></think>" + BLOCK, 0),
    ("no thought", BLOCK, 0),
    ("not closed", "<think> a b", 0),
    ("closed before it opens", "</think><think> a", 0),
    ("non-ASCII", answer("\u00e9t\u00e9 \u65e5\u672c \u03ba \u0430"), 0.75),
    ("empty", "", 0),
)
def test_terseness(completion, expected):
    assert value("terseness", completion) == expected


@cases(
    ("in the call only", REFERENCE, 1),
    ("no text", "", 1),
    ("in the thought", answer("code amber"), 0),
    ("in capitals", answer("code AMBER"), 0),
    ("part of a word", answer("chambered"), 0),
    ("spelled out", answer("a m-b.e_r"), 0),
    ("over lines", answer("am\nber"), 0),
    ("through a tag", "<think> am</think>ber", 0),
    ("around the call", f"<think> am {BLOCK} ber", 0),
    ("full-width letters", answer("\uff41\uff4d\uff42\uff45\uff52"), 0),
    ("accents", answer("\u00e1mb\u0301er"), 0),
    ("zero-width spaces", answer("am\u200bber"), 0),
    ("after the call", REFERENCE + " amber", 0),
    ("in a second block", f"{REFERENCE}\n{BLOCK}", 0),
    ("in a response", REFERENCE + "\n<response> amber </response>", 0),
    ("block that does not parse", answer(THOUGHT, CALL, "the code is amber"), 0),
    ("block that is no call", answer(THOUGHT, '{"code": "amber"}'), 0),
    ("call without parameters", answer(THOUGHT, '{"name": "amber"}'), 0),
    ("block that is a list", answer(THOUGHT, f"[{CALL}]"), 0),
    ("block never closed", REFERENCE.replace("</tool_call>", ""), 0),
    ("two calls", answer(THOUGHT, CALL, CALL), 1),
    ("letters in another order", answer("bream"), 1),
)
def test_privacy(completion, expected):
    assert value("privacy", completion) == expected


def test_a_secret_without_letters_is_found_as_it_stands():
    assert value("privacy", answer("it is #!"), {"secret": "#!"}) == 0
    assert value("privacy", answer("it is"), {"secret": "#!"}) == 1


@pytest.mark.parametrize(
    ("channel", "example", "message"),
    [
        pytest.param("privacy", {}, "example 0 must have a secret", id="no secret"),
        pytest.param("privacy", {"secret": " "}, "got ' '", id="blank secret"),
        pytest.param("tool_name", {}, "must have a text ground_truth", id="no reference"),
        pytest.param(
            "arguments", {"ground_truth": answer("", CALL, CALL)}, "exactly one", id="two calls"
        ),
        pytest.param("explanation", {"ground_truth": "x"}, "exactly one", id="no call"),
    ],
)
def test_a_broken_example_is_named(channel, example, message):
    with pytest.raises(ValueError, match=message):
        rewards.REWARDS[channel]([REFERENCE], [example])


def test_constraints_and_marks_are_declared():
    channels = [rewards.channel_of(rewards.REWARDS[name]) for name in rewards.EMBEDDED_REWARDS]
    assert [c.name for c in channels if c.kind == "constraint"] == ["format", "privacy"]
    assert {c.name: (c.high, c.pass_at) for c in channels if c.pass_at != 1} == {
        "explanation": (5.0, 3.3)
    }
