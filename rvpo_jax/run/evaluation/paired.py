"""Two evaluations on the same prompts: a paired bootstrap, per channel, worst channel, all met.

``N`` prompts, ``M`` channels. A prompt counts with the mean of its answers; prompts are drawn with
replacement, both sides of a prompt together.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.files import to_json
from rvpo_jax.basics.intervals import CONFIDENCE, holm
from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.run.evaluation.table import heading, new_table, say

RESAMPLES = 10_000
POWER = 0.8
ALL_MET, WORST = "all met", "worst channel"
_CHUNK = 500  # resamples at a time: their counts are [_CHUNK, N]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """B against A in one quantity.

    Attributes:
      name: channel, ``worst channel`` or ``all met``.
      a: value of A.
      b: value of B.
      change: b - a.
      low: of its 95 % interval.
      high: of its 95 % interval.
      p_value: that such a change arises where there is none; NaN where nothing can be said.
      p_holm: the same, corrected for the channels that are tested.
      resolves: the smallest true change that this many prompts show in four of five tests.
      count: prompts with a value on both sides.
    """

    name: str
    a: float
    b: float
    change: float
    low: float
    high: float
    p_value: float
    p_holm: float
    resolves: float
    count: int


def compare(
    a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], *, seed: int = 0
) -> tuple[list[Difference], dict[str, int]]:
    """Differences between two evaluations.

    Args:
      a: rows of the first, with ``key``, ``values`` and ``all_met``.
      b: rows of the second.
      seed: of the resamples.

    Returns:
      The worst channel, all met, then each channel; and how many prompts were paired, and only
      there in one of the two.

    Raises:
      Refusal: when they share no prompt or no channel.

    Source:
      Efron and Tibshirani, An Introduction to the Bootstrap, 16.4: the p-value is of resamples
      that are shifted to no change.
    """
    sides = [_by_prompt(rows) for rows in (a, b)]
    keys = [key for key in sides[0] if key in sides[1]]
    names = [name for name in _channels(a) if name in _channels(b)]
    if not keys or not names:
        lacking = "prompt" if not keys else "channel"
        raise Refusal(
            f"--compare needs two evaluations of one task, got two that share no {lacking}.",
            "Evaluate both on the same task and prompts.",
        )
    quantities = [*names, ALL_MET]
    values = np.array(
        [[[side[k].get(q, math.nan) for q in quantities] for k in keys] for side in sides]
    )
    values[:, np.isnan(values).any(axis=0)] = math.nan  # pairs alone, of each quantity
    observed = _statistics(values, np.ones((1, len(keys))))[:, 0]  # [2, M + 2]
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            _statistics(values, generator.multinomial(len(keys), [1 / len(keys)] * len(keys), size))
            for size in _sizes()
        ],
        axis=1,
    )
    found = [
        _difference(name, observed[:, i], drawn[:, :, i], _count(values, i))
        for i, name in enumerate([WORST, ALL_MET, *names])
    ]
    corrected = holm([one.p_value for one in found[2:]])
    found[2:] = [
        dataclasses.replace(one, p_holm=p) for one, p in zip(found[2:], corrected, strict=True)
    ]
    only = {"paired": len(keys)} | {
        f"only in {name}": len(side) - len(keys) for name, side in zip("ab", sides, strict=True)
    }
    return found, only


def _sizes() -> list[int]:
    return [_CHUNK] * (RESAMPLES // _CHUNK)


def _statistics(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``[2, R, 2 + M]``: worst channel, all met and the channels of both sides, by resample."""
    known = ~np.isnan(values)  # [2, N, M + 1]
    weights = counts.astype(np.float64)
    sums = np.einsum("rn,snm->srm", weights, np.where(known, values, 0.0))
    sizes = np.einsum("rn,snm->srm", weights, known.astype(np.float64))
    means = np.divide(sums, sizes, out=np.full_like(sums, math.nan), where=sizes > 0)
    channels, all_met = means[..., :-1], means[..., -1:]
    lowest = np.where(np.isnan(channels), np.inf, channels).min(axis=-1, keepdims=True)
    lowest[np.isinf(lowest)] = math.nan
    return np.concatenate([lowest, all_met, channels], axis=-1)


