"""Rewards for GSM8K's worked solutions: the answer, its form, its length, its calculations.

A solution explains step by step, marks calculations as ``<<16-3-4=9>>`` and ends with a line
``#### 18``. ``N`` completions.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.arithmetic import calculate
from rvpo_jax.rewards.channels import Example, reward_channel

ENOUGH_WORDS, MAX_WORDS = 150, 300
"""Words that cost nothing, and that leave nothing: 99 % of GSM8K's solutions have at most 137."""
MAX_ANNOTATIONS = 100
"""Of a solution; those of GSM8K have at most 9."""
_MARKED = re.compile(r"(?:####|^A:) (-?[0-9.,]+)", re.MULTILINE)
_NUMBER = re.compile(r"-?[0-9.,]+")
_LAST_LINE = re.compile(r"#### -?[0-9][0-9,]*(?:\.[0-9]+)?")
_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")
_OPERATION = re.compile(r"[0-9.)]\s*[-+*/%]")


def final_answer(text: str) -> str | None:
    """The number after the first ``####``, or after ``A:`` at the beginning of a line.

    The first mark counts: writing several answers does not pay.

    Args:
      text: A solution.

    Returns:
      The number without its commas, as it is written; None where there is none.

    Source:
      github.com/openai/grade-school-math (MIT), ``extract_answer``; its models' published solutions
      write ``A:``.

    >>> final_answer("So 5 * 400 = 2,000.\\n#### 2,000"), final_answer("2000")
    ('2000', None)
    """
    match = _MARKED.search(text)
    return None if match is None else match[1].replace(",", "")


@reward_channel()
def gsm8k_correctness(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the marked answer is the reference's, else 0.0.

    Numbers are compared as they are written, but for commas: 18.0 is not 18, as in the original.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``answer``, or else ``ground_truth``: a solution, or its number.

    Returns:
      ``[N]`` float64, 0 or 1.

    Raises:
      Refusal: when a row has no reference answer.

    Source:
      github.com/openai/grade-school-math (MIT), ``is_correct``.

    >>> gsm8k_correctness(["#### 1,800", "#### 18", "1800"], [{"answer": "...\\n#### 1800"}] * 3)
    array([1., 0., 0.])
    """
    return np.array(
        [
            float(final_answer(text) == _reference(example, i)[1])
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


@reward_channel(kind="constraint")
def gsm8k_format(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the last line is ``####`` and a number, and no other ``####`` stands before it.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 or 1.

    Source:
      Ours, after the form of GSM8K's solutions.

    >>> gsm8k_format(["9 * 2 = 18\\n#### 18", "18", "#### 9\\n#### 18"], [{}] * 3)
    array([1., 0., 0.])
    """
    del examples  # this channel needs no reference
    return np.array([float(_has_form(text)) for text in completions], np.float64)


@reward_channel()
def gsm8k_length(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 for a solution of at most 150 words, falling to 0.0 at 300.

    Words are counted between spaces. A text without a word scores 0.0: leaving the solution out
    never pays.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows; not used.

    Returns:
      ``[N]`` float64, 0 to 1.

    Source:
      Ours.

    >>> gsm8k_length(["so " * 150, "so " * 225, ""], [{}] * 3)
    array([1. , 0.5, 0. ])
    """
    del examples  # this channel needs no reference
    words = np.array([len(text.split()) or MAX_WORDS for text in completions], np.float64)
    return np.clip((MAX_WORDS - words) / (MAX_WORDS - ENOUGH_WORDS), 0.0, 1.0)


def has_calculations(example: Example) -> bool:
    """Whether the reference solution marks a calculation; elsewhere the channel has no meaning.

    >>> has_calculations({"answer": "<<9*2=18>>18\\n#### 18"}), has_calculations({"answer": "18"})
    (True, False)
    """
    return bool(_calculations(_reference(example)[0]))


@reward_channel(applies=has_calculations)
def gsm8k_calculations(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """Share of the calculations marked as ``<<a=b>>`` that are right, to nine digits.

    ``<<18=18>>`` calculates nothing and does not count. A completion without a calculation, or with
    more than ``MAX_ANNOTATIONS`` marks, scores 0.0.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``answer``, or else ``ground_truth``.

    Returns:
      ``[N]`` float64, 0 to 1; ``score`` masks rows whose reference marks no calculation.

    Source:
      Ours; the annotations and their calculator are those of github.com/openai/grade-school-math
      (MIT). All 27,998 of GSM8K are right.

    >>> row = {"answer": "<<9*2=18>>18\\n#### 18"}
    >>> gsm8k_calculations(["<<9*2=18>> <<1/3=0.4>>", "<<18=18>>", "18"], [row] * 3)
    array([0.5, 0. , 0. ])
    """
    del examples  # only `applies` looks at them
    return np.array([_share_right(text) for text in completions], np.float64)


def _has_form(text: str) -> bool:
    last = text.strip().rpartition("\n")[2]
    return text.count("####") == 1 and _LAST_LINE.fullmatch(last) is not None


def _calculations(text: str) -> list[str]:
    """What stands in ``<<...>>``, where the left side is more than a number."""
    marked = _ANNOTATION.findall(text)
    return [one for one in marked if _OPERATION.search(one.partition("=")[0])]


def _share_right(text: str) -> float:
    found = _calculations(text)
    if not found or text.count("<<") > MAX_ANNOTATIONS:
        return 0.0
    return sum(map(_is_right, found)) / len(found)


def _is_right(annotation: str) -> bool:
    sides = [calculate(side.replace(",", "").strip()) for side in annotation.split("=", 2)]
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        return False
    return math.isclose(sides[0], sides[1], rel_tol=1e-9, abs_tol=1e-9)


def _reference(example: Example, index: int = 0) -> tuple[str, str]:
    """The reference solution of a row, and its number."""
    solution = example.get("answer", example.get("ground_truth"))
    if solution is None and isinstance(example.get("reward_model"), Mapping):
        solution = example["reward_model"].get("ground_truth")
    if isinstance(solution, str):
        number = final_answer(solution)
        if number is None and _NUMBER.fullmatch(solution.strip()):
            number = solution.strip().replace(",", "")
        if number is not None:
            return solution, number
    raise Refusal(
        f"example {index} must have an answer that ends with #### and a number, "
        f"got {excerpt(solution)} (columns: {excerpt(', '.join(map(str, example)))}).",
        "Add the column answer or ground_truth: a solution of GSM8K, or its number.",
    )
