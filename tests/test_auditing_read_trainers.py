"""Logs of other trainers in their own layouts: fixtures written by hand after the writer's source,
which each test names; expectations counted by hand."""

import gzip
import json
from typing import get_args, get_type_hints

import pyarrow as pa
import pytest
from read_logs import kinds_of, names_of, rewards_of, write_jsonl, write_parquet

from rvpo_jax.auditing.command import Audit
from rvpo_jax.auditing.read import ReadOptions, read_log
from rvpo_jax.auditing.read.log import FORMATS
from rvpo_jax.auditing.read.trainers import TRAINERS


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def text_of(log, kind):
    return next(note.text for note in log.notes if note.kind == kind)


def test_every_format_that_a_user_may_name_has_an_entry():
    assert {"auto", *TRAINERS} == set(FORMATS)
    assert get_args(get_type_hints(Audit)["format"]) == FORMATS


# verifiers 0.1: verifiers/utils/save_utils.py, state_to_output; prime-rl writes these rows with
# src/prime_rl/orchestrator/utils.py, save_rollouts, to rollouts/step_N/train_rollouts.jsonl.
def rollout(example, completion, reward, **metrics):
    return {
        "example_id": example,
        "prompt": [{"role": "user", "content": f"question {example}"}],
        "completion": [{"role": "assistant", "content": completion}],
        "answer": "4",
        "info": {},
        "task": "math",
        "reward": reward,
        "error": None,
        "timing": {"generation_ms": 3.5, "scoring_ms": 0.5, "total_ms": 4.0},
        "is_completed": True,
        "is_truncated": False,
        "stop_condition": "max_turns_reached",
        "metrics": metrics,
        "token_usage": {"input_tokens": 9.0, "output_tokens": 7.0},
    }


def test_prime_rl_has_a_column_per_metric_and_its_step_in_the_folder(tmp_path):
    for step in (0, 2, 10):
        rows = [
            rollout(0, f"{step}a", 1.5, correct=1.0, brief=0.5, num_turns=1.0),
            rollout(0, f"{step}b", 0.0, correct=0.0, brief=None, num_turns=1.0),
            rollout(1, f"{step}c", 1.0, correct=1.0, brief=0.0, num_turns=2.0),
            rollout(1, f"{step}d", 0.5, correct=0.0, brief=0.5, num_turns=1.0),
        ]
        folder = tmp_path / "run_default" / "rollouts" / f"step_{step}"
        write_jsonl(folder / "train_rollouts.jsonl", rows)
        (folder / "train_rollouts.bin").write_bytes(b"batch")
        write_jsonl(folder / "eval_rollouts.jsonl", [rollout(7, "e", 1.0, correct=1.0)])
    write_jsonl(tmp_path / "run_default" / "metrics.jsonl", [{"step": 0, "reward/mean": 0.75}])
    for source in (tmp_path, tmp_path / "run_default" / "rollouts"):
        log = read_log(source)
        assert (log.format, names_of(log)) == ("verifiers", ["correct", "brief"])
        assert rewards_of(log)[:4] == [[1, 0.5], [0, None], [1, 0], [0, 0.5]]
        assert log.step.tolist() == [0] * 4 + [2] * 4 + [10] * 4
        assert log.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert log.read_texts([9]) == [("question 0", "10b")]
        assert kinds_of(log)["other_files"] == 6  # the evaluations and the batches


# verifiers 0.4: verifiers/v1/episode.py, Episode, and verifiers/v1/trace.py, Trace, as
# verifiers/v1/utils/trace_store.py, write_episode, appends them (exclude_none) to traces.jsonl.
def episode(group, content, rewards, step=None, advantage=None):
    task = {"type": "Sum", "data": {"idx": 0, "prompt": f"question {group}"}, "hash": group}
    info = {} if advantage is None else {"advantage": advantage}
    user = {"role": "user", "content": f"question {group}"}
    trace = {
        "version": 1,
        "id": content,
        "task": task,
        "agent": {"name": "solver"},
        "nodes": [
            {"message": user, "sampled": False},
            {"parent": 0, "message": {"role": "assistant", "content": content}, "sampled": True},
        ],
        "rewards": {name: {"score": score, "weight": 2.0} for name, score in rewards.items()},
        "metrics": {"num_calls": 1.0, "novel": 0.5},
        "info": info,
        "is_completed": True,
        "ok": True,
    }
    row = {"id": f"e{content}", "env": {"id": "sum"}, "task": task, "ok": True, "traces": [trace]}
    if step is not None:
        work = {"type": "train", "step": step}
        row |= {"group": {"id": group}, "run": {"type": "train", "id": "r", "work": work}}
    return row


