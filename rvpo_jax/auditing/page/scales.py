"""From data to pixels: linear scales, round ticks and how a tick is written."""

import dataclasses
import math
from collections.abc import Iterable

Ticks = list[tuple[float, str]]
_STEPS = (1, 2, 5, 10)
_MINUS = "−"


@dataclasses.dataclass(frozen=True)
class Scale:
    """A straight line through (low, start) and (high, end); what is not a number stays so."""

    low: float
    high: float
    start: float  # pixels
    end: float  # pixels; smaller than start on an axis that points up

    def __call__(self, value: float) -> float:
        """Where a value lies; in the middle where low and high are one.

        Args:
          value: in units of the data.

        Returns:
          Pixels; NaN for what is not a number.
        """
        if self.low == self.high:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def limits(values: Iterable[float | None], margin: float = 0.05) -> tuple[float, float]:
    """A range that holds all values, and room on both sides.

    Args:
      values: numbers; None, NaN and infinities do not count.
      margin: room on each side, as a share of the span.

    Returns:
      Two finite numbers, the second larger; 0 and 1 without values.

    >>> limits([0.0, None, 10.0], margin=0.1)
    (-1.0, 11.0)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    largest = max(abs(low), abs(high))
    if high - low <= 1e-9 * largest or high - low < 1e-200:  # one value: a span around it
        room = 0.5 if largest < 1e-9 else 0.1 * largest
    else:
        room = margin * (high - low)
    return low - room, high + room


def round_ticks(low: float, high: float, most: int = 8, *, whole: bool = False) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten.

    Args:
      low: lower end of the axis.
      high: upper end.
      most: so many steps fit in at most.
      whole: integers only.

    Returns:
      The multiples inside, those on the ends too; none where the span is not a finite number > 0.

    >>> round_ticks(-0.02, 1.02)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    power = math.floor(math.log10(span / most))
    power = max(power, 0) if whole else power
    unit = next(unit for unit in _STEPS if span <= unit * most * 10.0**power or unit == _STEPS[-1])

    def value(index: int) -> float:
        # Dividing by a power of ten is exact to the last digit, multiplying by 0.1 is not.
        return float(index * unit * 10**power if power >= 0 else index * unit / 10**-power)

    slack = 1e-9 * span
    first = math.ceil((low - slack) / (unit * 10.0**power))
    last = math.floor((high + slack) / (unit * 10.0**power))
    return [value(index) for index in range(first, last + 1)]


def written(values: list[float], *, percent: bool = False) -> Ticks:
    """Ticks with their labels, all with as many decimals as tell neighbours apart.

    Args:
      values: of one axis, ascending.
      percent: they are shares, written as ``12 %``.

    Returns:
      Pairs of value and label.

    >>> written([0.0, 0.005, 0.01], percent=True)
    [(0.0, '0.0 %'), (0.005, '0.5 %'), (0.01, '1.0 %')]
    """
    factor, unit = (100, " %") if percent else (1, "")
    step = min((b - a for a, b in zip(values[:-1], values[1:], strict=True)), default=1.0) * factor
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0

    def label(value: float) -> str:
        shown = value * factor
        plain = digits <= 6 and abs(shown) < 1e9
        text = f"{shown:.{digits}f}" if plain else f"{shown:.6g}"
        text = text.lstrip("-") if not text.strip("-0.") else text
        return text.replace("-", _MINUS) + unit

    return [(value, label(value)) for value in values]
