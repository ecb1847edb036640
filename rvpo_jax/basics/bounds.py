"""Rules that stand on the fields of a dataclass, in ``Annotated``, and the check of all of them.

``class RolloutConfig(Checked, section="rollout")`` is checked whenever it is built: types and
``Literal`` choices from the annotations, ranges from ``Bound``, names from ``OneOf``.
"""

import collections.abc
import dataclasses
import functools
import importlib
import math
import numbers
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from .refusals import Refusal
from .text import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """The range of a number; NaN is in no range.

    Attributes:
      gt: the value is greater; ge: greater or equal; lt: less; le: less or equal.
      finite: infinity is refused even where the range would hold it.
      hint: what to do about a bad value, a sentence.
    """

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    finite: bool = True
    hint: str = "Give such a number."

    def broken_by(self, value: float) -> str | None:
        """The rule that a number breaks, or None.

        >>> Bound(gt=0, le=1).broken_by(1.5)
        'must lie in (0, 1]'
        """
        low, high = self.gt if self.ge is None else self.ge, self.lt if self.le is None else self.le
        above = low is None or (value >= low if self.gt is None else value > low)
        below = high is None or (value <= high if self.lt is None else value < high)
        if not (above and below) or math.isnan(value):
            return f"must {self._range(low, high)}"
        return "must be finite" if self.finite and math.isinf(value) else None

    def _range(self, low: float | None, high: float | None) -> str:
        if low is not None and high is not None:
            ends = "(["[self.gt is None], ")]"[self.lt is None]
            return f"lie in {ends[0]}{_bound(low)}, {_bound(high)}{ends[1]}"
        if low is not None:
            return f"be {'>=' if self.gt is None else '>'} {_bound(low)}"
        if high is not None:
            return f"be {'<=' if self.lt is None else '<'} {_bound(high)}"
        return "be a number"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The value is a key of a registry, or a function that stands for one.

    Attributes:
      registry: ``module:NAME`` of the dictionary. It is imported only when a name other than the
        field's default is checked.
    """

    registry: str

    def names(self) -> tuple[str, ...]:
        """The keys of the registry, in their order."""
        module, _, name = self.registry.partition(":")
        return tuple(getattr(importlib.import_module(module), name))


class Checked:
    """A dataclass whose fields are checked against their annotations when it is built.

    Lists and arrays become tuples, numbers of NumPy and JAX Python's own. A JAX tracer stays as it
    is and is checked by nobody. A subclass with rules between fields extends ``__post_init__``.
    """

    _section: ClassVar[str] = ""

    def __init_subclass__(cls, *, section: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls._section = section

    def __post_init__(self) -> None:
        for name, (hint, default) in field_rules(type(self)).items():
            value = getattr(self, name)
            fitted = _fit(self._user_name(name), value, hint, default)
            if fitted is not value:
                object.__setattr__(self, name, fitted)  # frozen, and still being built

    def _user_name(self, field: str) -> str:
        """The field as the user types it."""
        return f"{self._section}.{field}" if self._section else field


def field_rules(cls: Any) -> Mapping[str, tuple[Any, Any]]:
    """Annotation and default of each field.

    Args:
      cls: a dataclass.

    Returns:
      By name, in order; ``dataclasses.MISSING`` where there is no default.
    """
    return _field_rules(cls)


@functools.cache
def _field_rules(cls: Any) -> Mapping[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: (hints[field.name], field.default) for field in dataclasses.fields(cls)}


def parts_of(hint: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The alternatives of an annotation, and the marks of its ``Annotated``.

    Args:
      hint: an annotation.

    Returns:
      Types, functions among them as ``Callable``; marks.

    >>> parts_of(Annotated[float | None, Bound(gt=0)])[0]
    (<class 'float'>, <class 'NoneType'>)
    """
    marks: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        marks = tuple(rest)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint), marks
    return (hint,), marks


def takes_function(kind: Any) -> bool:
    """Whether an alternative of an annotation stands for functions.

    Args:
      kind: one of the types of ``parts_of``.

    Returns:
      True for ``Callable``.
    """
    return typing.get_origin(kind) is collections.abc.Callable


def only_functions(hint: Any) -> bool:
    """Whether an annotation stands for a tuple of functions, which no text can name.

    Args:
      hint: an annotation.

    Returns:
      True for ``tuple[Callable[..., Any], ...]``.
    """
    return typing.get_origin(hint) is tuple and all(
        takes_function(kind) for kind in typing.get_args(hint) if kind is not Ellipsis
    )


