"""What a run says that it needs, and when it is refused."""

import dataclasses
import re

import jax
import pytest
from rich.console import Console

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, EvalConfig, LogConfig, ParallelConfig, RolloutConfig
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.run import memory
from rvpo_jax.run.setup import build_run
from rvpo_jax.run.shorten import shorten
from rvpo_jax.train import make_batch, train

TINY = Config(
    steps=1,
    rollout=RolloutConfig(num_prompts=2, group_size=2, max_completion_tokens=12),
    eval=EvalConfig(num_prompts=2),
    log=LogConfig(audit=False),
    parallel=ParallelConfig(num_devices=1),
)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    run = build_run(TINY, tmp_path_factory.mktemp("run"))
    return run, run.policy.layout.place(run.initial_state())


def test_the_line_names_every_part_and_they_add_up(started):
    run, state = started
    line = memory.memory_line(run, state)
    num_params = sum(x.size for x in jax.tree.leaves(state.params))
    parts = memory._parts(run, state)
    assert parts["parameters"] == 4 * num_params
    # AdamW: two moments and a count.
    assert 8 * num_params <= parts["optimizer"] < 8 * num_params + 100
    # 3 layers, 2 x 2 completions of 12 tokens, 2 heads of 16, keys and values.
    assert parts["cache"] == 3 * 4 * 12 * 2 * 16 * 2 * 4
    assert parts["step"] > 4 * num_params  # gradients at least
    assert re.match(r"memory per device: \d+ MiB of [\d.]+ GiB: parameters 1 MiB, optimizer", line)


def test_the_program_that_was_measured_is_the_one_that_runs(started):
    run, state = started
    memory.memory_line(run, state)
    programs = dict(run.train_step._programs)
    examples = [run.task.train[index] for index in range(2)]
    keys = prompt_keys(jax.random.key(0), 0, 2)
    sample = run.policy.sampler(2)
    rollout = jax.device_get(sample(state.params, *run.task.encode_batch(examples), keys))
    scores = run.task.score(run.task.decode_batch(rollout), examples)
    run.train_step(
        jax.tree.map(lambda x: x.copy(), state), shorten(make_batch(rollout, *scores[:2]))
    )
    assert run.train_step._programs == programs


def test_a_run_that_does_not_fit_is_refused_with_its_parts_and_the_levers(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda device: 2**20)
    with pytest.raises(Refusal, match=r"(?s)needs \d+ MiB on each device, which has 1 MiB: param"):
        train(TINY, tmp_path, Console(quiet=True))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_step_that_the_compiler_cannot_fit_is_refused_in_words(started, monkeypatch):
    run, state = started

    class Full:
        def program(self, state, batch):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 18 GiB of 15\nmore")

    with pytest.raises(Refusal, match=r"RESOURCE_EXHAUSTED: 18 GiB of 15\n  Levers: model.remat"):
        memory.memory_line(dataclasses.replace(run, train_step=Full()), state)
