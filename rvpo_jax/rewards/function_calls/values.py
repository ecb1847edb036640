"""Whether a value of a call is one of those that BFCL accepts: its type first, then what it says.

The rules are the original's to the letter, oddities included: its verdicts are the yardstick.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal


class Verdict(NamedTuple):
    """What the checker says of an answer."""

    valid: bool
    error_type: str | None = None
    """The original's code of the first error, such as ``value_error:string``; None: valid."""
    reason: str = ""
    """One short line for a reader; empty: valid."""


VALID = Verdict(True)
TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
"""Types of BFCL's function descriptions, and what a value must be in Python, exactly."""
_COMPARED = str.maketrans("'", '"', " ,./-_*^")


def check_value(
    name: str, value: Any, described: Mapping[str, Any], accepted: Sequence[Any]
) -> Verdict:
    """Whether a parameter has an accepted value of the described type.

    Where the accepted values have another type than the described one, they are variables: a value
    of their type must equal one of them. Texts are compared without case, spaces and ``,./-_*^``.
    An integer passes for a float, and a tuple where one is described.

    Args:
      name: Of the parameter, for the reason.
      value: What the model gave.
      described: The parameter's description: ``type`` and, for lists, ``items``.
      accepted: The accepted values; ``""`` says that the parameter may be left out.

    Returns:
      The verdict.

    Raises:
      Refusal: when the description names a type that BFCL's Python categories do not have.

    >>> check_value("day", "April 1, 2024", {"type": "string"}, ["april 1 2024"]).valid
    True
    >>> check_value("count", "2", {"type": "integer"}, [2]).error_type
    'type_error:simple'
    """
    kind = described.get("type")
    expected = _type_of(name, kind)
    inner = None
    if kind in ("array", "tuple"):
        inner = _type_of(name, described.get("items", {}).get("type"))
    if kind == "tuple" and type(value) is tuple:
        value = list(value)
    if kind == "float" and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    problem = _type_problem(value, expected, inner, accepted)
    if problem is not None:
        return Verdict(False, problem, f"{excerpt(name)} must be {kind}, got {excerpt(value)}")
    problem = _value_problem(value, expected, inner, accepted)
    if problem is not None:
        return Verdict(False, problem, f"{excerpt(name)} must not be {excerpt(value)}")
    return VALID


def standard_text(text: str) -> str:
    """A text as it is compared: in lower case, without spaces and ``,./-_*^``, one kind of quote.

    >>> standard_text("Rock 'n' Roll.")
    'rock"n"roll'
    """
    return text.translate(_COMPARED).lower()


def _type_of(name: str, kind: Any) -> type:
    if not isinstance(kind, str) or kind not in TYPES:
        raise Refusal(
            f"the type of parameter {excerpt(name)} must be one of {', '.join(TYPES)}, "
            f"got {excerpt(kind)}.",
            "Functions of Java and JavaScript cannot be checked.",
        )
    return TYPES[kind]


def _accepted_type(accepted: Sequence[Any]) -> type | None:
    return next((type(value) for value in accepted if value != ""), None)


def _type_problem(
    value: Any, expected: type, inner: type | None, accepted: Sequence[Any]
) -> str | None:
    found, accepted_type = type(value), _accepted_type(accepted)
    if found is not expected:
        return None if found is accepted_type else "type_error:simple"
    if inner is None or any(_all_of(inner, value, one) for one in accepted):
        return None
    return "type_error:nested" if found is accepted_type else "type_error:simple"


def _all_of(inner: type, value: Sequence[Any], accepted: Any) -> bool:
    """Whether the elements have the described type, or that of one accepted list's elements."""
    if type(accepted) is not list:
        return True
    types = (inner, _accepted_type(accepted))
    return all(type(element) in types for element in value)


def _value_problem(
    value: Any, expected: type, inner: type | None, accepted: Sequence[Any]
) -> str | None:
    found = type(value)
    if found is not expected or _accepted_type(accepted) not in (None, expected):
        return None if value in accepted else "value_error:others"
    if expected is str:
        return None if _standard(value) in map(_standard, accepted) else "value_error:string"
    if expected is dict:
        return _dict_problem(value, accepted)
    if expected is list and inner is dict:
        return _dicts_problem(value, accepted)
    if expected is list:
        lists = (list(map(_standard, one)) for one in accepted)
        return None if list(map(_standard, value)) in lists else "value_error:list/tuple"
    return None if value in accepted else "value_error:others"


def _standard(value: Any) -> Any:
    return standard_text(value) if type(value) is str else value


def _dict_problem(value: Any, accepted: Sequence[Any]) -> str | None:
    problem: str | None = "dict_checker:unclear"
    for one in accepted:
        if one != "" and type(value) is dict:
            problem = _against_one_dict(value, one)
            if problem is None:
                return None
    return problem


def _against_one_dict(value: dict[Any, Any], accepted: Mapping[Any, Sequence[Any]]) -> str | None:
    # The original looks for missing keys last, and lets them hide what it found before.
    if any(key not in value and "" not in values for key, values in accepted.items()):
        return "value_error:dict_key"
    for key, given in value.items():
        if key not in accepted:
            return "value_error:dict_key"
        if _standard(given) not in map(_standard, accepted[key]):
            return "value_error:dict_value"
    return None


def _dicts_problem(value: list[Any], accepted: Sequence[Any]) -> str | None:
    """Of a list of dicts: as many as one of the accepted lists has, in its order."""
    problem: str | None = "list_dict_checker:unclear"
    for one in accepted:
        if len(value) != len(one):
            problem = "value_error:list_dict_count"
            continue
        problems = (_dict_problem(v, [a]) for v, a in zip(value, one, strict=True))
        problem = next((found for found in problems if found is not None), None)
        if problem is None:
            return None
    return problem
