"""A step's completions and rewards, sampled and scored in parts."""

import threading

import jax
import numpy as np
import pytest

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, DataConfig, ParallelConfig, RolloutConfig
from rvpo_jax.rewards import reward_channel
from rvpo_jax.run.collect import collect
from rvpo_jax.run.recorder import Laps
from rvpo_jax.run.setup import build_run, make_stream

B, G = 8, 2


def make_run(workdir, num_parts, *rewards):
    config = Config(
        rollout=RolloutConfig(
            num_prompts=B, group_size=G, max_completion_tokens=8, num_parts=num_parts
        ),
        data=DataConfig(rewards=rewards),
        parallel=ParallelConfig(num_devices=2),
    )
    return build_run(config, workdir)


def collected(run):
    state = run.policy.layout.place(run.initial_state())
    laps = Laps(0)
    sampled = collect(run, state, next(make_stream(run)), jax.random.key(0), laps)
    assert list(laps.seconds) == ["rollout", "reward"]
    return sampled


@reward_channel()
def length(completions, examples):
    """Of the prompt and the completion: a row that is scored with another's shows."""
    sizes = [len(c) + len(str(e["prompt"])) for c, e in zip(completions, examples, strict=True)]
    return np.array(sizes) % 97 / 97


@pytest.mark.slow
def test_parts_give_the_same_completions_and_rewards(tmp_path):
    whole, parts = (collected(make_run(tmp_path, num, length, "format")) for num in (1, 4))
    assert whole.texts == parts.texts
    assert len(whole.texts) == B * G
    for name in ("prompts", "prompt_mask", "completions", "completion_mask", "rewards", "where"):
        assert np.array_equal(getattr(whole.batch, name), getattr(parts.batch, name)), name
    # Products of another number of rows are rounded differently.
    logprobs = whole.batch.old_logprobs, parts.batch.old_logprobs
    assert np.allclose(*logprobs, rtol=0, atol=1e-5)
    assert jax.tree.map(np.shape, whole.rollout) == jax.tree.map(np.shape, parts.rollout)
    assert whole.scores.num_failed.tolist() == parts.scores.num_failed.tolist() == [0, 0]


def test_a_part_is_scored_while_the_next_one_is_sampled(tmp_path, monkeypatch):
    second, seen = threading.Event(), []

    @reward_channel()
    def patient(completions, examples):
        seen.append(second.wait(30))  # without overlap the second part is not begun before
        return np.zeros(len(completions))

    run = make_run(tmp_path, 2, patient)
    sample, calls = run.policy.sampler(G), []

    def counted(*args):
        calls.append(args)
        if len(calls) == 2:
            second.set()
        return sample(*args)

    monkeypatch.setattr(run.policy, "sampler", lambda group_size: counted)
    collected(run)
    assert (len(calls), seen) == (2, [True, True])


def test_what_a_reward_of_a_part_raises_is_raised(tmp_path):
    @reward_channel()
    def broken(completions, examples):
        raise KeyError("no such column")

    with pytest.raises(Exception, match="no such column"):
        collected(make_run(tmp_path, 2, broken))


def test_parts_that_do_not_divide_the_prompts_of_the_devices_are_refused(tmp_path):
    message = r"rollout.num_prompts = 8 must be divisible by rollout.num_parts = 3 times 2 device"
    with pytest.raises(Refusal, match=message):
        make_run(tmp_path, 3, "format")
