"""Columns of any type as numbers and as codes of texts.

A column is a pyarrow array or a list of Python values. Nothing here raises on a strange value.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.Array | list[Any]
MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
MET = """true t yes y pass passed correct right success successful succeeded met satisfied valid
    safe good accept accepted compliant""".split()
FAILED = """false f no n fail failed incorrect wrong failure unsuccessful unmet unsatisfied invalid
    unsafe bad reject rejected noncompliant non-compliant""".split()
VERDICTS = dict.fromkeys(MET, 1.0) | dict.fromkeys(FAILED, 0.0)
MAX_NUMBER_CHARS = 64  # a longer text is no number

SAMPLE = 512  # values that tell whether a column repeats itself


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column as numbers, and why some rows have none."""

    values: np.ndarray  # [n] float64, NaN where there is no finite number
    missing: int  # empty, None or NaN
    not_numeric: int  # texts and structures
    not_finite: int
    parsed: int  # numbers that were written as text
    verdicts: int = 0  # words such as pass and fail, which are 1 and 0


def to_numbers(column: Column) -> Numbers:
    """A column as numbers.

    Booleans are 1 and 0, and so are words such as pass and fail, yes and no; other texts are
    parsed; a list of one is its element.

    Args:
      column: ``[n]`` of any type.

    Returns:
      Its numbers and counts.

    >>> numbers = to_numbers(["0.5", True, "abc", None, float("inf")])
    >>> numbers.values.tolist()
    [0.5, 1.0, nan, nan, nan]
    >>> numbers.missing, numbers.not_numeric, numbers.not_finite
    (1, 1, 1)
    """
    plain = _plain_floats(column)
    if plain is None:
        encoded = _encoded(column) if isinstance(column, pa.Array) else None
        if encoded is None:
            return _parse_all(to_list(column))
        uniques, indices = encoded
        rows = indices.fill_null(len(uniques)).to_numpy(zero_copy_only=False)
        return _parse_all([*to_list(uniques), None], rows)
    finite = np.isfinite(plain)
    missing = int(np.isnan(plain).sum())
    return Numbers(
        np.where(finite, plain, np.nan), missing, 0, int((~finite).sum()) - missing, parsed=0
    )


def _plain_floats(column: Column) -> np.ndarray | None:
    """Float64 with NaN for null, where a column holds nothing but numbers."""
    if isinstance(column, pa.Array):
        if not is_number_type(column.type):
            return None
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if set(map(type, column)) <= {float, int, bool, type(None)}:
        try:
            return np.array(column, np.float64)
        except OverflowError:  # an integer of hundreds of digits
            return None
    return None


