"""Kills one of two processes of a run, again and again, and sees that the run ends as if never.

python experiments/benchmarks/kills.py [--kills 30] [--stalls 2] [--steps 40] [--out kills.json]

A run of two processes with two simulated devices each trains without interruption. A second one has
one of its processes killed (SIGKILL), the first and the second in turn, at moments drawn from a
seed: while it loads, compiles, samples, trains or saves. Each time the command is given again, and
goes on. A process that is stopped (SIGSTOP) makes no progress, and the command ends the run too.
At the end both runs have the same parameters, metrics, evaluations and completions, bit for bit.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq

PROCESSES, DEVICES = 2, 2
STALL_TIMEOUT = 15.0
LIMIT = 60.0  # seconds in which all has ended
SETTINGS = (
    "--eval.num-prompts 16 --eval.every 4 --rollout.num-prompts 8 --rollout.group-size 4 "
    "--rollout.max-completion-tokens 32 --checkpoint.every 2 --log.no-audit --log.samples-every 1"
).split()
TIMES = ("time", "time/", "perf/rollout_tokens", "perf/update_tokens")  # differ from run to run


@dataclasses.dataclass
class Attempt:
    """One start of the command, and how it ended.

    Attributes:
      rank: of the process that got the signal; None: the command did, or nobody.
      moment: seconds after the start, or None.
      code: exit code of the command.
      seconds: from the signal to the end of the command and of all its processes.
      message: what it said.
      first: step that it started at.
      left: processes that were alive afterwards.
    """

    rank: int | None
    moment: float | None
    code: int
    seconds: float
    message: str
    first: int
    left: int


def start(workdir: Path, steps: int, *options: str) -> subprocess.Popen[str]:
    """The command, on two simulated devices for each process."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    return subprocess.Popen(
        [sys.executable, "-m", "rvpo_jax", "train", "--workdir", str(workdir)]
        + ["--steps", str(steps), "--parallel.processes", str(PROCESSES), *SETTINGS, *options],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers(command: subprocess.Popen[str]) -> list[int]:
    """Processes of a command, by rank."""
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    return [int(child) for child in children]


def interrupted(
    workdir: Path,
    steps: int,
    rank: int | None,
    moment: float,
    number: int = signal.SIGKILL,
    step: int | None = None,
) -> Attempt:
    """Starts the command, sends one of its processes a signal, and waits for its end.

    The moment is that after the start, or after the log has the given step. Without a rank it is
    the command itself that gets the signal.
    """
    first = newest(workdir)
    command = start(workdir, steps, "--parallel.stall-timeout", str(STALL_TIMEOUT))
    while len(processes := workers(command)) < PROCESSES:
        time.sleep(0.01)
    while step is not None and command.poll() is None:
        if any(row["step"] >= step for row in rows_of(workdir / "metrics.jsonl")):
            break
        time.sleep(0.05)
    time.sleep(moment)
    sent = time.monotonic()
    with contextlib.suppress(ProcessLookupError):  # it has ended before
        os.kill(command.pid if rank is None else processes[rank], number)
    _, message = command.communicate(timeout=300)
    seconds = time.monotonic() - sent
    left = sum(Path(f"/proc/{process}").exists() for process in processes)
    return Attempt(rank, moment, command.returncode, seconds, message, first, left)


def finished(workdir: Path, steps: int) -> Attempt:
    """Starts the command and lets it end."""
    first, since = newest(workdir), time.monotonic()
    command = start(workdir, steps)
    _, message = command.communicate(timeout=1800)
    return Attempt(None, None, command.returncode, time.monotonic() - since, message, first, 0)


def newest(workdir: Path) -> int:
    """Step of the newest checkpoint; 0 where there is none."""
    names = [path.name for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()]
    return max(map(int, names), default=0)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Lines of a log that have a step, without what a clock says."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        if "step" in row:
            rows.append({name: row[name] for name in row if not name.startswith(TIMES)})
    return rows


def state_of(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint."""
    path = workdir.absolute() / "checkpoints" / str(newest(workdir)) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        shapes = checkpointer.metadata(path).item_metadata.tree
        here = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        tree = checkpointer.restore(path, ocp.args.PyTreeRestore(restore_args=here))
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in found}


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two runs, by name."""
    found = []
    for name in ("metrics.jsonl", "evals.jsonl", "samples.jsonl"):
        if rows_of(one / name) != rows_of(other / name):
            found.append(name)
    states = state_of(one), state_of(other)
    if states[0].keys() != states[1].keys():
        found.append("names of arrays")
    found += [name for name in states[0] if not np.array_equal(*(s.get(name) for s in states))]
    logs = [pq.read_table(run / "rollouts").sort_by("step") for run in (one, other)]
    parts = [sorted(path.name for path in (run / "rollouts").iterdir()) for run in (one, other)]
    return found if logs[0].equals(logs[1]) and parts[0] == parts[1] else [*found, "rollouts"]


def campaign(folder: Path, steps: int, kills: int, stalls: int, seed: int) -> dict[str, Any]:
    """The whole of it; what was seen."""
    whole, broken, draw = folder / "whole", folder / "broken", random.Random(seed)
    reference = finished(whole, steps)
    if reference.code:
        raise SystemExit(reference.message)
    attempts, different, complete = [], [], 0
    index, killed = 0, [0] * PROCESSES
    while sum(killed) < kills or stalls > 0:
        stop = sum(killed) >= kills  # one that starts or compiles is not late: later
        rank, number = index % PROCESSES, signal.SIGSTOP if stop else signal.SIGKILL
        moment = draw.uniform(0, 0.3 if stop else 1.1 * reference.seconds)
        step = newest(broken) + 1 if stop else None
        attempt = interrupted(broken, steps, rank, moment, number, step)
        attempts.append(_shown(attempt))
        index += 1
        if attempt.code and stop:
            stalls -= 1
        elif attempt.code:
            killed[rank] += 1
        if newest(broken) == steps:  # this one was done; the next one begins
            different += finished_as(whole, broken, steps)
            complete += 1
            shutil.rmtree(broken)
    different += finished_as(whole, broken, steps)
    met = [one for one in attempts if one.code]
    return {
        "steps": steps,
        "killed": killed,
        "stopped": len(met) - sum(killed),
        "ended_before_the_signal": len(attempts) - len(met),
        "seconds_to_the_end": sorted(round(one.seconds, 1) for one in met),
        "processes_left": sum(one.left for one in attempts),
        "first_steps": [one.first for one in attempts],
        "messages": sorted({one.message.replace(str(folder), "FOLDER") for one in met}),
        "complete_runs": complete + 1,
        "differences": different,
    }


def finished_as(whole: Path, broken: Path, steps: int) -> list[str]:
    """What differs from an uninterrupted run once the command is left alone."""
    last = finished(broken, steps)
    return [f"exit code {last.code}: {last.message}"] if last.code else differences(whole, broken)


def _shown(attempt: Attempt) -> Attempt:
    print(
        f"process {attempt.rank} after {attempt.moment:5.1f} s, from step {attempt.first}: code "
        f"{attempt.code} after {attempt.seconds:.1f} s, {attempt.left} left",
        flush=True,
    )
    return attempt


def main() -> int:
    """Runs the campaign; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--stalls", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = campaign(Path(folder), options.steps, options.kills, options.stalls, options.seed)
    text = json.dumps(seen, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    good = not seen["differences"] and not seen["processes_left"]
    return 0 if good and max(seen["seconds_to_the_end"]) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
