"""ToolRL's two rewards for tool calls, to the letter, and the parser they share.

A completion is the assistant's text without chat markers. Its author is a policy that is paid to
find holes: no regular expression runs over it, and everything JSON can throw is caught.
``N`` completions.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example, reward_channel

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CORRECTNESS = 3.0


class Agreement(NamedTuple):
    """ToolRL's score of the calls of a completion, and the three parts that it adds up."""

    score: float
    """The sum of the parts."""
    tool_names: float
    """Jaccard index of the tool names, 0 to 1."""
    argument_names: float
    """Sum over the reference's calls: Jaccard index of the parameter names, 0 to ``num_calls``."""
    argument_values: float
    """Equal values, 0 to ``num_arguments``."""
    num_calls: int
    """Of the reference."""
    num_arguments: int
    """Of the reference's calls together."""

    @property
    def max_score(self) -> float:
        """The score of equal calls."""
        return 1.0 + self.num_calls + self.num_arguments


def reference_answer(example: Example, index: int = 0) -> str:
    """The reference answer of an example: ``ground_truth``, else RLLA's ``reward_model`` column.

    Args:
      example: A row with ``ground_truth``, or with ``reward_model["ground_truth"]``.
      index: Position of the example in its batch, for the message.

    Returns:
      The text of the reference answer.

    Raises:
      ValueError: when neither is there or it is not text.

    >>> reference_answer({"reward_model": {"ground_truth": "<response> Hi </response>"}})
    '<response> Hi </response>'
    """
    answer = example.get("ground_truth")
    if answer is None and isinstance(example.get("reward_model"), Mapping):
        answer = example["reward_model"].get("ground_truth")
    if not isinstance(answer, str):
        raise Refusal(
            f"example {index} must have a text ground_truth, got {type(answer).__name__} "
            f"(columns: {excerpt(', '.join(map(str, example)))}).",
            "Add the column ground_truth, or reward_model with the key ground_truth.",
        )
    return answer


def has_tool_call(example: Example) -> bool:
    """Whether the reference answer calls a tool; elsewhere correctness carries no signal.

    >>> has_tool_call({"ground_truth": "<think> x </think><response> Hi </response>"})
    False
    """
    return OPEN in reference_answer(example)


