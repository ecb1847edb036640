"""Rollout and update of real model sizes against what the device can do, both measured here.

    python experiments/benchmarks/gpu.py [--models smollm2-135m qwen2.5-0.5b] [--smoke]

For one GPU of 80 GB; without a GPU it measures ``tiny`` on the CPU and says so. Weights are random
and no completion ends, so that the work is the same everywhere. Sampler and step are those of a
run. Each model has a process of its own: memory of one is not counted for the next. Written are a
table and runs/benchmarks/gpu.json.

* Tokens/s count completion tokens; a rollout has its prompts' prefill in its time.
* MFU is the FLOPs of an update, by the arithmetic of ``flops.py``, over its time and the measured
  rate of a matrix product in the model's type: forward pass, and twice it for the backward pass
  (once with LoRA: frozen weights need no gradients, adapters are not counted). It is the share that
  is of use; HFU adds one more forward pass where ``model.remat`` has it: of the layers, and of the
  head, whose logits are computed twice where the vocabulary is large.
* Decoding reads at least: every weight of a matrix product once, in the model's type, the keys and
  values of each prompt once per group, and half of the completions' on average. These bytes over
  the time of a step, and over the measured rate of a copy (bytes read and written). A step's time
  is the rollout's over C: the prefill in it, a few percent, makes the figure lower, never higher.
* Memory is the device's own count of its peak, or of the process where the device has none.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from step import going_on, time_calls

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, LossConfig, ModelConfig, ParallelConfig, RolloutConfig
from rvpo_jax.data.tokenizer import ByteTokenizer
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.models.flops import forward_flops, matmul_params
from rvpo_jax.models.presets import Architecture, architecture
from rvpo_jax.run.memory import memory_line
from rvpo_jax.run.setup import Run, build_run
from rvpo_jax.train import make_batch
from rvpo_jax.types import Batch, Rollout

OUT = Path("runs/benchmarks/gpu.json")


class Endless(ByteTokenizer):
    """Bytes without an end: every completion has C tokens."""

    eos_id = ()


class Size(NamedTuple):
    """A model of the table."""

    model: ModelConfig
    backward: int = 2  # in forward passes; 1 where the weights are frozen


def on_gpu(preset: str, **fields: Any) -> ModelConfig:
    """How a model of such a size is trained on one GPU."""
    return ModelConfig(
        preset=preset, tokenizer=Endless, init="random", dtype="bfloat16", remat=True, **fields
    )


SIZES = {
    "tiny": Size(ModelConfig(preset="tiny", tokenizer=Endless, init="random")),
    "smollm2-135m": Size(on_gpu("smollm2-135m")),
    "qwen2.5-0.5b": Size(on_gpu("qwen2.5-0.5b")),
    "qwen2.5-1.5b": Size(on_gpu("qwen2.5-1.5b")),
    "qwen2.5-3b-lora": Size(on_gpu("qwen2.5-3b", lora_rank=16), backward=1),
}


class Work(NamedTuple):
    """What is measured with: a batch, and the operands of the ceilings."""

    num_prompts: int  # B
    group_size: int  # G
    prompt_tokens: int  # P
    tokens: int  # C
    microbatch_size: int
    matmul: int  # rows and columns
    copied: int  # float32 values
    repeats: int


GPU = Work(16, 8, 512, 512, 2, 8192, 2**28, 5)
CPU = Work(8, 8, 64, 64, 4, 1024, 2**25, 5)
SMOKE = Work(2, 2, 8, 8, 2, 64, 2**16, 1)


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a call in a new process, whose end gives all memory back."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *args).result()


def survey(smoke: bool) -> tuple[dict[str, str], Work, dict[str, float]]:
    """The device, what to measure it with, and its ceilings."""
    device = jax.local_devices()[0]
    work = SMOKE if smoke else CPU if device.platform == "cpu" else GPU
    named = {"platform": device.platform, "device": device.device_kind, "jax": jax.__version__}
    return named, work, ceilings(work)


def ceilings(work: Work) -> dict[str, float]:
    """FLOPs per second of a square matrix product in each type, bytes per second of a copy.

    float32 products have JAX's default precision, which is what a run's have.
    """
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    square = jax.random.normal(jax.random.key(0), (work.matmul, work.matmul))
    half, long = square.astype(jnp.bfloat16), jnp.zeros(work.copied)
    calls = {
        "float32": lambda: product(square, square),
        "bfloat16": lambda: product(half, half),
        "copy": lambda: copy(long),
    }
    # The best one: a ceiling is what the device can do.
    best = {name: min(times) for name, times in time_calls(calls, 4 * work.repeats).items()}
    done = {"float32": 2 * work.matmul**3, "bfloat16": 2 * work.matmul**3, "copy": 2 * long.nbytes}
    return {name: done[name] / seconds for name, seconds in best.items()}


def measure(name: str, work: Work) -> dict[str, Any]:
    """A model's rates and shares, or why there are none."""
    try:
        return _measure(SIZES[name], work)
    except (Refusal, jax.errors.JaxRuntimeError) as error:
        return {"refused": str(error).splitlines()[0]}


