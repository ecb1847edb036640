"""While a run goes on it says where failing a channel is paid."""

import io

import numpy as np
import pytest
from planted import CHANNELS, make_rewards
from rich.console import Console

from rvpo_jax import AdvantageConfig, Config, audit
from rvpo_jax.config import DataConfig, EvalConfig, LogConfig, RolloutConfig
from rvpo_jax.rewards import reward_channel
from rvpo_jax.run import early_audit
from rvpo_jax.run.rollout_log import write_rollouts
from rvpo_jax.train import train

STEPS = 10


def write(workdir, problems):
    """The rollouts of a run under the sum, whose advantages are the standardised total."""
    for step, rewards in enumerate(make_rewards(problems, steps=STEPS)):
        total = rewards.sum(-1)
        spread = total - total.mean(1, keepdims=True)
        write_rollouts(
            workdir,
            step,
            CHANNELS,
            rewards,
            np.ones(rewards.shape, bool),
            spread / (total.std(1, ddof=1, keepdims=True) + 1e-6),
            prompts=[f"prompt {number}" for number in range(len(rewards))],
            completions=None,
            method="grpo",
            risk_coef=1.0,
        )
    return workdir


def test_a_failure_that_is_paid_is_said_with_what_would_not_pay_it(tmp_path):
    line = early_audit.paid_failures(audit, write(tmp_path, ["paid"]), STEPS)
    assert line.startswith("after 10 steps: Failing safety is paid (as logged)")
    assert "correctness pays for it" in line
    assert f"rvpo audit {tmp_path} shows cases" in line


@pytest.mark.parametrize("problems", [[], ["dead_fail"], ["neglect"]])
def test_nothing_is_said_of_other_problems_or_of_none(tmp_path, problems):
    assert early_audit.paid_failures(audit, write(tmp_path, problems), STEPS) is None


def test_rollouts_that_cannot_be_read_end_no_training(tmp_path):
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "00000000.parquet").write_text("nothing")
    line = early_audit.paid_failures(audit, tmp_path, STEPS)
    assert line.startswith("no audit after 10 steps: ")


@reward_channel()
def odd(completions, examples):
    """1.0 for an odd number of characters, which is what ``even`` forbids."""
    return [float(len(text) % 2) for text in completions]


@reward_channel(kind="constraint")
def even(completions, examples):
    """1.0 for an even number."""
    return [float(len(text) % 2 == 0) for text in completions]


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "said"), [((3.0, 1.0), True), ((1.0, 3.0), False)])
def test_a_run_says_it_after_ten_steps_and_goes_on(tmp_path, weights, said):
    console = Console(file=io.StringIO(), width=500)
    config = Config(
        steps=12,
        data=DataConfig(rewards=(odd, even)),
        rollout=RolloutConfig(num_prompts=8, group_size=8, max_completion_tokens=32),
        advantage=AdvantageConfig(method="grpo", whiten="none", weights=weights),
        eval=EvalConfig(num_prompts=2),
        log=LogConfig(samples_every=0),
    )
    state = train(config, tmp_path, console)
    assert int(state.step) == 12
    lines = console.file.getvalue().splitlines()
    warned = [line for line in lines if line.startswith("after ")]
    assert len(warned) == said
    if said:
        assert warned[0].startswith("after 10 steps: Failing even is paid (as logged)")
        assert "odd pays for it" in warned[0]
        assert lines.index(warned[0]) < next(
            i for i, x in enumerate(lines) if x.startswith("step    11")
        )
