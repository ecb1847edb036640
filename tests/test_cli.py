"""The command line: what bad input prints, and that nothing is left behind."""

import io
import json
import os
import signal
import subprocess
import sys
import types
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rvpo_jax import cli
from rvpo_jax.cli.commands import Train
from rvpo_jax.config import Channel, Config, DataConfig
from rvpo_jax.data.tokenizer import ByteTokenizer
from rvpo_jax.run.evaluate import Evaluation, evaluation_table, show_samples
from rvpo_jax.run.summary import rate_table
from rvpo_jax.run.workdir import write_config

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
        pytest.param(["--model.preset", "huge"], "invalid choice 'huge'", id="preset"),
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
        ("def get_config():\n    return 5", "must return rvpo_jax.Config, got 5"),
        ("def get_config():\n    raise SystemExit(3)", "fails: SystemExit: 3"),
        ("def get_config(:", "SyntaxError"),
        (
            "from rvpo_jax import Config\ndef get_config():\n    return Config(steps=-1)",
            "steps must be > 0, got -1",
        ),
    ],
    ids=["import", "no get_config", "returns something else", "sys.exit", "syntax", "bad value"],
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
    from rvpo_jax.config import OptimConfig

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


@pytest.mark.slow
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


# A user's config file


def test_an_error_inside_get_config_names_file_line_and_innermost_frames(capsys, tmp_path):
    path = tmp_path / "my_config.py"
    path.write_text(
        "def half(steps):\n    return steps / 0\n\n\ndef get_config():\n    return half(7)\n"
    )
    code, text = run(capsys, "train", "--config", path)
    assert code == 2
    assert "fails: ZeroDivisionError: division by zero" in text
    outer = text.index(f"{path}, line 6, in get_config: return half(7)")
    inner = text.index(f"{path}, line 2, in half: return steps / 0")
    assert outer < inner


def test_what_a_config_file_raises_is_shown_escaped_and_not_at_length(capsys, tmp_path):
    path = tmp_path / "my_config.py"
    path.write_text("def get_config():\n    raise ValueError('\\x1b[2J' + 'x' * 10_000)\n")
    cli.main(["train", "--config", str(path)])
    text = capsys.readouterr().err
    assert "\x1b" not in text and r"\x1b[2J" in text
    assert len(text) < 1000


OWN_RULE = """
from rvpo_jax import AdvantageConfig, Config, LossConfig
from rvpo_jax.config import DataConfig, OptimConfig

def own(*arguments):
    raise NotImplementedError

def get_config():
    return Config(
        advantage=AdvantageConfig(method=own, whiten=own),
        loss=LossConfig(objective=own, extra_terms=(own,), kl_estimator=own, denominator=own),
        optim=OptimConfig(schedule=own),
        data=DataConfig(rewards=("format", own)),
    )
"""


@pytest.fixture
def parsed(monkeypatch):
    """Runs `rvpo train` up to its parsed options, with warnings as errors."""

    def parse(*args):
        seen = []
        monkeypatch.setitem(cli._COMMANDS, "train", (Train, lambda options: seen.append(options)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cli.main(["train", *map(str, args)])
        return seen[0].run

    return parse


def test_a_config_file_with_functions_is_parsed_without_a_warning(parsed, tmp_path):
    path = tmp_path / "my_rules.py"
    path.write_text(OWN_RULE)
    config = parsed("--config", path, "--steps", "3")
    assert config.steps == 3
    assert config.advantage.method.__name__ == "own"
    assert config.loss.extra_terms == (config.loss.objective,)
    assert config.data.rewards[0] == "format"


def test_help_shows_functions_by_name_and_no_name_of_the_parsers_own(capsys, tmp_path):
    path = tmp_path / "my_rules.py"
    path.write_text(OWN_RULE)
    code, text = run(capsys, "train", "--config", path, "--help")
    assert code == 0
    assert "(default: my_rules:own)" in text
    assert "dummy" not in text and "<function" not in text
    assert "extra-terms" not in text, "functions alone are nothing for a command line"


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--advantage.method", "{rvpo,variance,hard_min,gdpo,"),
        ("--advantage.whiten", "{batch,token,group,none}"),
        ("--loss.objective", "{clipped,gspo,cispo,dr_grpo,reinforce}"),
        ("--loss.kl-estimator", "{k1,k2,k3}"),
        ("--loss.denominator", "{token,sequence,constant,None}"),
        ("--risk.kind", "{constant,linear,cosine,piecewise}"),
        ("--optim.schedule", "{constant,cosine,linear}"),
    ],
)
def test_help_shows_the_names_that_a_field_takes(capsys, option, choices):
    _, text = run(capsys, "train", "--help")
    assert f"{option} {choices}" in text


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (["1", "1", "1", "1", "1", "2"], (1.0, 1.0, 1.0, 1.0, 1.0, 2.0)),
        (["format", "1", "privacy", "2"], {"format": 1.0, "privacy": 2.0}),
        (["None"], None),
    ],
    ids=["in channel order", "by name", "none"],
)
def test_weights_are_given_in_channel_order_or_by_name(parsed, words, weights):
    assert parsed("--advantage.weights", *words).advantage.weights == weights


