"""What the columns of each trainer become: small logs written by hand, expectations counted by
hand."""

import csv
import gzip
import json

import pyarrow as pa
import pytest
from read_logs import kinds_of, names_of, rewards_of, write_jsonl, write_parquet

from rvpo_jax.auditing.read import ReadOptions, read_log
from rvpo_jax.config import Channel

NAN = None  # how a reward that was not scored is spelled in these tables


def trl_table(step, prompts, **columns):
    count = len(prompts)
    completions = [f"{step}:{row}" for row in range(count)]
    return {"step": [step] * count, "prompt": prompts, "completion": completions, **columns}


def test_trl_groups_the_same_prompt_at_the_same_step(tmp_path):
    folder = tmp_path / "completions"
    for step in (1, 2, 10):
        columns = trl_table(
            step,
            ["a", "a", "b", "b"],
            format_reward=[0.0, 1.0, 1.0, None],
            tone=[0.25, 0.5, 1.0, 0.75],
            answer=["x", "x", "y", "y"],  # a column of the data set
            advantage=[-1.0, 1.0, 0.5, -0.5],
        )
        write_parquet(folder / f"completions_{step:05d}.parquet", columns)
    for source in (folder, tmp_path):
        log = read_log(source)
        assert log.format == "trl"
        assert names_of(log) == ["format_reward", "tone"]
        assert rewards_of(log)[:4] == [[0, 0.25], [1, 0.5], [1, 1], [None, 0.75]]
        assert log.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert log.prompt.tolist() == [0, 0, 1, 1] * 3
        assert log.step.tolist() == [1] * 4 + [2] * 4 + [10] * 4
        assert log.advantage.tolist() == [-1, 1, 0.5, -0.5] * 3
        assert log.read_texts([11, 0, 4]) == [("b", "10:3"), ("a", "1:0"), ("a", "2:0")]
        notes = kinds_of(log)
        assert notes["assumed_rewards"] == 2 and notes["missing"] == 3
        assert notes["ignored_column"] == 1
        assert "duplicate_rows" not in notes and "repeated_groups" not in notes


def test_trl_of_older_versions_has_steps_as_text_and_messages(tmp_path):
    prompt = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("one", "two")]
    columns = {"step": ["7", "7"], "prompt": [prompt] * 2, "completion": answers, "r": [0.0, 1.0]}
    log = read_log(write_parquet(tmp_path / "completions_00007.parquet", columns))
    assert (log.format, log.step.tolist(), log.group.tolist()) == ("trl", [7, 7], [0, 0])
    assert log.advantage is None
    assert log.read_texts([1]) == [("system: S\n\nuser: Hi", "two")]


def test_a_batch_that_is_logged_under_two_steps_is_counted_and_kept(tmp_path):
    for step in (1, 2):
        columns = trl_table(1, ["a", "a", "b", "b"], r=[0.0, 1.0, 1.0, 0.0])
        columns["step"] = [step] * 4
        write_parquet(tmp_path / f"completions_{step:05d}.parquet", columns)
    log = read_log(tmp_path)
    assert len(log.group) == 8 and log.group.max() == 3
    assert kinds_of(log)["repeated_groups"] == 2
    assert "duplicate_rows" not in kinds_of(log)


VERL = {"gts": "42", "request_id": "q", "pred": "41", "index": 3}


def verl_rows(step, **extra):
    return [
        {"input": prompt, "output": f"o{row}", "score": 0.5, "step": step, **VERL, **extra}
        for row, prompt in enumerate(["a", "a", "b", "b"])
    ]


def test_verl_takes_the_numbers_of_extra_info_and_not_the_score(tmp_path):
    for step in (1, 2, 10):
        write_jsonl(tmp_path / f"{step}.jsonl", verl_rows(step, format_reward=1, acc=True))
    log = read_log(tmp_path)
    assert (log.format, names_of(log)) == ("verl", ["format_reward", "acc"])
    assert log.step.tolist() == [1] * 4 + [2] * 4 + [10] * 4  # natural order: 2 before 10
    assert log.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert log.read_texts([9]) == [("a", "o1")]


def test_verl_without_extra_info_has_the_score_as_its_channel(tmp_path):
    log = read_log(write_jsonl(tmp_path / "1.jsonl", verl_rows(1)))
    assert names_of(log) == ["score"]


