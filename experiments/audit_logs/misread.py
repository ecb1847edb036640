"""Logs that are easily misread: outliers, measures, words, columns and rows that are odd.

Kinds as those of ``planted``.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from base import CONSTRAINT, Planted, draw, paid_draw


def one_odd_value(rng: np.random.Generator) -> Planted:
    columns = paid_draw(rng).columns()
    columns["safety"][rng.integers(len(columns["safety"]))] = rng.choice([-1.0, -10.0, 1000.0])
    return Planted(columns, ("Failing safety is paid",), CONSTRAINT)


def odd_value_is_counted(rng: np.random.Generator) -> Planted:
    return dataclasses.replace(one_odd_value(rng), words=("safety is beyond its usual 0 to 1",))


def outlier_of_a_judge(rng: np.random.Generator) -> Planted:
    found = paid_draw(rng)
    columns = found.columns()
    judge = np.clip(
        0.25 + 0.5 * columns["safety"] + 0.1 * rng.normal(size=len(columns["step"])), 0, 1
    )
    judge[rng.integers(len(judge))] = 1000.0
    columns["safety"] = judge
    return Planted(columns, ("Failing safety is paid",), CONSTRAINT)


def _measure(rng: np.random.Generator, name: str, high: int) -> Planted:
    found = paid_draw(rng)
    values = rng.integers(1, high, found.rewards.shape[:3]).astype(float)
    return Planted(found.columns(**{name: values}), ("Failing safety is paid",), CONSTRAINT)


def length_column(rng: np.random.Generator) -> Planted:
    return _measure(rng, "response_length", 2000)


def turns_column(rng: np.random.Generator) -> Planted:
    return _measure(rng, "num_turns", 40)


def milliseconds_column(rng: np.random.Generator) -> Planted:
    return _measure(rng, "verifier_ms", 5000)


def swamping_channel(rng: np.random.Generator) -> Planted:
    planted = _measure(rng, "verbosity", 2000)
    return dataclasses.replace(planted, words=("verbosity carries",))


def _verdicts(rng: np.random.Generator, met: str, failed: str) -> Planted:
    columns = paid_draw(rng).columns()
    columns["safety"] = [met if value else failed for value in columns["safety"]]
    return Planted(columns, ("Failing safety is paid",), CONSTRAINT)


def verdicts_pass_fail(rng: np.random.Generator) -> Planted:
    return _verdicts(rng, "pass", "fail")


def verdicts_yes_no(rng: np.random.Generator) -> Planted:
    return _verdicts(rng, "Yes", "No")


def verdicts_categorical(rng: np.random.Generator) -> Planted:
    import pyarrow as pa

    planted = _verdicts(rng, "safe", "unsafe")
    planted.columns["safety"] = pa.array(planted.columns["safety"]).dictionary_encode()
    return planted


def named_but_unreadable(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    remarks = [f"remark {index}" for index in range(found.rewards[..., 0].size)]
    columns = found.columns() | {"grade": remarks}
    return Planted(columns, ("grade, in which no row is one",), {"rewards": ("safety", "grade")})


def ignored_column(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    remarks = [f"remark {index}" for index in range(found.rewards[..., 0].size)]
    return Planted(found.columns() | {"remark": remarks}, ("not used", "remark"))


def lenient_mark(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    judge = rng.uniform(0.6, 1.0, len(columns["step"]))
    judge[rng.permutation(len(judge))[: round(0.008 * len(judge))]] = 0.0
    return Planted(columns | {"judge": judge}, ("judge counts as met from", "is assumed"))


def less_is_better_by_name(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    name = str(rng.choice(["hallucination_rate", "cost", "toxicity", "violations"]))
    columns = found.columns(**{name: rng.random(found.rewards.shape[:3])})
    return Planted(columns, (f"{name} sounds as if less were better",))


def outside_the_range(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    judge = rng.uniform(0, 1, len(columns["step"]))
    some = rng.permutation(len(judge))[: int(rng.integers(1, 10))]
    judge[some] = 10.0
    words = (f"judge is outside its --range of 0 to 1 in {len(some)} row(s)",)
    return Planted(columns | {"judge": judge}, words, {"ranges": {"judge": (0.0, 1.0)}})


def rows_of_two_processes(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    some = np.arange(int(rng.integers(16, 200)))
    doubled = {
        name: np.concatenate([np.asarray(values), np.asarray(values)[some]])
        for name, values in columns.items()
    }
    return Planted(doubled, (f"{len(some)} row(s) repeat the completion",))


def batch_logged_twice(rng: np.random.Generator) -> Planted:
    columns = {name: np.asarray(values) for name, values in draw(rng).columns().items()}
    again = columns["step"] == 5
    doubled = {name: np.concatenate([values, values[again]]) for name, values in columns.items()}
    doubled["step"][-int(again.sum()) :] = doubled["step"].max() + 1
    return Planted(doubled, ("repeat all completions and rewards of a group",))


def missing_step(rng: np.random.Generator) -> Planted:
    columns = {name: np.asarray(values) for name, values in draw(rng).columns().items()}
    gone = int(rng.integers(1, columns["step"].max()))
    kept = {name: values[columns["step"] != gone] for name, values in columns.items()}
    return Planted(kept, ("lacks 1 of the", f": {gone}."))


def not_finite(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    some = rng.integers(len(columns["safety"]), size=5)
    columns["safety"][some] = np.inf
    return Planted(columns, (f"safety is infinite in {len(set(some.tolist()))} row(s)",))


def lonely_completions(rng: np.random.Generator) -> Planted:
    columns = {name: np.asarray(values) for name, values in draw(rng).columns().items()}
    _, first = np.unique(
        columns["step"] * 10_000 + np.unique(columns["prompt"], return_inverse=True)[1],
        return_index=True,
    )
    some = columns["step"] < 3
    keep = ~some
    keep[first] = True
    return Planted({k: v[keep] for k, v in columns.items()}, ("group(s) have one completion",))


KINDS: tuple[Callable[[np.random.Generator], Planted], ...] = (
    one_odd_value,
    odd_value_is_counted,
    outlier_of_a_judge,
    length_column,
    turns_column,
    milliseconds_column,
    swamping_channel,
    verdicts_pass_fail,
    verdicts_yes_no,
    verdicts_categorical,
    named_but_unreadable,
    ignored_column,
    lenient_mark,
    rows_of_two_processes,
    batch_logged_twice,
    missing_step,
    not_finite,
    lonely_completions,
    less_is_better_by_name,
    outside_the_range,
)
