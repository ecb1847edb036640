"""Intervals over prompts, pass@k and paired differences: by hand, by counting, by invariance."""

import itertools
import math

import numpy as np
import pytest

from rvpo_jax.basics.intervals import wilson
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run.evaluation.estimates import clustered, pass_at_k, passes_at
from rvpo_jax.run.evaluation.items import Answer, Grade, Graded, Item
from rvpo_jax.run.evaluation.paired import ALL_MET, WORST, compare


def test_one_answer_per_prompt_has_wilsons_interval():
    passed = np.arange(50) < 17
    ours, theirs = clustered(passed.astype(float), [1] * 50), wilson(passed)
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], rtol=1e-12)


def test_answers_that_are_independent_of_their_prompt_count_one_by_one():
    # Every prompt has both of its answers right in a quarter, one in half, none in a quarter:
    # what 2N coins give. The interval is then that of 2N answers.
    sums = [2.0] * 25 + [1.0] * 50 + [0.0] * 25
    ours, theirs = clustered(sums, [2] * 100), wilson(np.arange(200) < 100)
    np.testing.assert_allclose([ours.low, ours.high], [theirs.low, theirs.high], rtol=1e-12)


def test_prompts_without_an_answer_are_left_out():
    assert clustered([1, 0, 0], [1, 1, 0]) == clustered([1, 0], [1, 1])
    assert clustered([1, 1, 0], [1, 1, 0]) == clustered([1, 1], [1, 1]), "all right: n counts"
    assert clustered([], []).count == 0


@pytest.mark.parametrize("num_right", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_share_of_all_draws_with_a_right_answer(num_right, k):
    answers = [place < num_right for place in range(5)]
    draws = list(itertools.combinations(answers, k))
    assert pass_at_k(5, num_right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def graded(key, seed, value):
    answer = Answer(key=key, seed=seed, text="")
    return Graded(Item(key=key, row={}), answer, Grade(values={"right": value}, all_met=None))


def test_pass_at_k_over_prompts():
    values = {"a": (1, 0, 0), "b": (0, 0, 0)}
    rows = [graded(key, seed, v) for key, found in values.items() for seed, v in enumerate(found)]
    # Of a, one of three answers is right: 1/3 of single draws, 2/3 of pairs, all triples.
    found = {k: rate.rate for k, rate in passes_at(rows, "right").items()}
    assert found == pytest.approx({1: 1 / 6, 2: 1 / 3, 3: 1 / 2})
    assert passes_at(rows[:1] + rows[3:4], "right") == {}, "one answer each: nothing to draw"


def rows_of(values, seeds=1):
    """Rows with the channels a and b; met is 1 in both."""
    return [
        {"key": str(key), "seed": s, "values": {"a": a, "b": b}, "all_met": a == b == 1}
        for key, (a, b) in enumerate(values)
        for s in range(seeds)
    ]


def by_name(a, b):
    found, paired = compare(a, b)
    return {one.name: one for one in found}, paired


def test_an_evaluation_differs_in_nothing_from_itself():
    values = np.random.default_rng(0).integers(0, 2, (40, 2)).tolist()
    found, _ = by_name(rows_of(values), rows_of(values))
    for one in found.values():
        assert (one.change, one.low, one.high, one.p_value) == (0, 0, 0, 1)
        assert math.isnan(one.resolves), "nothing varies: no test can be planned from it"


def test_differences_by_hand():
    # Four prompts. A: a = (1, 1, 0, 0), b all 1. B: a all 1, b = (1, 1, 1, 0).
    found, paired = by_name(
        rows_of([(1, 1), (1, 1), (0, 1), (0, 1)]), rows_of([(1, 1), (1, 1), (1, 1), (1, 0)])
    )
    values = {name: (one.a, one.b) for name, one in found.items()}
    assert values == {WORST: (0.5, 0.75), ALL_MET: (0.5, 0.75), "a": (0.5, 1.0), "b": (1.0, 0.75)}
    assert paired == {"paired": 4, "only in a": 0, "only in b": 0}
    # Holm: the smaller p is doubled, the larger one not.
    assert found["a"].p_holm == pytest.approx(min(2 * found["a"].p_value, 1))


def test_the_interval_and_p_value_are_those_of_the_normal_approximation_for_many_prompts():
    generator = np.random.default_rng(1)
    first = generator.random((2000, 1)) < 0.5
    second = np.where(generator.random((2000, 1)) < 0.1, ~first, first)
    second[:60] = True
    a, b = (rows_of(np.hstack([x, x]).astype(float).tolist()) for x in (first, second))
    one = by_name(a, b)[0]["a"]
    change = second.astype(float) - first
    error = change.std() / math.sqrt(2000)
    assert one.change == pytest.approx(change.mean())
    assert [one.low, one.high] == pytest.approx(
        [change.mean() - 1.96 * error, change.mean() + 1.96 * error], abs=0.1 * error
    )
    z = abs(change.mean()) / error
    assert one.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01)
    assert one.resolves == pytest.approx((1.96 + 0.8416) * error, rel=0.05)


def test_pairing_is_what_makes_the_test_sharp():
    """The same difference on prompts that both answer alike, and on ones that they do not."""
    first = [(1.0, 1.0)] * 50 + [(0.0, 0.0)] * 50
    alike = [(1.0, 1.0)] * 55 + [(0.0, 0.0)] * 45
    other = [(0.0, 0.0)] * 45 + [(1.0, 1.0)] * 55
    sharp, blunt = (by_name(rows_of(first), rows_of(rows))[0]["a"] for rows in (alike, other))
    assert sharp.change == blunt.change == pytest.approx(0.05)
    assert sharp.resolves < blunt.resolves / 3


def test_the_order_of_rows_and_copies_of_an_answer_change_nothing():
    values = np.random.default_rng(2).integers(0, 2, (30, 2)).tolist()
    others = np.random.default_rng(3).integers(0, 2, (30, 2)).tolist()
    once = by_name(rows_of(values), rows_of(others))
    assert by_name(rows_of(values, seeds=3), rows_of(others)[::-1]) == once


def test_prompts_of_one_side_and_values_that_are_not_scored_are_left_out():
    a = rows_of([(1, 1), (0, 1), (1, 0)])
    b = rows_of([(1, None), (1, 1)])
    found, paired = by_name(a, b)
    assert paired == {"paired": 2, "only in a": 1, "only in b": 0}
    assert (found["a"].count, found["b"].count) == (2, 1)
    assert found["a"].change == 0.5
    assert math.isnan(found["b"].p_value), "one prompt shows nothing"


@pytest.mark.parametrize(
    ("a", "b", "lacking"),
    [
        ([{"key": "1", "values": {"a": 1}}], [{"key": "2", "values": {"a": 1}}], "prompt"),
        ([{"key": "1", "values": {"a": 1}}], [{"key": "1", "values": {"b": 1}}], "channel"),
        ([{"key": "1", "values": {"a": "x"}}], [{"key": "1", "values": {"a": 1}}], "a number"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, lacking):
    with pytest.raises(Refusal, match=lacking):
        compare(a, b)
