"""The prompt stream: order, epochs, shards, exact resume; the held-out split; the length filter."""

import collections
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvpo_jax.data import PromptStream, drop_long, split_held_out


def make_rows(num):
    return [{"prompt": f"prompt {number}", "number": number} for number in range(num)]


def characters(prompt):
    return [ord(character) for character in prompt]


def numbers(batch):
    return [row["number"] for row in batch]


def take(stream, num_batches):
    return [number for _ in range(num_batches) for number in numbers(next(stream))]


def test_batches_are_lists_of_rows_as_they_are():
    rows = [{"prompt": [{"role": "user", "content": "a"}], "x": np.zeros(2), "y": None}] * 2
    batch = next(PromptStream(rows, 2, seed=0))
    assert type(batch) is list
    assert batch[0] is rows[0] or batch[0] is rows[1]


@pytest.mark.parametrize(("num_rows", "batch_size"), [(12, 4), (10, 4), (7, 3), (5, 5), (1, 3)])
def test_each_epoch_shows_every_row_once(num_rows, batch_size):
    stream = PromptStream(make_rows(num_rows), batch_size, seed=3)
    seen = take(stream, -(-3 * num_rows // batch_size))  # at least three epochs
    for epoch in range(3):
        shown = seen[epoch * num_rows : (epoch + 1) * num_rows]
        assert sorted(shown) == list(range(num_rows))


def test_a_batch_may_be_larger_than_the_source():
    counts = collections.Counter(numbers(next(PromptStream(make_rows(3), 9, seed=0))))
    assert counts == {0: 3, 1: 3, 2: 3}


def test_each_epoch_and_each_seed_has_its_own_order_and_a_seed_repeats():
    orders = {
        (seed, epoch): tuple(take(stream, 1))
        for seed in (0, 1)
        for stream in [PromptStream(make_rows(20), 20, seed=seed)]
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 6
    assert tuple(take(PromptStream(make_rows(20), 20, seed=1), 1)) == orders[1, 0]
    assert orders[0, 0] != tuple(range(20))


@pytest.mark.parametrize("process_count", [2, 3])
def test_processes_together_read_what_one_process_would_read(process_count):
    whole = PromptStream(make_rows(10), 2 * process_count, seed=5)
    shards = [
        PromptStream(make_rows(10), 2, seed=5, process_index=index, process_count=process_count)
        for index in range(process_count)
    ]
    for _ in range(12):  # beyond two epochs
        together = [number for shard in shards for number in numbers(next(shard))]
        assert together == numbers(next(whole))


@given(
    num_rows=st.sampled_from([1, 40, 100]),  # grain shuffles sources of 2 to 16 rows slowly
    batch_size=st.integers(1, 5),
    before=st.integers(0, 12),
    process_count=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None)
def test_a_stream_moved_to_where_another_was_goes_on_exactly(
    num_rows, batch_size, before, process_count, seed
):
    def start():
        return PromptStream(
            make_rows(num_rows), batch_size, seed=seed, process_index=0, process_count=process_count
        )

    stream = start()
    take(stream, before)
    resumed = start()
    take(resumed, 2)  # a used stream moves back as well
    resumed.seek(before)
    assert take(resumed, 5) == take(stream, 5)


def test_a_batch_is_read_when_it_is_asked_for_and_no_thread_reads_ahead():
    read = []

    class Recorded(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    stream = PromptStream(Recorded(make_rows(50)), 2, seed=0)
    num_threads = threading.active_count()
    take(stream, 3)
    assert len(read) == 6
    assert threading.active_count() == num_threads


def test_another_number_of_processes_goes_on_where_one_was():
    whole = PromptStream(make_rows(11), 4, seed=2)
    take(whole, 3)
    parts = [
        PromptStream(make_rows(11), 2, seed=2, process_index=index, process_count=2)
        for index in range(2)
    ]
    for part in parts:
        part.seek(3)
    for _ in range(5):
        assert next(whole) == [row for part in parts for row in next(part)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": []}, "source must have at least one row"),
        ({"batch_size": 0}, "batch_size must be > 0, got 0"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\), got -1"),
        ({"seed": 2**32}, r"seed must lie in"),
        ({"process_index": 2, "process_count": 2}, "process_index must lie in .* = 2.*got 2"),
        ({"process_index": -1}, "process_index must lie in"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments_of_a_stream_are_refused(change, message):
    arguments = {"source": make_rows(2), "batch_size": 1, "seed": 0} | change
    with pytest.raises(ValueError, match=rf"^{message}.*\n  \S"):
        PromptStream(**arguments)


def test_the_split_parts_the_rows_in_about_the_share_asked_for():
    rows = make_rows(2000)
    train, held_out = split_held_out(rows, 0.2, seed=0)
    assert sorted(numbers(train) + numbers(held_out)) == list(range(2000))
    # Binomial(2000, 0.2): mean 400, standard deviation 17.9; five of them.
    assert abs(len(held_out) - 400) < 90
    assert numbers(train) == sorted(numbers(train))


def test_equal_prompts_are_on_the_same_side_whatever_the_order_of_the_fields():
    texts = [chr(code) for code in range(97, 117)]
    messages = [[{"role": "user", "content": text}] for text in texts]
    turned = [[{"content": text, "role": "user"}] for text in texts]
    rows = [{"prompt": prompt} for prompt in [*texts, *messages, *turned, *texts, *messages]]
    sides = [
        {json.dumps(row["prompt"], sort_keys=True) for row in side}
        for side in split_held_out(rows, 0.5, seed=0)
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 40


def test_rows_added_to_a_file_move_no_other_row():
    before = numbers(split_held_out(make_rows(300), 0.3, seed=4)[1])
    after = numbers(split_held_out(make_rows(600), 0.3, seed=4)[1])
    assert before == [number for number in after if number < 300]


def test_another_seed_holds_out_other_rows():
    sides = [tuple(numbers(split_held_out(make_rows(100), 0.3, seed)[1])) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


@pytest.mark.parametrize("frac", [1e-9, 1 - 1e-9], ids=["few", "most"])
def test_neither_side_of_a_split_is_empty(frac):
    train, held_out = split_held_out([*make_rows(3), *make_rows(3)], frac, seed=0)
    assert sorted([len(train), len(held_out)]) == [2, 4]  # one prompt against two


def test_a_lone_surrogate_in_a_prompt_can_be_split():
    train, held_out = split_held_out([{"prompt": "\ud800"}, {"prompt": "b"}], 0.5, seed=0)
    assert (len(train), len(held_out)) == (1, 1)


@pytest.mark.parametrize("frac", [0.0, 1.0, float("nan")])
def test_a_split_needs_a_share_between_none_and_all(frac):
    with pytest.raises(ValueError, match=r"^frac must lie in \(0, 1\), got .*\n  \S"):
        split_held_out(make_rows(4), frac, seed=0)


def test_a_split_needs_two_different_prompts():
    with pytest.raises(ValueError, match=r"^source must have two different prompts.*got 1.\n  \S"):
        split_held_out(make_rows(1) * 5, 0.5, seed=0)


def test_long_prompts_are_dropped_and_each_row_is_measured_once():
    rows = [{"prompt": "x" * length, "number": length} for length in (3, 1, 4, 2)]
    measured = []

    def encode(prompt):
        measured.append(len(prompt))
        return list(prompt)

    kept, num_dropped, _ = drop_long(rows, encode, max_tokens=3)
    assert (numbers(kept), num_dropped) == ([3, 1, 2], 1)
    assert measured == [3, 1, 4, 2]
    assert kept[0] is rows[0]
    assert kept[-1] is rows[3]


def test_a_limit_that_leaves_no_prompt_is_refused_with_the_shortest_length():
    rows = [{"prompt": "abcd"}, {"prompt": "abc"}]
    with pytest.raises(
        ValueError, match=r"^max_tokens = 2 leaves no prompt.* 2 has 3 tokens.\n  \S"
    ):
        drop_long(rows, characters, max_tokens=2)


def test_views_can_be_streamed_and_split_again():
    kept, _, _ = drop_long(make_rows(30), characters, max_tokens=8)  # "prompt 0" to "prompt 9"
    train, held_out = split_held_out(kept, 0.3, seed=0)
    stream = PromptStream(train, len(train), seed=0)
    assert sorted(take(stream, 1) + numbers(held_out)) == list(range(10))


def test_the_stream_module_names_no_other_room_of_the_package():
    text = (Path(__file__).parents[1] / "rvpo_jax" / "data" / "stream.py").read_text()
    assert set(re.findall(r"rvpo_jax\S*", text)) == {"rvpo_jax.basics.refusals"}
