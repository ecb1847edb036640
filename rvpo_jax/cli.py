"""The command line ``rvpo``: parses options, runs a program, turns errors into exit codes.

0 ok, 1 the run or a check failed, 2 bad usage. The only file that knows tyro.
"""

import dataclasses
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.logging import RichHandler

from rvpo_jax.config import Config, DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a policy; resumes when the workdir has a checkpoint."""

    config: Path | None = None
    """Python file with get_config() -> rvpo_jax.Config; the options override its fields."""
    workdir: Path = Path("runs/default")
    """Folder of the run."""
    run: Annotated[Config, tyro.conf.arg(name="")] = Config()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """Pass rates of a run's newest checkpoint on held-out prompts."""

    workdir: Path
    """Folder of the run."""
    num_prompts: int = 1024
    """Held-out prompts, one completion each."""
    temperature: float | None = None
    """Sampling temperature; 0: the most likely token; None: that of the run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Completions of a run's newest checkpoint with their channel values."""

    workdir: Path
    """Folder of the run."""
    num: int = 4
    """Completions: one for each of so many held-out prompts, or so many for --prompt."""
    prompt: str | None = None
    """A prompt of your own; its completions are not scored."""
    temperature: float | None = None
    """Sampling temperature; 0: the most likely token; None: that of the run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """Show what the average of several rewards hides, in a run of ours or a log of any trainer.

    Prints the findings and writes audit.json and audit.html. Two logs are compared.
    """

    logs: tyro.conf.Positional[tuple[Path, ...]]
    """One or two logs: a run folder, a file (.parquet, .jsonl, .csv) or a folder of files."""
    format: Literal["auto", "rvpo", "trl", "verl", "tunix", "nemo", "columns"] = "auto"
    """Whose log it is; auto looks at names and columns."""
    rewards: tuple[str, ...] = ()
    """Columns that are reward channels; empty: those the format says, else numeric columns."""
    group: str | None = None
    """Column that names the prompt; a group is one prompt at one step."""
    group_size: int | None = None
    """Instead of --group: so many consecutive rows are one group."""
    step: str | None = None
    """Column with the training step."""
    prompt: str | None = None
    """Column with the prompt's text."""
    completion: str | None = None
    """Column with the completion's text."""
    advantage: str | None = None
    """Column with the advantage that the trainer used."""
    pass_: Annotated[tuple[str, ...], tyro.conf.arg(name="pass")] = ()
    """'CHANNEL>=VALUE' or CHANNEL=VALUE: the raw reward from which a channel counts as met."""
    constraint: tuple[str, ...] = ()
    """Channels that must be met; without any, every channel's failures count."""
    risk_coef: float | None = None
    """k of the soft minimum, 1/score; None: that of the run, else 1."""
    what_if: tuple[str, ...] = ()
    """Further rules to replay: rvpo:k=2, variance:k=2, gdpo_sum, ..."""
    fail_on: tuple[str, ...] = ()
    """Exit with 1 when a condition holds: 'quiet_failures[safety] > 0.02'."""
    redact: bool = False
    """Leave all texts out of what is written."""
    out: Path | None = None
    """Folder for audit.json and audit.html; None: the run's folder, else the current one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckRewards:
    """Try the reward functions on sample texts; nothing is trained or compiled."""

    data: DataConfig = DataConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """Run an experiment folder: train, count, plot."""

    name: tyro.conf.Positional[str]
    """Folder name in experiments/."""
    smoke: bool = False
    """A run of seconds that exercises the same code."""
    check: bool = False
    """Run, then compare with the committed expected.json; exit code 1 where a value is off."""
    root: Path = Path("experiments")
    """Where the experiment folders are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """What this machine has and what it lacks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: arguments without the program's name; None: those of the process.

    Returns:
      The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    errors = Console(stderr=True)
    handler = RichHandler(console=errors, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        command: Any = _parse(args)
        return _COMMANDS[type(command)](command)
    except ValueError as error:
        if "\n  " not in str(error):
            raise  # not one of ours, which end in what to do: a bug, and it shows its traceback
        _print_error(errors, error)
        return 2
    except (RuntimeError, ModuleNotFoundError) as error:
        if not type(error).__module__.startswith("rvpo_jax") and "rvpo-jax[" not in str(error):
            raise
        _print_error(errors, error)
        return 1
    except KeyboardInterrupt:
        _print_error(errors, "interrupted; the last checkpoint is intact")
        return 1


def _print_error(console: Console, error: object) -> None:
    console.print(f"rvpo: {error}", markup=False, highlight=False, soft_wrap=True)


def _parse(args: list[str]) -> Any:
    """The command, with the config file's values as the defaults of the options."""
    default = Train()
    if args[:1] == ["train"]:
        path = _config_path(args[1:])
        if path is not None:
            default = Train(config=path, run=load_config(path))
    subcommand = tyro.conf.subcommand
    commands = (
        Annotated[Train, subcommand("train", default=default)]
        | Annotated[Eval, subcommand("eval")]
        | Annotated[Sample, subcommand("sample")]
        | Annotated[Audit, subcommand("audit")]
        | Annotated[CheckRewards, subcommand("check-rewards")]
        | Annotated[Figure, subcommand("figure")]
        | Annotated[Doctor, subcommand("doctor")]
    )
    return tyro.cli(
        commands,
        args=args or ["--help"],
        prog="rvpo",
        description="Multi-reward post-training of language models in JAX.",
    )