def _measure(size: Size, work: Work) -> dict[str, Any]:
    run = _build(size.model, work)
    prompts = np.random.default_rng(0).integers(2, 258, (work.num_prompts, work.prompt_tokens))
    inputs = (prompts.astype(np.int32), np.ones(prompts.shape, bool))
    keys = prompt_keys(jax.random.key(0), 0, work.num_prompts)
    state = run.policy.layout.place(run.initial_state())
    said = memory_line(run, state)
    sample = run.policy.sampler(work.group_size)
    calls = {"rollout": lambda: sample(run.policy.sampling_params(state), *inputs, keys)}
    times = time_calls(calls, work.repeats)
    rollout_peak = _peak_memory()
    rollout = jax.device_get(calls["rollout"]())
    batch = _judged(rollout, len(run.task.channels))
    times |= time_calls({"update": going_on(run.train_step, state, batch)}, work.repeats)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    return {
        "dtype": size.model.dtype,
        "seconds": seconds,
        "completion_tokens": int(rollout.completion_mask.sum()),
        "predicted": said,
        "peak_bytes": {"rollout": rollout_peak, "all": _peak_memory()},
        **_rates(size, work, seconds),
    }


def _build(model: ModelConfig, work: Work) -> Run:
    num = work.num_prompts * work.group_size
    config = Config(
        model=model,
        rollout=RolloutConfig(
            num_prompts=work.num_prompts,
            group_size=work.group_size,
            max_prompt_tokens=4096,
            max_completion_tokens=work.tokens,
            num_slots=num,  # all at once, on a CPU too
        ),
        loss=LossConfig(microbatch_size=work.microbatch_size),
        parallel=ParallelConfig(num_devices=1),
    )
    with TemporaryDirectory() as folder:
        run = build_run(config, Path(folder))
    # Prompts of our own: the task is there for its channels.
    return dataclasses.replace(
        run, task=dataclasses.replace(run.task, prompt_tokens=work.prompt_tokens)
    )


def _judged(rollout: Rollout, num_channels: int) -> Batch:
    """The rollout with random rewards."""
    num = rollout.completions.shape[0] * rollout.completions.shape[1]
    rewards = np.random.default_rng(0).normal(size=(num, num_channels)).astype(np.float32)
    batch = make_batch(rollout, rewards, np.ones(rewards.shape, bool))
    return dataclasses.replace(batch, max_tokens=batch.completions.shape[2])


def _rates(size: Size, work: Work, seconds: dict[str, float]) -> dict[str, float]:
    """What was measured, per second."""
    arch = architecture(str(size.model.preset), Endless().vocab_size)
    num_tokens = work.num_prompts * work.group_size * work.tokens
    forward = sum(forward_flops(arch, *work[:4]))
    again = forward if size.model.remat else 0.0
    step = seconds["rollout"] / work.tokens
    return {
        "rollout_tokens_per_s": num_tokens / seconds["rollout"],
        "update_tokens_per_s": num_tokens / seconds["update"],
        "update_flops_per_s": (1 + size.backward) * forward / seconds["update"],
        "update_hardware_flops_per_s": ((1 + size.backward) * forward + again) / seconds["update"],
        "decode_steps_per_s": 1 / step,
        "decode_bytes_per_s": step_bytes(arch, work, size.model.dtype) / step,
    }