@reward_channel(kind="constraint")
def toolrl_format(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion has the shape of its reference answer, else 0.0.

    Think block, then the tool_call block and the response block if the reference has them, each
    once, separated by one newline, nothing else. What stands inside the blocks is not looked at.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 or 1.

    Raises:
      ValueError: when a row has no reference answer.

    Source:
      ToolRL, arXiv:2504.13958, format reward.

    >>> row = {"ground_truth": "<think> x </think>\\n<response> Hi. </response>"}
    >>> toolrl_format(["<think> a </think>\\n<response> Yes. </response>", "Yes."], [row, row])
    array([1., 0.])
    """
    return np.array(
        [
            float(_has_shape_of(reference_answer(example, i), text.strip()))
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ]
    )


@reward_channel(
    low=-MAX_CORRECTNESS, high=MAX_CORRECTNESS, pass_at=MAX_CORRECTNESS, applies=has_tool_call
)
def toolrl_correctness(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """How well the tool calls agree with the reference's: 3.0 equal, -3.0 nothing or unreadable.

    In between, 6 * score / max_score - 3, where the score adds up the Jaccard index of the tool
    names and, for each reference call, that of its parameter names plus its equal values. The
    pairing of calls is greedy, in the reference's order. Values compare as in Python: 1 equals
    1.0 and true, but not "1". The first tool_call block counts, wherever it stands.

    A reference without a tool call gives 0.0 for every completion, as ToolRL has it. That is no
    signal: ``toolrl_correctness.applies`` says so, and ``score`` masks those rows.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``ground_truth``.

    Returns:
      ``[N]`` float64, -3 to 3.

    Raises:
      ValueError: when a row has no reference answer, or its tool calls cannot be read.

    Source:
      ToolRL, arXiv:2504.13958, correctness reward; the pairing follows the authors' code, which is
      greedy where the paper of GDPO says optimal.

    >>> call = '<tool_call>\\n{"name": "f", "parameters": {"x": 1}}\\n</tool_call>'
    >>> row = {"ground_truth": call}
    >>> toolrl_correctness([call, call.replace("1", "2"), "f(1)"], [row] * 3)
    array([ 3.,  1., -3.])
    """
    return np.array(
        [
            _correctness(text, reference_answer(example, i), i)
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ]
    )


def find_block(text: str) -> tuple[int, int] | None:
    """Start and end of what the first tool_call block holds, or None.

    Literally ToolRL: from the first opening tag to the next tag of either kind (or the end of
    the text), provided that a closing tag exists anywhere.

    >>> find_block("<tool_call>{}</tool_call>")
    (11, 13)
    """
    start = text.find(OPEN)
    if start < 0 or CLOSE not in text:
        return None
    start += len(OPEN)
    ends = [end for end in (text.find(OPEN, start), text.find(CLOSE, start)) if end >= 0]
    return start, min(ends, default=len(text))


def parse_calls(text: str) -> list[dict[str, Any]] | None:
    """The named JSON objects in the first tool_call block, one per line, or None if any fails.

    ``parameters`` are not looked at; see ``is_call``.

    >>> parse_calls('<tool_call>\\n{"name": "f"}\\n</tool_call>')
    [{'name': 'f'}]
    >>> parse_calls("<tool_call>\\n{}\\n</tool_call>") is None
    True
    """
    block = find_block(text)
    if block is None:
        return None
    calls = []
    for line in text[slice(*block)].strip().split("\n"):
        try:
            call = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, an over-long integer; deep nesting
            return None
        # At the first stranger: a megabyte of one-character lines must not cost a second.
        if not isinstance(call, dict) or "name" not in call:
            return None
        calls.append(call)
    return calls


def is_call(call: Mapping[str, Any]) -> bool:
    """Whether a named JSON object is a call: text for a name, an object for parameters.

    >>> is_call({"name": "f", "parameters": {}}), is_call({"name": "f"})
    (True, False)
    """
    return isinstance(call.get("name"), str) and isinstance(call.get("parameters"), dict)


def agreement(text: str, reference: str, index: int = 0) -> Agreement:
    """How far the tool calls of a completion agree with those of its reference, part by part.

    Args:
      text: The completion.
      reference: The reference answer, with a tool call.
      index: Position of the example in its batch, for the message.

    Returns:
      The parts; all 0 for a completion whose calls cannot be read.

    Raises:
      ValueError: when the calls of the reference cannot be read.

    >>> call = '<tool_call>{"name": "f", "parameters": {"x": 1, "y": 2}}</tool_call>'
    >>> found = agreement(call.replace("2", "3"), call)
    >>> found.tool_names, found.argument_names, found.argument_values, found.max_score
    (1.0, 1.0, 1.0, 4.0)
    """
    expected = parse_calls(reference)
    if expected is None or not all(is_call(call) for call in expected):
        raise Refusal(
            f"ground_truth of example {index} must hold one JSON call per line in a closed "
            f"tool_call block, got {excerpt(reference, 200)}.",
            'Write each call as {"name": ..., "parameters": {...}} on a line of its own.',
        )
    num_arguments = sum(len(call["parameters"]) for call in expected)
    nothing = Agreement(0.0, 0.0, 0.0, 0.0, len(expected), num_arguments)
    actual = parse_calls(text)
    if actual is None:
        return nothing
    try:
        return _compare(actual, expected, nothing)
    # A call that is looked at has no object for parameters; a name that is not hashable; values
    # nested so deep that comparing them gives up.
    except (AttributeError, KeyError, TypeError, RecursionError):
        return nothing


def _has_shape_of(reference: str, text: str) -> bool:
    """The reference's blocks in order, anchored at both ends of the stripped text."""
    parts = ["<think>", "</think>"]
    if OPEN in reference:
        if text.count(OPEN) != 1 or text.count(CLOSE) != 1:
            return False
        parts = ["<think>", f"</think>\n{OPEN}\n", f"\n{CLOSE}"]
    if "<response>" in reference:
        if text.count("<response>") != 1 or text.count("</response>") != 1:
            return False
        parts = [*parts[:-1], parts[-1] + "\n<response>", "</response>"]
    if not text.startswith(parts[0]):
        return False
    position = len(parts[0])
    for part in parts[1:-1]:  # the leftmost place is the best one: it leaves most to the rest
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return text.endswith(parts[-1]) and len(text) - len(parts[-1]) >= position


def _correctness(text: str, reference: str, index: int) -> float:
    if OPEN not in reference:
        return 0.0
    found = agreement(text, reference, index)
    return 2 * MAX_CORRECTNESS * found.score / found.max_score - MAX_CORRECTNESS


def _compare(
    actual: list[dict[str, Any]], expected: list[dict[str, Any]], nothing: Agreement
) -> Agreement:
    names = Counter(call["name"] for call in actual)
    shared = (names & Counter(call["name"] for call in expected)).total()
    tool_names = shared / (len(actual) + len(expected) - shared)
    score, argument_names, argument_values = tool_names, 0.0, 0.0
    unused = list(actual)
    for call in expected:
        best, best_position = (0.0, 0.0), -1
        for position, candidate in enumerate(unused):
            if candidate["name"] == call["name"]:
                parts = _compare_parameters(candidate["parameters"], call["parameters"])
                if sum(parts) > sum(best):
                    best, best_position = parts, position
        if best_position >= 0:
            score += sum(best)  # in the authors' order, to the last digit
            argument_names += best[0]
            argument_values += best[1]
            del unused[best_position]
    return nothing._replace(
        score=score,
        tool_names=tool_names,
        argument_names=argument_names,
        argument_values=argument_values,
    )


def _compare_parameters(actual: dict[str, Any], expected: dict[str, Any]) -> tuple[float, float]:
    """Jaccard index of the parameter names, and the number of equal values."""
    shared = actual.keys() & expected.keys()
    union = len(actual) + len(expected) - len(shared)
    equal = sum(1.0 for name in shared if actual[name] == expected[name])
    return len(shared) / union if union else 1.0, float(equal)
