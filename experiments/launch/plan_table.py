"""The smallest slices for the paper's shapes, compiled for TPUs on a machine without one.

    pip install 'rvpo-jax[plan]'
    python experiments/launch/plan_table.py [--rows TEXT] [--check 3]

A row that is compiled, in two to thirty minutes, is kept in plans/ and not compiled again: remove
its file, or stop and go on at any time. All rows that are there are written into README.md.
--check compiles rows again on the slice and mesh that they name, and compares.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from rvpo_jax.basics.files import to_json, write_text
from rvpo_jax.config import Config, LossConfig, ModelConfig, RolloutConfig
from rvpo_jax.plan.chips import GIB, parse_topology
from rvpo_jax.plan.planning import plan, smallest

HERE = Path(__file__).parent
KEPT = HERE / "plans"
SHAPES = {
    "tool calling": dict(
        rollout=RolloutConfig(
            num_prompts=512,
            group_size=4,
            max_prompt_tokens=2048,
            max_completion_tokens=1024,
            num_slots=64,
        ),
        loss=LossConfig(num_minibatches=4, microbatch_size=1),
    ),
    "rubrics": dict(
        rollout=RolloutConfig(
            num_prompts=96,
            group_size=16,
            max_prompt_tokens=1024,
            max_completion_tokens=2560,
            num_slots=64,
        ),
        loss=LossConfig(microbatch_size=1),
    ),
}
LORA_RANK = 32
MODELS = {
    "1.5B": ("qwen2.5-1.5b", 0),
    "3B": ("qwen2.5-3b", 0),
    "7B": ("qwen2.5-7b", 0),
    "14B": ("qwen2.5-14b", 0),
    "14B LoRA": ("qwen2.5-14b", LORA_RANK),
}
KINDS = ("v5p", "v5e", "v6e")
GROWTH = ("v5p:2x2x4", "v5p:2x4x4", "v5p:4x4x4", "v5p:4x4x8", "v5p:4x8x8", "v5p:8x8x8")
COMPARED = ("needed", "flops", "sampling_copy")


def config_of(shape: str, model: str) -> Config:
    """A run of the table: bfloat16 products, recomputed layers, one prompt of a shard at once."""
    preset, rank = MODELS[model]
    options = ModelConfig(preset=preset, dtype="bfloat16", remat=True, lora_rank=rank)
    return Config(model=options, **SHAPES[shape])


def rows() -> Iterator[tuple[str, str, str]]:
    """Shape, model, and a kind of chip or a slice; what is asked for most comes first."""
    for shape in SHAPES:
        for kind in KINDS:
            yield from ((shape, model, kind) for model in MODELS)
        if shape == "tool calling":
            yield from ((shape, "7B", slice_) for slice_ in GROWTH)


def file_of(row: tuple[str, str, str]) -> Path:
    """Where a row is kept."""
    return KEPT / ("-".join(row).replace(" ", "_").replace(":", "_") + ".json")


def compile_row(row: tuple[str, str, str]) -> None:
    """Compiles a row and keeps it."""
    shape, model, where = row
    config = config_of(shape, model)
    with tempfile.TemporaryDirectory() as folder:
        if ":" in where:
            found = plan(config, parse_topology(where), None, tell, Path(folder))
        else:
            found = smallest(config, where, tell, Path(folder))
    record = found[0] if found else {}
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu", "rvpo-jax")}
    KEPT.mkdir(exist_ok=True)
    write_text(file_of(row), to_json(record | {"versions": versions}, indent=1))


def tell(line: str) -> None:
    """A line about the progress."""
    print(line, file=sys.stderr, flush=True)


def check(num_rows: int) -> int:
    """Compiles rows again, spread over those that are kept; the exit code."""
    kept = [row for row in rows() if "topology" in read(row)]
    failed = 0
    for row in kept[:: max(len(kept) // num_rows, 1)][:num_rows]:
        old = read(row)
        config = config_of(*row[:2])
        with tempfile.TemporaryDirectory() as folder:
            slice_ = parse_topology(old["topology"])
            new = plan(config, slice_, old["mesh"], tell, Path(folder))[0]
        apart = {name: new[name] / old[name] - 1 for name in COMPARED}
        failed += any(abs(share) > 0.01 for share in apart.values())
        listed = ", ".join(f"{name} {share:+.2%}" for name, share in apart.items())
        print(f"{' '.join(row)}: {listed}", flush=True)
    return 1 if failed or not kept else 0


def read(row: tuple[str, str, str]) -> dict[str, Any]:
    """What is kept of a row; empty where nothing is."""
    file = file_of(row)
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def table(shape: str) -> list[str]:
    """The table of a shape, as Markdown."""
    lines = [
        "| model | slice, mesh | parameters, moments | step's temporaries | sampler: copy, "
        "temporaries | needed of a chip | products, memory, links, sampling | step, MFU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows():
        found = read(row)
        if row[0] != shape or ":" in row[2] or not found:
            continue
        lines.append(f"| {row[1]} | {cells(row, found)} |")
    return lines


def cells(row: tuple[str, str, str], found: dict[str, Any]) -> str:
    """The cells of a row after its name."""
    if "topology" not in found:
        return f"no slice of {row[2]} that its prompts divide is large enough | | | | | | "
    gib = {name: size / GIB for name, size in found.items() if isinstance(size, int | float)}
    verdict = "" if found["fits"] else "; **does not fit, nor does a smaller one**"
    times = [found[f"{name}_s"] for name in ("products", "memory", "links", "sampling")]
    return " | ".join(
        (
            f"{found['topology']}, {short(found['mesh'])}",
            f"{gib['parameters'] + gib['frozen']:.2f}, {gib['optimizer']:.2f} GiB",
            f"{found['step']['temporaries'] / GIB:.2f} GiB",
            f"{gib['sampling_copy']:.2f}, {found['sampler']['temporaries'] / GIB:.2f} GiB",
            f"{gib['needed']:.2f} of {gib['memory']:.2f} GiB{verdict}",
            ", ".join(f"{seconds:.1f}" for seconds in times) + " s",
            f"{found['step_s']:.1f} s, {found['mfu_bound']:.0%}",
        )
    )


def short(mesh: str) -> str:
    """A mesh without its axes of one chip."""
    return ",".join(part for part in mesh.split(",") if not part.endswith("=1"))


def growth() -> list[str]:
    """7B on more and more chips, as Markdown."""
    lines = [
        "| slice, mesh | needed of a chip | a step | chip-milliseconds per token | all-gather, "
        "all-reduce, permute of a chip | links' share |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rollout = SHAPES["tool calling"]["rollout"]
    tokens = rollout.num_prompts * rollout.group_size * rollout.max_completion_tokens
    for slice_ in GROWTH:
        found = read(("tool calling", "7B", slice_))
        if "topology" not in found:
            continue
        moved = found["step"].get("collectives", {})
        kinds = ("all-gather", "all-reduce", "collective-permute")
        cost = 1e3 * found["step_s"] * parse_topology(slice_).num_chips / tokens
        lines.append(
            f"| {slice_}, {short(found['mesh'])} | {found['needed'] / GIB:.1f} GiB "
            f"| {found['step_s']:.1f} s | {cost:.3f} "
            f"| {', '.join(f'{moved.get(kind, 0) / GIB:.0f}' for kind in kinds)} GiB "
            f"| {found['links_s'] / found['step_s']:.0%} |"
        )
    return lines


def with_tables(text: str) -> str:
    """The README with the tables of all kept rows between their marks."""
    parts = {name: table(name) for name in SHAPES} | {"growth": growth()}
    for name, lines in parts.items():
        start, end = f"<!-- plans: {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(start)
        text = before + start + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return text


def write_readme() -> None:
    """Puts the tables into README.md."""
    write_text(HERE / "README.md", with_tables((HERE / "README.md").read_text()))


def main() -> int:
    """Compiles what is missing, or checks what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="only rows whose names hold this text")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="compile N rows again")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    if args.check:
        return check(args.check)
    for row in rows():
        if args.rows in " ".join(row) and not file_of(row).is_file():
            tell(f"{' '.join(row)}:")
            compile_row(row)
            write_readme()
    write_readme()
    return 0


if __name__ == "__main__":
    sys.exit(main())