def is_number_type(kind: pa.DataType) -> bool:
    """Whether all values of an Arrow type are numbers; the null type has none, so they are.

    Args:
      kind: An Arrow type.

    Returns:
      True for booleans, integers, floats, decimals and null.
    """
    types = pa.types
    return (
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def _parse_all(values: list[Any], rows: np.ndarray | None = None) -> Numbers:
    """Numbers of values; with ``rows``, ``[n]`` places among them, of the rows that hold them."""
    numbers = [_parse(value) for value in values]
    words = [type(value) is str and _word(value) in VERDICTS for value in values]
    found = np.array([n if isinstance(n, float) else np.nan for n in numbers], np.float64)
    times = np.ones(len(values), int) if rows is None else np.bincount(rows, minlength=len(values))

    def count(chosen: Iterable[bool]) -> int:
        return int(times[np.fromiter(chosen, bool, len(values))].sum())

    infinite = np.isinf(found)
    expanded = np.where(infinite, np.nan, found)
    pairs = zip(numbers, values, words, strict=True)
    return Numbers(
        expanded if rows is None else expanded[rows],
        missing=count(number is None for number in numbers),
        not_numeric=count(number == "text" for number in numbers),
        not_finite=count(infinite),
        parsed=count(
            isinstance(number, float) and type(value) is str and not word
            for number, value, word in pairs
        ),
        verdicts=count(words),
    )


def _word(text: str) -> str:
    return text[: MAX_NUMBER_CHARS + 1].strip().lower()


def _parse(value: Any) -> float | str | None:
    """A number, None where the value is missing, "text" where it is none."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if value is None or isinstance(value, (list, tuple, dict)):
        return None if value is None else "text"
    if isinstance(value, str):
        if len(value) > MAX_NUMBER_CHARS:
            return "text"
        value = _word(value)
        if value in MISSING:
            return None
        if value in VERDICTS:
            return VERDICTS[value]
    try:
        number = float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return "text"
    return None if number != number else number


def to_advantages(column: Column) -> np.ndarray:
    """Advantages of completions; one per token becomes the first that is not 0.

    Tokens of the prompt or of padding have 0; all others of a completion have the same value.

    Args:
      column: ``[n]`` numbers, or lists of numbers.

    Returns:
      ``[n]`` float32, NaN where there is none.

    >>> to_advantages([[0.0, 0.5, 0.5], 2.0, [[0, 0]]]).tolist()
    [0.5, 2.0, 0.0]
    """
    if _plain_floats(column) is None:
        column = [_first_nonzero(value) for value in to_list(column)]
    return to_float32(to_numbers(column).values)


def _first_nonzero(value: Any) -> Any:
    while isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if not isinstance(value, (list, tuple)):
        return value
    return next((item for item in value if item != 0), 0.0 if value else None)


def to_float32(values: np.ndarray) -> np.ndarray:
    """Float32, with NaN where the number is beyond its range.

    Args:
      values: ``[n]`` float64.

    Returns:
      ``[n]`` float32, NaN or finite.
    """
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    narrow[np.isinf(narrow)] = np.nan
    return narrow


def to_steps(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Training steps, and which rows have one.

    Args:
      column: ``[n]`` integers, whole floats or texts of them.

    Returns:
      ``[n]`` int64, 0 where there is no integer; ``[n]`` bool, True where there is one.
    """
    values = to_numbers(column).values
    whole = np.isfinite(values) & (np.abs(values) < 2.0**53)
    whole &= np.floor(np.where(whole, values, 0.5)) == values
    return np.where(whole, values, 0).astype(np.int64), whole


def to_codes(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Equal codes for equal values, in one process.

    64-bit hashes: two of a million texts collide with a chance of 3e-8. An integer, a whole float
    and their text are equal.

    Args:
      column: ``[n]`` of any type.

    Returns:
      ``[n]`` int64 codes, and ``[n]`` bool, True where there is a value.
    """
    if isinstance(column, pa.Array) and (encoded := _encoded(column)) is not None:
        uniques, indices = encoded
        codes = _codes_of(uniques.to_pylist())
        present = indices.is_valid().to_numpy(zero_copy_only=False)
        if len(codes) == 0:
            return np.zeros(len(column), np.int64), present
        if pa.types.is_floating(uniques.type):
            present &= ~np.isnan(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        return codes[indices.fill_null(0).to_numpy(zero_copy_only=False)], present
    values = to_list(column)
    # NaN, which is not equal to itself, is how pandas writes a missing text.
    present = np.array([value is not None and value == value for value in values], bool)
    return _codes_of(values), present


def to_lengths(column: Column) -> np.ndarray:
    """How long texts are.

    Args:
      column: ``[n]`` of any type.

    Returns:
      ``[n]`` float32 bytes, of what is no text in its canonical form; NaN where there is nothing.
    """
    if isinstance(column, pa.Array) and is_text_type(column.type):
        sizes = pc.binary_length(column.cast(pa.large_binary()))
        return sizes.cast(pa.float32()).to_numpy(zero_copy_only=False)
    values = to_list(column)
    return np.array(
        [np.nan if value is None else len(canonical(value)) for value in values], np.float32
    )


def _encoded(column: pa.Array) -> tuple[pa.Array, pa.Array] | None:
    """Each value once, texts as bytes, and ``[n]`` indices; None for types beyond these."""
    if pa.types.is_dictionary(column.type):
        if is_text_type(column.dictionary.type):
            return column.dictionary.cast(pa.large_binary()), column.indices
        return None
    if is_text_type(column.type):
        column = column.cast(pa.large_binary())  # bytes that are not UTF-8 have a code too
    elif not is_number_type(column.type) or pa.types.is_null(column.type):
        return None
    first = column[:SAMPLE]
    if not column.null_count and len(first) > 1 and len(first.unique()) == len(first):
        return column, pa.array(
            np.arange(len(column))
        )  # a table of the distinct would save nothing
    column = column.dictionary_encode()
    return column.dictionary, column.indices


def is_text_type(kind: pa.DataType) -> bool:
    """Whether an Arrow type is text or bytes.

    Args:
      kind: An Arrow type.

    Returns:
      True for the types of strings and bytes.
    """
    types = pa.types
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def _codes_of(values: Sequence[Any]) -> np.ndarray:
    kinds = set(map(type, values))
    if kinds == {int}:
        values = list(map(str.encode, map(str, values)))  # as JSON writes them
    elif kinds != {bytes}:  # what most texts come as: they are their own canonical form
        values = list(map(canonical, values))
    return np.fromiter(map(hash, values), np.int64, len(values))


def canonical(value: Any) -> bytes:
    """Bytes that are equal for equal values.

    Args:
      value: Of any type.

    Returns:
      The text itself, or JSON.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        return json.dumps(value, default=str, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError):  # mixed keys, huge integers, deep nesting
        return repr(type(value)).encode()


def to_list(column: Column) -> list[Any]:
    """A column as Python values.

    Args:
      column: ``[n]`` of any type.

    Returns:
      ``[n]`` values; bytes that are not UTF-8 become replacement characters.
    """
    if not isinstance(column, pa.Array):
        return column
    if pa.types.is_dictionary(column.type):
        values = to_list(column.dictionary)
        return [None if index is None else values[index] for index in column.indices.to_pylist()]
    if is_text_type(column.type):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "replace") for value in raw]
    try:
        return column.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, OverflowError):  # bad UTF-8 inside, dates beyond Python's
        return [None] * len(column)
