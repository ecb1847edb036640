"""From seeds to claims: intervals, paired tests, expected.json, the table that is printed.

A *value* is what one experiment pins down: ``{"ours": mean, "low": ..., "high": ..., "n": seeds}``;
``low`` and ``high`` end its 95 % interval and are missing where nothing is random.
"""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from scipy import stats

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.basics.intervals import CONFIDENCE, holm
from rvpo_jax.basics.refusals import Refusal

Value = dict[str, Any]
RESAMPLES = 9999
# What an expected.json must say, of itself and of each of its values.
FIELDS = ("claim", "command", "seeds", "recorded", "values")
RECORDED_FIELDS = ("commit", "jax", "device")
VALUE_FIELDS = ("ours", "atol", "paper")


def interval(values: Any, *, seed: int = 0) -> Value:
    """Mean over seeds with its 95 % bootstrap interval (BCa, 9,999 resamples).

    With few seeds it is too narrow (5 seeds: about 85 % coverage); use at least 10.

    Args:
      values: ``[seeds]``, one number per seed.
      seed: of the resampling.

    Returns:
      ``{"ours", "low", "high", "n"}``; a point where all seeds agree or there is one.

    >>> interval([0.5, 0.5, 0.5])
    {'ours': 0.5, 'low': 0.5, 'high': 0.5, 'n': 3}
    """
    values = np.asarray(values, np.float64).reshape(-1)
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return {"ours": mean, "low": mean, "high": mean, "n": len(values)}
    low, high = _bootstrap(values, "BCa", seed)
    if not (math.isfinite(low) and math.isfinite(high)):
        # The bias correction underflows to 0 / 0 where all values are residue.
        low, high = _bootstrap(values, "percentile", seed)
    return {"ours": mean, "low": low, "high": high, "n": len(values)}


def _bootstrap(values: np.ndarray, method: str, seed: int) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # degenerate data: answered by the NaN it returns
        result = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def share(count: int, total: int) -> Value:
    """A share with its exact (Clopper-Pearson) 95 % interval.

    Args:
      count: of those in which it holds.
      total: of all, at least 1.

    Returns:
      ``{"ours", "low", "high", "n"}``.

    >>> share(0, 10)["ours"], round(share(0, 10)["high"], 3)
    (0.0, 0.308)
    """
    exact = stats.binomtest(count, total).proportion_ci(CONFIDENCE)
    return {"ours": count / total, "low": float(exact.low), "high": float(exact.high), "n": total}


def paired(values: Any, reference: Any, *, seed: int = 0) -> Value:
    """Mean difference over the seeds that two rules share, its interval and a p-value.

    The test flips the sign of each seed's difference at random (all 2^n ways where that is
    fewer than 10,000): exact for differences that are symmetric about 0 under the null.

    Args:
      values: ``[seeds]`` under one rule.
      reference: ``[seeds]`` under the other, same seeds in the same order.
      seed: of the resampling.

    Returns:
      A value with ``p``, two-sided.

    Raises:
      ValueError: if the two do not have the same number of seeds.
    """
    values = np.asarray(values, np.float64).reshape(-1)
    reference = np.asarray(reference, np.float64).reshape(-1)
    if len(values) != len(reference):
        raise Refusal(
            f"paired values must come from the same seeds, got {len(values)} and {len(reference)}.",
            "Run both rules with the same seeds.",
        )
    difference = values - reference
    result = interval(difference, seed=seed)
    if len(values) < 2 or not difference.any():
        return {**result, "p": 1.0}
    test = stats.permutation_test(
        (values, reference),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return {**result, "p": float(test.pvalue)}


def against(reference: str, results: Mapping[str, Any]) -> list[str]:
    """Paired tests of every rule against one of them, Holm-corrected for their number.

    Args:
      reference: a key of ``results``.
      results: rule to ``[seeds]``, same seeds in the same order.

    Returns:
      A sentence per other rule.

    >>> against("a", {"a": [0.0, 0.0], "b": [1.0, 1.0]})
    ['b minus a: 1.000 [1.000, 1.000], p = 0.5 (Holm)']
    """
    others = [name for name in results if name != reference]
    tests = [paired(results[name], results[reference]) for name in others]
    adjusted = holm([test["p"] for test in tests])
    return [
        f"{name} minus {reference}: {value_text({**test, 'p': p})} (Holm)"
        for name, test, p in zip(others, tests, adjusted, strict=True)
    ]


def summarize(
    outcomes: Mapping[str, Sequence[Mapping[str, float]]], reference: str
) -> tuple[dict[str, Value], list[str]]:
    """Intervals of every rule in every column, and the paired tests against one of the rules.

    Args:
      outcomes: rule to the columns of each seed, same seeds in the same order.
      reference: a key of ``outcomes``.

    Returns:
      Values by ``rule/column``, and a sentence per column and other rule; the p-values of a
      column are corrected for the number of rules.

    >>> values, tests = summarize({"a": [{"x": 0.0}] * 2, "b": [{"x": 1.0}] * 2}, "a")
    >>> values["b/x"]["ours"], tests
    (1.0, ['x, b minus a: 1.000 [1.000, 1.000], p = 0.5 (Holm)'])
    """
    values: dict[str, Value] = {}
    tests = []
    for column in next(iter(outcomes.values()))[0]:
        found = {rule: [seed[column] for seed in seeds] for rule, seeds in outcomes.items()}
        values |= {f"{rule}/{column}": interval(of_rule) for rule, of_rule in found.items()}
        tests += [f"{column}, {line}" for line in against(reference, found)]
    return values, tests


def value_text(value: Mapping[str, Any], digits: int = 3) -> str:
    """A value as a table shows it.

    Args:
      value: with ``ours``, and ``low`` and ``high`` where there is an interval.
      digits: after the point.

    Returns:
      The cell.

    >>> value_text({"ours": 0.5, "low": 0.41, "high": 0.6})
    '0.500 [0.410, 0.600]'
    """
    if "low" not in value:
        return f"{value['ours']:.4g}"
    low, mean, high = (f"{value[name]:z.{digits}f}" for name in ("low", "ours", "high"))
    text = f"{mean} [{low}, {high}]"
    return text if "p" not in value else text + f", p = {value['p']:.2g}"


def values_table(values: Mapping[str, Value], title: str = "", digits: int = 3) -> Table:
    """Values by row and column; printed, it is a Markdown table.

    Args:
      values: by ``row/column``; the last slash separates.
      title: above the table.
      digits: after the point.

    Returns:
      A rich table.
    """
    rows = list(dict.fromkeys(key.rpartition("/")[0] for key in values))
    columns = list(dict.fromkeys(key.rpartition("/")[2] for key in values))
    table = Table(title=title or None, title_justify="left", box=box.MARKDOWN)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        cells = (values.get(f"{row}/{column}") for column in columns)
        table.add_row(row, *("" if c is None else value_text(c, digits) for c in cells))
    return table


def write_json(path: str | Path, content: Any) -> None:
    """Writes a JSON file as a whole: a killed process leaves the old one or the new one.

    Args:
      path: file; its folder is created.
      content: what JSON can hold, and NumPy arrays; a float that is not finite becomes null.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Six digits are more than a seed's spread; they keep the files small.
    rounded = json.loads(to_json(content), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    write_text(path, to_json(rounded, indent=1) + "\n")


def read_expected(path: str | Path) -> dict[str, Any]:
    """An experiment's ``expected.json``, refused where it does not say what it must.

    Args:
      path: the file.

    Returns:
      Its content.

    Raises:
      ValueError: naming the field that is missing or wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"there is no {path}.", "Run with --record once to write it.")
    expected = json.loads(path.read_text())
    absent = [name for name in FIELDS if name not in expected]
    absent += [
        f"recorded.{name}" for name in RECORDED_FIELDS if name not in expected.get("recorded", {})
    ]
    for key, value in expected.get("values", {}).items():
        absent += [f"values.{key}.{name}" for name in VALUE_FIELDS if name not in value]
    if absent:
        raise Refusal(
            f"{path} must have the fields of an experiment, it lacks: {', '.join(absent)}.",
            "See experiments/README.md.",
        )
    return expected