@pytest.mark.parametrize(
    "words", [["a", "1", "b"], ["1", "b"], ["a=1"]], ids=["a name over", "mixed", "with ="]
)
def test_weights_that_are_neither_are_refused(capsys, words):
    code, text = run(capsys, "train", "--advantage.weights", *words)
    assert code == 2
    assert "one number per channel in their order, or pairs NAME VALUE" in text


# What is imported, and when


HEAVY = "jax flax scipy optax orbax tensorflow matplotlib pyarrow numpy".split()


def loaded_after(program, folder):
    """Which of HEAVY a fresh process has imported after a program."""
    program += f"\nimport sys; print('loaded', [m for m in {HEAVY} if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=folder, env=environment,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].removeprefix("loaded ")


@pytest.mark.parametrize(
    "program",
    [
        "import rvpo_jax",
        "import rvpo_jax; dir(rvpo_jax), rvpo_jax.__version__",
        "import rvpo_jax; rvpo_jax.Config(), rvpo_jax.AdvantageConfig(), rvpo_jax.LossConfig()",
        "from rvpo_jax.cli import main; main(['--help'])",
        "from rvpo_jax.cli import main; main([])",
        "from rvpo_jax.cli import main; main(['unknown'])",
    ],
    ids=["import", "dir", "config", "help", "no command", "unknown command"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path, program):
    assert loaded_after(program, tmp_path) == "[]"


def test_the_options_of_audit_are_shown_without_jax_flax_and_scipy(tmp_path):
    program = "from rvpo_jax.cli import main\ntry:\n    main(['audit', '--help'])\n"
    loaded = loaded_after(program + "except SystemExit:\n    pass", tmp_path)
    assert not {"'jax'", "'flax'", "'scipy'"} & set(loaded.strip("[]").split(", "))


def test_the_package_shows_its_public_names_and_nothing_else():
    import rvpo_jax

    assert dir(rvpo_jax) == sorted(rvpo_jax.__all__)
    for name in rvpo_jax.__all__:
        assert getattr(rvpo_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'compute_advantage'"):
        _ = rvpo_jax.compute_advantage


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]], ids=["none", "--help", "-h"])
def test_help_lists_every_command_with_a_line(capsys, args):
    code, text = run(capsys, *args)
    assert code == 0
    for name, (command, _) in cli._COMMANDS.items():
        assert f"{name} {command.__doc__.splitlines()[0]}" in text


def test_an_unknown_command_is_refused_and_lists_the_known_ones(capsys):
    code, text = run(capsys, "trian")
    assert (code, text) == (
        2,
        "rvpo: there is no command trian. There are: train, plan, eval, sample, audit, "
        "check-rewards, judge-report, export, figure, doctor.",
    )


def test_an_error_that_is_no_refusal_shows_its_traceback(monkeypatch):
    def broken(options):
        raise ValueError("two lines\n  that look like ours")

    monkeypatch.setitem(cli._COMMANDS, "train", (Train, broken))
    with pytest.raises(ValueError, match="look like ours"):
        cli.main(["train"])


# Somebody else's run folder


@pytest.fixture
def foreign(tmp_path):
    """A run's folder whose reward file leaves a mark when it is executed."""
    reward, mark = tmp_path / "foreign.py", tmp_path / "executed"
    reward.write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "def polite(completions, examples):\n    return [1.0] * len(completions)\n"
    )
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    write_config(Config(data=DataConfig(rewards=("format", f"{reward}:polite"))), folder)
    return folder, mark


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_a_reward_file_that_a_run_names_is_not_executed_unasked(capsys, foreign, command):
    folder, mark = foreign
    code, text = run(capsys, command, "--workdir", folder)
    assert code == 2
    assert "scoring would execute code" in text and "foreign.py:polite" in text
    assert "--trust" in text and "--rewards" in text
    assert not mark.exists()


@pytest.mark.parametrize(
    ("command", "options", "executed"),
    [
        pytest.param("eval", ["--trust"], True, id="eval trusts"),
        pytest.param("sample", ["--trust"], True, id="sample trusts"),
        pytest.param("eval", ["--rewards", "format"], False, id="eval with built-in rewards"),
        pytest.param("sample", ["--rewards", "brevity"], False, id="sample with built-in rewards"),
        pytest.param("sample", ["--prompt", "Hi"], False, id="a prompt is not scored"),
    ],
)
def test_a_reward_file_is_executed_exactly_when_the_user_says_so(
    capsys, foreign, command, options, executed
):
    folder, mark = foreign
    code, text = run(capsys, command, "--workdir", folder, *options)
    assert code == 2
    assert "has no checkpoint yet" in text, "this far comes who was not refused"
    assert mark.exists() == executed


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "which holds []"),
        ("null", "which holds None"),
        ('{"advantage": null}', "advantage must be a table of fields, got None."),
        ("{", "which is not valid JSON"),
        ("[" * 100_000, "which is not valid JSON"),
    ],
    ids=["list", "null", "section", "cut off", "nested"],
)
def test_a_config_json_that_is_none_is_refused(capsys, tmp_path, content, expected):
    (tmp_path / "config.json").write_text(content)
    code, text = run(capsys, "sample", "--workdir", tmp_path)
    assert code == 2
    assert expected in text