def test_verifiers_traces_have_a_channel_per_reward(tmp_path):
    rows = [
        episode("a", "1", {"right": 1.0, "short": 0.5}),
        episode("b", "2", {"right": 0.0, "short": 1.0}),
        episode("a", "3", {"right": 0.0, "short": 0.0}),
        episode("b", "4", {"right": 1.0}),
        {"id": "f", "env": {"id": "sum"}, "task": rows_task("a"), "ok": False, "traces": []},
    ]
    log = read_log(write_jsonl(tmp_path / "traces.jsonl", rows))
    assert (log.format, names_of(log)) == ("verifiers", ["right", "short"])
    assert rewards_of(log) == [[1, 0.5], [0, 1], [0, 0], [1, None], [None, None]]
    assert log.group.tolist() == [0, 1, 0, 1, 0]
    assert log.read_texts([0, 3]) == [("question a", "1"), ("question b", "4")]
    assert "weight/right, weight/short, metric/num_calls, metric/novel" in text_of(
        log, "ignored_column"
    )


def rows_task(group):
    return {"type": "Sum", "data": {"prompt": f"question {group}"}}


def test_prime_rl_traces_are_those_that_were_trained_on(tmp_path):
    """prime-rl, src/prime_rl/orchestrator/utils.py: ``all`` grows as rollouts arrive, ``effective``
    is the batch; rollouts/step_N/{train,eval}/{all,effective}/traces.jsonl. An advantage is put
    into ``info``, src/prime_rl/orchestrator/annotations.py, stamp_ship."""
    batch = [
        episode("g", "1", {"right": 1.0}, step=3, advantage=0.5),
        episode("g", "2", {"right": 0.0}, step=3, advantage=-0.5),
    ]
    dropped = episode("h", "3", {"right": 0.0}, step=3)
    step = tmp_path / "rollouts" / "step_3"
    write_jsonl(step / "train" / "all" / "traces.jsonl", [dropped, *batch])
    write_jsonl(step / "train" / "effective" / "traces.jsonl", batch)
    write_jsonl(step / "eval" / "all" / "traces.jsonl", [dropped])
    later = tmp_path / "rollouts" / "step_4" / "train" / "all" / "traces.jsonl"
    write_jsonl(later, [dropped])  # the batch of step 4 is not yet there
    log = read_log(tmp_path)
    assert (names_of(log), rewards_of(log)) == (["right"], [[1], [0]])
    assert (log.step.tolist(), log.group.tolist()) == ([3, 3], [0, 0])
    assert log.advantage.tolist() == [0.5, -0.5]
    assert kinds_of(log)["other_files"] == 3


