"""IFEval's instructions: each kind by hand and against its rule as a regular expression, rows that
are refused, rewards, accuracies, and hostile text in linear time."""

import importlib.util
import logging
import math
import re
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards import REWARDS, channel_of, score
from rvpo_jax.rewards.instructions import (
    KINDS,
    Instruction,
    accuracies,
    instructions_loose,
    instructions_of,
    instructions_share,
    instructions_strict,
    kinds,
    loose_texts,
    loose_verdicts,
    strict_verdicts,
    verdicts,
)

AT_LEAST, LESS = "at least", "less than"


def needs(kind):
    """Skips where the library of a kind is not installed."""
    library = KINDS[kind].library
    if library:
        pytest.importorskip(library, reason="needs rvpo-jax[ifeval]")


def judge(kind, arguments, text):
    """The strict and the loose verdict."""
    found = instructions_of({"instruction_id_list": [kind], "kwargs": [arguments]})
    return *strict_verdicts(text, found), *loose_verdicts(text, found)


YES, LOOSELY, NO = (True, True), (False, True), (False, False)  # strict and loose verdict
BY_HAND = {
    "punctuation:no_comma": [
        ({}, "One; two", YES),
        ({}, "Sure, here:\nOne", LOOSELY),
        ({}, " \n\t", NO),  # an empty text follows nothing
    ],
    "startend:quotation": [
        ({}, ' "Yes." ', YES),
        ({}, '"', NO),
        ({}, '*"Yes."*', LOOSELY),
        ({}, 'Sure:\n"Yes."\nBye.', LOOSELY),
    ],
    "startend:end_checker": [
        ({"end_phrase": " Is that all? "}, 'So. "Is THAT all?"', YES),
        ({"end_phrase": "all?"}, "all?\nBye.", LOOSELY),
    ],
    "combination:repeat_prompt": [
        ({"prompt_to_repeat": "Sing. "}, " SING.la", YES),
        ({"prompt_to_repeat": "Sing."}, "I sing.", NO),
    ],
    "combination:two_responses": [
        ({}, "******\nA******B", YES),
        ({}, "A******B******C", NO),
        ({}, "A******\n******B", NO),  # an empty one between two
        ({}, "A****** A", NO),  # the same twice
        ({}, "A*****B", NO),
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, "[[a] [b]]", YES),
        ({"num_placeholders": 3}, "[[a] [b]]", NO),
        ({"num_placeholders": 1}, "[a\nb]", NO),
        ({"num_placeholders": 1}, "[]", YES),
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, "a p. s. b", YES),
        ({"postscript_marker": "P.S."}, "a PS b", NO),
        ({"postscript_marker": "P.P.S"}, "P. P. S", YES),
        ({"postscript_marker": "P.P.S"}, "P.S.", NO),
        ({"postscript_marker": "N.B."}, "n.b. x", YES),  # a plain text: its full stop is one
        ({"postscript_marker": "N.B."}, "nobs", NO),
    ],
    "detectable_format:constrained_response": [
        ({}, "So: My answer is maybe.", YES),
        ({}, "my answer is yes.", NO),
        ({}, "My *answer* is no.", LOOSELY),
    ],
    "detectable_format:json_format": [
        ({}, '```JSON\n{"a": [1, null]}\n```', YES),
        ({}, 'Here:\n{"a": 1}', LOOSELY),
        ({}, "{'a': 1}", NO),
        ({}, "7", YES),
        ({}, "7" * 5000, NO),
        ({}, "[" * 5000 + "]" * 5000, NO),
    ],
    "detectable_format:multiple_sections": [
        ({"section_spliter": " Day ", "num_sections": 3}, "Day 1Day2 day 3 Day\t44", YES),
        ({"section_spliter": "Day", "num_sections": 1}, "Day one, Day  1", NO),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 3}, "* a\n\n  - b\n-c", YES),
        ({"num_bullets": 0}, "** a\n*", YES),
        ({"num_bullets": 1}, "*\n* b", YES),  # a lone asterisk takes the next line along
        ({"num_bullets": 1}, "-\n- b", LOOSELY),
    ],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, "*a* *b", NO),
        ({"num_highlights": 2}, "*a* **b**", YES),
        ({"num_highlights": 1}, "* * ** ** *a\nb*", NO),
    ],
    "detectable_format:title": [
        ({}, "a <<b>> c", YES),
        ({}, "<<>>\n<< >>\n<<a\nb>>\n>><<", NO),
        ({}, "<<<>>", NO),  # nothing but brackets
    ],
    "keywords:existence": [
        ({"keywords": ["rain", "SUN"]}, "Sunny, no Rainbow", YES),
        ({"keywords": ["rain", "snow"]}, "Sunny, no Rainbow", NO),
        ({"keywords": ["a.b"]}, "axb", NO),  # a plain text
        ({"keywords": ["(a+)+$"]}, "so (a+)+$ is found", YES),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["rock"]}, "rocks, bedrock", YES),
        ({"forbidden_words": ["x", "rock"]}, "the ROCK.", NO),
        ({"forbidden_words": ["C++"]}, "I like C++", NO),
        ({"forbidden_words": ["rock"]}, "Rock:\nstone", LOOSELY),
    ],
    "keywords:frequency": [
        ({"keyword": "tea ", "frequency": 3, "relation": AT_LEAST}, "Tea, teapots, sTEAm", YES),
        ({"keyword": "tea", "frequency": 3, "relation": LESS}, "Tea, teapots, sTEAm", NO),
        ({"keyword": "aa", "frequency": 2, "relation": LESS}, "aaa", YES),  # without overlap
    ],
    "keywords:letter_frequency": [
        ({"letter": "A", "let_frequency": 3, "let_relation": AT_LEAST}, "banana", YES),
        ({"letter": "A", "let_frequency": 3, "let_relation": LESS}, "banana", NO),
        ({"letter": "#", "let_frequency": 1, "let_relation": LESS}, "#\nb", LOOSELY),
    ],
    "length_constraints:number_words": [
        ({"num_words": 3, "relation": LESS}, "a-b_c", YES),
        ({"num_words": 3, "relation": LESS}, "a b c", NO),
        ({"num_words": 3, "relation": AT_LEAST}, "a b c", YES),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, "***a***b", YES),
        ({"num_paragraphs": 2}, "a*** ***b", NO),
        ({"num_paragraphs": 1}, "a", YES),
    ],
    "length_constraints:nth_paragraph_first_word": [
        (
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Send"},
            "One.\n\n'SEND!' he said.",
            YES,
        ),
        ({"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "b"}, "a\n\nb", NO),
        # The empty part between four line feeds does not count, and yet is the second one.
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"}, "one\n\n\n\ntwo", NO),
        ({"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "two"}, "one", NO),
    ],
    "length_constraints:number_sentences": [
        # Dr. is an abbreviation, and a line feed ends nothing.
        ({"num_sentences": 2, "relation": AT_LEAST}, "Dr. Who sleeps. He dreams\nof me", YES),
        ({"num_sentences": 3, "relation": AT_LEAST}, "Dr. Who sleeps. He dreams\nof me", NO),
    ],
    "change_case:capital_word_frequency": [
        # I, CAN, NOT, U.S. and a capital letter that has no lower case.
        (
            {"capital_frequency": 5, "capital_relation": AT_LEAST},
            "I CANNOT see the U.S. \U0001d400",
            YES,
        ),
        (
            {"capital_frequency": 6, "capital_relation": AT_LEAST},
            "I CANNOT see the U.S. \U0001d400",
            NO,
        ),
    ],
    "change_case:english_capital": [
        ({}, "THE RAIN IS IN THE HILLS TODAY", YES),
        ({}, "THE RAIN IS IN THE HILLs TODAY", NO),
    ],
    "change_case:english_lowercase": [
        ({}, "the rain is in the hills today", YES),
        ({}, "der regen ist heute in den bergen", NO),
    ],
    "language:response_language": [
        ({"language": "de"}, "Der Regen fällt heute früh", YES),
        ({"language": "ru"}, "Der Regen fällt heute früh", NO),
        ({"language": "kn"}, "12345", YES),  # no language at all
    ],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "expected"),
    [(kind, *case) for kind, cases in BY_HAND.items() for case in cases],
)
def test_by_hand(kind, arguments, text, expected):
    needs(kind)
    assert judge(kind, arguments, text) == expected


def test_every_kind_is_followed_and_broken_by_hand():
    assert set(BY_HAND) == set(KINDS)
    for kind, cases in BY_HAND.items():
        assert {expected[0] for _, _, expected in cases} == {True, False}, kind


# The kinds whose rule is a regular expression, and that expression as IFEval's code has it. It
# takes quadratic time, which does not matter here. Source: google-research/instruction_following_
# eval, Apache-2.0.
EXPRESSIONS = {
    "detectable_content:number_placeholders": ("num_placeholders", r"\[.*?\]"),
    "detectable_format:number_bullet_lists": ("num_bullets", r"^\s*\*[^\*].*$|^\s*-.*$"),
    "detectable_format:multiple_sections": ("num_sections", r"\s?S\s?\d+\s?"),
}


def count_of(kind, text, upper=40):
    """The number for which a kind's check holds: exactly, or at most."""
    number, _ = EXPRESSIONS[kind]
    more = {"section_spliter": "S"} if kind.endswith("sections") else {}
    holds = [n for n in range(upper) if KINDS[kind].check(text, **{number: n}, **more)]
    return holds[-1]


@pytest.mark.parametrize("kind", EXPRESSIONS)
@given(text=st.text("[]*- \t\n\r\x0b\u2003aS1\u0663", max_size=30))
@settings(max_examples=300)
def test_a_linear_search_finds_what_the_regular_expression_finds(kind, text):
    _, expression = EXPRESSIONS[kind]
    # Two kinds of bullets are counted apart.
    parts = expression.split("|")
    expected = sum(len(re.findall(part, text, re.MULTILINE)) for part in parts)
    assert count_of(kind, text) == expected


@given(text=st.text("<> \na", max_size=30))
@settings(max_examples=500)
def test_a_title_is_what_the_regular_expression_finds(text):
    titles = re.findall(r"<<[^\n]+>>", text)
    expected = any(title.lstrip("<").rstrip(">").strip() for title in titles)
    assert KINDS["detectable_format:title"].check(text) == expected


@given(text=st.text("* \na", max_size=30))
@settings(max_examples=500)
def test_paragraphs_are_what_the_regular_expression_splits(text):
    filled = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    broken = not all(filled[1:-1])
    check = KINDS["length_constraints:number_paragraphs"].check
    holds = [n for n in range(31) if check(text, num_paragraphs=n)]
    assert holds == ([] if broken else [sum(filled)])


@given(text=st.text("Ab.'\" \n", max_size=40))
@settings(max_examples=200)
def test_words_without_a_capital_letter_do_not_change_how_many_have_only_capitals(text):
    tokenizer = pytest.importorskip("nltk.tokenize", reason="needs rvpo-jax[ifeval]")
    words = tokenizer.NLTKWordTokenizer().tokenize(text)
    expected = sum(word.isupper() for word in words)
    check = KINDS["change_case:capital_word_frequency"].check
    assert check(text, capital_frequency=expected, capital_relation=AT_LEAST)
    assert check(text, capital_frequency=expected + 1, capital_relation=LESS)


def test_loosely_the_first_line_the_last_one_and_asterisks_may_go():
    assert loose_texts("*a\nb*\n c") == ["*a\nb*\n c", "b*\n c", "*a\nb*", "b*"] + [
        "a\nb\n c",
        "b\n c",
        "a\nb",
        "b",
    ]
    assert loose_texts("a") == ["a"]
    assert loose_texts(" \n*") == [" \n*", "*"]
    assert loose_texts("\n") == []


@given(st.text('*"<>[],\nPa. ', max_size=30))
@settings(max_examples=200)
def test_what_is_followed_strictly_is_followed_loosely(text):
    found = [
        Instruction(kind, cases[0][0])
        for kind, cases in BY_HAND.items()
        if KINDS[kind].library is None
    ]
    strict, loose = strict_verdicts(text, found), loose_verdicts(text, found)
    assert all(b for a, b in zip(strict, loose, strict=True) if a)


NO_COMMA = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
WORDS = "length_constraints:number_words"


@pytest.mark.parametrize(
    ("example", "messages"),
    [
        pytest.param(
            {"instruction_id_list": "punctuation:no_comma", "kwargs": [{}]},
            ["instruction_id_list of example 3 must be a list, got str 'punctuation:no_comma'"],
            id="a text for names",
        ),
        pytest.param(NO_COMMA | {"kwargs": None}, ["kwargs of example 3", "NoneType"], id="none"),
        pytest.param(
            NO_COMMA | {"kwargs": [{}, {}]},
            ["example 3 must have as many kwargs as instructions, got 2 and 1"],
            id="too many",
        ),
        pytest.param(NO_COMMA | {"kwargs": ["{}"]}, ["must be an object, got str"], id="a text"),
        pytest.param(
            NO_COMMA | {"kwargs": [{"comma": 1}]},
            ["must have the arguments none; got 'comma'", "Leave it out"],
            id="argument of a kind without any",
        ),
        pytest.param(
            {"instruction_id_list": ["punctuation:no_commas"], "kwargs": [{}]},
            [
                "the name of instruction 0 of example 3 must be one of IFEval's 25, got "
                "'punctuation:no_commas'",
                "Did you mean punctuation:no_comma?",
            ],
            id="misspelt",
        ),
        pytest.param(
            {"instruction_id_list": ["\x1b" * 10**6], "kwargs": [{}]}, ["Known are"], id="hostile"
        ),
        pytest.param({"instruction_id_list": [7], "kwargs": [{}]}, ["got '7'"], id="no text"),
    ],
)
def test_a_row_that_is_not_ifevals_is_refused_with_its_place(example, messages):
    with pytest.raises(Refusal) as raised:
        instructions_of(example, 3)
    assert all(message in str(raised.value) for message in messages), str(raised.value)
    assert str(raised.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (WORDS, {"num_words": 3}, "relation is missing"),
        (WORDS, {"num_words": 3, "relation": None}, "relation is missing"),
        (WORDS, {"num_words": "3", "relation": LESS}, "num_words of instruction 1 of example 3"),
        (WORDS, {"num_words": True, "relation": LESS}, "must be a whole number >= 0, got bool"),
        (WORDS, {"num_words": -1, "relation": LESS}, "got int '-1'"),
        (WORDS, {"num_words": 3.0, "relation": LESS}, "got float '3.0'"),
        (WORDS, {"num_words": 3, "relation": "more than"}, "'at least' or 'less than'"),
        (WORDS, {"num_words": 3, "relation": ["less than"]}, "'at least' or 'less than'"),
        (WORDS, {"num_wrods": 3, "relation": LESS}, "Did you mean num_words?"),
        ("keywords:existence", {"keywords": "rain"}, "a list of at least one text, got str"),
        ("keywords:existence", {"keywords": []}, "a list of at least one text"),
        ("keywords:existence", {"keywords": ["a", 1]}, "a list of at least one text"),
        ("keywords:existence", {"keywords": ["a", " "]}, "a list of at least one text"),
        ("startend:end_checker", {"end_phrase": ""}, "a text with more than white space"),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": LESS},
            "one character",
        ),
        ("language:response_language", {"language": "zh"}, "zh-cn"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"},
            "a whole number >= 1",
        ),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused_with_its_place(kind, arguments, message):
    example = {
        "instruction_id_list": ["punctuation:no_comma", kind],
        "kwargs": [{}, arguments],
    }
    with pytest.raises(Refusal, match=re.escape(message)) as raised:
        instructions_of(example, 3)
    assert "of instruction 1 of example 3" in str(raised.value)


def test_arguments_that_are_none_are_absent_as_in_some_copies_of_the_data():
    full = {"num_words": np.int64(3), "relation": LESS, "keywords": None, "letter": None}
    example = {"instruction_id_list": [WORDS], "kwargs": [full]}
    assert instructions_of(example) == [Instruction(WORDS, {"num_words": 3, "relation": LESS})]


TWO = {
    "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
    "kwargs": [{}, {}],
}


def test_the_three_rewards():
    texts = ['"Yes."', "Yes.", "Yes, sir.", "Sure, sir:\n*" + '"Yes."*', ""]
    examples = [TWO] * len(texts)
    np.testing.assert_array_equal(instructions_strict(texts, examples), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(instructions_loose(texts, examples), [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(instructions_share(texts, examples), [1, 0.5, 0, 0, 0])


def test_the_rewards_are_built_in_and_leave_rows_without_instructions_alone():
    names = ["instructions_strict", "instructions_loose", "instructions_share"]
    fns = [REWARDS[name] for name in names]
    assert [channel_of(fn).name for fn in fns] == names
    others = [{}, {"instruction_id_list": None, "kwargs": None}, {"instruction_id_list": []}]
    out = score(fns, ["Yes."] * 4, [TWO, *others])
    np.testing.assert_array_equal(out.where, [[True] * 3] + 3 * [[False] * 3])
    np.testing.assert_array_equal(out.rewards[0], np.float32([0, 0, 0.5]))


@pytest.fixture
def without_langdetect(monkeypatch):
    caches = (kinds._is_installed, verdicts._is_skipped)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setitem(sys.modules, "langdetect", None)
    yield
    for cache in caches:
        cache.cache_clear()


def test_a_kind_without_its_library_is_not_scored_whatever_the_text(without_langdetect, caplog):
    example = {
        "instruction_id_list": ["punctuation:no_comma", "change_case:english_capital"],
        "kwargs": [{}, {}],
    }
    # The middle ones break the rule in any language, or the other rule: still not scored.
    texts = ["YES", "no", "YES, SIR", ""]
    with caplog.at_level(logging.WARNING):
        for fn in (instructions_strict, instructions_loose):
            assert np.isnan(fn(texts, [example] * 4)).all()
        share = instructions_share(texts, [example] * 4)
    np.testing.assert_array_equal(share, [1, 1, 0, 0])
    assert [record.getMessage() for record in caplog.records] == [
        "instructions of this kind are not scored: change_case:english_capital needs langdetect: "
        "pip install 'rvpo-jax[ifeval]'."
    ]


def test_a_text_has_one_language_however_often_it_is_asked():
    langdetect = pytest.importorskip("langdetect", reason="needs rvpo-jax[ifeval]")
    language = importlib.import_module("rvpo_jax.rewards.instructions.language")
    seed = langdetect.DetectorFactory.seed
    found = set()
    for _ in range(20):  # unseeded, langdetect says Polish once in three times, else Finnish
        language._language_of.cache_clear()
        found.add(language._language_of("Otec matka syn."))
    assert len(found) == 1
    assert langdetect.DetectorFactory.seed is seed


def test_the_known_languages_are_those_of_langdetect():
    pytest.importorskip("langdetect", reason="needs rvpo-jax[ifeval]")
    language = importlib.import_module("rvpo_jax.rewards.instructions.language")
    assert set(language._factory().get_lang_list()) == language.LANGUAGES


def test_the_four_accuracies_by_hand():
    strict = [[True, False], [True], [False, False], [True, None]]
    loose = [[True, True], [True], [False, True], [True, None]]
    # The last prompt is not scored as a whole, and one of its instructions is not.
    assert accuracies(strict, loose) == (1 / 3, 2 / 3, 3 / 6, 5 / 6, 3, 6)


def test_accuracies_of_nothing_are_unknown():
    for rows in ([], [[]], [[None]]):
        found = accuracies(rows, rows)
        assert all(map(math.isnan, found[:4])) and found[4:] == (0, 0)


@pytest.mark.parametrize(
    "loose", [[[True]], [[True], [True, True]], [[True, None], [True]], [[True, True], [None]]]
)
def test_strict_and_loose_verdicts_must_be_on_the_same(loose):
    with pytest.raises(Refusal, match="must be on the same"):
        accuracies([[True, True], [True]], loose)


SIZE = 1 << 18
HOSTILE = {
    "brackets": "[" * SIZE,
    "closing brackets": "]" * SIZE,
    "angles": "<" * SIZE,
    "angles and one end": "<" * SIZE + ">>",
    "closing angles": "<<" + ">" * SIZE,
    "asterisks": "*" * SIZE,
    "asterisks apart": "* " * (SIZE // 2),
    "asterisk and letters": "*" + "a" * SIZE,
    "dashes": "-" * SIZE,
    "line feeds": "\n" * SIZE,
    "spaces": " " * SIZE,
    "spaces and a letter": " " * SIZE + "a",
    "spaced lines": " \n" * (SIZE // 2) + "a",
    "carriage returns": "\r" * SIZE + "a",
    "quotes": '"' * SIZE,
    "apostrophes": "'" * SIZE,
    "letters": "a" * SIZE,
    "keyword, almost": "weeken" * (SIZE // 6),
    "sections": "Section" * (SIZE // 7),
    "digits": "Section " + "9" * SIZE,
    "postscripts": "p.p" * (SIZE // 3),
    "deep JSON": "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "deep objects": '{"a":' * (SIZE // 5),
    "fences": "```" * (SIZE // 3),
    "NULs": "\0" * SIZE,
    "surrogates": "\ud800" * SIZE,
    "combining marks": "\u0301" * SIZE,
    "capital sharp s": "\u1e9e" * SIZE,  # grows when it is folded
    "dotted I": "\u0130" * SIZE,
}
PLAIN = [kind for kind in KINDS if KINDS[kind].library is None]
# One of each; the first word is one that hostile texts come near to.
ARGUMENTS = {kind: cases[0][0] for kind, cases in BY_HAND.items()} | {
    "keywords:existence": {"keywords": ["weekend", "aaaaaaaab"]},
    "keywords:forbidden_words": {"forbidden_words": ["weekend", "aaaaaaaab"]},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 3},
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_judged_in_linear_time(text):
    found = [Instruction(kind, ARGUMENTS[kind]) for kind in PLAIN]
    # All twenty take well under a second; IFEval's own expressions take minutes for one.
    start = time.thread_time()
    result = strict_verdicts(text, found)
    assert time.thread_time() - start < 30.0
    assert all(isinstance(verdict, bool) for verdict in result)
    short = text[:1000] + text[-1000:]
    assert all(isinstance(verdict, bool) for verdict in loose_verdicts(short, found))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].library])
def test_hostile_text_does_not_end_a_run_where_a_library_judges(kind):
    needs(kind)
    found = [Instruction(kind, ARGUMENTS[kind])]
    more = {"initials": "A. " * 700, "ends": "?! " * 700, "addresses": "a@" * 700}
    for text in (HOSTILE | more).values():
        for case in (text[:2000], text[:2000].upper()):
            assert isinstance(strict_verdicts(case, found)[0], bool)
