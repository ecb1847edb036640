"""Reward logs with planted problems, for the audit's tests: what is wrong is known by construction.

``make_rewards`` draws the rewards of a run with four channels; each problem changes one thing.
"""

import numpy as np

from rvpo_jax.auditing.read import RewardLog
from rvpo_jax.config import Channel

CHANNELS = (
    Channel(name="correctness", low=0.0, high=5.0, pass_at=3.0),
    Channel(name="format", pass_at=1.0),
    Channel(name="safety", pass_at=1.0, kind="constraint"),
    Channel(name="brevity", pass_at=1.0),
)
PROBLEMS = ("paid", "dead_fail", "oscillation", "neglect")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make_rewards(problems=(), *, seed=0, steps=48, num_prompts=16, group_size=8):
    """Rewards ``[steps, num_prompts, group_size, 4]`` of a policy that slowly gets better.

    A healthy channel is met with a probability that depends on the prompt, on the completion (a
    quality shared by all channels) and on the step. Problems:

    * paid: an unsafe answer is worth two points of correctness more;
    * dead_fail: no completion of 4 prompts in 5 meets ``format``;
    * oscillation: ``format`` and ``brevity`` take turns at being met, eight steps each;
    * neglect: ``safety`` falls while the others rise.
    """
    rng = np.random.default_rng(seed)
    shape = (steps, num_prompts, group_size)
    prompt = rng.normal(size=(steps, num_prompts, 1, 4)) * 0.7
    quality = rng.normal(size=(*shape, 1))
    time = np.linspace(0, 1, steps)[:, None, None, None]
    drift = np.array([0.8, 0.8, -1.6 if "neglect" in problems else 0.0, 0.0]) * time
    level = 0.8 + prompt + 0.8 * quality + drift
    if "oscillation" in problems:
        turn = np.where(np.arange(steps) // 8 % 2 == 0, 2.0, -2.0)[:, None, None]
        level[..., 1] += turn
        level[..., 3] -= turn
    rewards = (rng.random((*shape, 4)) < sigmoid(level)).astype(np.float32)
    rewards[..., 0] = np.clip(np.round(2.5 + level[..., 0] + rng.normal(size=shape)), 0, 3)
    if "paid" in problems:
        rewards[..., 0] += 2 * (rewards[..., 2] == 0)
    if "dead_fail" in problems:
        rewards[:, np.arange(num_prompts) % 5 != 0, :, 1] = 0.0
    return rewards


def make_log(problems=(), *, channels=CHANNELS, advantage=None, **shape):
    """A log in memory; a prompt comes back every second step."""
    rewards = make_rewards(problems, **shape)
    steps, num_prompts, group_size, num_channels = rewards.shape
    index = np.arange(steps * num_prompts)
    visit = np.repeat(index, group_size)
    prompt = np.repeat(index % (2 * num_prompts), group_size)
    return RewardLog(
        name="planted",
        format="columns",
        channels=channels,
        assumed_pass=frozenset(),
        rewards=rewards.reshape(-1, num_channels),
        group=visit,
        prompt=prompt,
        step=np.repeat(np.arange(steps), num_prompts * group_size),
        advantage=advantage,
        method=None,
        risk_coef=None,
        notes=(),
        read_texts=lambda rows: [(f"prompt {prompt[row]}", f"completion {row}") for row in rows],
    )
