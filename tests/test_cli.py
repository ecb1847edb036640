"""The command line: what bad input prints, and that nothing is left behind."""

import json

import pytest

from rvpo_jax import cli

ROWS = [{"prompt": f"Say {word}.", "answer": word} for word in ("one", "two", "three", "four")]


def run(capsys, *args):
    """Exit code and everything printed."""
    try:
        code = cli.main([str(arg) for arg in args])
    except SystemExit as stop:  # tyro's own usage errors
        code = stop.code
    printed = capsys.readouterr()
    return code, " ".join((printed.out + printed.err).replace("│", " ").split())


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(["--optim.lr", "1"], "--optim.lr", id="unknown field"),
        pytest.param(["--advantage.method", "gdop"], "invalid choice 'gdop'", id="misspelt method"),
        pytest.param(["--rollout.group-size", "1"], "group_size must be >= 2, got 1", id="G = 1"),
        pytest.param(["--advantage.risk-coef", "-1"], "risk_coef must be >= 0, got -1", id="k < 0"),
        pytest.param(
            ["--advantage.weights", "format", "1", "speed", "2"],
            "unknown channel(s): speed. The channels of this run are: format, tool_name",
            id="weights for an unknown channel",
        ),
        pytest.param(
            ["--loss.num-minibatches", "3"],
            "num_prompts = 16 must be divisible by loss.num_minibatches = 3",
            id="minibatches",
        ),
        pytest.param(
            ["--rollout.num-prompts", "12"],
            "num_prompts = 12 must be divisible by 8 device(s)",
            id="devices",
        ),
        pytest.param(
            ["--rollout.num-prompts", "48", "--loss.microbatch-size", "4"],
            "microbatch_size = 4 must divide the 6 prompts",
            id="microbatches",
        ),
        pytest.param(
            ["--rollout.max-prompt-tokens", "3"],
            "max_tokens = 3 leaves no prompt",
            id="all too long",
        ),
        pytest.param(["--data.rewards", "speed"], "speed", id="unknown reward"),
        pytest.param(["--data.source", "no.jsonl"], "data.rewards must name", id="no rewards"),
        pytest.param(
            ["--data.source", "no.jsonl", "--data.rewards", "format"], "no.jsonl", id="no file"
        ),
        pytest.param(["--model.preset", "huge"], "model.preset must be one of tiny", id="preset"),
        pytest.param(["--steps", "0"], "steps must be > 0, got 0", id="no steps"),
        pytest.param(["--config", "nowhere.py"], "nowhere.py does not exist", id="no config file"),
    ],
)
def test_bad_usage_is_exit_code_2_with_one_message(capsys, tmp_path, options, expected):
    workdir = tmp_path / "run"
    code, text = run(capsys, "train", "--workdir", workdir, *options)
    assert code == 2
    assert expected in text
    assert "Traceback" not in text
    assert not list(workdir.glob("**/*.json*")), "a refused run leaves nothing"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nonsense_module", "ModuleNotFoundError: No module named 'nonsense_module'"),
        ("x = 1", "has no function get_config"),
        ("def get_config():\n    return 5", "must return rvpo_jax.Config, got int"),
        ("def get_config(:", "SyntaxError"),
        (
            "from rvpo_jax import Config\ndef get_config():\n    return Config(steps=-1)",
            "steps must be > 0, got -1",
        ),
    ],
    ids=["does not import", "no get_config", "returns something else", "syntax", "bad value"],
)
def test_a_bad_config_file_is_exit_code_2(capsys, tmp_path, source, expected):
    path = tmp_path / "my_config.py"
    path.write_text(source)
    code, text = run(capsys, "train", "--config", path, "--workdir", tmp_path / "run")
    assert code == 2
    assert expected in text


def test_help_shows_the_defaults_of_the_config_file(capsys, tmp_path):
    path = tmp_path / "my_config.py"
    path.write_text("from rvpo_jax import Config\ndef get_config():\n    return Config(steps=77)")
    code, text = run(capsys, "train", "--config", path, "--help")
    assert code == 0
    assert "(default: 77)" in text
    assert "k of the soft minimum, 1/score" in text


def test_a_workdir_that_cannot_be_used_is_refused(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    code, text = run(capsys, "train", "--workdir", file)
    assert (code, file.read_text()) == (2, "mine")
    assert "workdir must be a folder that can be written to" in text


def test_a_workdir_with_another_config_is_refused_and_names_the_fields(capsys, tmp_path):
    from rvpo_jax.config import Config, OptimConfig
    from rvpo_jax.run.workdir import write_config

    stored = Config(seed=3, optim=OptimConfig(learning_rate=0.5), steps=7)
    write_config(stored, tmp_path)
    before = (tmp_path / "config.json").read_text()
    code, text = run(capsys, "train", "--workdir", tmp_path)
    assert code == 2
    assert "optim.learning_rate: 0.5 -> 0.0005" in text
    assert "seed: 3 -> 0" in text
    assert "steps" not in text, "more steps are harmless"
    assert (tmp_path / "config.json").read_text() == before


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_a_folder_without_a_run_is_refused(capsys, tmp_path, command):
    code, text = run(capsys, command, "--workdir", tmp_path)
    assert code == 2
    assert "holds no run" in text


def test_an_unknown_experiment_is_refused_and_lists_the_known_ones(capsys):
    code, text = run(capsys, "figure", "no_such_figure")
    assert code == 2
    assert "constraint_neglect" in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise KeyError('answer_')", "KeyError"),
        ("return [1.0, 1.0, 1.0]", "politeness"),
        ("return ['good'] * len(completions)", "politeness"),
        ("return [2.0] * len(completions)", "politeness"),
        ("return [None] * len(completions)", "politeness"),
    ],
    ids=["raises", "too few values", "strings", "out of range", "NaN for all"],
)
def test_a_broken_reward_function_stops_the_run_and_is_named(
    capsys, tmp_path, rows, body, expected
):
    reward = tmp_path / "my_rewards.py"
    reward.write_text(f"def politeness(completions, examples):\n    {body}\n")
    options = ["--data.source", rows, "--data.rewards", f"{reward}:politeness"]
    options += ["--rollout.num-prompts", "8", "--rollout.group-size", "2"]
    options += ["--rollout.max-completion-tokens", "4", "--steps", "1"]
    code, text = run(capsys, "train", "--workdir", tmp_path / "run", *options)
    assert code == 1
    assert expected in text
    assert "politeness" in text
    assert "Traceback" not in text


def test_doctor_finds_this_machine_healthy(capsys):
    code, text = run(capsys, "doctor")
    assert code == 0
    assert "cpu" in text
    assert "orbax-checkpoint" in text
