"""A run with ragged rubrics: its budget stops it, and taken up again it pays for nothing twice."""

import dataclasses
import json

import pytest
from judge_server import judging

from rvpo_jax.config import (
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.rewards.judge import BudgetSpent, Judge, rubric
from rvpo_jax.run.json_lines import read_rows
from rvpo_jax.train import train

pytest.importorskip("httpx2", reason="pip install 'rvpo-jax[judge]'")


def config_of(rows, judge):
    return Config(
        data=DataConfig(source=str(rows), rewards=(rubric(judge, max_items=6),), eval_frac=0.25),
        rollout=RolloutConfig(num_prompts=4, group_size=2, max_completion_tokens=6),
        eval=EvalConfig(num_prompts=2),
        log=LogConfig(audit=False),
        parallel=ParallelConfig(num_devices=1),
        steps=2,
    )


@pytest.mark.slow
def test_a_run_that_its_budget_stopped_is_taken_up_with_another(tmp_path):
    rows = tmp_path / "rows.jsonl"
    items = [{"text": text} for text in "etaoin"]
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"say {i}", "rubric": items[: 2 + i % 4]}) + "\n"
            for i in range(16)
        )
    )
    workdir = tmp_path / "run"
    with judging() as server:
        judge = Judge(endpoint=server.endpoint, model="m", key_variable=None, max_calls=25)
        with pytest.raises(BudgetSpent, match=r"judge\.max_calls is 25"):
            train(config_of(rows, judge), workdir)
        first = [json.dumps(body) for body in server.bodies]
        train(config_of(rows, dataclasses.replace(judge, max_calls=1000)), workdir)
        asked = [json.dumps(body) for body in server.bodies]
    assert len(first) == 25
    assert len(set(asked)) == len(asked)  # the same start, prompts and keys: nothing twice
    rows = read_rows(workdir / "metrics.jsonl")
    evals = read_rows(workdir / "evals.jsonl")
    # Each call is counted once: in the metrics of its step, or beside its evaluation. What the
    # stopped run asked is in the cache, and its last, unfinished step in no row.
    calls = [row["judge/rubric/calls"] for row in rows]
    calls += [row["told"]["judge/rubric/calls"] for row in evals]
    assert 0 < sum(calls) <= len(asked)
    assert all(row["judge/rubric/seconds"] <= row["time/reward_s"] for row in rows)
    last = rows[-1]
    # Rubrics have 2 to 5 items: all rows have the first, none the sixth.
    assert last["reward/rubric_1/scored_frac"] == 1
    assert "reward/rubric_6/mean" not in last or last["reward/rubric_6/scored_frac"] == 0