# Names with the console's markup


MARKUP = ("w[/b]", "[red]x", "y[link=a]")


def printed(*shown):
    console = Console(file=io.StringIO(), width=200)
    for item in shown:
        item(console) if callable(item) else console.print(item)
    return console.file.getvalue()


def test_channel_names_with_markup_are_text_in_every_table():
    channels = tuple(Channel(name=name) for name in MARKUP)
    task = types.SimpleNamespace(
        channels=channels,
        channel_names=MARKUP,
        pass_at=np.ones(3, np.float32),
        tokenizer=ByteTokenizer(),
    )
    evaluation = Evaluation(
        examples=[{"prompt": "[bold]p"}],
        texts=["[/i]t"],
        rewards=np.ones((1, 3), np.float32),
        where=np.ones((1, 3), bool),
        lengths=np.ones(1, int),
    )
    rates = {name: {"rate": 1.0, "low": 0.9, "high": 1.0, "count": 1} for name in MARKUP}
    row = {"step": 0, "rates": rates}
    tables = [rate_table(row, row, MARKUP), evaluation_table(task, evaluation, 0)]
    for shown in (*tables, lambda console: show_samples(task, evaluation, console)):
        text = printed(shown)
        assert all(name in text for name in MARKUP)


def test_a_folder_name_with_markup_is_text(capsys, tmp_path):
    folder = tmp_path / "[red]x[" / "b]"
    code, text = run(capsys, "sample", "--workdir", folder)
    assert code == 2
    assert "[red]x[/b] holds no run" in text


# Where an audit is written


@pytest.fixture
def log(tmp_path):
    rows = [
        {"step": s, "prompt_id": p, "safety": float((s + p + g) % 2), "score": float(g % 3)}
        for s in range(3)
        for p in range(3)
        for g in range(4)
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The current folder, in which no log lies."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def audit(capsys, *args):
    return run(capsys, "audit", *args, "--group", "prompt_id", "--step", "step")


def test_an_audit_without_a_log_says_what_it_takes(capsys):
    code, text = run(capsys, "audit")
    assert code == 2
    assert "an audit takes one or two logs, got 0." in text


def test_out_that_is_a_file_is_refused_before_the_log_is_read(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below"):
        code, text = audit(capsys, tmp_path / "no_such_log.jsonl", "--out", out)
        assert code == 2
        assert "--out must be a folder that can be written to" in text
    assert file.read_text() == "mine"


def test_an_audit_replaces_the_earlier_one_of_the_same_log(capsys, log, elsewhere):
    assert audit(capsys, log)[0] == 0
    with log.open("a") as file:
        file.write('{"step": 3, "prompt_id": 0, "safety": 1.0, "score": 0.0}\n')
    assert audit(capsys, log)[0] == 0
    assert json.loads((elsewhere / "audit.json").read_text())["counts"]["completions"] == 37


@pytest.mark.parametrize("name", ["audit.json", "audit.html"])
@pytest.mark.parametrize("content", ["mine", "{}", "[]"])
def test_a_file_of_the_users_is_not_overwritten_by_an_audit(capsys, log, elsewhere, name, content):
    (elsewhere / name).write_text(content)
    code, text = audit(capsys, log)
    assert code == 2
    assert f"{name} is not from an audit of this log and would be overwritten" in text
    assert "--out" in text and "--force" in text
    assert [path.name for path in elsewhere.iterdir()] == [name]
    assert (elsewhere / name).read_text() == content
    assert audit(capsys, log, "--force")[0] == 0
    assert (elsewhere / name).read_text() != content


def test_the_audit_of_another_log_of_the_same_name_is_kept(capsys, log, elsewhere, tmp_path):
    assert audit(capsys, log)[0] == 0
    before = (elsewhere / "audit.html").read_bytes()
    other = tmp_path / "other" / log.name
    other.parent.mkdir()
    other.write_bytes(log.read_bytes())
    code, text = audit(capsys, other)
    assert code == 2
    assert "audit.json is not from an audit of this log" in text
    assert (elsewhere / "audit.html").read_bytes() == before
    assert audit(capsys, other, "--out", elsewhere / "new")[0] == 0


def test_the_folder_of_a_run_has_its_own_audit_overwritten(capsys, log, tmp_path):
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    folder = tmp_path / "run"
    (folder / "rollouts").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "rollouts" / "step_0.parquet")
    (folder / "config.json").write_text("{}")
    (folder / "audit.html").write_text("an older one")
    assert audit(capsys, folder)[0] == 0
    assert "an older one" not in (folder / "audit.html").read_text()


def test_after_an_interruption_a_second_one_prints_nothing(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)

    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "doctor", (cli._COMMANDS["doctor"][0], interrupted))
    try:
        assert cli.main(["doctor"]) == 1
        # Python's own handler would raise in whatever is torn down.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted; the last checkpoint is intact" in capsys.readouterr().err
