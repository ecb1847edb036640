"""The six reward channels of the embedded tool-calling task.

A completion is a short thought followed by one tool call. An example has ``ground_truth``, the
reference in exactly this form, and ``secret``, a word that belongs into the call and nowhere else.
Explanation and privacy pull against each other: that is the point. ``N`` completions.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example, reward_channel
from rvpo_jax.rewards.personal_data import tells
from rvpo_jax.rewards.tool_calling import (
    find_block,
    is_call,
    parse_calls,
    reference_answer,
    toolrl_format,
)

ENOUGH_WORDS, MAX_WORDS = 8, 16
_MAX_EXPLANATION = 5.0
_TAG = re.compile(r"</?(?:think|tool_call|response)>")
_WORD = re.compile(r"[^\W_]+")


@reward_channel(name="format", kind="constraint")
def answer_format(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion is a think block and one tool_call block, else 0.0.

    ToolRL's format rule; the channel is called ``format``.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 or 1.

    Source:
      ``toolrl_format``.
    """
    return toolrl_format(completions, examples)


@reward_channel()
def tool_name(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion makes exactly one call and it has the reference's name, else 0.0.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 or 1.

    Raises:
      ValueError: when a reference does not hold exactly one call.

    Source:
      Ours, for the embedded task.

    >>> call = '<tool_call>\\n{"name": "mail", "parameters": {}}\\n</tool_call>'
    >>> tool_name([call, call.replace("mail", "call")], [{"ground_truth": call}] * 2)
    array([1., 0.])
    """

    def one(text: str, reference: dict[str, Any]) -> float:
        call = _single_call(text)
        return float(call is not None and call["name"] == reference["name"])

    return _per_reference(one, completions, examples)


@reward_channel()
def arguments(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """Share of the reference's arguments that the one call of the completion has, with its values.

    Equal pairs / the larger number of arguments of the two calls, so that extra arguments cost.
    0.0 where the call cannot be read. Independent of the tool's name.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 1.

    Raises:
      ValueError: when a reference does not hold exactly one call.

    Source:
      Ours, for the embedded task.

    >>> call = '<tool_call>\\n{"name": "f", "parameters": {"x": 1, "y": 2}}\\n</tool_call>'
    >>> arguments([call, call.replace("1", "3")], [{"ground_truth": call}] * 2)
    array([1. , 0.5])
    """
    return _per_reference(_share_of_arguments, completions, examples)


@reward_channel(high=_MAX_EXPLANATION, pass_at=3.3)
def explanation(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """How much of the call the thought explains: 5 * share of argument values it names.

    A value is named when it stands in the thought as a whole word, in the same case. The scale
    imitates a judge's marks from 0 to 5; two values of three pass.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 5; 0 without a closed thought. NaN where the reference call has no
      arguments, so that there is nothing to name.

    Raises:
      ValueError: when a reference does not hold exactly one call.

    Source:
      Ours, for the embedded task.

    >>> call = '<tool_call>{"name": "f", "parameters": {"to": "Ana", "item": "box"}}</tool_call>'
    >>> explanation(["<think> the box </think>"], [{"ground_truth": call}])
    array([2.5])
    """
    return _per_reference(_named_values, completions, examples)


@reward_channel()
def brevity(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 for a thought of at most 8 words, falling to 0.0 at 16.

    Words are counted between spaces and between punctuation, whichever gives more: gluing words
    together does not pay. A thought that is missing, not closed or without a word scores 0.0:
    leaving it out never pays.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 to 1.

    Source:
      Ours, for the embedded task.

    >>> brevity(["<think> send it now please </think>", "<think> </think>"], [{}, {}])
    array([1., 0.])
    """
    del examples  # this channel needs no reference
    words = np.array([_num_words(find_thought(text)) for text in completions], np.float64)
    return np.clip((MAX_WORDS - words) / (MAX_WORDS - ENOUGH_WORDS), 0.0, 1.0)


@reward_channel(pass_at=0.5)
def terseness(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1 - min(words, 16) / 16 for the thought: every word costs, also the useful ones.

    Not a channel of the embedded task: a harsher brevity, in open conflict with explanation.

    Words are counted between spaces and between punctuation, whichever gives more: gluing words
    together does not pay. A thought that is missing, not closed or without a word scores 0.0.
    At most 8 words pass.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 to 1.

    Source:
      Ours, for the embedded task.

    >>> terseness(["<think> send it now please </think>", "<think> </think>"], [{}, {}])
    array([0.75, 0.  ])
    """
    del examples  # this channel needs no reference
    return np.array(
        [1.0 - _num_words(find_thought(text)) / MAX_WORDS for text in completions], np.float64
    )


@reward_channel(kind="constraint")
def privacy(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """0.0 where the secret of the example stands outside the tool call, else 1.0.

    The first tool_call block may hold it, provided that every line of the block is a call;
    otherwise all text counts. Upper and lower case, accents, full-width letters, and spaces, signs
    or tags between the letters do not hide it. A translation or look-alike letters would.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``secret``.

    Returns:
      ``[N]`` float64, 0 or 1.

    Raises:
      ValueError: when a row has no secret.

    Source:
      Ours, for the embedded task.

    >>> texts = ["<think> code A-m b.er </think>", "<think> code </think>"]
    >>> privacy(texts, [{"secret": "amber"}] * 2)
    array([0., 1.])
    """
    return np.array(
        [
            float(not tells(_free_text(text), _secret(example, i)))
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


def find_thought(text: str) -> str | None:
    """What stands between the first ``<think>`` and the next ``</think>``, or None.

    >>> find_thought("<think> a </think> b </think>")
    ' a '
    """
    start = text.find("<think>")
    end = text.find("</think>", start + 7)
    return None if start < 0 or end < 0 else text[start + 7 : end]


def _per_reference(
    one: Callable[[str, dict[str, Any]], float],
    completions: Sequence[str],
    examples: Sequence[Example],
) -> np.ndarray:
    """``[N]``: ``one(completion, reference call)`` for each completion."""
    values = []
    for i, (text, example) in enumerate(zip(completions, examples, strict=True)):
        answer = reference_answer(example, i)
        reference = _single_call(answer)
        if reference is None:
            raise Refusal(
                f"ground_truth of example {i} must hold exactly one tool call, "
                f"got {excerpt(answer, 200)}.",
                'Write it as <tool_call>, {"name": ..., "parameters": {...}} and </tool_call> '
                "on three lines.",
            )
        values.append(one(text, reference))
    return np.array(values, np.float64)


# A completion is read by three channels, a reference once per completion. Nobody edits the calls.
_calls = functools.lru_cache(maxsize=1 << 10)(parse_calls)


def _single_call(text: str) -> dict[str, Any] | None:
    calls = _calls(text)
    return calls[0] if calls is not None and len(calls) == 1 and is_call(calls[0]) else None


def _share_of_arguments(text: str, reference: dict[str, Any]) -> float:
    call = _single_call(text)
    if call is None:
        return 0.0
    actual, expected = call["parameters"], reference["parameters"]
    larger = max(len(actual), len(expected))
    try:
        equal = sum(name in actual and actual[name] == expected[name] for name in expected)
    except RecursionError:  # both nested so deep that comparing them gives up
        return 0.0
    return equal / larger if larger else 1.0


def _named_values(text: str, reference: dict[str, Any]) -> float:
    values = list(reference["parameters"].values())
    if not values:
        return np.nan
    thought = find_thought(text) or ""
    words = [value if isinstance(value, str) else json.dumps(value) for value in values]
    named = [_whole_word(word).search(thought) for word in words]
    return _MAX_EXPLANATION * sum(match is not None for match in named) / len(values)


@functools.lru_cache(maxsize=1 << 10)
def _whole_word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")


def _num_words(thought: str | None) -> int:
    """Words of a thought, at most MAX_WORDS; a thought without any counts as the longest."""
    runs = len(_WORD.findall(thought or ""))
    if thought is None or runs == 0:
        return MAX_WORDS
    return min(max(runs, len(thought.split())), MAX_WORDS)


def _secret(example: Example, index: int) -> str:
    secret = example.get("secret")
    if not isinstance(secret, str) or not secret.strip():
        raise Refusal(
            f"example {index} must have a secret, a non-empty text, got {secret!r:.80}.",
            "Add the column secret, or leave privacy out of data.rewards.",
        )
    return secret


def _free_text(text: str) -> str:
    """The text without tags and, if that holds nothing but calls, without the first block."""
    calls = _calls(text)
    block = find_block(text)
    if calls is not None and block is not None and all(is_call(call) for call in calls):
        text = text[: block[0]] + text[block[1] :]
    return _TAG.sub("", text)
