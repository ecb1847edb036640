"""The commands of ``rvpo`` and their options, with what ``--help`` says of each."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

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
    rewards: tuple[str, ...] = ()
    """Reward functions to score with, by name or FILE.py:FUNCTION; empty: those of the run."""
    trust: bool = False
    """Execute the reward files that the run's config names."""
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
    rewards: tuple[str, ...] = ()
    """Reward functions to score with, by name or FILE.py:FUNCTION; empty: those of the run."""
    trust: bool = False
    """Execute the reward files that the run's config names."""
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
    """'CHANNEL>=VALUE' or CHANNEL=VALUE: the raw reward from which a channel counts as met;
    'CHANNEL<=VALUE': up to which, and less is better; both: between them."""
    lower_is_better: tuple[str, ...] = ()
    """Channels of which less is better."""
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
    force: bool = False
    """Overwrite an audit.json or audit.html that is not from an audit of this log."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckRewards:
    """Try the reward functions on sample texts; nothing is trained or compiled."""

    data: DataConfig = DataConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's newest checkpoint as the Hugging Face folder that it started from."""

    workdir: Path
    """Folder of the run."""
    out: Path
    """Folder to write; new or empty."""
    adapters: bool = False
    """Only the adapters of a run with model.lora_rank, in the format of PEFT; else they are merged
    into the parameters."""


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
