"""The commands of ``rvpo`` and their options, with what ``--help`` says of each."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from rvpo_jax.config import Config, DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a policy; resumes when the workdir has a checkpoint."""

    config: Path | None = None
    """Python file with get_config() -> rvpo_jax.Config; the options override its fields."""
    workdir: Path = Path("runs/default")
    """Folder of the run; also gs://BUCKET/FOLDER, with the extra gcs."""
    run: Annotated[Config, tyro.conf.arg(name="")] = Config()
    typed: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """The arguments of the command, for the processes that it starts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Compile a run for a TPU slice, without one: memory of a chip, collectives, least time."""

    topology: str | None = None
    """The slice, such as v5e:4x4 or v5p:2x2x4, or a kind of chip, such as v5e: the smallest slice
    that fits. None: that of each kind."""
    mesh: str | None = None
    """Such as fsdp=16 or fsdp=8,tensor=2; None: the sensible ones, and the best is recommended."""
    json: bool = False
    """Print what was found as JSON."""
    config: Path | None = None
    """Python file with get_config() -> rvpo_jax.Config; the options override its fields."""
    cache: Path = Path("runs/plans")
    """Folder where compiled plans are kept."""
    run: Annotated[Config, tyro.conf.arg(name="")] = Config()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
    """Pass rates of a run's checkpoint on held-out prompts; with --task, on a benchmark."""

    workdir: Path | None = None
    """Folder of a run, whose checkpoint answers; also gs://BUCKET/FOLDER."""
    step: int | None = None
    """Of that checkpoint, one of the newest checkpoint.keep; None: the newest."""
    model_path: Annotated[Path | None, tyro.conf.arg(name="model.path")] = None
    """Hugging Face folder of a model that answers, with --task."""
    endpoint: str | None = None
    """Address of an OpenAI-compatible endpoint that answers, with --task, such as
    http://localhost:8000/v1; the key is read from OPENAI_API_KEY. Needs rvpo-jax[judge]."""
    endpoint_model: str | None = None
    """What the endpoint calls the model; needed with --endpoint."""
    responses: Path | None = None
    """File of stored answers, with --task: JSON lines, Parquet or CSV with key (or the task's own
    name for it, or prompt), response, and seed where a prompt has several answers."""
    task: str | None = None
    """ifeval, gsm8k, bfcl_v3 (calls in Python's syntax), bfcl_v3_toolrl (the prompts of RLLA),
    gpqa_diamond, healthbench, or healthbench_meta (a grader against the labels of physicians);
    None: the run's own held-out prompts and rewards."""
    task_path: Path | None = None
    """File of the task's rows, as its authors publish it; of BFCL v3 the folder. None: those of the
    answers with --responses, else they are downloaded, which is said first."""
    grader: str | None = None
    """Endpoint of the model that grades the answers to healthbench, one question per criterion."""
    grader_model: str | None = None
    """What that endpoint calls it; needed with --grader."""
    out: Path | None = None
    """Folder for eval.json and rows.jsonl; None: in the run's folder, or below runs/evals. One that
    holds a part of the same evaluation is gone on with."""
    compare: tuple[Path, Path] | None = None
    """Folders A and B of two evaluations of one task: paired differences B - A."""
    seeds: tuple[int, ...] = (0,)
    """With --task: one answer to every prompt for each seed."""
    max_tokens: int | None = None
    """With --task: longest answer, tokens; None: that of the run, else 1024."""
    concurrency: int = 8
    """Questions to the endpoint, or to the grader, at the same time."""
    requests_per_min: float | None = None
    """Questions to each of them per minute; None: as many as there are."""
    rewards: tuple[str, ...] = ()
    """Reward functions to score with, by name or FILE.py:FUNCTION; empty: those of the run."""
    trust: bool = False
    """Execute the reward files that the run's config names."""
    num_prompts: int | None = None
    """The first ones only, one completion each; None: 1024 held-out prompts, or all of a task."""
    temperature: float | None = None
    """Sampling temperature; 0: the most likely token; None: that of the run, else 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Completions of a run's newest checkpoint with their channel values."""

    workdir: Path
    """Folder of the run; also gs://BUCKET/FOLDER."""
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
class CheckRewards:
    """Try the reward functions on sample texts; nothing is trained or compiled."""

    data: DataConfig = DataConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's newest checkpoint as the Hugging Face folder that it started from."""

    workdir: Path
    """Folder of the run; also gs://BUCKET/FOLDER."""
    out: Path
    """Folder to write; new or empty."""
    adapters: bool = False
    """Only the adapters of a run with model.lora_rank, in the format of PEFT; else they are merged
    into the parameters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeReport:
    """How far a judge agrees with itself on verdicts that were asked for again."""

    path: tyro.conf.Positional[Path]
    """Folder of a run, or a judge's file."""
    items: int = 20
    """Rubric items that are listed, the most unsteady first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """Run an experiment folder: train, count, plot."""

    name: tyro.conf.Positional[str]
    """Folder name in experiments/."""
    smoke: bool = False
    """A run of seconds that exercises the same code."""
    check: bool = False
    """Run, then compare with the committed expected.json; exit code 1 where a value is off."""
    runs: tuple[Path, ...] = ()
    """Folders of finished runs and evaluations, for the figures paper_...."""
    root: Path = Path("experiments")
    """Where the experiment folders are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """What this machine has and what it lacks for a run; exit code 1 where one would fail."""

    workdir: str | None = None
    """Folder that a run will use, or gs://BUCKET/FOLDER: a file is written there, read back and
    removed, and the clock is compared with that of the bucket or shared disk."""
    coordinator: str | None = None
    """HOST:PORT of process 0, to see whether it can be reached."""
