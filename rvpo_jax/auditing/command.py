"""The audit as a command: its options, and what it prints and writes.

``rvpo audit`` of rvpo-jax and ``rvpo-audit``, which stands alone, are this one command.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..basics.refusals import Failure, Refusal
from ..basics.text import printable

if TYPE_CHECKING:
    from .read import ReadOptions
    from .rules import Further


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """Show what the average of several rewards hides, in a run of ours or a log of any trainer.

    Prints the findings and writes audit.json and audit.html. Two logs are compared.
    """

    logs: tyro.conf.Positional[tuple[Path, ...]]
    """One or two logs: a run folder, a file (.parquet, .jsonl, .csv) or a folder of files; also
    gs://BUCKET/PATH, with the package gcsfs."""
    format: Literal[
        "auto", "rvpo", "trl", "verl", "tunix", "nemo", "verifiers", "skyrl", "lm_eval", "columns"
    ] = "auto"
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
    outcome: str | None = None
    """Column with what the rewards stand for, such as a true score: it is no reward, and is named
    where it falls while the rewards rise."""
    by: str | None = None
    """Column of which each value is a slice, for which the same is said as for the whole log."""
    pass_: Annotated[tuple[str, ...], tyro.conf.arg(name="pass")] = ()
    """'CHANNEL>=VALUE' or CHANNEL=VALUE: the raw reward from which a channel counts as met;
    'CHANNEL<=VALUE': up to which, and less is better; both: between them."""
    lower_is_better: tuple[str, ...] = ()
    """Channels of which less is better."""
    range: tuple[str, ...] = ()
    """CHANNEL=LOW,HIGH: the smallest and the largest raw reward; rules that read levels need it."""
    constraint: tuple[str, ...] = ()
    """Channels that must be met; without any, every channel's failures count."""
    target: tuple[str, ...] = ()
    """CHANNEL=VALUE: the mean raw reward that rules with targets or multipliers aim for."""
    weight: tuple[str, ...] = ()
    """CHANNEL=VALUE: what every rule multiplies a channel with, such as a trainer's reward weights;
    a run of ours says its own, others count 1."""
    risk_coef: float | None = None
    """k of the soft minimum, 1/score; None: that of the run, else 1."""
    what_if: tuple[str, ...] = ()
    """Further rules to replay, with their numbers: rvpo:k=2, variance:k=2, cvar:tail=0.3, ..."""
    fail_on: tuple[str, ...] = ()
    """Exit with 1 when a condition holds: 'quiet_failures[safety] > 0.02'."""
    redact: bool = False
    """Leave all texts out of what is written."""
    out: Path | None = None
    """Folder for audit.json and audit.html; None: the run's folder on a disk, else the current
    one."""
    force: bool = False
    """Overwrite an audit.json or audit.html that is not from an audit of this log."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program ``rvpo-audit``.

    Args:
      argv: arguments without the program's name; None: those of the process.

    Returns:
      The exit code: 0 ok, 1 a check failed, 2 bad usage.
    """
    try:
        return run_command(tyro.cli(Audit, args=argv, prog="rvpo-audit"))
    except Refusal as error:
        return _say(error, 2)
    except Failure as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted", 1)


def _say(error: object, code: int) -> int:
    print(f"rvpo-audit: {printable(error)}", file=sys.stderr)
    return code


def run_command(command: Audit, further: "Further | None" = None) -> int:
    """Prints and writes an audit.

    Args:
      command: the options.
      further: see ``audit``.

    Returns:
      The exit code: 1 where a condition of ``fail_on`` holds.

    Raises:
      Refusal: on logs or options that cannot be used.
    """
    # Here, so that --help and a mistyped option need not wait for Arrow.
    from rich.console import Console

    from .fail_on import check_condition
    from .outputs import audit_folder, source_id
    from .report import audit
    from .terminal import show_audit

    if not 1 <= len(command.logs) <= 2:
        raise Refusal(
            f"an audit takes one or two logs, got {len(command.logs)}.",
            "A log is a run folder, a file, or a folder of files.",
        )
    out = audit_folder(command.logs, command.out, force=command.force)
    result = audit(
        *command.logs,
        options=_read_options(command),
        risk_coef=command.risk_coef,
        what_if=command.what_if,
        redact=command.redact,
        further=further,
    )
    held = [check_condition(condition, result.report) for condition in command.fail_on]
    show_audit(result.report, Console())
    report = {**result.report, "source_id": source_id(command.logs)}
    for path in dataclasses.replace(result, report=report).save(out):
        print(f"wrote {printable(path)}")
    failures = [sentence for sentence in held if sentence is not None]
    for sentence in failures:
        print(f"fail-on {printable(sentence)}")
    return 1 if failures else 0


def _read_options(command: Audit) -> "ReadOptions":
    from .read import ReadOptions

    shared = {field.name for field in dataclasses.fields(ReadOptions)}
    marks = _pass_marks(command.pass_)
    return ReadOptions(
        **{name: value for name, value in vars(command).items() if name in shared},
        pass_at=marks[">="],
        pass_below=marks["<="],
        ranges=_ranges(command.range),
        constraints=command.constraint,
        targets=_by_channel("target", command.target, "safety=0.95"),
        weights=_by_channel("weight", command.weight, "format=0.5"),
    )


def _ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Smallest and largest reward by channel."""
    ranges = {}
    for text in texts:
        name, _, ends = text.rpartition("=")
        try:
            low, high = (float(end) for end in ends.split(","))
        except ValueError:
            name = ""
        if not name:
            raise Refusal(
                f"--range must read CHANNEL=LOW,HIGH, got {text!r}.", "For example judge=0,100."
            )
        ranges[name] = (low, high)
    return ranges


def _by_channel(option: str, texts: Sequence[str], example: str) -> dict[str, float]:
    """A number by channel."""
    numbers = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            numbers[name] = float(value if name else "")
        except ValueError:
            raise Refusal(
                f"--{option} must read CHANNEL=VALUE, got {text!r}.", f"For example {example}."
            ) from None
    return numbers


def _pass_marks(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """Marks from which a channel is met, and marks up to which it is."""
    marks: dict[str, dict[str, float]] = {">=": {}, "<=": {}}
    for text in texts:
        name, _, value = text.rpartition("=")
        side = "<=" if name.endswith("<") else ">="
        try:
            marks[side][name.rstrip("<>").strip()] = float(value if name else "")
        except ValueError:
            raise Refusal(
                f"--pass must read 'CHANNEL>=VALUE' or 'CHANNEL<=VALUE', got {text!r}.",
                "For example --pass 'safety>=1' 'latency<=2', in quotes (a shell reads > as a "
                "redirection), or safety=1.",
            ) from None
    return marks
