"""Which arguments a reward function gets: by name as in TRL, ours by position, or a refusal."""

import functools
import inspect

import pytest

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards import load_reward, score
from rvpo_jax.rewards.binding import bind

MESSAGES = [{"role": "user", "content": "hi"}]
ROWS = [{"prompt": "p0", "answer": "a", "level": 1}, {"prompt": MESSAGES, "answer": "b"}]
TEXTS = ["a", "c"]


def received(fn_of):
    """What a reward function gets of TEXTS and ROWS; ``fn_of(note)`` makes the function."""
    seen = {}

    def note(**arguments):
        seen.update(arguments)
        return [0.0] * 2

    score([fn_of(note)], TEXTS, ROWS)
    return seen


def trl(note):
    def reward(prompts, completions, answer, **kwargs):
        return note(prompts=prompts, completions=completions, answer=answer, kwargs=kwargs)

    return reward


def test_a_function_written_for_trl_gets_prompts_completions_and_columns_by_name():
    assert received(trl) == {
        "prompts": ["p0", MESSAGES],
        "completions": TEXTS,
        "answer": ["a", "b"],
        "kwargs": {"level": [1, None]},  # the other columns; prompt itself stands in prompts
    }


def test_kwargs_alone_get_prompts_completions_and_every_column():
    def only_kwargs(note):
        def reward(**kwargs):
            return note(**kwargs)

        return reward

    assert received(only_kwargs) == {
        "prompts": ["p0", MESSAGES],
        "completions": TEXTS,
        "answer": ["a", "b"],
        "level": [1, None],
    }


def ours(note):
    def reward(completions, examples):
        return note(completions=completions, examples=examples)

    return reward


def ours_turned(note):
    def reward(examples, completions):
        return note(completions=completions, examples=examples)

    return reward


def positional_only(note):
    def reward(completions, examples, /):
        return note(completions=completions, examples=examples)

    return reward


def other_names(note):
    def reward(texts, rows, threshold=0.5, *, scale=1.0):
        assert (threshold, scale) == (0.5, 1.0)
        return note(completions=texts, examples=rows)

    return reward


def other_names_positional_only(note):
    def reward(texts, rows, /):
        return note(completions=texts, examples=rows)

    return reward


def keyword_only(note):
    def reward(*, examples, completions):
        return note(completions=completions, examples=examples)

    return reward


def with_defaults(note):
    def reward(completions, examples=None, absent="kept"):
        assert absent == "kept"
        return note(completions=completions, examples=examples)

    return reward


def partial(note):
    def reward(scale, completions, examples):
        assert scale == 2
        return note(completions=completions, examples=examples)

    return functools.partial(reward, 2)


def wrapped(note):
    inner = ours_turned(note)

    @functools.wraps(inner)
    def reward(*args, **kwargs):
        return inner(*args, **kwargs)

    return reward


def method(note):
    class Judge:
        def __call__(self, texts, rows):
            return note(completions=texts, examples=rows)

    return Judge()


@pytest.mark.parametrize(
    "fn_of",
    [
        ours,
        ours_turned,
        positional_only,
        other_names,
        other_names_positional_only,
        keyword_only,
        with_defaults,
        partial,
        wrapped,
        method,
    ],
    ids=lambda fn: fn.__name__,
)
def test_texts_arrive_as_completions_and_rows_as_examples(fn_of):
    assert received(fn_of) == {"completions": TEXTS, "examples": ROWS}


def test_a_callable_written_in_c_is_called_by_position():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    assert bind(max, "c").positional == ("completions", "examples")


def no_parameter():
    pass


def one(texts):
    pass


def swapped_singular(prompt, completion):
    pass


def bare_decorator(*args, **kwargs):
    pass


def bare_arguments(*args):
    pass


def second_has_a_default(texts, threshold=0.5):
    pass


def three(texts, rows, judge):
    pass


def verl(data_source, solution_str, ground_truth, extra_info):
    pass


@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (no_parameter, "got ()"),
        (one, "got (texts)"),
        (swapped_singular, "got (prompt, completion), where prompt is a column"),
        (bare_decorator, "got (*args, **kwargs)"),
        (bare_arguments, "got (*args)"),
        (second_has_a_default, "got (texts, threshold)"),
        (three, "got (texts, rows, judge)"),
        (verl, "got (data_source, solution_str, ground_truth, extra_info)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_can_never_be_bound_is_refused_before_the_data_are_known(fn, got):
    with pytest.raises(Refusal) as caught:
        load_reward(fn)
    assert got in str(caught.value)
    assert "\n  Name them: def FUNCTION(completions, examples)" in str(caught.value)


def takes_a_column(completions, solution):
    return [1.0] * len(completions)


def test_a_parameter_that_is_no_column_is_refused_with_the_columns_there_are():
    assert load_reward(takes_a_column) is takes_a_column  # it may be a column
    with pytest.raises(Refusal) as caught:
        score([takes_a_column], TEXTS, ROWS)
    assert str(caught.value) == (
        "reward takes_a_column takes solution, which is neither completions, prompts, examples nor "
        "a column of the data; columns: prompt, answer, level.\n"
        "  Rename the parameter, add the column, or give the parameter a default. The rows as a "
        "whole are called examples."
    )


def test_a_missing_column_is_no_failure_that_skip_may_count():
    with pytest.raises(Refusal, match="takes solution"):
        score([takes_a_column], TEXTS, ROWS, on_error="skip")


def test_prompts_are_refused_where_the_rows_have_none():
    def reward(prompts, completions):
        return [0.0] * len(completions)

    with pytest.raises(Refusal, match="takes prompts, but the data have no column prompt"):
        score([reward], ["a"], [{"answer": "b"}])


def test_two_unknown_names_are_not_guessed_where_one_is_a_column():
    def reward(answer, text):
        return [0.0] * len(text)

    assert load_reward(reward) is reward
    with pytest.raises(Refusal, match=r"got \(answer, text\), where answer is a column"):
        score([reward], TEXTS, ROWS)


def test_a_column_cannot_take_the_place_of_the_completions():
    def reward(completions, **kwargs):
        assert set(kwargs) == {"prompts"}
        return [float(text == "a") for text in completions]

    row = {"prompt": "p", "completions": "forged", "examples": "forged", "prompts": "forged"}
    assert score([reward], TEXTS, [row] * 2).rewards[:, 0].tolist() == [1.0, 0.0]


def test_a_batch_without_rows_binds_whatever_the_function_takes():
    assert score([takes_a_column], [], []).rewards.shape == (0, 1)


def test_skip_calls_a_trl_function_again_with_one_entry_of_each_column():
    def reward(completions, answer, **kwargs):
        if len(completions) > 1:
            raise OSError
        return [float(completions == answer)]

    out = score([reward], TEXTS, ROWS, on_error="skip")
    assert out.rewards[:, 0].tolist() == [1.0, 0.0]
    assert out.num_failed.tolist() == [0]