def step_bytes(arch: Architecture, work: Work, dtype: str) -> float:
    """Bytes that one decoding step reads at least: weights, and the keys and values in use."""
    seen = work.num_prompts * (work.prompt_tokens + work.group_size * work.tokens / 2)
    cache = 2 * arch.num_layers * arch.num_kv_heads * arch.head_dim * seen
    return jnp.dtype(dtype).itemsize * (sum(matmul_params(arch)) + cache)


def _peak_memory() -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(stats.get("peak_bytes_in_use", rss))


def measure_apart(name: str, work: Work) -> dict[str, Any]:
    """``measure`` in a new process, whose death is one more reason."""
    try:
        return apart(measure, name, work)
    except BrokenProcessPool:
        return {"refused": "its process was killed, most likely for its memory"}


def row_of(name: str, found: dict[str, Any], limits: dict[str, float]) -> list[str]:
    """The cells of a model."""
    if "refused" in found:
        return [name, "refused"]
    matmul = limits[found["dtype"]]
    return [
        name,
        f"{found['rollout_tokens_per_s']:,.0f}",
        f"{found['decode_bytes_per_s'] / 1e9:,.1f}",
        f"{found['decode_bytes_per_s'] / limits['copy']:.1%}",
        f"{found['update_tokens_per_s']:,.0f}",
        f"{found['update_flops_per_s'] / matmul:.1%}",
        f"{found['update_hardware_flops_per_s'] / matmul:.1%}",
        f"{found['peak_bytes']['all'] / 1e9:.2f}",
    ]


def table_of(record: dict[str, Any]) -> Table:
    """All that was measured."""
    work, limits = Work(**record["work"]), record["ceilings"]
    table = Table(
        title=f"{record['device']}, jax {record['jax']}, {work.num_prompts} prompts of "
        f"{work.prompt_tokens} tokens x {work.group_size} completions of {work.tokens}",
        caption=f"measured ceilings: bfloat16 {limits['bfloat16'] / 1e12:.3g} and float32 "
        f"{limits['float32'] / 1e12:.3g} TFLOP/s, copy {limits['copy'] / 1e9:.4g} GB/s",
    )
    table.add_column("model", no_wrap=True)
    rates = ("rollout tok/s", "decode GB/s", "of copy", "update tok/s", "MFU", "HFU", "GB")
    for name in rates:
        table.add_column(name, justify="right")
    for name, found in record["models"].items():
        table.add_row(*row_of(name, found, limits))
    return table


def main() -> None:
    """A line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, help="default: all for a GPU")
    parser.add_argument("--smoke", action="store_true", help="tiny in seconds: the same code")
    args = parser.parse_args()
    console = Console()
    # This process never touches the device: it would keep memory that a model needs.
    device, work, limits = apart(survey, args.smoke)
    if device["platform"] == "cpu":
        console.print("No GPU here: the CPU is measured, with tiny unless --models names others.")
    small = args.smoke or device["platform"] == "cpu"
    models = {}
    for name in args.models or (["tiny"] if small else [name for name in SIZES if name != "tiny"]):
        console.print(f"measuring {name}", highlight=False)
        models[name] = measure_apart(name, work)
        if "refused" in models[name]:
            console.print(f"{name}: {models[name]['refused']}", markup=False, highlight=False)
    record = {**device, "work": work._asdict(), "ceilings": limits, "models": models}
    console.print(table_of(record))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_text(OUT, to_json(record, indent=1) + "\n")
    console.print(f"written: {OUT}", highlight=False)


if __name__ == "__main__":
    main()
