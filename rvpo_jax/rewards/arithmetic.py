"""Arithmetic that a policy writes, calculated without evaluating its text, under bounds."""

import ast
import operator
import warnings
from collections.abc import Callable
from typing import Any

MAX_CHARACTERS = 200
"""Of an expression; the longest of GSM8K's annotations has 36."""
_MAX_NUMBER = 1e15
_MAX_POWER = 64
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def calculate(text: str) -> float | None:
    """The value of an expression of numbers, signs, ``+ - * / // % **`` and brackets.

    Args:
      text: The expression, as Python would write it.

    Returns:
      An integer or a float; None for anything else, for more than ``MAX_CHARACTERS``, a number
      above 1e15 on the way, or a power above 64.

    >>> calculate("(3+4)*.5"), calculate("2**2**99"), calculate("x")
    (3.5, None, None)
    """
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():  # "1(2)" warns that a number cannot be called
            warnings.simplefilter("ignore")
            return calculate_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def calculate_node(node: ast.expr) -> float:
    """The value of a parsed expression.

    Args:
      node: The expression.

    Returns:
      An integer or a float.

    Raises:
      ValueError: when it is not made of numbers and arithmetic, or leaves the bounds.
      ArithmeticError: when it divides by zero or overflows.

    >>> calculate_node(ast.parse("-1/4", mode="eval").body)
    -0.25
    """
    match node:
        case ast.Constant(value):
            return _number(value)
        case ast.UnaryOp(ast.USub(), operand):
            return -calculate_node(operand)
        case ast.UnaryOp(ast.UAdd(), operand):
            return calculate_node(operand)
        case ast.BinOp(left, sign, right) if type(sign) in _OPERATORS:
            base, other = calculate_node(left), calculate_node(right)
            if isinstance(sign, ast.Pow) and abs(other) > _MAX_POWER:
                raise ValueError("too large a power")
            return _number(_OPERATORS[type(sign)](base, other))
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def _number(value: Any) -> float:
    # A power of a negative number may be complex; true is an integer in Python.
    if type(value) not in (int, float) or not abs(value) <= _MAX_NUMBER:
        raise ValueError("no number, or too large")
    return value
