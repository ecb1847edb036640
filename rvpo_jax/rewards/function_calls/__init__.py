"""BFCL v3: reads the calls in an answer, checks them as the original does, and sums up.

The reward ``bfcl`` judges completions on rows of BFCL in their native form. ``N`` completions.
"""

from collections.abc import Sequence

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.channels import Example, reward_channel
from rvpo_jax.rewards.function_calls.checking import (
    AST_CATEGORIES,
    RELEVANCE_CATEGORIES,
    check_call,
    check_calls,
    check_relevance,
)
from rvpo_jax.rewards.function_calls.parsing import (
    parse_calls,
    parse_json_calls,
    parse_python_calls,
)
from rvpo_jax.rewards.function_calls.summary import Average, summarize
from rvpo_jax.rewards.function_calls.values import Verdict

__all__ = [
    "AST_CATEGORIES",
    "RELEVANCE_CATEGORIES",
    "Average",
    "Verdict",
    "bfcl",
    "category_of",
    "check_answer",
    "check_call",
    "check_calls",
    "check_relevance",
    "parse_calls",
    "parse_json_calls",
    "parse_python_calls",
    "summarize",
]


def category_of(example: Example) -> str:
    """The category of a row of BFCL, which its ``id`` begins with.

    Args:
      example: A row with ``id``.

    Returns:
      The category, also one that cannot be checked, such as ``java``.

    Raises:
      Refusal: when the row has no such ``id``.

    >>> category_of({"id": "live_parallel_1-0-1"})
    'live_parallel'
    """
    name = example.get("id")
    if not isinstance(name, str) or "_" not in name:
        raise Refusal(
            f"a row of BFCL must have an id such as simple_1, got {excerpt(name)}.",
            "Keep the column id: it names the category.",
        )
    return name.rpartition("_")[0]


def check_answer(text: str, example: Example) -> Verdict:
    """Whether a completion answers a row of BFCL.

    Args:
      text: The completion: calls in Python's syntax, or in a ``<tool_call>`` block of JSON lines.
      example: The row: ``id``, ``function`` and, where the category has it, ``ground_truth``.

    Returns:
      The verdict.

    Raises:
      Refusal: when the row is not one of BFCL's checked categories, or is incomplete.

    >>> row = {"id": "irrelevance_1", "function": []}
    >>> check_answer("There is no tool for that.", row).valid
    True
    """
    category = category_of(example)
    calls = parse_calls(text)
    if category not in AST_CATEGORIES:
        return check_relevance(calls, category)
    functions, answers = (_column(example, name) for name in ("function", "ground_truth"))
    if calls is None:
        return Verdict(False, "ast_decoder:decoder_failed", "the answer cannot be read as calls")
    return check_calls(calls, functions, answers, category)


@reward_channel()
def bfcl(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion is a right answer to its row of BFCL v3, else 0.0.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``id``, ``function`` and, where the category has it,
        ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 or 1; NaN for Java, JavaScript and multi-turn, which are not checked.

    Raises:
      Refusal: when a row is incomplete.

    Source:
      BFCL v3 (github.com/ShishirPatil/gorilla, Apache-2.0).

    >>> function = {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}
    >>> row = {"id": "simple_1", "function": [function], "ground_truth": [{"f": {"x": [1]}}]}
    >>> bfcl(["f(x=1)", "f(x=2)", "No."], [row] * 3)
    array([1., 0., 0.])
    """
    return np.array(
        [
            float(check_answer(text, example).valid)
            if category_of(example) in AST_CATEGORIES + RELEVANCE_CATEGORIES
            else np.nan
            for text, example in zip(completions, examples, strict=True)
        ],
        np.float64,
    )


def _column(example: Example, name: str) -> list:
    value = example.get(name)
    if not isinstance(value, list) or not value:
        raise Refusal(
            f"the row {excerpt(example['id'])} must have {name}, a list, got {excerpt(value)}.",
            "Rows of BFCL keep their native form; possible answers go into ground_truth.",
        )
    return value