def is_function(value: object) -> bool:
    """Whether a value can stand for a name: a function, a rule or a method's record.

    Args:
      value: anything.

    Returns:
      True or False.
    """
    return callable(value) or any(hasattr(value, name) for name in ("apply", "rule"))


def check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Refuses a value that is none of the choices.

    Args:
      name: the argument as the user types it.
      value: what came.
      choices: texts or whole numbers.

    Raises:
      Refusal: naming the choices.
    """
    fits = isinstance(value, (str, int)) and not isinstance(value, bool) and value in choices
    if not fits:
        listed = ", ".join(map(str, choices))
        raise Refusal(
            f"{name} must be one of {listed}, got {shown(value)}.", "Choose one of these."
        )


def shown(value: object) -> str:
    """What came, on one line: numbers as they print, anything else as Python writes it.

    Args:
      value: anything.

    Returns:
      Printable text of at most 80 characters.

    >>> shown("gdop"), shown(-1.0)
    ("'gdop'", '-1.0')
    """
    is_number = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    text = str(value) if is_number else printable(repr(value), keep="")
    return text if len(text) <= 80 else f"{text[:80]}..."


def _fit(name: str, value: Any, hint: Any, default: Any = dataclasses.MISSING) -> Any:
    """The value as the field holds it, or a Refusal."""
    kinds, marks = parts_of(hint)
    if (value is None and type(None) in kinds) or _is_traced(value):
        return value
    if any(map(takes_function, kinds)) and is_function(value):
        return value
    for mark in marks:
        if isinstance(mark, OneOf):
            if not (isinstance(value, str) and value == default):
                check_choice(name, value, mark.names())
            return value
    plain = [kind for kind in kinds if kind is not type(None) and not takes_function(kind)]
    alike = [kind for kind in plain if _is_mapping(kind) == isinstance(value, Mapping)]
    return _fit_kind(name, value, (*alike, *plain, *kinds)[0], marks)


def _fit_kind(name: str, value: Any, kind: Any, marks: tuple[Any, ...]) -> Any:
    origin = typing.get_origin(kind)
    if origin is Literal:
        check_choice(name, value, typing.get_args(kind))
        return value
    if kind in (int, float):
        return _fit_number(name, value, kind, marks)
    if origin is tuple:
        return _fit_tuple(name, value, typing.get_args(kind))
    if _is_mapping(kind) and isinstance(value, Mapping):
        return {str(key): _fit(name, item, typing.get_args(kind)[1]) for key, item in value.items()}
    if not isinstance(value, origin or kind):
        words = {bool: "True or False", str: "a text"}.get(kind, "a function")
        if isinstance(kind, type) and issubclass(kind, Checked):
            words = f"of type {kind.__name__}"
        raise Refusal(f"{name} must be {words}, got {shown(value)}.", "Give another value.")
    return value


def _fit_number(name: str, value: Any, kind: Any, marks: tuple[Any, ...]) -> Any:
    convert: Callable[[Any], Any] = operator.index if kind is int else float
    words = "a whole number" if kind is int else "a number"
    try:
        # A text is no number, nor is a bool or an array of one element.
        if isinstance(value, (str, bytes, bool)) or getattr(value, "shape", ()) != ():
            raise TypeError
        if getattr(getattr(value, "dtype", None), "kind", "") == "b":
            raise TypeError
        number = convert(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal(f"{name} must be {words}, got {shown(value)}.", "Give one number.") from None
    for bound in (mark for mark in marks if isinstance(mark, Bound)):
        rule = bound.broken_by(number)
        if rule is not None:
            raise Refusal(f"{name} {rule}, got {shown(value)}.", bound.hint)
    return number


def _fit_tuple(name: str, value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    if getattr(value, "ndim", None) == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise Refusal(f"{name} must be a list or a tuple, got {shown(value)}.", "Put it in a list.")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise Refusal(
            f"{name} must hold {len(hints)} values in each entry, got {shown(value)}.",
            "Give all of them.",
        )
    return tuple(_fit(name, item, hint) for item, hint in zip(value, hints, strict=True))


def _is_mapping(kind: Any) -> bool:
    return typing.get_origin(kind) is collections.abc.Mapping


def _is_traced(value: object) -> bool:
    # Where JAX is not imported nothing is traced, and this module imports none of it.
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def _bound(value: float) -> str:
    """A bound as people write it: 2**32 rather than its ten digits."""
    power = int(value).bit_length() - 1
    return f"2**{power}" if power > 16 and value == 2**power else f"{value:g}"
