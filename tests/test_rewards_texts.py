"""Rewards of any text: length, repetition, personal data, secrets, JSON schemas, patterns."""

import builtins
import time

import numpy as np
import pytest

from rvpo_jax import rewards
from rvpo_jax.rewards import checks, personal_data
from rvpo_jax.rewards.text_size import distinct_ngrams


def value(name, text, **columns):
    return float(rewards.REWARDS[name]([text], [columns])[0])


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        pytest.param("a b c", {"max_words": 3}, 1.0, id="at most"),
        pytest.param("a b c d", {"max_words": 3}, 3 / 4, id="a word too many"),
        pytest.param(" a b \n", {"min_words": 4}, 2 / 4, id="half of the least"),
        pytest.param("", {"min_words": 4}, 0.0, id="nothing where words are wanted"),
        pytest.param(" ", {"max_words": 4}, 0.0, id="nothing never pays"),
        pytest.param(" né ", {"min_characters": 2, "max_characters": 2}, 1.0, id="code points"),
        # 2 words of at most 1; 3 characters of at least 4: the smaller share
        pytest.param("a b", {"max_words": 1, "min_characters": 4}, 1 / 2, id="two bounds"),
        pytest.param("a b", {"max_words": None, "min_words": 2}, 1.0, id="empty column"),
    ],
)
def test_length_by_hand(text, columns, expected):
    assert value("length", text, **columns) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"max_words": 0}, "max_words of example 0 must be an integer > 0, got '0'"),
        ({"max_words": True}, "must be an integer > 0, got 'True'"),
        ({"min_characters": "9"}, "must be an integer > 0"),
        ({"min_words": 3, "max_words": 2}, "must be at most max_words, got 3 and 2"),
    ],
)
def test_a_bound_that_cannot_be_is_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        value("length", "a", **columns)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a b c d e", 1.0, id="nothing repeats"),
        # abc bca cab abc: 3 of 4
        pytest.param("a b c A, b. c", 3 / 4, id="case and signs do not hide it"),
        pytest.param("a " * 100, 1 / 98, id="one word"),
        pytest.param("a b", 1.0, id="too short to repeat"),
        pytest.param("", 0.0, id="empty"),
        pytest.param("!?! !?!", 0.0, id="no word"),
        # 5 characters: 東京東 京東京 東京東: 2 of 3
        pytest.param("東京東京東", 2 / 3, id="script without spaces"),
        # Pieces of 32 letters, alike: 1 of 3
        pytest.param("a" * 160, 1 / 3, id="glued"),
    ],
)
def test_repetition_by_hand(text, expected):
    assert value("repetition", text) == expected


def test_runs_of_one_word_are_words():
    assert distinct_ngrams("a b a", 1) == 2 / 3


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        pytest.param("Mail ana.b+c@mail.example.org now", ["email"], id="e-mail"),
        pytest.param("user@localhost, @ana and a @ b.c", [], id="no e-mail"),
        pytest.param("Call +49 (30) 901820!", ["phone"], id="country"),
        pytest.param("Call 030 901820-12 or (0171) 1234567", ["phone"], id="area"),
        pytest.param("555-867-5309", ["phone"], id="North America"),
        pytest.param("(555) 867-5309", ["phone"], id="North America, brackets"),
        pytest.param("On 05-12-2024 at 10:30, and 2024-05-12", [], id="dates"),
        pytest.param("3 + 12 = 15, 1,234,567.89 and 3.14159265358979", [], id="numbers"),
        pytest.param("+5 - 10 / 2 - 3 - 4 + 5", [], id="a sum"),
        pytest.param("DE89 3704 0044 0532 0130 00", ["iban"], id="IBAN in groups"),
        pytest.param("GB82WEST12345698765432", ["iban"], id="IBAN"),
        pytest.param("GB83WEST12345698765432", [], id="wrong check digits"),
        pytest.param("Pay with 4111 1111 1111 1111.", ["card"], id="card"),
        pytest.param("4111 1111 1111 1112", [], id="wrong check digit"),
        pytest.param("0000000000000000", [], id="zeros"),
        pytest.param("123-45-6789", ["social security"], id="social security"),
        pytest.param("ana at example dot org", [], id="in words: not seen, as it says"),
        pytest.param("", [], id="empty"),
    ],
)
def test_personal_data_by_hand(text, kinds):
    assert personal_data.personal_data(text) == kinds
    assert value("no_personal_data", text) == float(not kinds)


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        pytest.param("The code is amber.", "amber", 0, id="plain"),
        pytest.param("A-M-B-E-R, Ámbêr", "amber", 0, id="spelled"),
        pytest.param("ａｍｂｅｒ", "amber", 0, id="full-width"),
        pytest.param("<tool_call>amber</tool_call>", "amber", 0, id="no place is exempt"),
        pytest.param("in the chamber", "amber", 0, id="found where nobody told it, as it says"),
        pytest.param("I cannot say.", "amber", 1, id="kept"),
        pytest.param("one onyx", ["amber", "onyx"], 0, id="second of two"),
        pytest.param("a ?! b", "?!", 0, id="signs only"),
        pytest.param("", "amber", 1, id="empty"),
    ],
)
def test_secrets_by_hand(text, secret, kept):
    assert value("secret_kept", text, secret=secret) == kept


