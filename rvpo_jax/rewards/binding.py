"""Which arguments a reward function gets: by name as in TRL, or our two by position.

By name are ``completions``, ``prompts``, ``examples`` and the columns of the data, each a list
with one entry per completion. ``N`` completions.
"""

import inspect
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.rewards.channels import Example, RewardFn

KNOWN = ("completions", "prompts", "examples")
_NAME_THEM = (
    "Name them: def FUNCTION(completions, examples), or TRL's "
    "def FUNCTION(prompts, completions, **columns). A decorator needs functools.wraps."
)


class Bound(NamedTuple):
    """The names of what a function is called with, one list of length ``N`` each."""

    positional: tuple[str, ...]
    named: tuple[str, ...] = ()


OURS = Bound(("completions", "examples"))


def columns_of(examples: Iterable[Example]) -> tuple[str, ...] | None:
    """The columns that any of the rows has; None where there is no row.

    >>> columns_of([{"prompt": "a"}, {"prompt": "b", "answer": 1}])
    ('prompt', 'answer')
    """
    rows = {id(example): example for example in examples}  # a row stands once per completion
    if not rows:
        return None
    return tuple({key: None for row in rows.values() for key in row if isinstance(key, str)})


def bind(fn: object, name: str, columns: Collection[str] | None = None) -> Bound:
    """What a reward function is called with, from the names of its parameters.

    A function with a parameter ``completions``, ``prompts`` or ``examples``, or with ``**kwargs``,
    is bound by name; ``**kwargs`` gets completions, prompts and every column, as TRL has it. Other
    functions are called as ``fn(completions, examples)``, provided that they have exactly two
    required parameters and neither is a column: ``def fn(texts, rows)``. Nothing else is guessed.

    Args:
      fn: The function.
      name: Of the function, for messages.
      columns: Columns of the data; None: unknown, so that any name may turn out to be one.

    Returns:
      The names of its arguments.

    Raises:
      Refusal: when it is no function, or a parameter cannot be bound, naming it and the columns.

    >>> def accuracy(prompts, completions, solution, **kwargs):
    ...     return [float(a == b) for a, b in zip(completions, solution)]
    >>> bind(accuracy, "accuracy", ["prompt", "solution", "level"]).named
    ('prompts', 'completions', 'solution', 'level')
    >>> bind(lambda texts, rows: texts, "mine").positional
    ('completions', 'examples')
    """
    if not callable(fn):
        raise Refusal(
            f"reward {name} must be a function, got {type(fn).__name__}.",
            "Write def FUNCTION(completions, examples), returning one number per completion.",
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some callables written in C have none
        return OURS
    takes_rest = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    if not signature.parameters.keys() & set(KNOWN) and not (takes_rest and not takes_any):
        _check_two_by_position(signature, name, columns)
        return OURS
    return _by_name(signature, name, columns)


def values(
    bound: Bound, completions: Sequence[str], examples: Sequence[Example]
) -> dict[str, list]:
    """The lists that a function is called with, by name; None where a row lacks a column.

    >>> values(Bound(("completions",), ("level",)), ["a", "b"], [{"level": 3}, {}])
    {'completions': ['a', 'b'], 'level': [3, None]}
    """
    lists: dict[str, list] = {}
    for name in (*bound.positional, *bound.named):
        if name == "completions":
            lists[name] = list(completions)
        elif name == "examples":
            lists[name] = list(examples)
        else:
            column = "prompt" if name == "prompts" else name
            lists[name] = [example.get(column) for example in examples]
    return lists


def call_with(fn: RewardFn, bound: Bound, lists: dict[str, list]) -> object:
    """Calls a function with the lists of ``values``."""
    named = {name: lists[name] for name in bound.named}
    return fn(*(lists[name] for name in bound.positional), **named)


def _check_two_by_position(
    signature: inspect.Signature, name: str, columns: Collection[str] | None
) -> None:
    parameters = list(signature.parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first_two = required == parameters[:2] and all(p.kind in by_position for p in required)
    if not first_two or len(required) != 2:
        raise Refusal(
            f"reward {name} must take (completions, examples), or parameters named completions, "
            f"prompts, examples or like columns of the data; got {_shown(signature)}.",
            _NAME_THEM,
        )
    # (prompt, completion) or (answer, text) would be called with their values swapped.
    clashing = [p.name for p in required if p.name in {"prompt", *(columns or ())}]
    if clashing:
        raise Refusal(
            f"reward {name} must say which parameter is the completions, got {_shown(signature)}, "
            f"where {clashing[0]} is a column of the data.",
            _NAME_THEM,
        )


def _by_name(signature: inspect.Signature, name: str, columns: Collection[str] | None) -> Bound:
    def is_there(parameter: str) -> bool:
        if parameter == "prompts":
            return columns is None or "prompt" in columns
        return parameter in KNOWN or (columns is not None and parameter in columns)

    taken: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if is_there(parameter.name) or (columns is None and parameter.default is parameter.empty):
            taken.append(parameter)
        elif parameter.default is parameter.empty:
            raise _cannot_bind(parameter.name, name, columns or ())
    positional = tuple(
        parameter.name
        for parameter in itertools.takewhile(
            lambda parameter: parameter.kind is parameter.POSITIONAL_ONLY and parameter in taken,
            signature.parameters.values(),
        )
    )
    named = [p.name for p in taken if p.kind is not p.POSITIONAL_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        others = [column for column in columns or () if column not in (*KNOWN, "prompt")]
        rest = ["prompts", "completions", *others]
        named += [n for n in rest if is_there(n) and n not in (*named, *positional)]
    return Bound(positional, tuple(named))


def _cannot_bind(parameter: str, name: str, columns: Collection[str]) -> Refusal:
    listed = ", ".join(printable(column, keep="")[:40] for column in columns) or "none"
    if parameter == "prompts":
        problem = f"reward {name} takes prompts, but the data have no column prompt"
    else:
        problem = (
            f"reward {name} takes {parameter}, which is neither {', '.join(KNOWN)} nor a column "
            "of the data"
        )
    return Refusal(
        f"{problem}; columns: {listed[:400]}.",
        "Rename the parameter, add the column, or give the parameter a default. The rows as a "
        "whole are called examples.",
    )


def _shown(signature: inspect.Signature) -> str:
    return f"({', '.join(map(_bare, signature.parameters.values()))})"


def _bare(parameter: inspect.Parameter) -> str:
    """Without annotation and default, whose text is the user's and may be long."""
    return str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
