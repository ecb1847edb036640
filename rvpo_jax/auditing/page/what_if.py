"""What the script of the audit page computes with. ``G`` completions of a group, ``M`` channels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def what_if_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs to recompute the advantages of the shown completions.

    Of a case's group it needs the mean and the sample standard deviation of every channel and of
    the sums only, so the page does not grow with the group.

    Args:
      report: what ``audit.json`` holds.

    Returns:
      ``k`` (the grid; inf as text), ``start`` (where the slider stands), ``batches`` by number,
      ``in_use``, ``rules``, ``cases`` and ``tables``. There is no text of a completion in it.
    """
    names = [channel["name"] for channel in report["channels"]]
    used = sorted({case["batch"] for case in report["cases"]})
    rules = [rule["name"] for rule in report["rules"]]
    grid = report["batches"][used[0]]["k"] if used else []
    own_k = [rule["risk_coef"] for rule in report["rules"] if rule["method"] == "rvpo"]
    return {
        "k": grid,
        "start": next((grid.index(k) for k in own_k if k in grid), len(grid) // 2),
        "batches": {str(index): report["batches"][index] for index in used},
        "rules": rules,
        "tables": _tables(report),
        "in_use": rules.index(report["rule_in_use"]),
        "cases": [
            {
                "rewards": case["rewards"],
                "failed": [names.index(name) for name in case["failed"]],
                "advantages": [case["advantages"].get(rule) for rule in rules],
                "batch": str(case["batch"]),
                "step": case["step"],
                "row": case["row"],
                **_group_statistics(case["group_rewards"], len(names)),
            }
            for case in report["cases"]
        ],
    }


def _tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """The slider's table: lists over channels by quantity, for ``rvpo`` one at each k."""
    tables = {"rvpo": report["sweep"]}
    weights = {row["channel"]: row["weight_grpo"] for row in report["bottleneck"]["channels"]}
    names = {rule["method"]: rule["name"] for rule in report["rules"]}
    for method in ("grpo", "gdpo", "hard_min"):
        rows = [row for row in report["quiet_failures"] if row["rule"] == names[method]]
        tables[method] = {
            "rate": [row["rate"]["value"] for row in rows],
            "of_failures": [row["of_failures"]["value"] for row in rows],
            "gap": [row["gap"]["value"] for row in rows],
        }
    tables["grpo"]["weight"] = list(weights.values())
    for method, at in (("gdpo", 0), ("hard_min", -1)):  # the ends of the grid: k = 0 and infinity
        swept = report["sweep"]["weight"]
        tables[method]["weight"] = swept[at] if swept else [None] * len(weights)
    return tables


def _group_statistics(rewards: Sequence[Sequence[Any]], num_channels: int) -> dict[str, Any]:
    """Mean and std of each channel and of the sums over a group ``[G, M]``; None: not scored."""
    channels = [_moments([row[m] for row in rewards]) for m in range(num_channels)]
    scored = [[value for value in row if value is not None] for row in rewards]
    sum_mean, sum_std = _moments([sum(values) for values in scored if values])
    return {
        "mean": [mean for mean, _ in channels],
        "std": [std for _, std in channels],
        "sum_mean": sum_mean,
        "sum_std": sum_std,
    }


def _moments(values: Iterable[float | None]) -> tuple[float | None, float]:
    """Mean and sample std (ddof 1); exactly 0 for a constant, whatever its rounding."""
    known = [value for value in values if value is not None]
    if not known:
        return None, 0.0
    mean = math.fsum(known) / len(known)
    if min(known) == max(known):
        return mean, 0.0
    squares = math.fsum((value - mean) ** 2 for value in known)
    return mean, math.sqrt(squares / (len(known) - 1))