def _config_path(args: Sequence[str]) -> Path | None:
    for index, arg in enumerate(args):
        if arg == "--config" and index + 1 < len(args):
            return Path(args[index + 1])
        if arg.startswith("--config="):
            return Path(arg.removeprefix("--config="))
    return None


def load_config(path: Path) -> Config:
    """Runs ``get_config()`` of a Python file.

    Args:
      path: the file.

    Returns:
      What it returns.

    Raises:
      ValueError: if the file is missing, does not import, has no get_config or returns
        something else than a Config.
    """
    if not path.is_file():
        raise ValueError(f"--config {path} does not exist.\n  Give a Python file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config {path} is not a Python file.\n  Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except AttributeError as error:
        if hasattr(module, "get_config"):
            raise _config_error(path, error) from error
        raise ValueError(
            f"--config {path} has no function get_config.\n"
            "  Define get_config() -> rvpo_jax.Config."
        ) from None
    except Exception as error:  # anything a user's file may raise
        raise _config_error(path, error) from error
    if not isinstance(config, Config):
        raise ValueError(
            f"get_config() of {path} must return rvpo_jax.Config, got {type(config).__name__}.\n"
            "  Return rvpo_jax.Config(...)."
        )
    return config


def _config_error(path: Path, error: Exception) -> ValueError:
    first, *rest = str(error).splitlines() or [""]
    remedy = "\n".join(rest) or "  Run it with python to see the whole traceback."
    return ValueError(f"--config {path} fails: {type(error).__name__}: {first}\n{remedy}")


def _train(command: Train) -> int:
    from rvpo_jax.train import train

    train(command.run, command.workdir)
    return 0


def _load_run(workdir: Path) -> tuple[Any, Any, int]:
    """Policy, parameters and step of the newest checkpoint of a run."""
    from rvpo_jax.run.restore import restore_run
    from rvpo_jax.run.workdir import read_config

    path = workdir / "config.json"
    if not path.exists():
        raise ValueError(
            f"--workdir {workdir} holds no run: config.json is missing.\n"
            f"  Train one: rvpo train --workdir {workdir}"
        )
    stored = read_config(path)
    if ":" in stored["advantage"]["method"]:  # a user's function, which sampling does not need
        stored["advantage"]["method"] = "rvpo"
    return restore_run(Config.from_dict(stored), workdir)


def _eval(command: Eval) -> int:
    from rvpo_jax.run.evaluate import evaluate_held_out, evaluation_table

    _check_positive("--num-prompts", command.num_prompts)
    _check_temperature(command.temperature)
    run, params, step = _load_run(command.workdir)
    evaluation = evaluate_held_out(
        run, params, command.num_prompts, temperature=command.temperature
    )
    Console().print(evaluation_table(run.task, evaluation, step))
    return 0


def _sample(command: Sample) -> int:
    from rvpo_jax.run.evaluate import evaluate_held_out, sample_prompt, show_samples

    _check_positive("--num", command.num)
    _check_temperature(command.temperature)
    run, params, _ = _load_run(command.workdir)
    if command.prompt is None:
        evaluation = evaluate_held_out(run, params, command.num, temperature=command.temperature)
    else:
        evaluation = sample_prompt(
            run, params, command.prompt, command.num, temperature=command.temperature
        )
    show_samples(run.task, evaluation, Console())
    return 0


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}.\n  Give a positive number.")


