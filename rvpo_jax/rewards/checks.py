"""Rewards that check a completion against what its row asks for: a JSON schema, or patterns.

Both can be made to run for hours: a pattern by back-tracking, a schema by what it combines. Each
check has a budget of time, and one that exceeds it is *not scored*: the pattern or the schema is as
much at fault as the text. Where a policy could learn to get there, mend them. ``N`` completions.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from rvpo_jax.basics.raised import excerpt, message_of
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.rewards.channels import Example, reward_channel

BUDGET_S = 0.03
"""Seconds of the processor that one completion's check may take."""
MAX_DEPTH = 100
"""Keywords of a schema within each other, while a value is checked."""
_FENCE = "```"


@reward_channel(kind="constraint")
def json_schema(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """1.0 where the completion is one JSON value, perhaps in a code fence, of the row's schema.

    Strict JSON: no NaN, nothing before or after it. References out of the schema are not followed,
    and formats (``"format": "date"``) are not checked.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``json_schema``: a schema as an object, or as JSON text.

    Returns:
      ``[N]`` float64, 0 or 1; NaN for rows without a schema, and where checking took more than
      ``BUDGET_S``.

    Raises:
      Refusal: when a schema is none, or has ``patternProperties``, whose time has no bound; or when
        jsonschema or regex is not installed.

    Source:
      json-schema.org, draft 2020-12 unless ``$schema`` says otherwise, by the library jsonschema.

    >>> row = {"json_schema": {"type": "object", "required": ["name"]}}
    >>> json_schema(['{"name": "Ana"}', '{"age": 3}', "Ana"], [row] * 3)
    array([1., 0., 0.])
    """
    return np.array(
        [
            _matches(text, example, i)
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


@reward_channel()
def regex(completions: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """Share of the row's patterns that are found in the completion.

    Args:
      completions: ``N`` texts.
      examples: ``N`` rows with ``regex``: a pattern, or a list of them. ``^`` and ``$`` anchor it,
        ``(?i)`` ignores case.

    Returns:
      ``[N]`` float64, 0 to 1; NaN for rows without a pattern, and where the patterns of a row
      together took more than ``BUDGET_S``.

    Raises:
      Refusal: when a pattern cannot be read, or the library regex is not installed.

    Source:
      The library regex: the syntax of Python's ``re``, with a timeout.

    >>> regex(["On 2024-05-01.", "Today."], [{"regex": [r"\\d{4}-\\d\\d", "day|On"]}] * 2)
    array([1. , 0.5])
    """
    return np.array(
        [
            _share_found(text, example, i)
            for i, (text, example) in enumerate(zip(completions, examples, strict=True))
        ],
        np.float64,
    )


class _Budget:
    """Processor time that is left for one completion."""

    def __init__(self) -> None:
        self._end = time.thread_time() + BUDGET_S
        self.depth = 0  # schema keywords that are being checked within each other

    def left(self) -> float:
        left = self._end - time.thread_time()
        if left <= 0:
            raise TimeoutError
        return left


# Schema keywords are functions that only jsonschema calls, so their budget cannot be an argument.
_BUDGET: ContextVar[_Budget] = ContextVar("budget")


def _share_found(text: str, example: Example, index: int) -> float:
    given = example.get("regex")
    if given is None:
        return np.nan
    patterns = given if isinstance(given, list) else [given]
    if not patterns or not all(isinstance(one, str) for one in patterns):
        raise Refusal(
            f"regex of example {index} must be a pattern or a list of them, got {excerpt(given)}.",
            "Leave the column empty where there is no pattern.",
        )
    compiled = [_compiled(pattern) for pattern in patterns]
    budget = _Budget()
    try:
        found = [one.search(text, timeout=budget.left()) is not None for one in compiled]
    except TimeoutError:
        return np.nan
    return sum(found) / len(found)


@functools.lru_cache(maxsize=1 << 10)
def _compiled(pattern: str) -> Any:
    try:
        import regex as engine
    except ImportError:
        raise _missing("regex") from None
    try:
        return engine.compile(pattern)
    except engine.error as error:
        raise Refusal(
            f"a pattern must have the syntax of Python's re, got {excerpt(pattern)}: "
            f"{message_of(error)}.",
            "Correct it in the column regex, or in the schema.",
        ) from None


def _matches(text: str, example: Example, index: int) -> float:
    if example.get("json_schema") is None:
        return np.nan
    schema = _schema_text(example["json_schema"], index)
    validator = _validator(schema)
    try:
        value = _strict_json(text)
    except (ValueError, RecursionError):  # no JSON, an over-long number; deep nesting
        return 0.0
    from referencing.exceptions import Unresolvable  # comes with jsonschema

    _BUDGET.set(_Budget())
    try:
        return float(validator.is_valid(value))
    except TimeoutError:
        return np.nan
    except (RecursionError, OverflowError):  # too deep, or too large, to be checked
        return 0.0
    except Unresolvable as error:
        raise _bad_schema(schema, message_of(error)) from None


def _strict_json(text: str) -> Any:
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        text = text.partition("\n")[2].removesuffix(_FENCE)
    return json.loads(text, parse_float=_finite, parse_constant=_refuse_constant)


def _finite(text: str) -> float:
    """A number; integral ones as integers, so that 1.0 equals 1 as JSON Schema has it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return int(number) if number.is_integer() else number


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@functools.lru_cache(maxsize=1 << 8)
def _validator(text: str) -> Any:
    """A validator of the schema that looks at its budget before each keyword."""
    try:
        from jsonschema import Draft202012Validator, SchemaError, validators
        from referencing import Registry
    except ImportError:
        raise _missing("jsonschema") from None
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_schema(text, message_of(error)) from None
    if not isinstance(schema, (dict, bool)):
        raise _bad_schema(text, "it is no object")
    if _holds_key(schema, "patternProperties"):
        raise _bad_schema(text, "patternProperties has no bound of time")
    if _holds_key(schema, "pattern"):
        _compiled("")  # importing the engine must not take the time of a completion
    draft = validators.validator_for(schema, default=Draft202012Validator)
    try:
        draft.check_schema(schema)
    except SchemaError as error:
        raise _bad_schema(text, error.message) from None
    keywords = draft.VALIDATORS | {"pattern": _pattern, "uniqueItems": _unique_items}
    timed = {name: _timed(check) for name, check in keywords.items()}
    # An empty registry: jsonschema would otherwise fetch a reference from its address.
    return validators.extend(draft, timed)(schema, registry=Registry())


def _timed(check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        budget = _BUDGET.get()
        budget.left()
        # Long before Python's own limit, at which a library of jsonschema panics.
        if budget.depth >= MAX_DEPTH:
            raise RecursionError
        budget.depth += 1
        yield from check(validator, value, instance, schema) or ()
        budget.depth -= 1

    return keyword


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, str):
        return
    compiled = _compiled(pattern)
    if compiled.search(instance, timeout=_BUDGET.get().left()) is None:
        yield _fault("the pattern is not found")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    # The library compares all pairs where items have no order.
    if wanted and isinstance(instance, list):
        if len({json.dumps(item, sort_keys=True) for item in instance}) < len(instance):
            yield _fault("items repeat")


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _holds_key(schema: Any, key: str) -> bool:
    if isinstance(schema, list):
        return any(_holds_key(item, key) for item in schema)
    return isinstance(schema, dict) and (
        key in schema or any(_holds_key(item, key) for item in schema.values())
    )


def _schema_text(schema: Any, index: int) -> str:
    if isinstance(schema, str):
        return schema
    try:
        return json.dumps(schema)
    except (TypeError, ValueError):
        raise Refusal(
            f"json_schema of example {index} must be an object or JSON text, "
            f"got {excerpt(schema)}.",
            "Leave the column empty where there is no schema.",
        ) from None


def _bad_schema(text: str, problem: str) -> Refusal:
    return Refusal(
        f"json_schema must be a schema that can be checked, got {excerpt(text)}: "
        f"{printable(problem, keep='')[:200]}.",
        "Correct the column json_schema.",
    )


def _missing(library: str) -> Refusal:
    return Refusal(
        f"the rewards regex and json_schema need {library}, which is not installed.",
        "Install it: pip install 'rvpo-jax[checks]'",
    )
