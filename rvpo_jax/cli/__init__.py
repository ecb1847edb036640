"""The command line ``rvpo``: parses options, runs a program, turns errors into exit codes.

0 ok, 1 the run or a check failed, 2 bad usage. The only room that knows tyro.
"""

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from rvpo_jax.auditing.command import Audit
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.cli import programs
from rvpo_jax.cli.commands import (
    CheckRewards,
    Doctor,
    Eval,
    Export,
    Figure,
    JudgeReport,
    Plan,
    Sample,
    Train,
)
from rvpo_jax.cli.options import registry
from rvpo_jax.run import pulse

_COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (Train, programs.run_train),
    "plan": (Plan, programs.run_plan),
    "eval": (Eval, programs.run_eval),
    "sample": (Sample, programs.run_sample),
    "audit": (Audit, programs.run_audit),
    "check-rewards": (CheckRewards, programs.run_check_rewards),
    "judge-report": (JudgeReport, programs.run_judge_report),
    "export": (Export, programs.run_export),
    "figure": (Figure, programs.run_figure),
    "doctor": (Doctor, programs.run_doctor),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: arguments without the program's name; None: those of the process.

    Returns:
      The exit code.
    """
    code = 1
    try:
        code = _answer(list(sys.argv[1:] if argv is None else argv))
    finally:
        pulse.end_at_once(code)
    return code


def _answer(args: list[str]) -> int:
    """Runs a command; what it refuses, and what fails, becomes a message and a code."""
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0
    try:
        return _run(args)
    except Refusal as error:
        return _say(error, 2)
    except Failure as error:
        return _say(error, 1)
    except ModuleNotFoundError as error:
        if "rvpo-jax[" not in str(error):
            raise
        return _say(error, 1)
    except KeyboardInterrupt:
        # One more would interrupt what Python tears down, and print a traceback from there.
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _say("interrupted; the last checkpoint is intact", 1)


def _say(error: object, code: int) -> int:
    print(f"rvpo: {printable(error)}", file=sys.stderr)
    return code


def _overview() -> str:
    """What `rvpo --help` shows: a line per command, from its docstring. Builds no parser."""
    lines = [
        f"  {name:<{max(map(len, _COMMANDS))}}  {(command.__doc__ or '').splitlines()[0]}"
        for name, (command, _) in _COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: rvpo COMMAND [OPTIONS]",
            "",
            "Multi-reward post-training of language models in JAX.",
            "",
            *lines,
            "",
            "rvpo COMMAND --help shows the options of a command.",
        ]
    )


def _run(args: list[str]) -> int:
    name, *rest = args
    if name not in _COMMANDS:
        raise Refusal(
            f"there is no command {printable(name, keep='')}.",
            f"There are: {', '.join(_COMMANDS)}.",
        )
    _log_to_stderr()
    command, program = _COMMANDS[name]
    given = {"default": _defaults(command, rest)} if command in (Train, Plan) else {}
    options: Any = tyro.cli(command, args=rest, prog=f"rvpo {name}", registry=registry(), **given)
    return program(options)


def _defaults(command: type, args: Sequence[str]) -> Any:
    """What the other options have their defaults from: the config file."""
    typed = {"typed": tuple(args)} if command is Train else {}
    path = _config_path(args)
    if path is None:
        return command(**typed)
    from rvpo_jax.run.config_file import load_config

    return command(config=path, run=load_config(path), **typed)


def _log_to_stderr() -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    errors = Console(stderr=True)
    handler = RichHandler(console=errors, show_time=False, show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])


def _config_path(args: Sequence[str]) -> Path | None:
    """What --config names, known before the other options have their defaults."""
    for index, arg in enumerate(args):
        if arg == "--config" and index + 1 < len(args):
            return Path(args[index + 1])
        if arg.startswith("--config="):
            return Path(arg.removeprefix("--config="))
    return None