def test_verl_groups_by_uid_where_there_is_one(tmp_path):
    rows = verl_rows(1, acc=0.5)
    for row, uid in zip(rows, ["x", "y", "x", "y"], strict=True):
        row |= {"uid": uid, "input": "the same"}
    log = read_log(write_jsonl(tmp_path / "1.jsonl", rows))
    assert log.group.tolist() == [0, 1, 0, 1]
    assert log.prompt.tolist() == [0, 0, 0, 0]
    assert "assumed_group" not in kinds_of(log)


def test_tunix_takes_the_components_and_leaves_the_summaries(tmp_path):
    header = [
        "global_step",
        "trajectory_id",
        "prompt_id",
        "group_index",
        "status",
        "prompts",
        "completions",
        "reward",
        "rewards/check,format",
        "rewards/accuracy",
        "rewards/sum",
        "rewards/mean",
        "rewards/min",
        "rewards/max",
        "advantages",
    ]
    text = 'two\nlines, "quoted"'
    rows = [
        [0, 0, 5, 0, "ok", "p", text, 1.5, 1.0, 0.5, 1.5, 0.75, 0.5, 1, 0.7],
        [0, 1, 5, 1, "ok", "p", "x", 0.0, 0.0, "", 0, 0, 0, 0, -0.7],
        [1, 2, 5, 0, "ok", "p", "y", 0.0, 0.0, 0.0, 0, 0, 0, 0, 0.0],
        [1, 3, 5, 1, "ok", "p", "z", 0.0, 1.0, 1.0, 2, 1, 1, 1, 0.0],
    ]
    with (tmp_path / "trajectory_log_0.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    log = read_log(tmp_path)
    assert (log.format, names_of(log)) == ("tunix", ["check,format", "accuracy"])
    assert rewards_of(log) == [[1, 0.5], [0, None], [0, 0], [1, 1]]
    assert log.group.tolist() == [0, 0, 1, 1] and log.prompt.tolist() == [0] * 4
    assert log.step.tolist() == [0, 0, 1, 1]
    assert log.advantage.tolist() == pytest.approx([0.7, -0.7, 0, 0])
    assert log.read_texts([3, 0]) == [("p", "z"), ("p", text)]


def test_tunix_without_components_has_the_total(tmp_path):
    path = tmp_path / "trajectory_log.csv"
    path.write_text("global_step,question,completion,reward\n0,p,a,1\n0,p,b,0\n")
    log = read_log(path)
    assert (log.format, names_of(log), log.group.tolist()) == ("tunix", ["reward"], [0, 0])


def test_nemo_rows_lose_their_lists_of_one(tmp_path):
    def row(prompt, answer, first, second, advantage, **more):
        return {
            "content": [[prompt, answer]],
            "rewards": [first + second],
            "reward1": [first],
            "reward/format": [second],
            "advantages": [[0.0, 0.0, advantage, advantage]],
            "token_ids": [[1, 2, 3, 4]],
            "idx": [0],
            **more,
        }

    write_jsonl(
        tmp_path / "train_data_step3.jsonl",
        [row("p", "a", 1.0, 0.0, 0.5), row("p", "b", 0.0, 1.0, -0.5)],
    )
    write_jsonl(
        tmp_path / "train_data_step20.jsonl",
        [row("p", "c", 1.0, 0.0, 0.0), row("q", "d", 1.0, 1.0, 2.0)],
    )
    log = read_log(tmp_path)
    assert (log.format, names_of(log)) == ("nemo", ["reward1", "format"])
    assert rewards_of(log) == [[1, 0], [0, 1], [1, 0], [1, 1]]
    assert log.step.tolist() == [3, 3, 20, 20]
    assert log.group.tolist() == [0, 0, 1, 2] and log.prompt.tolist() == [0, 0, 0, 1]
    assert log.advantage.tolist() == [0.5, -0.5, 0, 2]
    assert log.read_texts([3]) == [("q", "d")]


def test_nemo_with_flat_texts_needs_the_group_size(tmp_path):
    rows = [{"content": ["one flat text"], "rewards": [r], "idx": [0]} for r in (0.0, 1.0) * 2]
    path = write_jsonl(tmp_path / "train_data_step1.jsonl", rows)
    with pytest.raises(ValueError, match="must say which completions .*\n  .*--group-size"):
        read_log(path)
    log = read_log(path, ReadOptions(group_size=2))
    assert (names_of(log), log.group.tolist()) == (["rewards"], [0, 0, 1, 1])
    assert log.read_texts([0]) == [(None, "one flat text")]


OWN = {
    "channels": [
        {"name": "safe", "low": 0.0, "high": 1.0, "pass_at": 1.0, "kind": "constraint"},
        {"name": "brief", "low": -5.0, "high": 5.0, "pass_at": 2.0, "kind": "quality"},
    ],
    "method": "rvpo",
    "risk_coef": 1.0,
}


def own_columns(**changes):
    return {
        "step": pa.array([4, 4, 4, 4], pa.int32()),
        "group": pa.array([0, 0, 1, 1], pa.int32()),
        "prompt_id": pa.array([9, 9, -9, -9], pa.int64()),
        "advantage": pa.array([1, -1, 0.5, -0.5], pa.float32()),
        "safe": pa.array([1, 0, 1, None], pa.float32()),
        "brief": pa.array([1, 2, 3, 4], pa.float32()),
        **changes,
    }


def test_a_run_of_ours_declares_its_channels(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    path = write_parquet(tmp_path / "rollouts" / "00000004.parquet", own_columns(), OWN)
    for source in (tmp_path, path.parent, path):
        log = read_log(source)
        assert (log.format, log.method, log.risk_coef) == ("rvpo", "rvpo", 1.0)
        assert log.channels == (
            Channel(name="safe", low=0, high=1, pass_at=1, kind="constraint"),
            Channel(name="brief", low=-5, high=5, pass_at=2),
        )
        assert log.group.tolist() == log.prompt.tolist() == [0, 0, 1, 1]
        assert log.read_texts([0]) == [(None, None)]
        # Of a run one expects the steps 0 to 3 too; of one file nothing but itself.
        absent = {} if source == path else {"absent_step": 4}
        assert kinds_of(log) == {"missing": 1, "no_text": 4, **absent}
        assert log.assumed_pass == frozenset()


def test_a_schedule_of_the_risk_coefficient_is_noted(tmp_path):
    for step, risk_coef in enumerate([0.5, 1.0, "inf"]):
        about = OWN | {"risk_coef": risk_coef}
        write_parquet(tmp_path / f"{step:08d}.parquet", own_columns(), about)
    log = read_log(tmp_path)
    assert log.risk_coef == float("inf") and kinds_of(log)["risk_coef_varies"] == 3


def test_a_run_whose_metadata_is_broken_is_read_as_observed(tmp_path):
    about = {"channels": [{"name": "safe", "low": 1, "high": 0, "pass_at": "x"}], "risk_coef": {}}
    log = read_log(write_parquet(tmp_path / "1.parquet", own_columns(), about))
    assert log.channels == (Channel(name="safe"),)
    assert (log.method, log.risk_coef, log.assumed_pass) == (None, None, {"safe"})
    assert kinds_of(log)["bad_metadata"] == 1


def test_a_run_without_rollouts_says_how_to_get_them(tmp_path):
    config = {"advantage": {}, "rollout": {}, "risk": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match="rollouts/.*\n  .*--log.rollouts texts"):
        read_log(tmp_path)


def table(**columns):
    return {"prompt": ["a", "a", "b", "b"], **columns}


@pytest.mark.parametrize(
    ("columns", "channels"),
    [
        pytest.param({"f": [0, 1, 1, 0], "t": [1.5] * 4}, ["f", "t"], id="numbers"),
        pytest.param({"f": [True, False] * 2}, ["f"], id="booleans"),
        pytest.param({"reward": [0, 1] * 2}, ["reward"], id="a total alone"),
        pytest.param({"reward": [0, 1] * 2, "f": [0, 1] * 2}, ["f"], id="a total beside others"),
        pytest.param({"score": [1] * 4, "reward": [0, 1] * 2}, ["reward"], id="two totals"),
        pytest.param(
            {
                "f": [0, 1] * 2,
                "step": [1] * 4,
                "epoch": [0.5] * 4,
                "idx": [1, 2, 3, 4],
                "sample_id": [1, 2, 3, 4],
                "seed": [1] * 4,
                "completion_length": [9] * 4,
                "prompt_tokens": [9] * 4,
                "num_turns": [1] * 4,
                "advantages": [0.5] * 4,
                "time": [1.0] * 4,
                "__index_level_0__": [0, 1, 2, 3],
            },
            ["f"],
            id="numbers that are no rewards",
        ),
        pytest.param(
            {"rewards": [{"x": 1, "y": None}, {"x": 0, "y": 2}] * 2}, ["x", "y"], id="nested"
        ),
        pytest.param({"rewards": [{"x": 1}] * 4, "x": [0] * 4}, ["x", "x_2"], id="two of one name"),
        pytest.param(
            {"x": [0] * 4, "rewards": [{"x": 1}] * 4}, ["rewards.x", "x"], id="nested after flat"
        ),
        pytest.param(
            {"note": [1, "n"] * 2, "rewards": [{"x": 1}, {}] * 2}, ["note", "x"], id="mixed types"
        ),
    ],
)
def test_columns_that_are_taken_as_rewards(columns, channels):
    log = read_log(table(**columns))
    assert log.format == "columns"
    assert sorted(names_of(log)) == channels


def test_named_columns_are_taken_in_the_order_given():
    columns = table(reward=[0, 1] * 2, f=["1", "0"] * 2, g=[1] * 4, num_x=[3] * 4)
    log = read_log(columns, ReadOptions(rewards=("num_x", "reward", "f")))
    assert names_of(log) == ["num_x", "reward", "f"]
    assert "assumed_rewards" not in kinds_of(log)


@pytest.mark.parametrize(
    ("options", "group", "prompt"),
    [
        pytest.param({}, [0, 0, 1, 1], [0, 0, 1, 1], id="prompt text"),
        pytest.param({"group": "uid"}, [0, 1, 0, 1], [0, 0, 0, 0], id="column"),
        pytest.param({"group_size": 2}, [0, 0, 1, 1], [0, 0, 1, 1], id="size"),
        pytest.param({"group_size": 4}, [0] * 4, [0] * 4, id="the whole log"),
        pytest.param({"prompt": "uid"}, [0, 1, 0, 1], [0, 1, 0, 1], id="another text"),
    ],
)
def test_groups_of_a_table(options, group, prompt):
    log = read_log(table(f=[0, 1, 0, 1], uid=["x", "y"] * 2), ReadOptions(**options))
    assert log.group.tolist() == group
    # The rows of the groups "x" and "y" have two prompts each; that of the first row counts.
    assert log.prompt.tolist() == prompt
    assert ("mixed_prompts" in kinds_of(log)) == (options in ({"group": "uid"}, {"group_size": 4}))


def test_blocks_start_anew_at_a_step_and_after_a_lost_line(tmp_path):
    lines = [json.dumps({"f": row % 2, "step": int(row >= 6)}) for row in range(10)]
    lines[1] = "{"  # of the first block: the second one must not move
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    log = read_log(path, ReadOptions(group_size=4))
    # Rows 0, 2, 3 | 4, 5 (the step ends) | 6 to 9.
    assert log.group.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".jsonl.gz", ".json.gz"])
