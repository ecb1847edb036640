"""The time of one GRPO step of ours, of TRL's GRPOTrainer and of Tunix's GRPO learner, on a CPU.

python experiments/benchmarks/peers.py [--cases long_tail ...] [--num-slots 32 256]
        [--num-devices 2] [--rounds 7]

32 prompts x 8 completions, float32, no KL term: generation, a reward that costs nothing, one step
of AdamW. ``long_tail``: lengths are geometric with mean 12, cut at 256 tokens; ``equal`` and
``equal_medium``: 48 tokens each, at 0.17 and 3.25 million parameters.

The same for all: the token ids of the prompts, the sizes and the vocabulary of a Qwen2 network
with random parameters, and where each completion ends. Ours is asked first: the probability of an
end is 1/12 at every token (or 0), by way of ``Model.prefill`` and ``Model.decode``. Its ends are
handed to the others, which have theirs forced to the same places: a logits processor of
transformers' ``generate`` in TRL, Tunix's own sampler with one method overridden.

Not the same: the drawn tokens. Tunix leaves the end token out of a completion, and pads
completions to the longest possible, which is its default. Nobody computes old logprobs in a pass
of its own: ours takes them from the sampler, the others have them from the update itself. TRL
without gradient checkpointing and bf16, which are on by default. Microbatches of the peers are the
best of an earlier measurement: TRL 32 completions, Tunix 4 prompts.

Each is a process of its own, the peers in virtual environments made here (.venv-trl, .venv-tunix;
gigabytes, minutes). They make a step in turn, when they are asked, and sleep otherwise. Compare
figures within one run only, on an idle machine: torch, above all, loses many times its step to
another process on its cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rvpo_jax import __version__
from rvpo_jax.data.tokenizer import ByteTokenizer
from rvpo_jax.data.tool_task import PIECES, ToolTask
from rvpo_jax.models.presets import PRESETS

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).with_suffix("")
OUT = ROOT / "runs" / "benchmarks"
NUM_PROMPTS, GROUP_SIZE = 32, 8
PACKED = {"microbatch_tokens": 4096, "microbatch_size": 32}
MEDIUM = dict(num_layers=4, width=256, num_heads=8, num_kv_heads=4, head_dim=32, mlp_width=768)
CASES: dict[str, dict[str, Any]] = {
    "long_tail": dict(sizes=PRESETS["tiny"], max_tokens=256, end_probability=1 / 12, loss=PACKED),
    "equal": dict(sizes=PRESETS["tiny"], max_tokens=48, end_probability=0.0, loss={}),
    "equal_medium": dict(sizes=MEDIUM, max_tokens=48, end_probability=0.0, loss={}),
}
PEERS = {
    "trl": ("trl==1.16.0", "torch>=2.13,<2.14", "transformers>=5.24,<5.25", "datasets>=5.2,<5.3"),
    "tunix": ("google-tunix==0.1.7", "jax==0.10.2", "flax==0.12.8"),
}

MICROBATCHES = {
    "trl": {"microbatch": 32},  # completions
    "tunix": {"microbatch": 4, "rollout_microbatch": 32},  # prompts
}
ENV = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}


def environment(name: str) -> Path:
    """The interpreter of a peer's own virtual environment, made when it is missing."""
    folder = ROOT / f".venv-{name}"
    wanted, installed = "\n".join(PEERS[name]), folder / ".installed"
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Installing {', '.join(PEERS[name])} into {folder.name}: minutes the first time.")
        venv.create(folder, with_pip=True, symlinks=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PEERS[name]], check=True)
        installed.write_text(wanted)
    return folder / "bin" / "python"


