"""What each command does; what it needs is imported when it runs. Each returns the exit code."""

import math
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from rvpo_jax.auditing.command import Audit, run_command
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
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
from rvpo_jax.run.bucket import run_folder

HELD_OUT = 1024  # prompts of rvpo eval without --task and --num-prompts


def run_train(command: Train) -> int:
    """Trains, or resumes; several processes are started, each with this command, and watched."""
    from rvpo_jax.run import launcher, pulse

    workdir = run_folder(command.workdir)
    if launcher.is_needed(command.run.parallel):
        return launcher.launch(command.typed, command.run.parallel, workdir)
    from rvpo_jax.run.cpu_devices import prepare_cpu_devices
    from rvpo_jax.train import train

    pulse.start()
    prepare_cpu_devices(command.run, workdir)
    try:
        train(command.run, workdir)
    except (RuntimeError, ValueError) as error:
        from rvpo_jax.run.parallel import processes

        if processes.count() == 1 or not processes.is_lost(error):
            raise
        pulse.lost(str(error).splitlines()[0])
        return launcher.LOST
    return 0


def run_plan(command: Plan) -> int:
    """Prints the plan of a run; 1 where it does not fit."""
    import jax
    from rich.console import Console

    from rvpo_jax.basics.files import to_json
    from rvpo_jax.plan.chips import CHIPS, parse_topology
    from rvpo_jax.plan.planning import plan, smallest
    from rvpo_jax.plan.report import LEVERS, show

    jax.config.update("jax_platforms", "cpu")  # shapes alone: a chip that is here stays free
    errors, cache = Console(stderr=True), command.cache
    kinds = tuple(CHIPS) if command.topology is None else (command.topology,)
    if kinds[0] in CHIPS:
        if command.mesh is not None:
            raise Refusal(
                f"--mesh is of one slice, got {command.mesh!r} without one.",
                "Give --topology, for example v5e:4x4, or leave --mesh out.",
            )
        found = {kind: smallest(command.run, kind, errors.print, cache) for kind in kinds}
    else:
        topology = parse_topology(kinds[0])
        found = {kinds[0]: plan(command.run, topology, command.mesh, errors.print, cache)}
    if command.json:
        print(to_json([one for plans in found.values() for one in plans], indent=1))
        return 0 if _fits(found) else 1
    for name, plans in found.items():
        for one in reversed(plans):  # the one to take is the last that is read
            show(one, Console())
        if not plans:
            print(f"{name}: too small by shape, nothing was compiled. {LEVERS}")
    return 0 if _fits(found) else 1