@pytest.mark.parametrize("secret", ["", " ", 3, ["amber", ""]])
def test_a_secret_that_cannot_be_told_is_refused(secret):
    with pytest.raises(ValueError, match="secret of example 0 must be a text"):
        value("secret_kept", "", secret=secret)


@pytest.fixture
def libraries():
    """Skips where the extra is not installed."""
    for name in ("jsonschema", "regex"):
        pytest.importorskip(name, reason="pip install 'rvpo-jax[checks]'")


BRANCHES = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}
TREE = {  # two ways into each level
    "$defs": {"n": {"anyOf": [{**BRANCHES, "required": ["b"]}, {**BRANCHES, "required": ["c"]}]}},
    "$ref": "#/$defs/n",
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        pytest.param(PERSON, '{"name": "Ana", "age": 3}', 1, id="valid"),
        pytest.param(PERSON, '```json\n{"name": "Ana"}\n```', 1, id="code fence"),
        pytest.param(PERSON, 'Here: {"name": "Ana"}', 0, id="text before"),
        pytest.param(PERSON, '{"name": "Ana"', 0, id="truncated"),
        pytest.param(PERSON, '{"name": "ana"}', 0, id="pattern"),
        pytest.param(PERSON, '{"name": 3}', 0, id="type"),
        pytest.param(PERSON, '{"name": "Ana", "age": 3.0}', 1, id="3.0 is an integer"),
        pytest.param(PERSON, '{"name": "Ana", "x": 1}', 0, id="another property"),
        pytest.param('{"type": "array"}', "[]", 1, id="schema as text"),
        pytest.param(False, "[]", 0, id="nothing is valid"),
        pytest.param({}, "NaN", 0, id="NaN"),
        pytest.param({}, "1e999", 0, id="beyond all numbers"),
        pytest.param({}, "9" * 5000, 0, id="5,000 digits"),
        pytest.param({"multipleOf": 0.5}, "9" * 4000, 0, id="4,000 digits"),
        pytest.param({"uniqueItems": True}, "[1, true, [1], 2]", 1, id="all different"),
        pytest.param(
            {"uniqueItems": True}, '[{"a": 1, "b": 2}, {"b": 2.0, "a": 1}]', 0, id="alike"
        ),
        pytest.param({"items": {"$ref": "#"}}, "[" * 9 + "]" * 9, 1, id="schema within itself"),
        pytest.param({"items": {"$ref": "#"}}, "[" * 900 + "]" * 900, 0, id="too deep"),
        # Two keywords a level: 100 is reached long before Python's limit.
        pytest.param({"items": {"$ref": "#"}}, "[" * 60 + "]" * 60, 0, id="60 levels"),
        pytest.param(TREE, '{"a":' * 300 + "1" + "}" * 300, 0, id="too deep in two ways"),
        pytest.param({"$ref": "#"}, "1", 0, id="endless schema"),
        pytest.param({}, "", 0, id="empty"),
    ],
)
def test_json_by_hand(libraries, schema, text, expected):
    assert value("json_schema", text, json_schema=schema) == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        pytest.param("no JSON", "json_schema must be a schema", id="no JSON"),
        pytest.param(5, "it is no object", id="number"),
        pytest.param({1, 2}, "must be an object or JSON text", id="set"),
        pytest.param({"type": "text"}, "'text' is not valid", id="unknown type"),
        pytest.param({"pattern": "("}, "json_schema must be a schema", id="broken pattern"),
        pytest.param({"$ref": "http://127.0.0.1:9/x"}, "Unresolvable", id="reference outside"),
        pytest.param({"$ref": "#/$defs/x"}, "does not exist", id="reference to nothing"),
        pytest.param({"patternProperties": {}}, "no bound of time", id="patternProperties"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(libraries, schema, message):
    with pytest.raises(ValueError, match=message):
        value("json_schema", "{}", json_schema=schema)


def test_unique_items_of_mixed_types_are_not_compared_pair_by_pair(libraries):
    items = ",".join(f'{i},"{i}"' for i in range(20_000))
    start = time.thread_time()
    assert value("json_schema", f"[{items}]", json_schema={"uniqueItems": True}) != 0.0
    assert time.thread_time() - start < 5.0  # 8e8 pairs take longer


def test_a_schemas_references_are_not_fetched(libraries, monkeypatch):
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    with pytest.raises(ValueError, match="Unresolvable"):
        value("json_schema", "{}", json_schema={"$ref": "http://127.0.0.1:9/fetched"})
    assert asked == []


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        pytest.param(r"\d{3}", "on 123", 1.0, id="found"),
        pytest.param(r"^\d{3}$", "on 123", 0.0, id="anchored"),
        pytest.param(["(?i)YES", "no", "x"], "yes or no", 2 / 3, id="two of three"),
        pytest.param("", "", 1.0, id="empty pattern"),
        pytest.param(r"\p{Lu}", "é", 0.0, id="classes of Unicode"),
    ],
)
def test_patterns_by_hand(libraries, pattern, text, expected):
    assert value("regex", text, regex=pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "must have the syntax of Python's re, got '\\('"),
        ([], "must be a pattern or a list"),
        (3, "must be a pattern or a list"),
        (["a", None], "must be a pattern or a list"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(libraries, pattern, message):
    with pytest.raises(ValueError, match=message):
        value("regex", "a", regex=pattern)


ENDLESS = "(a+)+$"


@pytest.mark.parametrize(
    ("name", "columns", "text"),
    [
        pytest.param("regex", {"regex": ENDLESS}, "a" * 60_000 + "b", id="pattern"),
        pytest.param("regex", {"regex": ["a", ENDLESS]}, "a" * 60_000 + "b", id="second pattern"),
        pytest.param(
            "json_schema", {"json_schema": {"pattern": ENDLESS}}, f'"{"a" * 60_000}b"', id="in JSON"
        ),
        pytest.param(
            "json_schema", {"json_schema": TREE}, '{"a":' * 25 + "1" + "}" * 25, id="2^25 branches"
        ),
    ],
)
def test_what_takes_too_long_is_not_scored(libraries, name, columns, text):
    start = time.thread_time()
    assert np.isnan(value(name, text, **columns))
    assert time.thread_time() - start < 5.0  # 2^25 of anything takes longer
    out = rewards.score([rewards.REWARDS[name]], [text], [columns])
    assert not out.where.any()


@pytest.mark.parametrize("library", ["regex", "jsonschema"])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == library:
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    checks._compiled.cache_clear()
    checks._validator.cache_clear()
    columns = {"regex": "a"} if library == "regex" else {"json_schema": {}}
    with pytest.raises(ValueError, match=r"pip install 'rvpo-jax\[checks\]'"):
        value(next(iter(columns)), "1", **columns)


@pytest.mark.parametrize("name", ["length", "secret_kept", "json_schema", "regex"])
def test_a_row_that_asks_for_nothing_is_not_scored(name):
    out = rewards.score([rewards.REWARDS[name]], ["text"], [{"other": 1}])
    assert not out.where.any()


SIZE = 64 * 1024
HOSTILE = {
    "at signs": "a@" * (SIZE // 2),
    "dots": "a@" + "b." * (SIZE // 2),
    "letters": "a" * SIZE,
    "digits": "1" * SIZE,
    "spaced digits": "1 " * (SIZE // 2),
    "zeros": "0-1" * (SIZE // 3),
    "plus signs": "+1" * (SIZE // 2),
    "brackets": "(012) " * (SIZE // 6),
    "capitals": "DE12" + "AAAA" * (SIZE // 4),
    "accounts": "DE12 3456 7890 " * (SIZE // 15),
    "marks": "\u0301\u0323" * (SIZE // 2),
    "ideographs": "東" * SIZE,
    "words": " ".join(map(str, range(SIZE // 6))),
    "NULs": "\0" * SIZE,
    "JSON": "[" * SIZE,
    "numbers in JSON": "[" + "1," * (SIZE // 2) + "1]",
    "surrogates": "\ud800" * SIZE,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_judged_in_bounded_time(libraries, text):
    columns = {"max_words": 9, "secret": "amber", "json_schema": PERSON, "regex": ["(.*)*x", "a"]}
    for name in ("length", "repetition", "no_personal_data", "secret_kept", "json_schema", "regex"):
        start = time.thread_time()
        given = value(name, text, **columns)
        assert time.thread_time() - start < 5.0  # milliseconds; a quadratic pass takes longer
        assert np.isnan(given) or 0.0 <= given <= 1.0