def _difference(name: str, observed: np.ndarray, drawn: np.ndarray, count: int) -> Difference:
    a, b = (float(value) for value in observed)
    changes = drawn[1] - drawn[0]
    changes = changes[~np.isnan(changes)]
    change = b - a
    if math.isnan(change) or not changes.size or count < 2:
        nothing = dict.fromkeys(("low", "high", "p_value", "p_holm", "resolves"), math.nan)
        return Difference(name=name, a=a, b=b, change=change, count=count, **nothing)
    low, high = np.quantile(changes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # Rounding may put an equal difference a hair below.
    is_as_large = np.abs(changes - change) >= abs(change) - 1e-12
    p_value = (1 + int(is_as_large.sum())) / (1 + changes.size)
    normal = NormalDist()
    reach = normal.inv_cdf((1 + CONFIDENCE) / 2) + normal.inv_cdf(POWER)
    return Difference(
        name=name,
        a=a,
        b=b,
        change=change,
        low=float(low),
        high=float(high),
        p_value=p_value,
        p_holm=p_value,
        resolves=float(reach * changes.std()) if changes.std() > 0 else math.nan,
        count=count,
    )


def _count(values: np.ndarray, place: int) -> int:
    """Prompts with a value in a quantity; of the worst channel, in any."""
    known = ~np.isnan(values[0])
    column = {0: known[:, :-1].any(axis=1), 1: known[:, -1]}.get(place)
    return int((known[:, place - 2] if column is None else column).sum())


def _channels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["values"]))


def _by_prompt(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the answers to a prompt, by quantity; NaN where nothing is scored."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        values = {**row["values"], ALL_MET: row.get("all_met")}
        for name, value in values.items():
            if not (value is None or isinstance(value, (bool, int, float))):
                raise Refusal(
                    f"a value of {excerpt(name)} must be a number, got {excerpt(value)}.",
                    "Run the evaluation again.",
                )
            scored = found.setdefault(str(row.get("key")), {}).setdefault(name, [])
            scored += [] if value is None else [float(value)]
    return {
        key: {name: float(np.mean(v)) if v else math.nan for name, v in values.items()}
        for key, values in found.items()
    }


def show_comparison(
    names: Sequence[str], found: Sequence[Difference], only: Mapping[str, int], console: Console
) -> None:
    """Prints a comparison.

    Args:
      names: of A and of B.
      found: differences.
      only: prompts that were paired, and those that were not.
      console: where to print.
    """
    heading(f"B - A on {only['paired']} prompts: A {names[0]}, B {names[1]}", console)
    table = new_table()
    table.add_column("quantity", overflow="fold")
    for name in ("A", "B", "B - A", "p", "resolves", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        change = f"{one.change:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        _row(
            table,
            *(one.name, f"{one.a:.3f}", f"{one.b:.3f}", change),
            *(_p_text(one.p_holm), _number(one.resolves), f"{one.count:,}"),
        )
    console.print(table)
    say(
        f"Paired bootstrap over prompts, {RESAMPLES:,} resamples, 95 % intervals; p of channels "
        f"corrected for their number (Holm). 'resolves': the smallest true difference that n "
        f"prompts show in {POWER:.0%} of tests at 5 %.",
        console,
    )
    for name, count in only.items():
        if name != "paired" and count:
            say(f"- {count} prompt(s) {name}: left out.", console)


def comparison_json(
    names: Sequence[str], found: Sequence[Difference], only: Mapping[str, int]
) -> str:
    """A comparison as JSON.

    Args:
      names: of A and of B.
      found: differences.
      only: prompts that were paired, and those that were not.

    Returns:
      The text.
    """
    rows = [dataclasses.asdict(one) for one in found]
    return to_json({"a": names[0], "b": names[1], "prompts": only, "differences": rows}, indent=1)


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell, keep="")) for cell in cells))


def _p_text(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value > 2 / RESAMPLES else f"<{2 / RESAMPLES:.4f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
