"""Gives a function what it names: how users' rules, losses and whitenings are called."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rvpo_jax.basics.refusals import Refusal


def name_of(function: Any) -> str:
    """How a message calls a function, also a partial one or an object.

    Args:
      function: the function.

    Returns:
      Its name, or that of its type.

    >>> name_of(functools.partial(max, 0))
    'max'
    """
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def bind(
    function: Callable[..., Any],
    available: Mapping[str, Any],
    *,
    what: str,
    leading: int = 1,
    hints: Mapping[str, str] | None = None,
) -> Callable[..., Any]:
    """Binds the keyword arguments that a function names, so that only its leading ones are left.

    A parameter that was bound with ``functools.partial`` keeps that value, one with a default
    keeps the default where there is nothing of its name, and ``**kwargs`` gets all there is.
    ``None`` stands for "not there", except for a parameter that has no other way to learn of it.

    Args:
      function: the user's function.
      available: what it may name.
      what: what the function is, for the message: "aggregator", "objective".
      leading: positional parameters that are left to the caller.
      hints: for a name that is not there, how to provide it.

    Returns:
      ``function`` of its leading parameters.

    Raises:
      ValueError: if a required parameter is not available.

    >>> bind(lambda scores, k: scores * k, {"k": 2, "where": 3}, what="rule")(5)
    10
    """
    wanted: dict[str, Any] = {}
    for parameter in list(_parameters(function))[leading:]:
        name, empty = parameter.name, parameter.default is parameter.empty
        if name in getattr(function, "keywords", {}):
            continue  # bound by functools.partial: the user's value, not the config's
        if parameter.kind is parameter.VAR_KEYWORD:
            wanted |= {key: value for key, value in available.items() if value is not None}
        elif available.get(name) is not None or (name in OPTIONAL and name in available):
            wanted[name] = available[name]
        elif empty and parameter.kind is not parameter.VAR_POSITIONAL:
            hint = (hints or {}).get(name, "")
            raise Refusal(
                f"{what} {name_of(function)} asks for {name}, which is not available.",
                f"It may name: {', '.join(available)}.{hint and ' ' + hint}",
            )
    return functools.partial(function, **wanted) if wanted else function


# None means something here: no weights are equal weights, no lengths unknown ones.
OPTIONAL = frozenset({"weights"})


def asks_for(function: Callable[..., Any], name: str) -> bool:
    """Whether a function cannot be called without an argument of this name.

    Args:
      function: the user's function.
      name: of a parameter.

    Returns:
      True where it is a parameter without a default.

    >>> asks_for(lambda logprobs, ref_logprobs: 0.0, "ref_logprobs")
    True
    """
    return any(p.name == name and p.default is p.empty for p in _parameters(function))


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some callables written in C have none
        return ()


def pick(value: Any, registry: Mapping[str, Any], field: str) -> Any:
    """What a name stands for; a function stands for itself.

    Args:
      value: a key of ``registry``, or a function.
      registry: what the names stand for.
      field: the config's field, for the message.

    Returns:
      The entry, or ``value``.

    Raises:
      ValueError: on an unknown name.

    >>> pick("a", {"a": 1}, "loss.objective")
    1
    """
    if callable(value):
        return value
    if not isinstance(value, str) or value not in registry:
        raise Refusal(
            f"{field} must be one of {', '.join(registry)}, or a function, got {value!r}.",
            "Choose one of these names.",
        )
    return registry[value]