def check_values(values: Mapping[str, Value], expected: Mapping[str, Any]) -> list[str]:
    """Where an outcome differs from ``expected.json`` by more than the tolerance stated there.

    Args:
      values: measured now; further ones than expected are fine.
      expected: from ``read_expected``.

    Returns:
      One sentence per value that differs or is missing; empty where all agree.
    """
    failures = []
    for key, wanted in expected["values"].items():
        if key not in values:
            failures.append(f"{key}: not measured, expected {wanted['ours']}")
        # Written so that NaN fails.
        elif not abs(values[key]["ours"] - wanted["ours"]) <= wanted["atol"]:
            ours = values[key]["ours"]
            failures.append(f"{key}: {ours:.4g}, expected {wanted['ours']} +- {wanted['atol']}")
    return failures


def print_check(values: Mapping[str, Value], expected_path: str | Path) -> int:
    """Prints the outcome of ``check_values``.

    Args:
      values: measured now.
      expected_path: the ``expected.json``.

    Returns:
      The exit code: 0 where all values agree.
    """
    expected = read_expected(expected_path)
    failures = check_values(values, expected)
    print("\n".join(failures) or f"all {len(expected['values'])} values agree with expected.json")
    return 1 if failures else 0


def record_expected(
    path: str | Path, values: Mapping[str, Value], recorded: Mapping[str, Any], num_seeds: int
) -> None:
    """Writes measured values into ``expected.json``; claim, tolerances and the paper's stay.

    A value that is new gets 1.5 times the width of its interval as tolerance, and at least 0.005:
    elsewhere the same seeds may round differently and become other runs.

    Args:
      path: the file, whose claim and command are there already.
      values: measured now.
      recorded: from ``provenance``.
      num_seeds: number of seeds; 0 where nothing is random.
    """
    path = Path(path)
    expected = json.loads(path.read_text()) if path.is_file() else {}
    old = expected.get("values", {})
    new = {}
    for key, value in values.items():
        width = value.get("high", 0.0) - value.get("low", 0.0)
        atol = round(max(0.005, 1.5 * width), 3)
        kept = {name: old.get(key, {}).get(name) for name in ("atol", "paper")}
        kept["atol"] = atol if kept["atol"] is None else kept["atol"]
        rounded = {name: float(f"{x:.4g}") for name, x in value.items() if name != "n"}
        new[key] = {**rounded, **kept}
    expected = {
        "claim": expected.get("claim", ""),
        "command": expected.get("command", f"rvpo figure {path.parent.name}"),
        "seeds": num_seeds,
        "recorded": {k: recorded[k] for k in ("commit", "jax", "device", "seconds", "date")},
        "values": new,
    }
    write_json(path, expected)
