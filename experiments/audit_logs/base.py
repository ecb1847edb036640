"""Reward logs of a policy that slowly gets better: what all kinds start from.

``T`` steps, ``B`` prompts a step, ``G`` completions of a prompt, ``M`` channels.
"""

import dataclasses
from typing import Any

import numpy as np

CONSTRAINT = {"constraints": ("safety",)}


@dataclasses.dataclass(frozen=True)
class Planted:
    """A log and what a report must say of it."""

    columns: dict[str, Any]
    words: tuple[str, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Draw:
    """The rewards of a log, and what is known of them."""

    rng: np.random.Generator
    rewards: np.ndarray  # [T, B, G, M] float64; channel 0 has the values 0 to 3, the others 0 or 1
    prompt: np.ndarray  # [T, B] int
    names: list[str]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.rewards)

    def named(self, name: str) -> np.ndarray:
        """The rewards of a channel, ``[T, B, G]``, to be changed in place."""
        return self.rewards[..., self.names.index(name)]

    def columns(self, **more: Any) -> dict[str, Any]:
        """A table of rows in the order of steps; the channels in any order."""
        shape = self.rewards.shape[:3]
        step, _, _ = np.indices(shape)
        group = np.broadcast_to(self.prompt[..., None], shape)
        columns = {
            "step": step.reshape(-1),
            "prompt": [f"prompt {index}" for index in group.reshape(-1).tolist()],
            "completion": [f"completion {index}" for index in range(step.size)],
        } | {name: self.named(name).reshape(-1).copy() for name in self.names}
        return columns | {name: np.asarray(values).reshape(-1) for name, values in more.items()}


def draw(
    rng: np.random.Generator,
    *,
    steps: int | None = None,
    new_prompts: bool = False,
    logit: Any = 0.0,
    drift: float = 0.8,
) -> Draw:
    """Rewards of random size: 24 to 60 steps of 8 to 20 prompts with 4 to 12 completions.

    A channel is met with a probability that depends on the prompt, on the completion (a quality
    that all channels share) and on the step.

    Args:
      rng: of the log.
      steps: T; None: random.
      new_prompts: whether no prompt comes back.
      logit: added to the logits, ``[T or 1, B or 1, M or 1]``.
      drift: of the logits of the first two channels from the first to the last step.

    Returns:
      The rewards of 4 to 6 channels, ``correctness`` and ``safety`` among them.
    """
    num_steps = int(rng.integers(24, 61)) if steps is None else steps
    num_prompts, group_size = int(rng.integers(8, 21)), int(rng.integers(4, 13))
    num_channels = int(rng.integers(4, 7))
    names = ["correctness", "format", "safety", "brevity", "tone", "citations"][:num_channels]
    pool = num_prompts * (num_steps if new_prompts else int(rng.integers(2, 6)))
    if new_prompts:
        prompt = rng.permutation(pool).reshape(num_steps, num_prompts)
    else:
        prompt = np.stack([rng.permutation(pool)[:num_prompts] for _ in range(num_steps)])
    of_prompt = 0.7 * rng.normal(size=(pool, num_channels))[prompt][:, :, None]
    shape = (num_steps, num_prompts, group_size)
    quality = rng.normal(size=(*shape, 1))
    time = np.linspace(0, 1, num_steps)[:, None, None, None]
    moves = np.zeros(num_channels)
    moves[:2] = drift
    added = np.broadcast_to(logit, (num_steps, num_prompts, num_channels))[:, :, None]
    level = rng.uniform(0.3, 1.2) + of_prompt + 0.8 * quality + moves * time + added
    rewards = (rng.random(level.shape) < 1 / (1 + np.exp(-level))).astype(float)
    rewards[..., 0] = np.clip(np.round(2 + level[..., 0] + rng.normal(size=shape)), 0, 3)
    order = rng.permutation(num_channels)
    shuffled = [names[index] for index in order]
    return Draw(rng=rng, rewards=rewards[..., order], prompt=prompt, names=shuffled)


def paid_draw(rng: np.random.Generator, failed: str = "safety", payer: str = "correctness") -> Draw:
    """Completions that fail a channel have 2.5 to 4 points more of another."""
    found = draw(rng)
    found.named(payer)[...] += rng.uniform(2.5, 4.0) * (found.named(failed) == 0)
    return found


def wandering(rng: np.random.Generator, steps: int, correlation: float) -> np.ndarray:
    """A stationary autoregression of order 1 and variance 1.

    Args:
      rng: of the log.
      steps: T.
      correlation: of neighbours.

    Returns:
      ``[T]``.
    """
    level = np.empty(steps)
    level[0] = rng.normal()
    for step in range(1, steps):
        innovation = rng.normal() * np.sqrt(1 - correlation**2)
        level[step] = correlation * level[step - 1] + innovation
    return level
