"""BFCL v3's table from the verdicts of its categories, and the two averages that papers print.

What is not scored here stays visible: Java, JavaScript and multi-turn are out, and each number that
the leaderboard makes of them says so. A group with a category missing is NaN, never 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.function_calls.checking import AST_CATEGORIES, RELEVANCE_CATEGORIES

_NO_JAVA = "Java and JavaScript are out: simple is Python's alone, not the mean of three languages"
_NO_TURNS = "multi-turn is out: the leaderboard has it as a third part"


class Average(NamedTuple):
    """One number of the table."""

    value: float
    """Share of valid answers, 0 to 1; NaN where a category is missing."""
    num_answers: int
    """Answers that it is made of."""
    note: str
    """How it is made, and what is out."""


def summarize(valid: Mapping[str, Sequence[bool]]) -> dict[str, Average]:
    """The table of BFCL v3 without Java, JavaScript and multi-turn.

    Two known averages. ``overall`` is the leaderboard's, the plain mean of its parts, as GDPO and
    ToolRL report it; ``ast`` is the mean of the two AST accuracies, which the values of the RVPO
    paper look like. Neither can be compared with a published number that has the parts left out.

    Args:
      valid: Verdicts by category; a category may be missing.

    Returns:
      By name: ``live_ast`` and ``live`` (all their answers weigh the same), ``non_live_ast`` and
      ``non_live`` (all their categories weigh the same), ``irrelevance``, ``relevance``, ``ast``
      and ``overall``.

    Raises:
      Refusal: when a category is not one that is scored.

    Source:
      BFCL v3 (github.com/ShishirPatil/gorilla, Apache-2.0), ``generate_leaderboard_csv``.

    >>> table = summarize({"live_relevance": [True, False]})
    >>> table["relevance"].value, table["overall"].value
    (0.5, nan)
    """
    for category in valid:
        if category not in AST_CATEGORIES + RELEVANCE_CATEGORIES:
            raise Refusal(
                f"category must be one that is scored, got {category!r:.80}.",
                f"These are: {', '.join(AST_CATEGORIES + RELEVANCE_CATEGORIES)}.",
            )
    non_live_ast = [name for name in AST_CATEGORIES if not name.startswith("live_")]
    live_ast = [name for name in AST_CATEGORIES if name.startswith("live_")]
    live = [*live_ast, "live_irrelevance", "live_relevance"]
    single = {name: _category(valid, name) for name in AST_CATEGORIES + RELEVANCE_CATEGORIES}
    by_category = "mean of the categories"
    table = {
        "live_ast": _weighted(single, live_ast),
        "live": _weighted(single, live),
        "non_live_ast": _mean(single, non_live_ast, f"{by_category}; {_NO_JAVA}"),
        "non_live": _mean(single, [*non_live_ast, "irrelevance"], f"{by_category}; {_NO_JAVA}"),
        "irrelevance": _mean(single, ["irrelevance", "live_irrelevance"], by_category),
        "relevance": single["live_relevance"],
    }
    outside = f"{_NO_JAVA}; {_NO_TURNS}"
    table["ast"] = _mean(table, ["live_ast", "non_live_ast"], f"Live and Non-Live AST; {outside}")
    table["overall"] = _mean(table, ["live", "non_live"], f"Live and Non-Live; {outside}")
    return table


def _category(valid: Mapping[str, Sequence[bool]], name: str) -> Average:
    verdicts = valid.get(name, ())
    value = sum(map(bool, verdicts)) / len(verdicts) if len(verdicts) else math.nan
    return Average(value, len(verdicts), f"the category {name}")


def _weighted(parts: Mapping[str, Average], names: Sequence[str]) -> Average:
    num_answers = sum(parts[name].num_answers for name in names)
    num_valid = sum(parts[name].value * parts[name].num_answers for name in names)
    value = num_valid / num_answers if num_answers else math.nan
    return Average(value, num_answers, "mean of the answers")


def _mean(parts: Mapping[str, Average], names: Sequence[str], note: str) -> Average:
    values = [parts[name].value for name in names]
    num_answers = sum(parts[name].num_answers for name in names)
    return Average(sum(values) / len(values), num_answers, note)
