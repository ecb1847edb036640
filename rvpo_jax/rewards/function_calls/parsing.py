"""Reads the function calls in a model's answer: Python's syntax, or ToolRL's block of JSON lines.

A call is ``{name: {parameter: value}}``. The author of the text is a policy that is paid to find
holes: nothing is evaluated, what is read is bounded, and everything Python's parser throws is
caught.
"""

import ast
import json
import warnings
from typing import Any

from rvpo_jax.rewards.arithmetic import calculate_node
from rvpo_jax.rewards.tool_calling import CLOSE, OPEN, is_call

Calls = list[dict[str, dict[str, Any]]]
MAX_CHARACTERS = 4_096
"""Of an answer in Python's syntax: three times the longest reference of BFCL. Python's parser takes
up to 20 microseconds for a character of the worst text."""
MAX_LINES = 1_000
"""Of a block of JSON lines; the longest reference of RLLA has fewer than ten."""


def parse_calls(text: str) -> Calls | None:
    """The calls of an answer in either form, or None where it has no such form.

    Args:
      text: The completion. With a ``<tool_call>`` tag it is read as JSON lines, otherwise as
        Python.

    Returns:
      A list of calls, which may be empty; None where the text cannot be read.

    >>> parse_calls("[area(width=2, height=1.5)]")
    [{'area': {'width': 2, 'height': 1.5}}]
    >>> parse_calls("I cannot help with that.") is None
    True
    """
    return parse_json_calls(text) if OPEN in text else parse_python_calls(text)


def parse_python_calls(text: str) -> Calls | None:
    """The calls of an answer such as ``[f(x=1), g.h(y="b")]``; the brackets may be missing.

    As the original: spaces and back-ticks around are dropped, positional arguments are ignored,
    a bare name stands for its text, ``f(x=g(y=1))`` nests a call. Ours: arithmetic on numbers is
    done under bounds where the original evaluates any expression, ``+5`` is 5 where the original
    makes it -5, and a text of more than ``MAX_CHARACTERS`` is not read.

    Args:
      text: The completion.

    Returns:
      A list of calls, which may be empty; None where the text is not a list of calls.

    Source:
      BFCL v3 (github.com/ShishirPatil/gorilla, Apache-2.0), ``ast_parse``.

    >>> parse_python_calls("math.add(x=-1, y=[2, 1/4])")
    [{'math.add': {'x': -1, 'y': [2, 0.25]}}]
    """
    text = text.strip("`\n ")
    text = ("" if text.startswith("[") else "[") + text + ("" if text.endswith("]") else "]")
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():  # an escape such as "\d" warns
            warnings.simplefilter("ignore")
            body = ast.parse(text, mode="eval").body
        if not isinstance(body, ast.List) or not all(isinstance(e, ast.Call) for e in body.elts):
            return None
        return [_call(element) for element in body.elts if isinstance(element, ast.Call)]
    # No Python, NUL bytes, over-long integers, values that are no keys or no numbers, lone
    # surrogates; deep nesting is one of the last two.
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None


def parse_json_calls(text: str) -> Calls | None:
    """The calls of the last ``<tool_call>`` block, one JSON object a line.

    Lines that are not a call are skipped, as are calls of the tool ``None``, by which a policy
    trained on RLLA says that no tool fits.

    Args:
      text: The completion.

    Returns:
      A list of calls, which may be empty; None where no block is closed, or the last one has more
      than ``MAX_LINES`` lines.

    Source:
      ToolRL (github.com/qiancheng0/ToolRL, Apache-2.0), its handler for BFCL.

    >>> parse_json_calls('<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>')
    [{'f': {'x': 1}}]
    """
    start = text.rfind(OPEN)
    end = text.find(CLOSE, start)
    if start < 0 or end < 0:
        return None
    lines = text[start + len(OPEN) : end].strip().split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        return None
    found = [call for call in map(_json_call, lines) if call is not None]
    return [call for call in found if "None" not in call]


def _json_call(line: str) -> dict[str, dict[str, Any]] | None:
    try:
        call = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, an over-long integer; deep nesting
        return None
    return {call["name"]: call["parameters"]} if isinstance(call, dict) and is_call(call) else None


def _call(node: ast.Call) -> dict[str, dict[str, Any]]:
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    values = {keyword.arg or "**": _value(keyword.value) for keyword in node.keywords}
    return {".".join(reversed(parts)): values}


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value):
            return "..." if value is Ellipsis else value
        case ast.Name(name):
            return name
        case ast.List(elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elements):
            return tuple(_value(element) for element in elements)
        case ast.Dict(keys, values):
            pairs = [(key, value) for key, value in zip(keys, values, strict=True) if key]
            if len(pairs) == len(keys):  # the ** of another dict has no key
                return {_value(key): _value(value) for key, value in pairs}
        case ast.UnaryOp() | ast.BinOp():
            return calculate_node(node)
        case ast.Call(keywords=[_, *_]):
            return _call(node)
        case ast.Call() | ast.Subscript():
            return ast.unparse(node)
    raise ValueError(f"{type(node).__name__} is no value")
