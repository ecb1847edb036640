"""``rvpo eval --task`` with answers that are written now: by a run, a folder or an endpoint."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rvpo_jax.basics.files import to_json
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, ModelConfig
from rvpo_jax.run.bucket import in_bucket
from rvpo_jax.run.evaluation.endpoint_writer import Pace
from rvpo_jax.run.evaluation.items import Item, Task
from rvpo_jax.run.evaluation.programs import DEFAULT_OUT, Judged, as_folder, finish
from rvpo_jax.run.evaluation.results import fingerprint_of
from rvpo_jax.run.evaluation.table import say
from rvpo_jax.run.evaluation.writing import Question, Writer, questions_of, written_answers

DEFAULT_MAX_TOKENS = 1024
GRADER_TEMPERATURE = 0.5  # at 0 a second try would bring the first reply again
GRADER_TOKENS = 2048  # of a verdict with its explanation; models that think need them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be answered, and how.

    Attributes:
      task: the benchmark.
      items: of it, all of them.
      num_prompts: the first ones only; None: all.
      seeds: one answer to every prompt for each.
      temperature: None: that of the run, else 0.
      max_tokens: None: that of the run, else 1024.
      out: folder to write to; None: one that follows from what answers.
      judged: adds a grader's verdicts to the answers; None: grading needs none.
      step: of a run's checkpoint; None: the newest.
    """

    task: Task
    items: Sequence[Item]
    num_prompts: int | None
    seeds: Sequence[int]
    temperature: float | None
    max_tokens: int | None
    out: Path | None
    judged: Judged | None = None
    step: int | None = None


def grader_at(address: str, model: str, pace: Pace, console: Console) -> Judged:
    """A grader behind an OpenAI-compatible endpoint.

    Args:
      address: of the endpoint.
      model: as the endpoint calls it.
      pace: how fast it may be asked.
      console: where to show progress.

    Returns:
      Adds verdicts to answers, in the folder of their evaluation.

    Raises:
      Refusal: when the address is none.
    """
    from rvpo_jax.run.evaluation.endpoint_writer import endpoint_of, write
    from rvpo_jax.run.evaluation.verdicts import with_verdicts

    grader = endpoint_of(
        *("--grader", address, model),
        temperature=GRADER_TEMPERATURE,
        max_tokens=GRADER_TOKENS,
        pace=pace,
    )
    settings = {"grader": model, "grader_at": address}
    return lambda answered, folder: with_verdicts(
        answered, lambda left: write(grader, left), folder, settings, console
    )


def evaluate_run(wanted: Wanted, config: Config, workdir: Path, console: Console) -> None:
    """Has a checkpoint of a run answer a task.

    Args:
      wanted: what is to be answered.
      config: of the run.
      workdir: its folder.
      console: where to print.

    Raises:
      Refusal: when there is no checkpoint, or the folder of the evaluation has another one.
    """
    from rvpo_jax.run.evaluation.policy_writer import checkpoint_step, policy_writer

    step, rollout = checkpoint_step(config, workdir, wanted.step), config.rollout
    temperature = rollout.temperature if wanted.temperature is None else wanted.temperature
    max_tokens = wanted.max_tokens or rollout.max_completion_tokens
    name = f"{wanted.task.name}-{step}"
    inside = DEFAULT_OUT / as_folder(workdir.name) if in_bucket(workdir) else workdir / "evals"
    config = _with_max_tokens(config, max_tokens)
    _answer(
        wanted,
        lambda questions: policy_writer(config, workdir, questions, temperature, step),
        folder=inside / name,
        answered_by=f"{workdir}, step {step}",
        settings={
            "temperature": temperature,
            "max_tokens": max_tokens,
            "run": workdir.name,
            "step": step,
        },
        console=console,
    )


def evaluate_model(wanted: Wanted, path: Path, console: Console) -> None:
    """Has the model of a Hugging Face folder answer a task.

    Args:
      wanted: what is to be answered.
      path: the folder.
      console: where to print.

    Raises:
      Refusal: when the folder holds no model, or the folder of the evaluation has another one.
    """
    from rvpo_jax.run.evaluation.policy_writer import policy_writer

    if not (path / "config.json").is_file():
        raise Refusal(
            f"--model.path must be a Hugging Face folder, got {path} without config.json.",
            "Download the whole folder of the model.",
        )
    temperature, max_tokens = wanted.temperature or 0.0, wanted.max_tokens or DEFAULT_MAX_TOKENS
    config = _with_max_tokens(Config(model=ModelConfig(path=str(path))), max_tokens)
    files = sorted(path.glob("*.safetensors"))
    stamp = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    _answer(
        wanted,
        lambda questions: policy_writer(config, None, questions, temperature),
        folder=DEFAULT_OUT / wanted.task.name / as_folder(path.resolve().name),
        answered_by=str(path),
        settings={
            "temperature": temperature,
            "max_tokens": max_tokens,
            "weights": hashlib.sha256(repr(stamp).encode()).hexdigest()[:16],
        },
        console=console,
    )


def evaluate_endpoint(
    wanted: Wanted, address: str, model: str, pace: Pace, console: Console
) -> None:
    """Has a model behind an OpenAI-compatible endpoint answer a task.

    Args:
      wanted: what is to be answered.
      address: of the endpoint.
      model: as the endpoint calls it.
      pace: how fast it may be asked.
      console: where to print.

    Raises:
      Refusal: when the address is none, or the folder of the evaluation has another one.
      Failure: when the endpoint cannot be used.
    """
    from rvpo_jax.run.evaluation.endpoint_writer import endpoint_of, write

    temperature, max_tokens = wanted.temperature or 0.0, wanted.max_tokens or DEFAULT_MAX_TOKENS
    endpoint = endpoint_of(
        *("--endpoint", address, model), temperature=temperature, max_tokens=max_tokens, pace=pace
    )
    _answer(
        wanted,
        lambda questions: lambda left: write(endpoint, left),
        folder=DEFAULT_OUT / wanted.task.name / as_folder(model),
        answered_by=f"{model} at {address}",
        settings={"temperature": temperature, "max_tokens": max_tokens},
        console=console,
    )


def _answer(
    wanted: Wanted,
    make_writer: Callable[[Sequence[Question]], Writer],
    *,
    folder: Path,
    answered_by: str,
    settings: dict[str, Any],
    console: Console,
) -> None:
    questions = questions_of(wanted.task, wanted.items[: wanted.num_prompts], wanted.seeds)
    prompts = {(question.item.key, to_json(question.prompt)) for question in questions}
    if len(prompts) < len(questions) and not settings["temperature"]:
        raise Refusal(
            f"--seeds {' '.join(map(str, wanted.seeds))} with temperature 0 would give the same "
            "answer several times.",
            "Give --temperature, for example 0.7.",
        )
    out = folder if wanted.out is None else wanted.out
    told = {"task": wanted.task.name, "answered_by": answered_by, **settings}
    told["task_rows"] = fingerprint_of(wanted.items)
    say(f"{answered_by} answers {len(questions)} prompts of {wanted.task.name}: {out}", console)
    answered = written_answers(questions, make_writer, out, told, console)
    if wanted.judged is not None:
        answered = wanted.judged(answered, out)
    finish(wanted.task, answered, out, console, answered_by=answered_by, settings=told)


def _with_max_tokens(config: Config, max_tokens: int) -> Config:
    rollout = dataclasses.replace(config.rollout, max_completion_tokens=max_tokens)
    return dataclasses.replace(config, rollout=rollout)
