"""A whole run: its files, its ends, and that a killed run resumes bit for bit."""

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rvpo_jax.config import (
    AdvantageConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    LossConfig,
    OptimConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.run import evaluate
from rvpo_jax.run.config_file import load_config
from rvpo_jax.run.evaluate import evaluate_held_out, pass_rates
from rvpo_jax.run.metrics import read_metrics
from rvpo_jax.run.restore import restore_run
from rvpo_jax.run.stored import stored_config
from rvpo_jax.run.workdir import check_workdir, differing_fields, write_config
from rvpo_jax.train import NonFiniteError, train

TINY = Config(
    steps=6,
    rollout=RolloutConfig(num_prompts=4, group_size=2, max_completion_tokens=32),
    checkpoint=CheckpointConfig(every=2),
    eval=EvalConfig(num_prompts=8),
    log=LogConfig(samples_every=2, num_samples=2, console_every=1, audit=False, audit_every=1),
    parallel=ParallelConfig(num_devices=1),
)
# The same run as command-line options, for runs in a process of their own.
OPTIONS = (
    "--steps 6 --rollout.num-prompts 4 --rollout.group-size 2 --rollout.max-completion-tokens 32 "
    "--checkpoint.every 2 --eval.num-prompts 8 --log.samples-every 2 --log.num-samples 2 "
    "--log.console-every 1 --log.no-audit --log.audit-every 1 --parallel.num-devices 1"
).split()


def quiet(config, workdir):
    return train(config, workdir, Console(quiet=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The uninterrupted run that others are compared with."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return workdir, quiet(TINY, workdir)


# So long that a signal sent after step 1 comes before the end, also on a busy machine.
LONG = dataclasses.replace(TINY, steps=20)


@pytest.fixture(scope="module")
def finished_long(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted_long")
    return workdir, quiet(LONG, workdir)


def start(workdir, *options, env=None):
    command = [sys.executable, "-m", "rvpo_jax", "train", "--workdir", str(workdir)]
    # The devices and flags of this test process: others are compiled differently.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **(env or {})}
    return subprocess.Popen(
        [*command, *OPTIONS, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def wait_for(process, pattern):
    """Reads the process's output up to a line that matches."""
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"{pattern!r} did not come:\n{seen}")


def final_params(workdir):
    _, params, step = restore_run(stored_config(workdir), workdir)
    return jax.tree.map(np.asarray, params), step


def assert_same_run(workdir, finished):
    expected_dir, state = finished
    params, step = final_params(workdir)
    assert step == int(state.step)
    for actual, expected in zip(
        jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_array_equal(actual, np.asarray(expected))
    volatile = re.compile("time|perf/")
    for name in ("metrics.jsonl", "evals.jsonl", "samples.jsonl"):
        rows, expected_rows = (
            [
                {key: value for key, value in json.loads(line).items() if not volatile.match(key)}
                for line in (folder / name).read_text().splitlines()
                if '"step"' in line
            ]
            for folder in (workdir, expected_dir)
        )
        assert rows == expected_rows, name
    for path in (expected_dir / "rollouts").iterdir():
        assert path.read_bytes() == (workdir / "rollouts" / path.name).read_bytes(), path.name


def test_a_run_leaves_what_it_promises(finished):
    workdir, state = finished
    assert int(state.step) == 6
    rows = read_metrics(workdir)
    assert [row["step"] for row in rows] == list(range(6))
    names = {"reward/privacy/pass_rate", "aggregate/weight/privacy", "reward/joint_pass_rate"}
    names |= {"policy/grad_norm", "policy/entropy", "risk_coef", "rollout/truncated_frac"}
    names |= {"reward/format/dead_fail_frac", "perf/update_tokens_per_s", "time/reward_s"}
    assert names <= set(rows[0])
    # The first update is on policy: the sampler's and the trainer's probabilities agree.
    assert rows[0]["policy/ratio_mean"] == pytest.approx(1.0, abs=1e-4)
    assert [row["step"] for row in read_metrics(workdir / "evals.jsonl")] == [0, 6]
    samples = read_metrics(workdir / "samples.jsonl")
    assert [row["step"] for row in samples] == [0, 0, 2, 2, 4, 4]
    assert set(samples[0]["rewards"]) == {
        "format", "tool_name", "arguments", "explanation", "brevity", "privacy"
    }  # fmt: skip
    rollouts = [path.name for path in sorted((workdir / "rollouts").iterdir())]
    assert rollouts == [f"{step:08d}.parquet" for step in range(6)]
    assert (workdir / "run.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((workdir / "config.json").read_text())["steps"] == 6
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "6"]


def test_every_metric_name_is_listed(finished):
    from rvpo_jax.run import metrics

    workdir, _ = finished
    channels = "|".join(("format", "tool_name", "arguments", "explanation", "brevity", "privacy"))
    for name in set(read_metrics(workdir)[0]) - {"step", "time"}:
        listed = re.sub(f"/({channels})(/|$)", r"/<channel>\2", name)
        listed = re.sub("/(used|grpo|gdpo|rvpo|hard_min)/", "/<rule>/", listed)
        assert f"``{listed}``" in metrics.__doc__, name


@pytest.mark.slow
def test_the_warm_start_has_something_to_learn_and_to_neglect_in_every_channel(finished):
    workdir, _ = finished
    run, _, _ = restore_run(TINY, workdir)
    rates = pass_rates(run.task, evaluate_held_out(run, run.initial_params(), 256))
    for name in run.task.channel_names:
        assert 0.05 < rates[name].rate < 0.95, name


@pytest.mark.slow
def test_a_large_model_is_evaluated_with_prompts_in_all_places(finished, monkeypatch):
    workdir, _ = finished
    run, _, _ = restore_run(TINY, workdir)
    params = run.initial_params()
    rollout = TINY.rollout
    expected = evaluate_held_out(run, params, 3 * rollout.num_prompts + 1)
    monkeypatch.setattr(evaluate, "LARGE", 0)
    shapes, sampler = [], run.policy.sampler

    def watched(group_size, temperature):
        sample = sampler(group_size, temperature)

        def call(params, prompts, *rest):
            shapes.append((len(prompts), group_size))
            return sample(params, prompts, *rest)

        return call

    monkeypatch.setattr(run.policy, "sampler", watched)
    actual = evaluate_held_out(run, params, 3 * rollout.num_prompts + 1)
    width = rollout.max_completion_tokens
    many = rollout.group_size * width // (run.task.prompt_tokens + width)
    rows = rollout.num_prompts * min(max(many, 1), 4)
    assert shapes == [(rows, 1)] * -(-(3 * rollout.num_prompts + 1) // rows)
    assert actual.texts == expected.texts  # of the same keys, whatever the batch
    np.testing.assert_array_equal(actual.rewards, expected.rewards)


def test_a_batch_of_short_prompts_is_narrow(finished):
    workdir, _ = finished
    task = restore_run(TINY, workdir)[0].task
    long = {"prompt": "x" * (task.prompt_tokens - 4)}
    short = {"prompt": "say"}
    wide, narrow = (task.encode_batch([short, other])[0] for other in (long, short))
    assert wide.shape == (2, task.prompt_tokens)
    assert narrow.shape[1] < wide.shape[1]
    np.testing.assert_array_equal(narrow[0], wide[0, -narrow.shape[1] :])


@pytest.mark.slow
def test_a_run_killed_as_it_begins_to_save_resumes_bit_for_bit(tmp_path, finished):
    with start(tmp_path) as process:  # waits for it and closes its pipe
        wait_for(process, "step     0")
        folder = tmp_path / "checkpoints"
        deadline = time.monotonic() + 60
        while not any("tmp" in path.name for path in folder.iterdir()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.001)  # else this loop and the run would share a core
        process.send_signal(signal.SIGKILL)
    assert read_metrics(tmp_path), "the kill came before the first step"
    quiet(TINY, tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.slow
def test_a_stopped_run_saves_first_and_goes_on(tmp_path, finished_long):
    # Between two scheduled checkpoints, so that what is saved was saved because of the signal.
    saved = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        with start(tmp_path, "--checkpoint.every", "100", "--steps", "20") as process:
            wait_for(process, f"step +{saved + 1} ")
            process.send_signal(number)
            output = process.stdout.read()
        assert process.returncode == 1
        assert "the state is saved" in output
        assert "Traceback" not in output
        newest = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
        assert newest >= saved + 2
        saved = newest
    quiet(LONG, tmp_path)
    assert_same_run(tmp_path, finished_long)


# A run whose rule has a memory and a user's loss term; parsed and imported as a user's file is.
MEMORY = """
import dataclasses
import jax.numpy as jnp
from rvpo_jax.method.rules import Rule, RuleOutput
from tests.test_train import TINY
from rvpo_jax.config import AdvantageConfig

def init(num_channels):
    never = jnp.full(num_channels, -jnp.inf)  # what a rule remembers may be infinite
    return {"mean": jnp.zeros(num_channels), "steps": jnp.zeros((), jnp.int32), "best": never}

def apply(scores, rule_state, *, rewards):
    mean = 0.9 * rule_state["mean"] + 0.1 * jnp.mean(rewards, axis=(0, 1))
    weights = jnp.exp(-mean).reshape(1, 1, -1)
    state = {"mean": mean, "steps": rule_state["steps"] + 1, "best": rule_state["best"]}
    return RuleOutput(aggregate=jnp.sum(scores * weights, axis=-1), state=state)

def get_config():
    return dataclasses.replace(TINY, advantage=AdvantageConfig(method=Rule(init, apply)))
"""


@pytest.mark.slow
def test_a_killed_run_whose_rule_has_a_memory_resumes_bit_for_bit(tmp_path):
    path = tmp_path / "memory.py"
    path.write_text(MEMORY)
    config = load_config(path)
    whole = quiet(config, tmp_path / "whole")
    assert int(whole.rule_state["steps"]) == 6
    with start(tmp_path / "killed", "--config", str(path)) as process:
        wait_for(process, "step     3")
        process.send_signal(signal.SIGKILL)
    assert read_metrics(tmp_path / "killed"), "the kill came before the first step"
    resumed = quiet(config, tmp_path / "killed")
    jax.tree.map(np.testing.assert_array_equal, resumed.rule_state, whole.rule_state)
    # This reads the parameters alone, as sampling does: without the code of the rule.
    assert_same_run(tmp_path / "killed", (tmp_path / "whole", whole))


@pytest.mark.slow
def test_a_rule_that_returns_nan_stops_the_run_with_its_name(tmp_path):
    def logarithm(scores):
        return jnp.sum(jnp.log(scores), axis=-1)

    config = dataclasses.replace(TINY, advantage=AdvantageConfig(method=logarithm))
    with pytest.raises(NonFiniteError, match=r"(?s)aggregate/group_mean is nan.*rule logarithm"):
        quiet(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_during_start_up_is_answered_and_a_second_one_ends_the_process(tmp_path, number):
    with start(tmp_path, env={"JAX_COMPILATION_CACHE_DIR": ""}) as process:
        wait_for(process, "^starting: ")  # from here on it compiles
        process.send_signal(number)
        wait_for(process, "stopping as soon as the compiler returns")
        process.send_signal(number)
        output = process.stdout.read()
    # The second one may come when the first has taken the process out of our hands already.
    assert process.returncode in (1, -number)
    assert "ended at once" in output or "interrupted" in output or process.returncode == -number
    assert "Traceback" not in output
    assert not (tmp_path / "metrics.jsonl").exists() or read_metrics(tmp_path) == []


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, finished, caplog):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "6"
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=os.path.getsize)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    quiet(TINY, tmp_path)
    assert "cannot be restored" in caplog.text
    assert_same_run(tmp_path, finished)


def test_a_finished_run_is_not_trained_again(finished):
    workdir, state = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = quiet(TINY, workdir)
    assert (workdir / "metrics.jsonl").read_text() == before
    assert int(again.step) == int(state.step) == 6


def test_a_non_finite_update_stops_the_run_and_keeps_what_it_has(tmp_path):
    wild = dataclasses.replace(
        TINY,
        optim=OptimConfig(name="sgd", learning_rate=1e38, max_grad_norm=float("inf")),
        checkpoint=CheckpointConfig(every=1),
    )
    with pytest.raises(NonFiniteError, match="at step") as error:
        quiet(wild, tmp_path)
    step = int(re.search(r"at step (\d+)", str(error.value))[1])
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert str(step + 1) not in saved, "the bad state must not be saved"
    batch = np.load(tmp_path / f"bad_batch_step_{step}.npz")
    assert batch["rewards"].shape == (4, 2, 6)


@pytest.mark.slow
def test_a_users_term_that_asks_for_the_reference_is_given_it(tmp_path):
    def distance(logprobs, *, ref_logprobs, completion_mask, weights):
        gap = jnp.where(completion_mask, logprobs - ref_logprobs, 0.0) ** 2
        return jnp.sum(gap * weights), {"policy/distance": jnp.sum(gap)}

    quiet(dataclasses.replace(TINY, steps=2, loss=LossConfig(extra_terms=(distance,))), tmp_path)
    rows = read_metrics(tmp_path)
    # The policy of step 0 is the reference; after one update it has moved away.
    assert rows[0]["policy/distance"] < 1e-8 < rows[1]["policy/distance"]


@pytest.mark.slow
def test_a_run_on_eight_devices_equals_one_on_one(tmp_path):
    config = dataclasses.replace(
        TINY,
        steps=1,
        rollout=dataclasses.replace(TINY.rollout, num_prompts=8),
        optim=OptimConfig(name="sgd", learning_rate=0.1),
    )
    one = quiet(config, tmp_path / "one")
    eight = quiet(dataclasses.replace(config, parallel=ParallelConfig()), tmp_path / "eight")
    samples = [(tmp_path / name / "samples.jsonl").read_text() for name in ("one", "eight")]
    assert samples[0] == samples[1]
    for actual, expected in zip(
        jax.tree.leaves(eight.params), jax.tree.leaves(one.params), strict=True
    ):
        np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=1e-6)


@pytest.mark.slow
def test_kl_and_the_other_options_run_end_to_end(tmp_path):
    config = dataclasses.replace(
        TINY,
        steps=2,
        parallel=ParallelConfig(num_devices=2),
        loss=LossConfig(
            kl_coef=0.1, entropy_coef=0.01, num_minibatches=2, num_epochs=2, importance_cap=2.0,
            dual_clip=3.0, denominator="sequence", ratio_level="sequence",
        ),
        rollout=dataclasses.replace(TINY.rollout, top_p=0.9, top_k=50, temperature=0.8),
    )  # fmt: skip
    quiet(config, tmp_path)
    assert read_metrics(tmp_path)[1]["policy/kl_ref"] > 0


def test_the_audit_of_a_run_agrees_with_what_the_run_logged(finished):
    """Live metrics and the audit afterwards are two ways to the same numbers."""
    from rvpo_jax.auditing import replay, rules, tables
    from rvpo_jax.auditing.read import read_log

    workdir, _ = finished
    log = read_log(workdir)
    played = replay.replay(log, rules.base_rules(log.risk_coef, True), log.risk_coef)
    # RVPO of the paper: the rule in use is the soft minimum, so replaying it gives what was used.
    np.testing.assert_allclose(
        played.advantages["rvpo:k=1"], played.advantages["logged"], atol=2e-5
    )
    rows = read_metrics(workdir)
    names = {"logged": "used", "grpo": "grpo", "gdpo": "gdpo", "rvpo:k=1": "rvpo"}
    for row in tables.quiet_failure_table(played):
        if row["rule"] in names:
            name = f"audit/quiet_failures/{names[row['rule']]}/{row['channel']}"
            # All channels score every completion here, so steps weigh the same.
            live = np.mean([step[name] for step in rows])
            assert row["rate"]["value"] == pytest.approx(live, abs=1e-6), name
    shares = tables.bottleneck_table(played)["channels"]
    for share in shares:
        live = np.mean([step[f"audit/bottleneck/{share['channel']}"] for step in rows])
        assert share["minima_share"] == pytest.approx(live, abs=1e-5)
    texts = log.read_texts([0, 11])
    assert all(prompt and completion is not None for prompt, completion in texts)


@pytest.mark.slow
def test_a_run_ends_with_its_audit(tmp_path):
    config = dataclasses.replace(TINY, steps=2, log=LogConfig(rollouts="rewards"))
    console = Console(record=True, width=100, quiet=False, file=io.StringIO())
    train(config, tmp_path, console)
    report = json.loads((tmp_path / "audit.json").read_text())
    assert report["counts"]["completions"] == 2 * 4 * 2
    assert all(case["completion"] is None for case in report["cases"])
    assert (tmp_path / "audit.html").read_text().startswith("<!doctype html>")
    assert "What was read: 16 completions" in console.export_text()


def test_changed_fields_are_named_and_harmless_ones_are_not():
    changed = dataclasses.replace(TINY, steps=9, seed=5, log=LogConfig())
    assert differing_fields(TINY.to_dict(), changed.to_dict()) == ["seed: 0 -> 5"]


def test_a_run_from_before_a_field_existed_goes_on(tmp_path):
    write_config(TINY, tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["advantage"]["whiten_eps_on"], stored["risk"]  # as if they were new today
    path.write_text(json.dumps(stored))
    check_workdir(TINY, tmp_path)
    changed = AdvantageConfig(whiten_eps_on="variance")
    with pytest.raises(ValueError, match="advantage.whiten_eps_on: std -> variance"):
        check_workdir(dataclasses.replace(TINY, advantage=changed), tmp_path)


@pytest.mark.slow
def test_real_rlla_rows_run_and_resume(tmp_path, shared_data):
    rows = pq.read_table(shared_data / "rlla" / "rl.parquet")
    pq.write_table(rows.slice(0, 200), tmp_path / "rl.parquet")
    config = dataclasses.replace(
        TINY,
        steps=2,
        data=DataConfig(
            source=str(tmp_path / "rl.parquet"),
            rewards=("toolrl_format", "toolrl_correctness"),
        ),
        # Few and short prompts keep the test fast; the documented run takes them all.
        rollout=RolloutConfig(
            num_prompts=1, group_size=2, max_completion_tokens=16, max_prompt_tokens=2304
        ),
        eval=EvalConfig(num_prompts=1),
        checkpoint=CheckpointConfig(every=1),
    )
    workdir = tmp_path / "run"
    quiet(dataclasses.replace(config, steps=1), workdir)
    state = quiet(config, workdir)
    assert int(state.step) == 2
    rows = read_metrics(workdir)
    assert [row["step"] for row in rows] == [0, 1]
    assert rows[0]["reward/toolrl_format/scored_frac"] == 1
    samples = read_metrics(workdir / "samples.jsonl")
    assert "Available Tools" in samples[0]["prompt"][0]["content"]


@pytest.mark.slow
def test_a_file_that_changed_since_the_checkpoint_is_refused(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say {i}."}) + "\n" for i in range(9)))
    reward = tmp_path / "my_rewards.py"
    reward.write_text("def short(completions, examples):\n    return [0.5] * len(completions)\n")
    config = dataclasses.replace(
        TINY, steps=1, data=DataConfig(source=str(rows), rewards=(f"{reward}:short",))
    )
    quiet(config, tmp_path / "run")
    rows.write_text(rows.read_text() + json.dumps({"prompt": "Say more."}) + "\n")
    with pytest.raises(ValueError, match="has changed since the checkpoint"):
        quiet(dataclasses.replace(config, steps=2), tmp_path / "run")
