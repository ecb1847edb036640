"""CPU seconds per token of the mesh step on 1, 2, 4 and 8 simulated devices: what splitting costs.

python experiments/benchmarks/devices.py [--axes data fsdp] [--counts 1 2 4 8] [--preset small]
        [--num-prompts 64] [--rounds 5]

The total work is the same for all: one step (rule, loss, gradients, AdamW, collectives) on the same
batch of equal lengths. CPU seconds are those of the whole process, all threads, waiting ones
included; on real devices the collectives would be hardware's. Each number of devices is a process
of its own; they make a step in turn, when they are asked, and sleep otherwise. The order is turned
round every other round. Compare figures within one run only, on an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

OUT = Path("runs") / "benchmarks"
GROUP_SIZE, TOKENS = 8, 48


def worker(axis: str, num_devices: int, preset: str, num_prompts: int) -> None:
    """Makes a step for every line of standard input and answers with its CPU and wall seconds."""
    # As rvpo train does before JAX starts.
    from rvpo_jax.config import Config, ModelConfig, ParallelConfig, RolloutConfig
    from rvpo_jax.run.cpu_devices import prepare_cpu_devices
    from rvpo_jax.run.parallel import simulate_cpu_devices

    parallel = ParallelConfig(impl="mesh", mesh=f"{axis}={num_devices}", num_devices=num_devices)
    rollout = RolloutConfig(
        num_prompts=num_prompts, group_size=GROUP_SIZE, max_completion_tokens=TOKENS
    )
    config = Config(model=ModelConfig(preset=preset), rollout=rollout, parallel=parallel)
    with TemporaryDirectory() as folder:
        prepare_cpu_devices(config, Path(folder))
        simulate_cpu_devices(num_devices)
        step = make_step(config, Path(folder))
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        seconds = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        print(json.dumps(seconds), flush=True)


def make_step(config, folder: Path):
    """A call that makes the next step of a run, on one batch that never changes."""
    import jax
    import numpy as np

    from rvpo_jax.run.setup import build_run
    from rvpo_jax.types import Batch

    run = build_run(config, folder)
    rows = [run.task.train[index] for index in range(config.rollout.num_prompts)]
    prompts, prompt_mask = run.task.encode_batch(rows)
    rng, shape = np.random.default_rng(0), (len(rows), GROUP_SIZE, TOKENS)
    num_channels = len(run.task.channels)
    batch = Batch(
        prompts=prompts,
        prompt_mask=prompt_mask,
        completions=rng.integers(256, size=shape, dtype=np.int32),
        completion_mask=np.ones(shape, bool),
        old_logprobs=np.full(shape, -5.0, np.float32),
        rewards=rng.random((*shape[:2], num_channels), np.float32),
        where=np.ones((*shape[:2], num_channels), bool),
    )
    held = [run.policy.layout.place(run.initial_state())]

    def step() -> None:
        held[0], _, metrics = run.train_step(held[0], batch)
        jax.block_until_ready((held[0], metrics))

    return step


class Worker:
    """A process with so many simulated devices."""

    def __init__(self, axis: str, num_devices: int, args: argparse.Namespace) -> None:
        self.name = f"{axis} {num_devices}"
        self.answers: list[dict[str, float]] = []
        command = [sys.executable, __file__, "--worker", axis, str(num_devices)]
        command += ["--preset", args.preset, "--num-prompts", str(args.num_prompts)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )

    def step(self) -> None:
        """Asks for a step and waits for it."""
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker of {self.name} stopped.")
        self.answers.append(json.loads(line))

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def measure(axis: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by number of devices; rounds that warm up are not counted."""
    workers = [Worker(axis, count, args) for count in args.counts]
    try:
        for index in range(args.warm_up + args.rounds):
            for one in workers if index % 2 else workers[::-1]:
                one.step()
    finally:
        for one in workers:
            one.stop()
    tokens = args.num_prompts * GROUP_SIZE * TOKENS
    return {one.name: summary(one.answers[args.warm_up :], tokens) for one in workers}


def summary(answers: list[dict[str, float]], num_tokens: int) -> dict[str, float]:
    """Microseconds per completion token: CPU, its least and most, and of the clock on the wall."""
    cpu, wall = (
        sorted(1e6 * answer[kind] / num_tokens for answer in answers) for kind in ("cpu", "wall")
    )
    return {
        "cpu": statistics.median(cpu),
        "least": cpu[0],
        "most": cpu[-1],
        "wall": statistics.median(wall),
    }


def table_of(results: dict[str, dict[str, float]], title: str) -> Table:
    """A line per number of devices; the last column compares with the cheapest of its axis."""
    table = Table(title=title)
    table.add_column("mesh")
    for name in ("CPU us per token", "least-most", "wall us per token", "over the cheapest"):
        table.add_column(name, justify="right")
    for name, found in results.items():
        axis = name.split()[0]
        cheapest = min(other["cpu"] for key, other in results.items() if key.split()[0] == axis)
        table.add_row(
            name,
            f"{found['cpu']:.1f}",
            f"{found['least']:.1f}-{found['most']:.1f}",
            f"{found['wall']:.1f}",
            f"{found['cpu'] / cheapest - 1:+.0%}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--axes", nargs="+", default=["data", "fsdp"], choices=["data", "fsdp"])
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4, 8], help="of devices")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--num-prompts", type=int, default=64, help="times 8 completions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker[0], int(args.worker[1]), args.preset, args.num_prompts)
        return
    load = [os.getloadavg()[0]]
    results: dict[str, dict[str, float]] = {}
    for axis in args.axes:
        results |= measure(axis, args)
    load.append(os.getloadavg()[0])
    title = f"{args.preset}, {args.num_prompts} x {GROUP_SIZE} x {TOKENS} tokens, load {load}"
    Console(width=110).print(table_of(results, title))
    OUT.mkdir(parents=True, exist_ok=True)
    record = {"load": load, "settings": {**vars(args), "worker": None}, "results": results}
    (OUT / "devices.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
