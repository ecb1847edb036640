"""Logs without problems, some of which look as if they had one."""

from collections.abc import Callable
from typing import Any

import numpy as np
from base import draw, wandering


def plain(rng: np.random.Generator) -> dict[str, Any]:
    return draw(rng).columns()


def without_steps(rng: np.random.Generator) -> dict[str, Any]:
    columns = draw(rng, new_prompts=True).columns()
    del columns["step"]
    return columns


def new_prompts(rng: np.random.Generator) -> dict[str, Any]:
    return draw(rng, new_prompts=True).columns()


def no_learning(rng: np.random.Generator) -> dict[str, Any]:
    return draw(rng, drift=0.0).columns()


def _wandering(rng: np.random.Generator, correlation: float) -> dict[str, Any]:
    steps = int(rng.integers(36, 61))
    logit = np.stack([wandering(rng, steps, correlation) for _ in range(6)], -1)
    # Channels that are not drawn are cut off.
    found = draw(rng, steps=steps, drift=0.0)
    met = found.rewards
    for index, name in enumerate(found.names):
        if name != "correctness":
            stays = 1 / (1 + np.exp(-1.5 - 0.6 * logit[:, index]))
            met[..., index] *= rng.random(met.shape[:3]) < stays[:, None, None]
    return found.columns()


def wandering_half(rng: np.random.Generator) -> dict[str, Any]:
    return _wandering(rng, 0.5)


def wandering_much(rng: np.random.Generator) -> dict[str, Any]:
    return _wandering(rng, 0.9)


def heavy_tails(rng: np.random.Generator) -> dict[str, Any]:
    found = draw(rng)
    shape = found.rewards.shape[:3]
    return found.columns(judge=found.named("safety") + rng.standard_t(2.5, size=shape))


def harder_new_prompts(rng: np.random.Generator) -> dict[str, Any]:
    steps = int(rng.integers(24, 61))
    hardness = rng.uniform(1.0, 2.5) * np.linspace(0, 1, steps)
    return draw(rng, steps=steps, new_prompts=True, logit=-hardness[:, None, None]).columns()


def harder_prompts_that_return(rng: np.random.Generator) -> dict[str, Any]:
    found = draw(rng, drift=0.0)
    hardness = np.linspace(0, 2, int(found.prompt.max()) + 1)
    # A prompt is drawn at about its place in the order of hardness, several times.
    place = np.linspace(0, len(hardness) - 1, found.steps)[:, None]
    spread = len(hardness) / 6
    chosen = np.stack(
        [
            np.sort(
                rng.choice(
                    len(hardness),
                    found.prompt.shape[1],
                    replace=False,
                    p=_near(row, spread, len(hardness)),
                )
            )
            for row in place[:, 0]
        ]
    )
    found.prompt = chosen
    stays = 1 / (1 + np.exp(-2.0 + hardness[chosen]))[:, :, None, None]
    binary = np.array(found.names) != "correctness"
    keep = rng.random(found.rewards.shape) < stays
    found.rewards[..., binary] *= keep[..., binary]
    return found.columns()


def _near(place: float, spread: float, size: int) -> np.ndarray:
    weights = np.exp(-0.5 * ((np.arange(size) - place) / spread) ** 2) + 1e-9
    return weights / weights.sum()


def unequal_groups(rng: np.random.Generator) -> dict[str, Any]:
    columns = draw(rng).columns()
    keep = rng.random(len(columns["step"])) < rng.uniform(0.4, 0.9)
    return {name: np.asarray(values)[keep] for name, values in columns.items()}


def missing_scores(rng: np.random.Generator) -> dict[str, Any]:
    found = draw(rng)
    shape = found.rewards.shape
    applies = rng.random((int(found.prompt.max()) + 1, shape[-1])) < 0.6
    applies[:, 0] = True
    found.rewards[~np.broadcast_to(applies[found.prompt][:, :, None], shape)] = np.nan
    return found.columns()


def continuous(rng: np.random.Generator) -> dict[str, Any]:
    found = draw(rng)
    noise = rng.uniform(size=found.rewards.shape)
    found.rewards = np.clip(0.5 * found.rewards / found.rewards.max((0, 1, 2)) + 0.5 * noise, 0, 1)
    return found.columns()


def advantages_of_the_trainer(rng: np.random.Generator) -> dict[str, Any]:
    found = draw(rng)
    mean = (found.rewards - found.rewards.mean(2, keepdims=True)).mean(-1)
    return found.columns(advantage=mean)


def easy(rng: np.random.Generator) -> dict[str, Any]:
    return draw(rng, logit=2.0).columns()


def sliced(rng: np.random.Generator) -> dict[str, Any]:
    """Families differ in level and are as many at every step; they are asked for."""
    found = draw(rng)
    of_prompt = rng.permutation(int(found.prompt.max()) + 1) % 4
    family = np.broadcast_to(of_prompt[found.prompt][..., None], found.rewards.shape[:3])
    stays = rng.random(found.named("format").shape) < 1 - 0.15 * family
    found.named("format")[...] *= stays
    return found.columns(family=np.array(["law", "medicine", "poetry", "code"])[family])


KINDS: tuple[Callable[[np.random.Generator], dict[str, Any]], ...] = (
    plain,
    without_steps,
    new_prompts,
    no_learning,
    wandering_half,
    wandering_much,
    heavy_tails,
    harder_new_prompts,
    harder_prompts_that_return,
    unequal_groups,
    missing_scores,
    continuous,
    advantages_of_the_trainer,
    easy,
    sliced,
)