def _check_temperature(value: float | None) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise ValueError(f"--temperature must be >= 0, got {value}.\n  0 is greedy, 1 as trained.")


def _audit(command: Audit) -> int:
    from rvpo_jax.auditing import ReadOptions, audit, check_condition, show_audit

    if len(command.logs) > 2:
        raise ValueError(
            f"rvpo audit takes one or two logs, got {len(command.logs)}.\n"
            "  A folder of files counts as one log."
        )
    shared = {field.name for field in dataclasses.fields(ReadOptions)}
    options = ReadOptions(
        **{name: value for name, value in vars(command).items() if name in shared},
        pass_at=dict(_pass_mark(text) for text in command.pass_),
        constraints=command.constraint,
    )
    result = audit(
        *command.logs,
        options=options,
        risk_coef=command.risk_coef,
        what_if=command.what_if,
        redact=command.redact,
    )
    console = Console()
    held = [check_condition(condition, result.report) for condition in command.fail_on]
    show_audit(result.report, console)
    out = command.out
    if out is None:
        is_run = len(command.logs) == 1 and (command.logs[0] / "config.json").is_file()
        out = command.logs[0] if is_run else Path()
    for path in result.save(out):
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    failures = [sentence for sentence in held if sentence is not None]
    for sentence in failures:
        console.print(f"fail-on {sentence}", markup=False, highlight=False, soft_wrap=True)
    return 1 if failures else 0


def _pass_mark(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    name = name.removesuffix(">").strip()
    try:
        return name, float(value if name else "")
    except ValueError:
        raise ValueError(
            f"--pass must read 'CHANNEL>=VALUE', got {text!r}.\n"
            "  For example --pass 'safety>=1', in quotes (a shell reads > as a redirection), or "
            "safety=1."
        ) from None


def _check_rewards(command: CheckRewards) -> int:
    from rvpo_jax.run.check_rewards import check_rewards

    return check_rewards(command.data, Console())


def _figure(command: Figure) -> int:
    script = command.root / command.name / "run.py"
    if not script.is_file():
        known = sorted(path.parent.name for path in command.root.glob("*/run.py"))
        raise ValueError(
            f"there is no experiment {command.name} in {command.root}.\n  "
            + (f"There are: {', '.join(known)}." if known else "Name the folder with --root.")
        )
    flags = [f"--{name}" for name in ("smoke", "check") if getattr(command, name)]
    return 1 if subprocess.run([sys.executable, str(script), *flags], check=False).returncode else 0


def _doctor(command: Doctor) -> int:
    from rvpo_jax.run.doctor import doctor

    return doctor(Console())


_COMMANDS: dict[type, Any] = {
    Train: _train,
    Eval: _eval,
    Sample: _sample,
    Audit: _audit,
    CheckRewards: _check_rewards,
    Figure: _figure,
    Doctor: _doctor,
}
