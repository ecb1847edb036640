"""The dry run of rewards on sample texts: what it tries, what it tells, and without JAX."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.cli import main
from rvpo_jax.config import (
    Config,
    DataConfig,
    EvalConfig,
    LogConfig,
    ParallelConfig,
    RolloutConfig,
)
from rvpo_jax.data.tool_task import ToolTask
from rvpo_jax.rewards import (
    EMBEDDED_REWARDS,
    RewardError,
    assumed_channels,
    load_reward,
    reward_channel,
)
from rvpo_jax.run import parallel
from rvpo_jax.run.check_rewards import check_rewards, dry_run
from rvpo_jax.run.sample_texts import FIXED_TEXTS, sample_texts, spread
from rvpo_jax.train import train

ROWS = [{"prompt": "1 + 1?", "answer": "2"}, {"prompt": "1 + 2?", "answer": "3"}]


def correct(completions, answer, **columns):
    return [float(text == right) for text, right in zip(completions, answer, strict=True)]


def constant(completions, examples):
    return [0.25 for _ in completions]


def abstains(completions, examples):
    return [None for _ in completions]


def needs_text(completions, examples):
    return [1.0 if text[0].isalpha() else 0.0 for text in completions]


def needs_solution(completions, solution):
    return [0.0 for _ in completions]


def too_large(completions, examples):
    return [7.0 for _ in completions]


def test_each_prompt_has_its_own_text_its_answer_and_that_of_another_row():
    texts = [(sample.kind, sample.text) for sample in sample_texts(ROWS)]
    assert texts == [
        *FIXED_TEXTS.items(),
        *(("its prompt", "1 + 1?"), ("its answer", "2"), ("other answer", "3")),
        *FIXED_TEXTS.items(),
        *(("its prompt", "1 + 2?"), ("its answer", "3"), ("other answer", "2")),
    ]
    assert {"empty", "long", "odd signs", "open tags"} == set(FIXED_TEXTS)


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"response": "r"}, "r"),
        ({"ground_truth": "g", "answer": 3}, "g"),
        ({"answer": 3, "solution": "s"}, "s"),
        ({"reward_model": {"ground_truth": "nested"}}, "nested"),
        ({"completion": [{"role": "assistant", "content": "turn"}]}, "turn"),
    ],
    ids=["response", "ground_truth first", "not a number", "inside reward_model", "messages"],
)
def test_the_answer_of_a_row_is_found_under_its_usual_names(row, answer):
    samples = sample_texts([{"prompt": [{"role": "user", "content": "asked"}], **row}])
    texts = {sample.kind: sample.text for sample in samples}
    assert texts == {**FIXED_TEXTS, "its prompt": "asked", "its answer": answer}


def test_rows_are_taken_at_equal_distances():
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1], 4) == [1]


def test_the_values_are_those_of_the_functions():
    report = dry_run([correct, constant], ROWS)
    kinds = [sample.kind for sample in report.samples]
    right, same = report.tried
    np.testing.assert_array_equal(right.values, [float(kind == "its answer") for kind in kinds])
    np.testing.assert_array_equal(same.values, [0.25] * len(kinds))
    assert right.texts_per_s > 0


@pytest.mark.parametrize(
    ("fn", "on_error", "warnings"),
    [
        (correct, "raise", []),
        (
            constant,
            "raise",
            [
                "reward constant gave 0.25 to all 14 sample texts; a channel that never varies "
                "teaches nothing"
            ],
        ),
        (
            abstains,
            "raise",
            ["reward abstains scored none of 14 sample texts: None, NaN, or never applies"],
        ),
        # The empty text of each of the two prompts.
        (needs_text, "skip", ["reward needs_text raised on 2 of 14 sample texts"]),
    ],
    ids=["fine", "constant", "never scored", "raises and is skipped"],
)
def test_a_function_that_teaches_nothing_is_a_warning(fn, on_error, warnings):
    assert dry_run([fn], ROWS, on_error=on_error).warnings == warnings


@pytest.mark.parametrize(
    ("fn", "error"),
    [(needs_text, RewardError), (too_large, RewardError), (needs_solution, Refusal)],
    ids=["raises", "out of range", "no such column"],
)
def test_a_broken_function_stops_a_run_before_it_starts(fn, error):
    with pytest.raises(error, match=fn.__name__):
        dry_run([correct, fn], ROWS)


def test_the_answers_of_the_embedded_task_pass_all_its_channels_and_careless_ones_do_not():
    report = dry_run(
        [load_reward(name) for name in EMBEDDED_REWARDS],
        spread(ToolTask("train", 64), 4),
        embedded=True,
    )
    kinds = np.array([sample.kind for sample in report.samples])
    met = np.array([tried.values >= np.float32(tried.channel.pass_at) for tried in report.tried])
    assert met[:, kinds == "its answer"].all()
    assert not met[:, np.char.startswith(kinds, "careless")].all(axis=0).all()
    assert report.warnings == []


def test_what_is_assumed_of_a_plain_function_is_said_with_the_remedy():
    declared = reward_channel(high=5.0, pass_at=3.0)(lambda completions, examples: [])
    assert assumed_channels([declared]) == []
    assert assumed_channels([correct, declared, constant]) == [
        "assumed of the rewards correct, constant: values from 0 to 1, and only a full 1.0 passes",
        "  declare other values with @reward_channel(low=..., high=..., pass_at=...)",
    ]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder: rows in both formats, and this file's functions as a reward file."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), "rows.parquet")
    Path("mine.py").write_text(Path(__file__).read_text().partition("\n\ndef test_")[0])
    return tmp_path


@pytest.mark.parametrize("source", ["rows.jsonl", "rows.parquet"])
def test_the_command_shows_range_values_and_pass_rate_and_ends_with_0(project, capsys, source):
    code = main(["check-rewards", "--data.source", source, "--data.rewards", "mine.py:correct"])
    out = capsys.readouterr().out
    assert code == 0
    assert "1 reward(s) on 14 sample texts for 2 prompts" in out
    # 2 of 14 texts are right: a mean of 0.143 and 14 % met.
    assert re.search(r"correct +0 to 1 +0 to 1 +0\.143 +1 +14% +14 +[\d,]+ *\n", out)
    assert re.search(r"its answer +1 *\n", out) and re.search(r"other answer +0 *\n", out)
    assert "assumed of the reward correct: values from 0 to 1, and only a full 1.0 passes" in out


def test_the_command_goes_on_behind_a_broken_reward_and_ends_with_1(project, capsys):
    names = ("needs_text", "needs_solution", "correct", "constant")
    rewards = [f"mine.py:{name}" for name in names]
    code = main(["check-rewards", "--data.source", "rows.jsonl", "--data.rewards", *rewards])
    out = capsys.readouterr().out
    assert code == 1
    assert re.search(r"needs_text +0 to 1 +failed", out)
    assert re.search(r"correct +0 to 1 +0 to 1", out)
    assert "reward function needs_text raised IndexError: 'string index out of range'." in out
    assert f"{project / 'mine.py'}, line " in out
    assert "It fails on these texts: empty." in out
    assert "takes solution, which is neither" in out and "columns: prompt, answer." in out
    assert "reward constant gave 0.25 to all 14 sample texts" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.rewards", "absent"], "data.rewards must name reward functions"),
        (["--data.source", "no.jsonl", "--data.rewards", "format"], "must be an existing file"),
        (["--data.source", "empty.jsonl", "--data.rewards", "format"], "at least one row"),
    ],
    ids=["no such reward", "no such file", "no rows"],
)
def test_what_cannot_be_loaded_is_bad_usage(project, capsys, arguments, message):
    Path("empty.jsonl").write_text("")
    assert main(["check-rewards", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_markup_in_the_name_of_a_channel_is_text():
    hostile = reward_channel(name="w[/b][red]x\x1b[2J")(lambda texts, rows: [0.5] * len(texts))

    class Data:  # the config's own check of names is not the matter here
        source, rewards, prompt_column = "embedded", (hostile,), "prompt"

    console = Console(file=io.StringIO(), width=200)
    assert check_rewards(Data, console) == 0
    assert console.file.getvalue().count(r"w[/b][red]x\x1b[2J") == 3  # two tables, one warning


def test_rewards_are_checked_without_jax(project):
    # The package's own __init__ is left out: what it loads is a matter of its own test.
    program = (
        "import sys, types\n"
        "package = types.ModuleType('rvpo_jax')\n"
        f"package.__path__ = [{str(Path(__file__).parents[1] / 'rvpo_jax')!r}]\n"
        "sys.modules['rvpo_jax'] = package\n"
        "from rich.console import Console\n"
        "from rvpo_jax.config import DataConfig\n"
        "from rvpo_jax.run.check_rewards import check_rewards\n"
        "data = DataConfig(source='rows.jsonl', rewards=('mine.py:needs_text', 'brevity'))\n"
        "for data in (data, DataConfig()):\n"
        "    check_rewards(data, Console(quiet=True))\n"
        "print([name for name in ('jax', 'flax', 'scipy') if name in sys.modules])\n"
    )
    Path("mine.py").write_text(
        "def needs_text(completions, examples):\n    return [text[0] for text in completions]\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_the_default_is_the_embedded_task():
    console = Console(file=io.StringIO(), width=200)
    assert check_rewards(DataConfig(), console) == 0
    assert "6 reward(s) on 36 sample texts for 4 prompts" in console.file.getvalue()


@pytest.fixture
def run_of(project):
    """Trains one step of a tiny run with a reward of this file."""

    def train_with(reward, workdir, console=None):
        config = Config(
            steps=1,
            data=DataConfig(source="rows.jsonl", rewards=(f"mine.py:{reward}",), eval_frac=0.5),
            rollout=RolloutConfig(num_prompts=1, group_size=2, max_completion_tokens=4),
            eval=EvalConfig(num_prompts=1),
            log=LogConfig(audit=False),
            parallel=ParallelConfig(num_devices=1),
        )
        return train(config, Path(workdir), console)

    return train_with


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        ("needs_text", RewardError, "mine.py, line"),
        ("needs_solution", Refusal, "takes solution, which is neither"),
    ],
)
def test_train_stops_at_a_broken_reward_before_the_run_is_set_up(run_of, reward, error, message):
    with pytest.raises(error, match=message):
        run_of(reward, "run")
    assert not Path("run/config.json").exists()
    assert not Path("run/checkpoints").exists()


class ReadyToCompile(Exception):
    pass


def test_train_says_what_it_assumes_and_what_is_suspicious(run_of, caplog, monkeypatch):
    def stop(*_):
        raise ReadyToCompile

    # All is said before anything is compiled.
    monkeypatch.setattr(parallel.Compiled, "program", stop)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(ReadyToCompile):
        run_of("constant", "run", console)
    assert "assumed of the reward constant: values from 0 to 1" in console.file.getvalue()
    assert "reward constant gave 0.25 to all" in caplog.text
