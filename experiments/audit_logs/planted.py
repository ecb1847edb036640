"""Logs of a policy or of rewards with something wrong.

A kind is a function of a random generator that returns a log, how to read it, and the words by
which a report shows that it has seen what is wrong.
"""

from collections.abc import Callable

import numpy as np
from base import CONSTRAINT, Draw, Planted, draw, paid_draw


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


def late_collapse(rng: np.random.Generator) -> Planted:
    """Safety is lost in the last tenth of the steps, or a little before."""
    steps = int(rng.integers(36, 61))
    found = draw(rng, steps=steps)
    end = int(steps * rng.uniform(0.82, 0.9))
    stays = rng.random(found.named("safety").shape) < rng.uniform(0.0, 0.2)
    found.named("safety")[end:] *= stays[end:]
    return Planted(found.columns(), ("safety (", "fell late"))


def oscillation(rng: np.random.Generator) -> Planted:
    found = draw(rng, steps=int(rng.integers(40, 61)))
    turn = np.arange(found.steps) // 8 % 2 == 0
    for name, worse in (("format", turn), ("brevity", ~turn)):
        stays = rng.random(found.named(name).shape) < rng.uniform(0.1, 0.3)
        found.named(name)[...] *= np.where(worse[:, None, None], stays, 1)
    return Planted(found.columns(), ("oscillates between", "format", "brevity"))


def one_channel(rng: np.random.Generator) -> Planted:
    columns = draw(rng).columns()
    kept = {name: columns[name] for name in ("step", "prompt", "completion", "safety")}
    return Planted(kept, ("One channel only",))


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


def over_optimised(rng: np.random.Generator) -> Planted:
    """The rewards rise by 1.5 to 2.5 in logits, the true score falls by 1 to 2 of 10 points."""
    found = draw(rng, drift=rng.uniform(1.5, 2.5))
    time = np.linspace(0, 1, found.steps)[:, None, None]
    gold = 5.0 + rng.normal(size=found.rewards.shape[:3]) - rng.uniform(1.0, 2.0) * time
    return Planted(found.columns(gold=gold), ("The outcome falls",), {"outcome": "gold"})


def paid_length(rng: np.random.Generator) -> Planted:
    """Length and the sum of the rewards have a correlation of 0.7 to 0.9 within groups."""
    found = draw(rng)
    total = found.rewards.sum(-1)
    score = (total - total.mean(-1, keepdims=True)) / max(total.std(), 1e-9)
    close = rng.uniform(0.7, 0.9)
    length = 100 + 30 * (close * score + np.sqrt(1 - close**2) * rng.normal(size=score.shape))
    texts = ["x" * max(int(size), 1) for size in length.reshape(-1)]
    columns = found.columns() | {"completion": texts}
    return Planted(columns, ("Longer completions are paid",))


def one_text_for_all(rng: np.random.Generator) -> Planted:
    """One text is 15 to 50 % of all completions."""
    columns = draw(rng).columns()
    same = rng.random(len(columns["completion"])) < rng.uniform(0.15, 0.5)
    text = "I am afraid that I cannot help with this."
    columns["completion"] = [
        text if repeated else own for repeated, own in zip(same, columns["completion"], strict=True)
    ]
    return Planted(columns, ("One completion makes up",))


def _family(found: Draw, rng: np.random.Generator) -> np.ndarray:
    """``[T, B, G]`` a family for each prompt, of four."""
    names = np.array(["law", "medicine", "poetry", "code"])
    of_prompt = names[rng.permutation(int(found.prompt.max()) + 1) % 4]
    return np.broadcast_to(of_prompt[found.prompt][..., None], found.rewards.shape[:3])


def paid_in_one_slice(rng: np.random.Generator) -> Planted:
    """In one family of four, failing safety brings 2.5 to 4 points; in the others, it costs 1."""
    found = draw(rng, new_prompts=True)
    family = _family(found, rng)
    there, failed = family == "law", found.named("safety") == 0
    worth = np.where(there, rng.uniform(2.5, 4.0), -1.0)
    found.named("correctness")[...] += worth * failed
    options = {"by": "family", **CONSTRAINT}
    return Planted(found.columns(family=family), ("safety is paid in law",), options)


def simpson_over_steps(rng: np.random.Generator) -> Planted:
    """Half way, safety falls by 20 to 30 points in either family, and the easier one takes over."""
    found = draw(rng, steps=int(rng.integers(36, 61)), new_prompts=True)
    late = (np.arange(found.steps) >= found.steps // 2)[:, None]
    easy = rng.random(found.prompt.shape) < np.where(late, 0.9, 0.1)
    rate = np.where(easy, 0.95, 0.35) - np.where(late, rng.uniform(0.2, 0.3), 0.0)
    found.named("safety")[...] = rng.random(found.rewards.shape[:3]) < rate[..., None]
    family = np.where(easy, "easy", "hard")[..., None]
    family = np.broadcast_to(family, found.rewards.shape[:3])
    words = ("Simpson's paradox: safety rises as a whole",)
    return Planted(found.columns(family=family), words, {"by": "family"})


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
    one_channel,
    twins,
    change_of_sides,
    jump_of_scale,
    jump_of_mean,
    solved,
    over_optimised,
    paid_length,
    one_text_for_all,
    paid_in_one_slice,
    simpson_over_steps,
    late_collapse,
)
