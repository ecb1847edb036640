"""Checked dataclasses as what JSON can hold, and back."""

import math
from collections.abc import Mapping
from typing import Any

from .bounds import (
    Checked,
    field_rules,
    is_function,
    only_functions,
    parts_of,
    shown,
    takes_function,
)
from .refusals import Refusal
from .text import printable


def to_plain(value: Any) -> Any:
    """Nested dictionaries and lists; a function becomes its qualified name, infinity a text.

    Args:
      value: a dataclass that is ``Checked``, or a value of one of its fields.

    Returns:
      What JSON can hold.

    >>> to_plain((math.inf, len))
    ['inf', 'builtins:len']
    """
    if isinstance(value, Checked):
        return {name: to_plain(getattr(value, name)) for name in field_rules(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if is_function(value):
        bound = getattr(value, "keywords", {})  # of functools.partial
        function = getattr(value, "func", getattr(value, "apply", value))
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{function.__module__}:{name}" + (f" {bound}" if bound else "")
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value


def from_plain(cls: Any, values: Any, prefix: str = "") -> Any:
    """The dataclass that ``to_plain`` wrote.

    Args:
      cls: a dataclass that is ``Checked``.
      values: nested dictionaries, every field optional.
      prefix: of the fields' names in messages.

    Returns:
      An instance.

    Raises:
      Refusal: on an unknown field, a bad value, or something else than a dictionary.
    """
    if not isinstance(values, Mapping):
        place = prefix.removesuffix(".") or "a config"
        raise Refusal(f"{place} must be a table of fields, got {shown(values)}.", "Write {...}.")
    rules = field_rules(cls)
    given = {}
    for name, value in values.items():
        if name not in rules:
            raise Refusal(
                f"unknown config field {prefix}{printable(name, keep='')}.",
                f"{prefix or 'The config '}has: {', '.join(rules)}.",
            )
        default = rules[name][1]
        if isinstance(default, Checked) and not isinstance(value, Checked):
            given[name] = from_plain(type(default), value, f"{prefix}{name}.")
        else:
            given[name] = math.inf if isinstance(value, str) and value == "inf" else value
    return cls(**given)


def named_only(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """What ``to_plain`` wrote, without the fields where a Python function stood.

    For programs that need a run's policy and not its rule or loss. A tuple of names keeps its
    entries: they can be looked up.

    Args:
      cls: a dataclass that is ``Checked``.
      values: from ``to_plain``, possibly through JSON.

    Returns:
      A copy without these fields, which take their defaults.

    >>> from rvpo_jax.config import Config
    >>> named_only(Config, {"advantage": {"method": "my_rules:own", "eps": 0.0}, "steps": 5})
    {'advantage': {'eps': 0.0}, 'steps': 5}
    """
    rules = field_rules(cls)
    kept = {}
    for name, value in values.items():
        hint, default = rules.get(name, (Any, None))
        if isinstance(default, Checked) and isinstance(value, Mapping):
            kept[name] = named_only(type(default), value)
        elif not _held_function(hint, value):
            kept[name] = value
    return kept


def _held_function(hint: Any, value: Any) -> bool:
    if any(map(takes_function, parts_of(hint)[0])):
        return isinstance(value, str) and ":" in value
    return only_functions(hint)