def _fits(found: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether something fits: the slice that was asked about, or one of those searched."""
    return any(plans and plans[0]["fits"] for plans in found.values())


def run_eval(command: Eval) -> int:
    """Prints the pass rates of a run, or evaluates on a task, or compares two evaluations."""
    from rich.console import Console

    _check_positive("--num-prompts", command.num_prompts)
    _check_temperature(command.temperature)
    if command.compare is not None:
        from rvpo_jax.run.evaluation.programs import compare_folders

        compare_folders(command.compare, command.out, Console())
    elif command.task is not None:
        _evaluate_task(command, Console())
    else:
        _evaluate_held_out(command, Console())
    return 0


def _evaluate_held_out(command: Eval, console: Any) -> None:
    from rvpo_jax.run.evaluate import evaluate_held_out, evaluation_table
    from rvpo_jax.run.restore import restore_run
    from rvpo_jax.run.stored import stored_config, with_rewards

    if command.workdir is None or command.responses or command.task_path:
        raise Refusal(
            "rvpo eval needs --workdir, a run whose held-out prompts are answered, or --task.",
            "Give one of them; rvpo eval --help names the tasks.",
        )
    workdir = run_folder(command.workdir)
    config = stored_config(workdir)
    config = with_rewards(config, workdir, command.rewards, command.trust)
    run, params, step = restore_run(config, workdir, command.step)
    num_prompts = HELD_OUT if command.num_prompts is None else command.num_prompts
    evaluation = evaluate_held_out(run, params, num_prompts, temperature=command.temperature)
    console.print(evaluation_table(run.task, evaluation, step))


def _evaluate_task(command: Eval, console: Any) -> None:
    from rvpo_jax.run.evaluation.programs import evaluate_responses, items_of_task
    from rvpo_jax.run.evaluation.tasks import find_task

    task = find_task(str(command.task))
    if command.rewards:
        raise Refusal(
            f"--rewards {' '.join(command.rewards)} is of a run's held-out prompts, got --task "
            f"{task.name}.",
            "Leave one of them out: a task has its own grading.",
        )
    _check_positive("--max-tokens", command.max_tokens)
    _check_positive("--concurrency", command.concurrency)
    if command.requests_per_min is not None and not 0 < command.requests_per_min < math.inf:
        raise Refusal(
            f"--requests-per-min must be > 0, got {command.requests_per_min}.",
            "Leave it out for no limit.",
        )
    _check_one_source(command, task.name)
    if command.responses is not None:
        if command.num_prompts is not None:
            raise Refusal(
                f"--num-prompts {command.num_prompts} is of prompts that are answered now, got "
                "--responses.",
                "Leave it out: all stored answers are graded.",
            )
        judged = _grader(command, task, console)
        is_given = command.task_path is not None
        items = items_of_task(task, command.task_path) if is_given else None
        evaluate_responses(task, command.responses, items, command.out, console, judged)
        return
    _evaluate_writer(command, task, console)


def _check_one_source(command: Eval, task: str) -> None:
    sources = {
        "--workdir": command.workdir,
        "--model.path": command.model_path,
        "--endpoint": command.endpoint,
        "--responses": command.responses,
    }
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise Refusal(
            f"--task {task} needs one of {', '.join(sources)}, got "
            f"{' and '.join(given) or 'none'}.",
            "Say what answers the task.",
        )
    if command.step is not None and command.workdir is None:
        raise Refusal(
            f"--step {command.step} is of a run's checkpoint, got {given[0]}.",
            "Leave it out, or name a run with --workdir.",
        )


def _grader(command: Eval, task: Any, console: Any) -> Any:
    if command.grader is None:
        return None
    if task.name != "healthbench":
        raise Refusal(
            f"--grader is of --task healthbench, got --task {task.name}.",
            "Leave it out: this task is graded by rules.",
        )
    from rvpo_jax.run.evaluation.generation import grader_at

    model = _model_name(command.grader_model, "--grader")
    return grader_at(command.grader, model, _pace(command), console)


def _pace(command: Eval) -> Any:
    from rvpo_jax.run.evaluation.endpoint_writer import Pace

    return Pace(command.concurrency, command.requests_per_min)


def _model_name(name: str | None, option: str) -> str:
    if not name:
        raise Refusal(
            f"{option} needs {option}-model, the name of the model at that address.",
            "Give it as the endpoint calls it.",
        )
    return name


def _evaluate_writer(command: Eval, task: Any, console: Any) -> None:
    from rvpo_jax.run.evaluation import generation
    from rvpo_jax.run.evaluation.programs import items_of_task

    is_asked, judged = command.endpoint is not None, _grader(command, task, console)
    model = _model_name(command.endpoint_model, "--endpoint") if is_asked else ""
    items = items_of_task(task, command.task_path)  # last: it may download
    wanted = generation.Wanted(
        task=task,
        items=items,
        num_prompts=command.num_prompts,
        seeds=command.seeds,
        temperature=command.temperature,
        max_tokens=command.max_tokens,
        out=command.out,
        judged=judged,
        step=command.step,
    )
    if command.model_path is not None:
        generation.evaluate_model(wanted, command.model_path.expanduser(), console)
    elif command.endpoint is not None:
        generation.evaluate_endpoint(wanted, command.endpoint, model, _pace(command), console)
    elif command.workdir is not None:
        from rvpo_jax.run.stored import stored_config

        workdir = run_folder(command.workdir)
        generation.evaluate_run(wanted, stored_config(workdir), workdir, console)


def run_sample(command: Sample) -> int:
    """Prints completions of a run."""
    from rich.console import Console

    from rvpo_jax.run.evaluate import evaluate_held_out, sample_prompt, show_samples
    from rvpo_jax.run.restore import restore_run
    from rvpo_jax.run.stored import stored_config, with_rewards, without_rewards

    _check_positive("--num", command.num)
    _check_temperature(command.temperature)
    workdir = run_folder(command.workdir)
    config = stored_config(workdir)
    if command.prompt is None:
        config = with_rewards(config, workdir, command.rewards, command.trust)
        run, params, _ = restore_run(config, workdir)
        evaluation = evaluate_held_out(run, params, command.num, temperature=command.temperature)
    else:
        run, params, _ = restore_run(without_rewards(config), workdir)
        evaluation = sample_prompt(
            run, params, command.prompt, command.num, temperature=command.temperature
        )
    show_samples(run.task, evaluation, Console())
    return 0


def _check_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise Refusal(f"{name} must be >= 1, got {value}.", "Give a positive number.")


def _check_temperature(value: float | None) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise Refusal(f"--temperature must be >= 0, got {value}.", "0 is greedy, 1 as trained.")


def run_audit(command: Audit) -> int:
    """Prints and writes an audit."""
    from rvpo_jax.what_if import further_rules

    return run_command(command, further_rules)


def run_check_rewards(command: CheckRewards) -> int:
    """Tries reward functions on sample texts."""
    from rich.console import Console

    from rvpo_jax.run.check_rewards import check_rewards

    return check_rewards(command.data, Console())


def run_judge_report(command: JudgeReport) -> int:
    """Prints agreement, flip rates and cost of repeated verdicts."""
    from rvpo_jax.rewards.judge.report import judge_report, read_answers
    from rvpo_jax.rewards.judge.reward import FILE

    _check_positive("items", command.items)
    path = command.path / FILE if command.path.is_dir() else command.path
    print("\n".join(judge_report(read_answers(path)).lines(command.items)))
    return 0


def run_export(command: Export) -> int:
    """Writes a run's policy as a Hugging Face folder."""
    from rvpo_jax.run.export import export

    workdir = run_folder(command.workdir)
    step = export(workdir, command.out, adapters=command.adapters)
    print(printable(f"wrote {command.out}: the policy of {workdir} after {step} step(s)"))
    return 0


def run_figure(command: Figure) -> int:
    """Runs an experiment's script."""
    script = command.root / command.name / "run.py"
    if not script.is_file():
        known = sorted(path.parent.name for path in command.root.glob("*/run.py"))
        raise Refusal(
            f"there is no experiment {command.name} in {command.root}.",
            f"There are: {', '.join(known)}." if known else "Name the folder with --root.",
        )
    flags = [f"--{name}" for name in ("smoke", "check") if getattr(command, name)]
    is_filled = command.name.startswith("paper_")
    if flags if is_filled else command.runs:
        raise Refusal(
            f"rvpo figure {command.name} does not take {' '.join(flags) or '--runs'}.",
            "The figures paper_... are filled from --runs DIR ..., the others run by themselves.",
        )
    flags += ["--runs", *map(str, command.runs)] if command.runs else []
    code = subprocess.run([sys.executable, str(script), *flags], check=False).returncode
    return code if code in (0, 2) else 1


def run_doctor(command: Doctor) -> int:
    """Prints what this machine has, and what it reaches."""
    from rich.console import Console

    from rvpo_jax.run.doctor import doctor

    return doctor(Console(), command.workdir, command.coordinator)