def test_prime_rl_streams_are_read_without_their_evaluations(tmp_path):
    """prime-rl from 0.9.1.dev29 on, src/monitors/file/monitor.py: every episode once, in
    monitors/file/traces/stream/00000.jsonl; evaluations have ``run.work.type`` eval."""
    rows = [episode("g", str(i), {"right": i % 2}, step=i // 2) for i in range(4)]
    evaluation = episode("h", "5", {"right": 1}, step=0)
    evaluation["run"]["work"]["type"] = "eval"
    traces = tmp_path / "monitors" / "file" / "traces"
    write_jsonl(traces / "stream" / "00000.jsonl", [evaluation, *rows])
    write_jsonl(traces / "stream.index.jsonl", [{"id": "e1", "chunk": 0, "offset": 0}])
    write_jsonl(traces / "annotations" / "orchestrator" / "00000.jsonl", [{"trace_id": "1"}])
    log = read_log(tmp_path)
    assert (log.format, rewards_of(log)) == ("verifiers", [[0], [1]] * 2)
    assert (log.step.tolist(), log.group.tolist()) == ([0, 0, 1, 1], [0, 0, 1, 1])
    assert kinds_of(log)["evaluation"] == 1 and kinds_of(log)["other_files"] == 2
    assert log.read_texts([2]) == [("question g", "2")]


def test_skyrl_dumps_are_read_without_their_averages(tmp_path):
    """SkyRL, skyrl/train/utils/trainer_utils.py, dump_per_dataset_eval_results; the folder is from
    skyrl/train/evaluate.py, evaluate. A score may be a list with one number per token."""
    for step, scores in ((5, [1.0, 0.0, 0.0, 1.0]), (10, [[0.0, 1.0], [0.0, 0.0], [0.0, 1.0], 0])):
        folder = tmp_path / "dumped_evals" / f"global_step_{step}_evals"
        rows = [
            {
                "input_prompt": prompt,
                "output_response": f"{step}{place}",
                "score": score,
                "stop_reason": "stop",
                "env_class": "gsm8k",
                "env_extras": {"answer": "4"},
                "data_source": "gsm8k",
            }
            for place, (prompt, score) in enumerate(zip("aabb", scores, strict=True))
        ]
        write_jsonl(folder / "gsm8k.jsonl", rows)
        write_jsonl(folder / "aggregated_results.jsonl", [{"eval/all/avg_score": 0.5}])
    log = read_log(tmp_path)
    assert (log.format, names_of(log)) == ("skyrl", ["score"])
    assert rewards_of(log) == [[1], [0], [0], [1], [1], [0], [1], [0]]
    assert log.step.tolist() == [5] * 4 + [10] * 4
    assert log.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert log.read_texts([6]) == [("b", "102")]
    assert kinds_of(log)["other_files"] == 2


def lm_eval_sample(doc, answer, filter, score):
    return {
        "doc_id": doc,
        "doc": {"question": f"question {doc}", "label": 1},
        "target": "1",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {doc}", "arg_1": {"until": ["\n"]}}},
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": filter,
        "metrics": ["exact_match"],
        "doc_hash": f"hash{doc}",
        "prompt_hash": f"prompt{doc}",
        "target_hash": "t",
        "exact_match": score,
    }


def test_lm_evaluation_harness_compares_models_by_metric_and_filter(tmp_path):
    """lm_eval/evaluator.py, evaluate (the rows, one filter after the other), and
    lm_eval/loggers/evaluation_tracker.py, save_results_samples (files and ``arguments``)."""
    scores = {"one": ([1.0, 0.0], [1.0, 1.0]), "two": ([0.0, 0.0], [0.0, 1.0])}
    for model, filters in scores.items():
        rows = [
            lm_eval_sample(doc, f"{model}{doc}", name, score)
            for name, row in zip(("strict-match", "flexible-extract"), filters, strict=True)
            for doc, score in enumerate(row)
        ]
        write_jsonl(tmp_path / model / "samples_gsm8k_2025-01-02T03-04-05.678901.jsonl", rows)
        write_json(tmp_path / model / "results_2025-01-02T03-04-05.678901.json", {"results": {}})
    log = read_log(tmp_path)
    assert log.format == "lm_eval"
    assert names_of(log) == ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert rewards_of(log) == [[1, 1], [0, 1], [0, 0], [0, 1]]
    assert log.group.tolist() == [0, 1, 0, 1]
    assert log.read_texts([1, 2]) == [("Q: 1", "one1"), ("Q: 0", "two0")]


def test_lm_evaluation_harness_with_one_model_says_why_there_are_no_groups(tmp_path):
    rows = [lm_eval_sample(doc, "x", "none", 1.0) for doc in range(3)]
    path = write_jsonl(tmp_path / "samples_arc_2025-01-02T03-04-05.678901.jsonl", rows)
    with pytest.raises(ValueError, match=r"two completions, got 3 .*\n.*folder .*several models"):
        read_log(path)


def test_openrlhf_rows_are_grouped_by_their_input(tmp_path):
    """OpenRLHF, openrlhf/cli/batch_inference.py: batch_generate_vllm repeats the list of prompts
    best_of_n times, batch_rm_inference adds the reward."""
    pairs = [("a", 0.5), ("b", 1.5), ("a", -0.5), ("b", 2.0)]
    rows = [{"input": p, "output": f"o{i}", "reward": r} for i, (p, r) in enumerate(pairs)]
    log = read_log(write_jsonl(tmp_path / "rm.jsonl", rows))
    assert (log.format, names_of(log)) == ("columns", ["reward"])
    assert log.group.tolist() == [0, 1, 0, 1]
    assert log.read_texts([2]) == [("a", "o2")]


def table_json(columns, *rows):
    """W&B, wandb/sdk/data_types/table.py, Table._to_table_json."""
    return {"columns": list(columns), "data": [list(row) for row in rows]}


def test_easydel_trajectories_are_read_from_the_wandb_tables(tmp_path):
    """EasyDeL, easydel/trainers/agentic_moshpit/agentic_moshpit_trainer.py, the table that it logs
    as ``trajectories``; one file per step, as W&B calls them."""
    columns = ["step", "episode_idx", "reward", "num_turns", "response_tokens", "question", "topic"]
    columns += ["conversation", "verifier_response"]
    folder = tmp_path / "files" / "media" / "table"
    for step in (9, 10):
        rows = [
            [step, i, reward, 2, 40.0, question, "sums", f"{step}{i}", "ok"]
            for i, (question, reward) in enumerate([("q", 1.0), ("q", 0.0)])
        ]
        write_json(
            folder / f"trajectories_{step}_0123456789abcdef0123.table.json",
            table_json(columns, *rows),
        )
    write_json(tmp_path / "files" / "wandb-summary.json", {"_step": 10})
    log = read_log(tmp_path)
    assert (log.format, names_of(log)) == ("columns", ["reward"])
    assert (log.step.tolist(), log.group.tolist()) == ([9, 9, 10, 10], [0, 0, 1, 1])
    assert log.read_texts([3]) == [("q", "101")]


def test_a_wandb_table_has_what_trl_logs(tmp_path):
    """TRL, trl/trainer/grpo_trainer.py, log: the table that goes to W&B and to Parquet."""
    columns = ["step", "prompt", "completion", "format_reward", "tone", "advantage"]
    rows = [[1, "p", 'a "data": [', 1.0, 0.5, 0.7], [1, "p", "b", 0.0, None, -0.7]]
    path = write_json(tmp_path / "completions_3_ab12cd34.table.json", table_json(columns, *rows))
    log = read_log(path)
    assert names_of(log) == ["format_reward", "tone"]
    assert rewards_of(log) == [[1, 0.5], [0, None]]
    assert log.read_texts([0]) == [("p", 'a "data": [')]
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match="a group must have two completions"):
        read_log(path)  # the second row is cut off
    path.write_text('{"columns": ["prompt", "r"], "da')
    with pytest.raises(ValueError, match=r"at least one row, got none.\n.*before its first row"):
        read_log(path)


def test_tables_of_several_names_are_not_thrown_together(tmp_path):
    for name in ("train", "eval"):
        write_json(tmp_path / f"{name}_3_ab12cd34.table.json", table_json(["prompt", "r"]))
    with pytest.raises(ValueError, match=r"log of one run, got those of 2: eval, train\."):
        read_log(tmp_path)


def test_a_wandb_history_is_refused_as_averages(tmp_path):
    """W&B: what ``run.history()`` returns, and the file that a chart exports."""
    history = "_step,_runtime,_timestamp,train/reward_mean,train/kl\n0,1,2,0.5,0.1\n1,2,3,0.6,0.1\n"
    chart = '"Step","run - train/reward","run - train/reward__MIN","run - train/reward__MAX"\n'
    for text in (history, chart + '"1","0.5","0.5","0.5"\n'):
        (tmp_path / "history.csv").write_text(text)
        with pytest.raises(ValueError, match=r"these are averages, not rows\.\n  \w+"):
            read_log(tmp_path / "history.csv")
    metrics = [{"step": step, "reward/mean": 0.5} for step in range(3)]  # prime-rl, metrics.jsonl
    with pytest.raises(ValueError, match="these are averages, not rows"):
        read_log(write_jsonl(tmp_path / "metrics.jsonl", metrics))


def test_averages_beside_completions_are_rows():
    columns = {"prompt": ["a", "a"], "mean_score": [0.0, 1.0], "_step": [3, 3]}
    assert names_of(read_log(columns)) == ["mean_score"]


def test_one_row_per_prompt_with_lists(tmp_path):
    rows = [
        {
            "prompt": prompt,
            "completions": [f"{prompt}{i}" for i in range(3)],
            "rewards": {"right": right, "brief": [0.5, 0.25, 0.0]},
            "difficulty": "hard",
        }
        for prompt, right in (("a", [1, 0, None]), ("b", [0, 1, 1]))
    ]
    log = read_log(write_jsonl(tmp_path / "log.jsonl", rows))
    assert names_of(log) == ["right", "brief"]
    assert rewards_of(log)[:3] == [[1, 0.5], [0, 0.25], [None, 0]]
    assert log.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert log.read_texts([1, 5]) == [("a", "a1"), ("b", "b2")]
    flat = [{"prompt": "a", "completions": ["x", "y"], "rewards": [{"f": 1}, {"f": 0}]}]
    assert rewards_of(read_log(flat)) == [[1], [0]]
    columns = {"prompt": ["a", "b"], "completions": [["x", "y"]] * 2, "score": [[1.0, 0.0]] * 2}
    assert rewards_of(read_log(write_parquet(tmp_path / "a.parquet", columns))) == [[1], [0]] * 2


def test_ms_swift_writes_a_batch_into_a_row(tmp_path):
    """ms-swift, swift/trainers/rlhf_trainer/grpo_trainer.py, log: jsonl_writer.append(table), where
    swift/utils/io_utils.py, JsonlWriter, writes a table as one line."""
    table = {
        "step": ["4", "4"],
        "prompt": ["p", "p"],
        "completion": ["x", "y"],
        "Format": [1.0, 0.0],
        "advantages": [0.5, -0.5],
    }
    write_jsonl(tmp_path / "completions.jsonl", [table, table | {"step": ["5"] * 2}])
    write_jsonl(tmp_path / "logging.jsonl", [{"loss": 0.5, "global_step/max_steps": "4/5"}])
    write_json(tmp_path / "args.json", {"rlhf_type": "grpo"})
    log = read_log(tmp_path)
    assert (names_of(log), log.step.tolist()) == (["Format"], [4, 4, 5, 5])
    assert log.group.tolist() == [0, 0, 1, 1] and log.advantage.tolist() == [0.5, -0.5] * 2


def test_messages_and_token_lists_are_no_lists_of_completions():
    message = [{"role": "assistant", "content": "x"}, {"role": "tool", "content": "y"}]
    rows = [{"prompt": "p", "completion": message, "r": r, "logps": [0.1, 0.2]} for r in (0, 1)]
    log = read_log(rows)
    assert rewards_of(log) == [[0], [1]]
    assert log.read_texts([0]) == [("p", "assistant: x\n\ntool: y")]


LONG = [  # prompt, completion, channel, value; the second completion of b has no brief
    ("a", "x", "right", 1.0),
    ("a", "x", "brief", 0.5),
    ("a", "y", "right", 0.0),
    ("a", "y", "brief", 0.25),
    ("b", "x", "right", 1.0),
    ("b", "x", "brief", 0.0),
    ("b", "z", "right", 0.0),
]


@pytest.mark.parametrize("order", ["by completion", "by channel"])
@pytest.mark.parametrize(
    "name, value", [("channel", "value"), ("metric", "score"), ("name", "value")]
)
def test_long_tables_become_wide_ones(order, name, value):
    rows = LONG if order == "by completion" else sorted(LONG, key=lambda row: row[2], reverse=True)
    log = read_log(
        [
            {"step": 3, "prompt": p, "completion": c, name: channel, value: number, "weight": 1.0}
            for p, c, channel, number in rows
        ]
    )
    assert sorted(names_of(log)) == ["brief", "right"]
    by_name = dict(zip(names_of(log), zip(*rewards_of(log), strict=True), strict=True))
    assert by_name == {"right": (1, 0, 1, 0), "brief": (0.5, 0.25, 0, None)}
    assert (log.group.tolist(), log.step.tolist()) == ([0, 0, 1, 1], [3] * 4)
    assert log.read_texts([1, 3]) == [("a", "y"), ("b", "z")]
    assert kinds_of(log)["long_table"] == 7


def test_equal_completions_of_a_long_table_stay_apart():
    rows = [("x", "f", 1), ("x", "f", 0), ("x", "g", 2), ("x", "g", 3)]
    log = read_log([{"prompt": "p", "completion": c, "channel": n, "value": v} for c, n, v in rows])
    assert rewards_of(log) == [[1, 2], [0, 3]]


def test_a_judges_name_beside_a_score_does_not_make_a_table_long():
    columns = {"prompt": ["p", "p"], "grader": ["one", "two"], "score": [0.0, 1.0]}
    for more in ({}, {"completion": ["x", "y"]}):
        log = read_log(columns | more)
        assert (names_of(log), rewards_of(log)) == (["score"], [[0], [1]])


def test_tab_separated_values(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_text("prompt\tcompletion\tr\np\ta,b\t1\np\tc\t0\n")
    log = read_log(path)
    assert (rewards_of(log), log.read_texts([0])) == ([[1], [0]], [("p", "a,b")])


@pytest.mark.parametrize("kind", ["file", "stream", "feather"])
def test_arrow_files(tmp_path, kind):
    """datasets, save_to_disk: data-00000-of-00001.arrow is a stream; Feather is a file, packed."""
    columns = {"prompt": ["p", "p", "q", "q"], "completion": list("abcd"), "r": [0.0, 1, None, 1]}
    table = pa.table(columns | {"rewards": [{"x": i} for i in range(4)]})
    path = tmp_path / ("log.feather" if kind == "feather" else "data-00000-of-00001.arrow")
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    packed = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "feather" else None)
    with make(path, table.schema, options=packed) as writer:
        writer.write_table(table, max_chunksize=3)
    log = read_log(path)
    assert rewards_of(log) == [[0, 0], [1, 1], [None, 2], [1, 3]]
    assert log.read_texts([1, 3]) == [("p", "b"), ("q", "d")]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    if kind == "stream":  # rows before the damage; a file without its footer has none
        cut = read_log(path)
        assert rewards_of(cut) == [[0, 0], [1, 1], [None, 2]] and kinds_of(cut)["cut_file"] == 1
    else:
        with pytest.raises(ValueError, match="must have a readable file"):
            read_log(path)


def test_a_list_of_dictionaries_and_a_lazy_frame():
    rows = [{"prompt": "p", "r": 0}, {"prompt": "p", "r": 1, "rewards": {"f": 1}}, 5]
    log = read_log(rows)
    assert rewards_of(log) == [[0, None], [1, 1]] and kinds_of(log)["not_object"] == 1
    polars = pytest.importorskip("polars")
    lazy = polars.LazyFrame({"prompt": ["p", "p"], "r": [0, 1]}).with_columns(s=polars.col("r") * 2)
    assert rewards_of(read_log(lazy)) == [[0, 0], [1, 2]]


def test_hive_partitions_give_columns(tmp_path):
    for step in (2, 10):
        for env in ("math", "code"):
            path = tmp_path / f"step={step}" / f"env={env}" / "part-0.parquet"
            write_parquet(path, {"prompt": [env] * 2, "completion": ["x", "y"], "r": [step, 0.0]})
    (tmp_path / "_SUCCESS").write_text("")
    log = read_log(tmp_path)
    assert names_of(log) == ["r"]
    assert log.step.tolist() == [2] * 4 + [10] * 4
    assert log.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert log.read_texts([5]) == [("code", "y")]
    assert "env" in text_of(log, "ignored_column")


def trl_file(folder, step, **columns):
    table = {"step": [step] * 2, "prompt": ["p"] * 2, "completion": ["x", f"y{step}"], **columns}
    return write_parquet(folder / f"completions_{step:05d}.parquet", table)


def test_trl_files_are_found_at_any_depth_and_runs_are_not_mixed(tmp_path):
    """TRL, trl/trainer/grpo_trainer.py, log: output_dir/completions/completions_00001.parquet."""
    folder = tmp_path / "outputs" / "trainer" / "completions"
    for rank in (0, 1):  # a subclass in which every process writes
        trl_file(folder / f"rank_{rank}", 1, r=[0.0, 1.0])
    write_json(tmp_path / "outputs" / "trainer" / "trainer_state.json", {"log_history": []})
    log = read_log(tmp_path)
    assert (log.format, log.group.tolist()) == ("trl", [0] * 4)
    trl_file(tmp_path / "second" / "completions", 1, r=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"got those of 2: outputs/trainer/completions/, second/"):
        read_log(tmp_path)


def test_a_run_that_is_still_training_is_read_as_far_as_it_is_written(tmp_path):
    for step in (1, 2):
        trl_file(tmp_path / "completions", step, r=[0.0, 1.0])
    last = trl_file(tmp_path / "completions", 3, r=[0.0, 1.0])
    last.write_bytes(last.read_bytes()[:100])
    for name in ("completions_00004.parquet.tmp", ".completions_00005.parquet.x7"):
        (tmp_path / "completions" / name).write_bytes(b"PAR1")
    log = read_log(tmp_path)
    assert log.step.tolist() == [1, 1, 2, 2]
    assert kinds_of(log)["unreadable_file"] == 1 and kinds_of(log)["unfinished_file"] == 2
    assert "completions_00004.parquet.tmp" in text_of(log, "unfinished_file")


def test_texts_of_a_file_that_is_gone_are_missing_and_nothing_fails(tmp_path):
    path = trl_file(tmp_path, 1, r=[0.0, 1.0])
    rows = [{"prompt": "p", "completion": "x", "r": r} for r in (0, 1)]
    other = write_jsonl(tmp_path / "log.jsonl", rows)
    for source in (path, other):
        log = read_log(source)
        source.unlink()
        assert log.read_texts([1]) == [(None, None)]


@pytest.mark.parametrize("content", ['{"columns": [' + "[" * 100_000, '{"columns": 5, "data": []}'])
def test_hostile_tables_end_in_a_clear_error(tmp_path, content):
    (tmp_path / "a.table.json").write_text(content)
    with pytest.raises(ValueError, match="must"):
        read_log(tmp_path / "a.table.json")


@pytest.mark.parametrize(
    "row",
    [
        {"task": {}, "traces": [5, None, {"nodes": 3, "rewards": {"r": {"score": {}}}}]},
        {"task": {"data": 3}, "nodes": [{"message": 4}], "rewards": {"r": None}},
        {"prompt": "p", "completions": ["x"] * 3, "rewards": [1.0, 2.0]},
        {"prompt": [], "completion": [], "rewards": []},
        {"channel": {"a": 1}, "value": [1], "prompt": "p"},
        {"doc_id": 1, "doc": 2, "filtered_resps": 3, "metrics": [["x"], None], "arguments": 4},
        {"content": 5, "rewards": {}},
        {"input_prompt": 1, "output_response": [2], "score": [[1], "x"]},
        {"input_prompt": 1, "output_response": 2, "score": [10**400, 0.5]},
    ],
)
def test_rows_that_are_not_as_their_writer_has_them_never_raise(tmp_path, row):
    good = {"prompt": "p", "r": 1.0, "q": 0.0}
    path = write_jsonl(tmp_path / "log.jsonl", [row, row, good, good])
    for group_size in (2, None):
        options = ReadOptions(rewards=("r",), group_size=group_size)
        try:
            read_log(path, options).read_texts([0, 1])
        except ValueError as error:
            assert "\n  " in str(error)  # a refusal, with what to do


def test_a_folder_inside_of_a_run_of_prime_rl_is_read_as_the_run_is(tmp_path):
    batch = [episode("g", "1", {"right": 1.0}), episode("g", "2", {"right": 0.0})]
    step = tmp_path / "rollouts" / "step_3"
    for kind in ("train/all", "train/effective", "eval/all"):
        write_jsonl(step / kind / "traces.jsonl", batch)
    for source in (step, step / "train", step / "train" / "effective" / "traces.jsonl"):
        log = read_log(source)
        assert (rewards_of(log), log.step.tolist()) == ([[1], [0]], [3, 3])


def test_a_file_that_is_there_packed_and_unpacked_is_read_once(tmp_path):
    """prime-rl, src/prime_rl/orchestrator/utils.py, compress_rollouts, deletes the source last."""
    rows = [{"prompt": "p", "r": r} for r in (0, 1)]
    path = write_jsonl(tmp_path / "traces.jsonl", rows)
    (tmp_path / "traces.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "traces.jsonl.gz.tmp").write_bytes(b"\x1f")
    log = read_log(tmp_path)
    assert rewards_of(log) == [[0], [1]]
    assert kinds_of(log)["other_files"] == 1 and kinds_of(log)["unfinished_file"] == 1


def test_the_logs_of_a_folder_come_before_tables_deep_in_it_and_hidden_files_are_none(tmp_path):
    rows = [{"prompt": "p", "r": r} for r in (0, 1)]
    write_jsonl(tmp_path / "log.jsonl", rows)
    write_jsonl(tmp_path / ".log.jsonl", rows)
    write_json(tmp_path / "config.json", {"lr": 1})
    write_json(
        tmp_path / "wandb" / "t_1_ab12cd34.table.json", table_json(["prompt", "r"], ["p", 5])
    )
    log = read_log(tmp_path)
    assert rewards_of(log) == [[0], [1]]
    assert kinds_of(log)["unfinished_file"] == 1 and kinds_of(log)["other_files"] == 2


def test_folders_that_are_joined_without_a_reason_are_named(tmp_path):
    rows = [{"prompt": "p", "r": r} for r in (0, 1)]
    for name in ("train", "test"):
        write_jsonl(tmp_path / name / "log.jsonl", rows)
    assert "2 folders were read as one log: test, train" in text_of(
        read_log(tmp_path), "joined_folders"
    )
    for step in (2, 10):
        write_jsonl(tmp_path / "steps" / f"step_{step}" / "log.jsonl", rows)
    log = read_log(tmp_path / "steps")
    assert log.step.tolist() == [2, 2, 10, 10] and "joined_folders" not in kinds_of(log)


@pytest.mark.parametrize(
    ("columns", "row", "problem"),
    [
        pytest.param(
            ["global_step", "text", "reward"],
            [1, "prompt and answer", 0.5],
            "must say which completions belong to one prompt",
            id="OpenRLHF, utils/logging_utils.py, WandbLogger: one sample per step",
        ),
        pytest.param(
            ["step", "source", "sample_idx", "prompt", "completion", "completion_length"]
            + ["generation_time", "reasoning", "tool_calls"],
            [1, "train", 0, "p", "c", 7.0, 0.5, "", ""],
            "must have a reward column with numbers",
            id="EasyDeL, trainers/base_trainer.py: generations without rewards",
        ),
    ],
)
def test_tables_that_hold_no_groups_or_no_rewards_say_so(tmp_path, columns, row, problem):
    path = write_json(tmp_path / "samples_1_ab12cd34.table.json", table_json(columns, row, row))
    with pytest.raises(ValueError, match=problem):
        read_log(path)


def test_a_row_with_far_too_many_completions_is_cut_and_counted(tmp_path):
    count = (1 << 16) + 3
    row = {"prompt": "p", "completions": ["x"] * count, "r": [0.0] * (count - 1) + [1.0]}
    log = read_log(write_jsonl(tmp_path / "log.jsonl", [row, {"prompt": "q", "r": 1.0}]))
    assert len(log.group) == (1 << 16) + 1 and kinds_of(log)["full_row"] == 1
    assert log.read_texts([65_535, 65_536]) == [("p", "x"), ("q", None)]


def test_a_column_of_any_texts_beside_a_score_does_not_make_a_table_long():
    columns = {
        "prompt": ["p"] * 600,
        "completion": ["x"] * 600,
        "metric": list(map(str, range(600))),
    }
    log = read_log(columns | {"value": [0.0, 1.0] * 300})
    assert (names_of(log), len(log.group)) == (["value"], 600)