def work_of(case: dict[str, Any]) -> dict[str, Any]:
    """What every worker is told: sizes, prompts as ids, ends."""
    tokenizer, task = ByteTokenizer(PIECES), ToolTask("train", 4096)
    texts = [tokenizer.render(task[index]["prompt"]) for index in range(NUM_PROMPTS)]
    prompts = [tokenizer.encode(text) for text in texts]
    return case | dict(
        prompts=prompts,
        prompt_tokens=-(-max(map(len, prompts)) // 8) * 8,
        group_size=GROUP_SIZE,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        eos_id=tokenizer.eos_id,
    )


class Worker:
    """A process that makes a step when it is asked, and sleeps otherwise."""

    def __init__(self, name: str, python: Path, script: str, work: dict[str, Any]) -> None:
        self.name = name
        self.answers: list[dict[str, Any]] = []
        with open(OUT / f"peers_{name.replace(' ', '_')}.log", "w") as log:
            self._process = subprocess.Popen(
                [python, WORKERS / script, json.dumps(work)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | ENV,
            )

    def step(self, ends: list[int] | None) -> list[int] | None:
        """Asks for a step and waits for it; ours says where its completions ended."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps(ends), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped; its log is in {OUT}.")
        answer = json.loads(line)
        own_ends = answer.pop("ends", ends)
        self.answers.append(answer)
        return own_ends

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def start_workers(
    case: str, num_slots: list[int | None], num_devices: int, peers: list[str]
) -> list[Worker]:
    """Ours, once per number of slots, then the peers."""
    work = work_of(CASES[case])
    workers = []
    for slots in num_slots:
        name = "ours" if slots is None else f"ours, {slots} slots"
        own = work | {"num_slots": slots, "num_devices": num_devices}
        workers.append(Worker(name, Path(sys.executable), "with_rvpo.py", own))
    for peer in peers:
        own = work | MICROBATCHES[peer]
        workers.append(Worker(peer, environment(peer), f"with_{peer}.py", own))
    return workers


def measure(workers: list[Worker], warm_up: int, rounds: int) -> None:
    """Rounds in which each worker makes one step, on completions of the same lengths."""
    for index in range(warm_up + rounds):
        ends = None
        for worker in workers:
            first_ends = worker.step(ends)
            ends = first_ends if ends is None else ends
        if index + 1 == warm_up:
            for worker in workers:
                worker.answers.clear()


def summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of all figures, and the least and the most seconds."""
    seconds = [answer["seconds"] for answer in answers]
    medians = {
        key: round(statistics.median(answer[key] for answer in answers), 4) for key in answers[0]
    }
    return medians | {"least": round(min(seconds), 4), "most": round(max(seconds), 4)}


def run_case(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of the workers of a case, and the machine's load before and after."""
    load = [os.getloadavg()[0]]
    workers = start_workers(case, args.num_slots, args.num_devices, args.peers)
    try:
        measure(workers, args.warm_up, args.rounds)
    finally:
        for worker in workers:
            worker.stop()
    load.append(os.getloadavg()[0])
    return {"load": load} | {worker.name: summary(worker.answers) for worker in workers}


def table_of(results: dict[str, dict[str, Any]], peers: list[str]) -> Table:
    """A line per worker and case: its time, its two halves, and ours over the peers'."""
    table = Table(title="One GRPO step, 32 prompts x 8 completions, seconds (CPU)")
    for name in ("case", "", "median", "least-most", "rollout", "rest", "tokens"):
        table.add_column(name, justify="left" if name in ("case", "") else "right")
    for peer in peers:
        table.add_column(f"/ {peer}", justify="right")
    for case, result in results.items():
        for name, own in result.items():
            if name == "load":
                continue
            seconds = own["seconds"]
            ratios = [f"{seconds / result[peer]['seconds']:.2f}" for peer in peers]
            table.add_row(
                case,
                name,
                f"{seconds:.2f}",
                f"{own['least']:.2f}-{own['most']:.2f}",
                f"{own['rollout']:.2f}",
                f"{seconds - own['rollout']:.2f}",
                f"{own['tokens']:.0f}",
                *(ratios if name.startswith("ours") else ["" for _ in peers]),
            )
        table.add_section()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument(
        "--num-slots", nargs="+", type=int, default=[None], help="one of ours for each"
    )
    parser.add_argument(
        "--num-devices", type=int, default=2, help="that ours takes the CPU for, as rvpo train does"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2, help="rounds that are not counted")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for peer in args.peers:
        environment(peer)
    results = {case: run_case(case, args) for case in args.cases}
    Console(width=120).print(table_of(results, args.peers))
    packages = {peer: PEERS[peer] for peer in args.peers}
    record = {"rvpo_jax": __version__, "packages": packages, "num_devices": args.num_devices}
    record["cases"] = results
    (OUT / "peers.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