def test_the_kinds_of_json(tmp_path, suffix):
    rows = [{"prompt": "p", "completion": f"c{i}", "r": i / 4} for i in range(4)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / f"log{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    log = read_log(path)
    assert log.rewards[:, 0].tolist() == [0, 0.25, 0.5, 0.75]
    assert log.read_texts([3, 1, 3]) == [("p", "c3"), ("p", "c1"), ("p", "c3")]


def test_a_json_list_is_rows(tmp_path):
    rows = [{"prompt": "p", "completion": f"c{i}", "r": i} for i in range(3)]
    path = tmp_path / "log.json"
    path.write_text(json.dumps([*rows, 5], indent=2))
    log = read_log(path)
    assert log.rewards[:, 0].tolist() == [0, 1, 2]
    assert log.read_texts([2]) == [("p", "c2")]
    assert kinds_of(log)["not_object"] == 1


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_other_libraries(library):
    frame = pytest.importorskip(library).DataFrame(table(f=[0.0, 1.0, None, 1.0]))
    log = read_log(frame)
    assert rewards_of(log) == [[0], [1], [None], [1]]
    assert log.group.tolist() == [0, 0, 1, 1] and log.read_texts([2]) == [("b", None)]


def test_anything_that_streams_arrow_is_a_table():
    class Frame:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table(table(f=[0, 1, 0, 1])).__arrow_c_stream__(requested_schema)

    assert rewards_of(read_log(Frame())) == [[0], [1], [0], [1]]
