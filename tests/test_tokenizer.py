"""The byte tokenizer, the chat template and the padding of prompts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvpo_jax.data.tokenizer import ByteTokenizer, Tokenizer, pad_prompts, render_messages

PIECES = ("<tool_call>", "</tool_call>", "<", "tool", "é€", "\n\n", "a.b", "🤖")
# Characters without lone surrogates, which UTF-8 cannot carry, mixed with the pieces.
TEXTS = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(PIECES))
)


@given(TEXTS.map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_round_trip(text):
    tokenizer = ByteTokenizer(PIECES)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(2 <= i < tokenizer.vocab_size for i in ids)  # neither padding nor an end


@given(st.text(st.characters()))
@settings(max_examples=100, deadline=None)
def test_lone_surrogates_do_not_crash_and_decoded_text_fits_into_a_file(text):
    tokenizer = ByteTokenizer(PIECES)
    tokenizer.decode(tokenizer.encode(text)).encode("utf-8")


@given(st.lists(st.integers(-5, 400)))
@settings(max_examples=100, deadline=None)
def test_any_ids_decode_to_text_that_fits_into_a_file(ids):
    ByteTokenizer(PIECES).decode(ids).encode("utf-8")


def test_ids_outside_the_vocabulary_decode_to_replacement_characters():
    assert ByteTokenizer(["a"]).decode([-1, 258, 259]) == "\ufffda\ufffd"


def test_ids_are_pad_eos_bytes_and_then_the_pieces_in_order():
    tokenizer = ByteTokenizer(["xy", "<a>"])
    assert (tokenizer.pad_id, tokenizer.eos_id) == (0, 1)
    assert tokenizer.encode("\x00\u00ff") == [2, 2 + 0xC3, 2 + 0xBF]  # ÿ is C3 BF in UTF-8
    assert tokenizer.encode("<a>xy") == [259, 258]
    assert tokenizer.vocab_size == 260


@pytest.mark.parametrize(
    "pieces", [["ab", "abc", "a"], ["a", "ab", "abc"]], ids=["mixed", "rising"]
)
def test_the_longest_piece_wins_whatever_the_order_of_the_pieces(pieces):
    tokenizer = ByteTokenizer(pieces)
    expected = [258 + pieces.index(piece) for piece in ("abc", "ab", "a")]
    assert tokenizer.encode("abc" + "ab" + "a") == expected


def test_a_piece_is_text_and_not_a_pattern():
    tokenizer = ByteTokenizer(["a.b", "(x)*"])
    assert 258 not in tokenizer.encode("axb")
    assert tokenizer.encode("(x)*") == [259]


def test_long_hostile_text_is_encoded():
    text = "<|im_end|>" * 1000 + "<" * 10_000 + "\u202e\x00\ufeff" + "((a+)+" * 1000
    tokenizer = ByteTokenizer(["<|im_end|>", "<<"])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decoding_skips_padding_and_ends_and_goes_on_behind_them():
    tokenizer = ByteTokenizer()
    a, b = tokenizer.encode("ab")
    assert tokenizer.decode(np.array([0, 0, a, 1, b, 0])) == "ab"


def test_bytes_of_one_character_meet_across_a_piece_boundary_only_if_adjacent():
    tokenizer = ByteTokenizer(["|"])
    first, second = tokenizer.encode("é")
    assert tokenizer.decode([first, 258, second]) == "\ufffd|\ufffd"
    assert tokenizer.decode([first, 0, second]) == "é"


def test_a_batch_decodes_row_by_row():
    tokenizer = ByteTokenizer()
    assert tokenizer.decode_batch([tokenizer.encode("one"), [], tokenizer.encode("é")]) == [
        "one",
        "",
        "é",
    ]


def test_the_name_tells_tokenizers_with_other_pieces_apart():
    names = {ByteTokenizer(pieces).name for pieces in [(), ("a", "b"), ("b", "a"), ("a", "c")]}
    assert len(names) == 4
    assert ByteTokenizer(["a", "b"]).name == ByteTokenizer(("a", "b")).name


def test_the_byte_tokenizer_has_what_the_programs_need():
    tokenizer: Tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("x")) == "x"


@pytest.mark.parametrize("pieces", ["abc", [""], ["a", 3], ["a", "b", "a"]], ids=repr)
def test_unusable_pieces_are_refused(pieces):
    with pytest.raises(ValueError, match=r"^pieces must .*\n  \S"):
        ByteTokenizer(pieces)


def test_messages_become_turns_and_an_open_assistant_turn():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n"}]
    assert render_messages(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_plain_text_is_not_put_into_the_template():
    assert render_messages("2 + 2 =") == "2 + 2 ="


@pytest.mark.parametrize(
    "messages",
    [
        [],
        None,
        {"role": "user", "content": "x"},
        ["x"],
        [{"role": "user"}],
        [{"content": "x"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": 1, "content": "x"}],
    ],
    ids=repr,
)
def test_malformed_messages_are_refused_with_advice(messages):
    with pytest.raises(ValueError, match=r"^(messages|.*message 0) must .*\n  \S"):
        render_messages(messages)


def test_prompts_are_padded_on_the_left_and_the_mask_ignores_pad_ids_inside_them():
    prompts, mask = pad_prompts([[5, 0], [6, 7, 8]], max_len=4, pad_id=0)
    np.testing.assert_array_equal(prompts, [[0, 0, 5, 0], [0, 6, 7, 8]])
    np.testing.assert_array_equal(mask, [[False, False, True, True], [False, True, True, True]])
    assert (prompts.dtype, mask.dtype) == (np.int32, np.bool_)


@pytest.mark.parametrize("ids", [[], [1, 2, 3]], ids=["empty", "too long"])
def test_a_prompt_that_does_not_fit_is_refused_by_number(ids):
    with pytest.raises(ValueError, match=r"^prompt 1 must have 1 to max_len = 2 tokens.*\n  \S"):
        pad_prompts([[1], ids], max_len=2, pad_id=0)
