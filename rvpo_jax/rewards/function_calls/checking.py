"""BFCL's AST checker for the Python categories: calls against descriptions and possible answers.

Java and JavaScript are out: their types need converters of their own, and there are no verdicts to
compare with. Multi-turn is out: its calls must be executed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.function_calls.values import VALID, Verdict, check_value

AST_CATEGORIES: tuple[str, ...] = (
    "simple",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
"""Categories whose calls are compared with possible answers."""
RELEVANCE_CATEGORIES: tuple[str, ...] = ("irrelevance", "live_irrelevance", "live_relevance")
"""Categories that only ask whether there is a call."""

Description = Mapping[str, Any]
Call = Mapping[str, Mapping[str, Any]]


def check_calls(
    calls: Sequence[Call],
    functions: Sequence[Description],
    answers: Sequence[Call],
    category: str,
) -> Verdict:
    """Whether calls are those that a row of BFCL wants.

    ``simple`` and ``multiple`` want exactly one call, the others as many as there are answers, in
    any order: each answer takes the first call that fits.

    Args:
      calls: What the model calls, ``{name: {parameter: value}}`` each.
      functions: The row's ``function``: ``name``, ``parameters`` with ``properties`` and
        ``required``.
      answers: The row's ``ground_truth``, at least one: ``{name: {parameter: [accepted values]}}``.
      category: One of ``AST_CATEGORIES``.

    Returns:
      The verdict, with the original's code of the first error.

    Raises:
      Refusal: when the category has no possible answers, or the row does not describe the function
        of an answer.

    Source:
      BFCL v3 (github.com/ShishirPatil/gorilla, Apache-2.0), ``ast_checker``.

    >>> double = {"name": "double", "parameters": {"properties": {"x": {"type": "integer"}}}}
    >>> check_calls([{"double": {"x": 3}}], [double], [{"double": {"x": [2]}}], "simple")
    Verdict(valid=False, error_type='value_error:others', reason="'x' must not be '3'")
    """
    if category not in AST_CATEGORIES:
        raise Refusal(
            f"category must be one of {', '.join(AST_CATEGORIES)}, got {excerpt(category)}.",
            "Java, JavaScript and multi-turn are out; irrelevance and relevance have no answers.",
        )
    checker = next(name for name in ("parallel", "multiple", "simple") if name in category)
    if len(calls) != len(answers):
        count = f"{_CHECKERS[checker]}:wrong_count"
        return Verdict(False, count, f"{len(calls)} calls where {len(answers)} are wanted")
    if checker == "parallel":
        return _check_in_any_order(calls, functions, answers)
    # `simple` takes the one description, whatever the answer calls the function.
    function = functions[0] if checker == "simple" else _description(functions, answers[0])
    return check_call(calls[0], function, answers[0])


_CHECKERS = {
    "parallel": "parallel_function_checker_no_order",
    "multiple": "multiple_function_checker",
    "simple": "simple_function_checker",
}


def check_call(call: Call, function: Description, answer: Call) -> Verdict:
    """Whether one call is the one that is wanted.

    Args:
      call: ``{name: {parameter: value}}``.
      function: The description of the wanted function; its name counts, not the answer's.
      answer: ``{name: {parameter: [accepted values]}}``.

    Returns:
      The verdict.

    >>> check_call({"g": {}}, {"name": "f"}, {"f": {}}).reason
    "no call of 'f'"
    """
    name = function["name"]
    if name not in call:
        return _fault("wrong_func_name", f"no call of {excerpt(name)}")
    given = call[name]
    (accepted,) = answer.values()
    parameters = function.get("parameters", {})
    described = parameters.get("properties", {})
    for parameter in parameters.get("required", ()):
        if parameter not in given:
            return _fault("missing_required", f"{excerpt(parameter)} is missing")
    for parameter, value in given.items():
        if parameter not in described or parameter not in accepted:
            return _fault("unexpected_param", f"{excerpt(parameter)} is no parameter")
        verdict = check_value(parameter, value, described[parameter], accepted[parameter])
        if not verdict.valid:
            return verdict
    for parameter, values in accepted.items():
        if parameter not in given and "" not in values:
            return _fault("missing_optional", f"{excerpt(parameter)} may not be left out")
    return VALID


def check_relevance(calls: Sequence[Call] | None, category: str) -> Verdict:
    """Whether there is a call where one is needed, and none where none is.

    Args:
      calls: What the model calls; None where its answer cannot be read as calls.
      category: One of ``RELEVANCE_CATEGORIES``.

    Returns:
      The verdict.

    Raises:
      Refusal: when the category is another one.

    Source:
      BFCL v3 (github.com/ShishirPatil/gorilla, Apache-2.0), ``relevance_file_runner``.

    >>> check_relevance(None, "irrelevance").valid, check_relevance([], "live_relevance").valid
    (True, False)
    """
    if category not in RELEVANCE_CATEGORIES:
        raise Refusal(
            f"category must be one of {', '.join(RELEVANCE_CATEGORIES)}, got {excerpt(category)}.",
            "The others have possible answers: check_calls.",
        )
    if bool(calls) != ("irrelevance" in category):
        return VALID
    if calls:
        return Verdict(False, "irrelevance_error:decoder_success", "a call where none fits")
    return Verdict(False, "relevance_error:decoder_failed", "no call")


def _fault(kind: str, reason: str) -> Verdict:
    return Verdict(False, f"simple_function_checker:{kind}", reason)


def _check_in_any_order(
    calls: Sequence[Call], functions: Sequence[Description], answers: Sequence[Call]
) -> Verdict:
    unused = list(calls)
    for number, answer in enumerate(answers):
        function = _description(functions, answer)
        verdicts = [check_call(call, function, answer) for call in unused]
        fitting = [place for place, verdict in enumerate(verdicts) if verdict.valid]
        if not fitting:
            reason = f"no call fits answer {number}: {verdicts[0].reason}"
            return Verdict(False, f"{_CHECKERS['parallel']}:cannot_find_match", reason)
        del unused[fitting[0]]
    return VALID


def _description(functions: Sequence[Description], answer: Call) -> Description:
    (name,) = answer
    for function in functions:
        if function["name"] == name:
            return function
    raise Refusal(
        f"function must describe the function of each answer, got none named {excerpt(name)}.",
        "Check the row's function and ground_truth.",
    )
