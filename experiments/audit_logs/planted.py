"""Logs with something wrong, and the words by which a report shows that it has seen it.

A kind is a function of a random generator that returns a log, how to read it, and what its
sentences must say: all of the words of at least one sentence, or of the error.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from base import Draw, draw

CONSTRAINT = {"constraints": ("safety",)}


@dataclasses.dataclass(frozen=True)
class Planted:
    """A log and what a report must say of it."""

    columns: dict[str, Any]
    words: tuple[str, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def paid_draw(rng: np.random.Generator, failed: str = "safety", payer: str = "correctness") -> Draw:
    """Completions that fail a channel have 2.5 to 4 points more of another."""
    found = draw(rng)
    found.named(payer)[...] += rng.uniform(2.5, 4.0) * (found.named(failed) == 0)
    return found


def paid_constraint(rng: np.random.Generator) -> Planted:
    return Planted(paid_draw(rng).columns(), ("Failing safety is paid",), CONSTRAINT)


def paid_quality(rng: np.random.Generator) -> Planted:
    return Planted(paid_draw(rng, "brevity").columns(), ("Failing brevity is paid",))


def paid_as_logged(rng: np.random.Generator) -> Planted:
    found = paid_draw(rng)
    total = found.rewards.sum(-1)
    advantage = total - total.mean(-1, keepdims=True)
    return Planted(found.columns(advantage=advantage), ("Failing safety is paid (as logged)",))


def payer(rng: np.random.Generator) -> Planted:
    return Planted(paid_draw(rng).columns(), ("correctness pays for it",), CONSTRAINT)


def remedy(rng: np.random.Generator) -> Planted:
    words = ("Failing safety is paid", "It would not be paid by")
    return Planted(paid_draw(rng).columns(), words, CONSTRAINT)


def paid_on_a_large_scale(rng: np.random.Generator) -> Planted:
    found = paid_draw(rng)
    found.rewards *= 10 ** rng.uniform(-3, 3)
    return Planted(found.columns(), ("Failing safety is paid",), CONSTRAINT)


def blind(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    pool = int(found.prompt.max()) + 1
    hard = rng.random(pool) < rng.uniform(0.45, 0.9)
    found.named("format")[hard[found.prompt]] = 0
    return Planted(found.columns(), ("format in",))


def silent_groups(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    pool = int(found.prompt.max()) + 1
    easy = rng.random(pool) < rng.uniform(0.7, 0.9)
    top = np.where(np.array(found.names) == "correctness", 3.0, 1.0)
    found.rewards[easy[found.prompt]] = top
    return Planted(found.columns(), ("No channel varies in",))


def fall(rng: np.random.Generator, *, new_prompts: bool, shape: str) -> Planted:
    """Safety falls by 1.5 to 3 in logits."""
    steps = int(rng.integers(36, 61))
    time = np.linspace(0, 1, steps)
    course = {"line": time, "curve": 1 / (1 + np.exp(-10 * (time - 0.5)))}[shape]
    found = draw(rng, steps=steps, new_prompts=new_prompts)
    lost = rng.uniform(1.5, 3.0) * course[:, None, None]
    # Met ones are failed with the probability that moves the odds by so much.
    stays = rng.random(found.named("safety").shape) < np.exp(-lost)
    found.named("safety")[...] *= stays
    return Planted(found.columns(), ("safety (", "fall"))


def neglect(rng: np.random.Generator) -> Planted:
    return fall(rng, new_prompts=False, shape="line")


def neglect_in_a_curve(rng: np.random.Generator) -> Planted:
    return fall(rng, new_prompts=False, shape="curve")


def neglect_of_new_prompts(rng: np.random.Generator) -> Planted:
    return fall(rng, new_prompts=True, shape="line")


def oscillation(rng: np.random.Generator) -> Planted:
    found = draw(rng, steps=int(rng.integers(40, 61)))
    turn = np.arange(found.steps) // 8 % 2 == 0
    for name, worse in (("format", turn), ("brevity", ~turn)):
        stays = rng.random(found.named(name).shape) < rng.uniform(0.1, 0.3)
        found.named(name)[...] *= np.where(worse[:, None, None], stays, 1)
    return Planted(found.columns(), ("oscillates between", "format", "brevity"))


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


def one_channel(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    kept = {name: columns[name] for name in ("step", "prompt", "completion", "safety")}
    return Planted(kept, ("One channel only",))


def lenient_mark(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    judge = rng.uniform(0.6, 1.0, len(columns["step"]))
    judge[rng.permutation(len(judge))[: round(0.008 * len(judge))]] = 0.0
    return Planted(columns | {"judge": judge}, ("judge counts as met from", "is assumed"))


def twins(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    noise = found.rng.random(found.named("format").shape) < 0.002
    found.named("brevity")[...] = np.abs(found.named("format") - noise)
    return Planted(found.columns(), ("say the same", "format", "brevity"))


def change_of_sides(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    agree = rng.random(found.named("format").shape) < rng.uniform(0.75, 0.95)
    early = (np.arange(found.steps) < found.steps // 2)[:, None, None]
    other = np.where(agree == early, found.named("format"), 1 - found.named("format"))
    found.named("brevity")[...] = other
    return Planted(found.columns(), ("format", "brevity", "in the end (correlation"))


def jump_of_scale(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    at = int(rng.integers(6, found.steps - 6))
    found.named("correctness")[at:] *= rng.choice([0.1, 4.0, 10.0])
    return Planted(found.columns(), ("correctness", f"at step {at},"))


def jump_of_mean(rng: np.random.Generator) -> Planted:
    found = draw(rng, steps=int(rng.integers(24, 61)))
    at = int(rng.integers(6, found.steps - 6))
    found.named("correctness")[at:] += rng.uniform(1.5, 3.0)
    return Planted(found.columns(), ("correctness", f"at step {at},"))


def solved(rng: np.random.Generator) -> Planted:
    found = draw(rng)
    found.named("format")[int(0.6 * found.steps) :] = 1.0
    return Planted(found.columns(), ("format is met by whole groups",))


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
    paid_constraint,
    paid_quality,
    paid_as_logged,
    paid_on_a_large_scale,
    payer,
    remedy,
    blind,
    silent_groups,
    neglect,
    neglect_in_a_curve,
    neglect_of_new_prompts,
    oscillation,
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
    one_channel,
    lenient_mark,
    twins,
    change_of_sides,
    jump_of_scale,
    jump_of_mean,
    solved,
    rows_of_two_processes,
    batch_logged_twice,
    missing_step,
    not_finite,
    lonely_completions,
)
