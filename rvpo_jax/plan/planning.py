"""Plans: which meshes to try, each compiled in a process of its own and kept, and what follows."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rvpo_jax.basics.files import write_text
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.config import Config
from rvpo_jax.plan import dumps
from rvpo_jax.plan.chips import GIB, SLICES, Topology, parse_topology
from rvpo_jax.plan.meshes import Sizes, sensible_meshes, sizes_of, written
from rvpo_jax.run.parallel.choose import mesh_shape

PACKAGE = Path(__file__).resolve().parents[1]
MOST_COMPILED = 4  # meshes that are compiled for one slice where none is given
Say = Callable[[str], None]


def plan(
    config: Config, topology: Topology, mesh: str | None, say: Say, cache: Path
) -> list[dict[str, Any]]:
    """Compiles a run for a slice, on one mesh or on the sensible ones.

    Args:
      config: the run.
      topology: the slice.
      mesh: such as ``fsdp=16``; None: up to four, fewest collectives first, until one fits whose
        links take less time than its products. What is too large by shape alone is not compiled.
      say: takes lines about the progress.
      cache: folder where compiled plans are kept.

    Returns:
      A record for each mesh that was compiled. The one that is recommended comes first: of those
      that fit the one with the least time, and else the smallest. None: all are too large by shape.

    Raises:
      ValueError: if the mesh and the run do not go together, or no mesh does.
      ModuleNotFoundError: if libtpu is not installed.
    """
    check(config)
    if mesh:
        return _compile_all([mesh], config, topology, say, cache)
    meshes = _worth_compiling(config, topology, sizes_of(config), say)
    if meshes is None:
        raise Refusal(_undivided(config, topology), "Give a smaller --topology, or more prompts.")
    return _compile_all(meshes, config, topology, say, cache)


def _compile_all(
    meshes: list[str], config: Config, topology: Topology, say: Say, cache: Path
) -> list[dict[str, Any]]:
    """Plans of meshes, until one is as good as its products; the best first."""
    plans: list[dict[str, Any]] = []
    for one in meshes:
        say(f"compiling for {topology}, mesh {one}: some minutes")
        found = compiled(config, topology, one, cache)
        plans.append(summary(found, config, topology, one))
        best = plans[-1]
        if best["fits"] and best["links_s"] <= best["products_s"]:
            break
    return sorted(
        plans, key=lambda one: (not one["fits"], one["step_s"] if one["fits"] else one["needed"])
    )


def smallest(config: Config, kind: str, say: Say, cache: Path) -> list[dict[str, Any]]:
    """The smallest slice of a kind of chip that a run fits on, as ``plan`` finds it.

    Args:
      config: the run.
      kind: of ``chips.CHIPS``.
      say: takes lines about the progress.
      cache: folder where compiled plans are kept.

    Returns:
      The plans of that slice; of the last that was compiled where none fits; none where none was.

    Raises:
      ValueError: if the run's own options do not go together.
      ModuleNotFoundError: if libtpu is not installed.
    """
    check(config)
    sizes = sizes_of(config)
    found: list[dict[str, Any]] = []
    for size in SLICES[kind]:
        topology = parse_topology(f"{kind}:{size}")
        meshes = _worth_compiling(config, topology, sizes, say)
        if meshes is None:
            say(_undivided(config, topology))
            continue
        plans = _compile_all(meshes, config, topology, say, cache)
        found = plans or found
        if plans and plans[0]["fits"]:
            break
    return found


def _worth_compiling(
    config: Config, topology: Topology, sizes: Sizes, say: Say
) -> list[str] | None:
    """Meshes that may fit; None where none divides the prompts."""
    shapes = list(sensible_meshes(config, topology, sizes.kv_heads))
    if not shapes:
        return None
    least = {shape: sizes.least(shape) for shape in shapes}
    fit = [shape for shape in shapes if least[shape] <= topology.chip.memory]
    if not fit:
        say(
            f"{topology}: too small by shape: parameters, moments, gradients or cache take "
            f"{min(least.values()) / GIB:.1f} of {topology.chip.memory / GIB:.2f} GiB a chip"
        )
    return [written(shape) for shape in fit[:MOST_COMPILED]]


def _undivided(config: Config, topology: Topology) -> str:
    return (
        f"no mesh of {topology} divides rollout.num_prompts = {config.rollout.num_prompts} in "
        f"{config.loss.num_minibatches} minibatch(es)."
    )


def compiled(config: Config, topology: Topology, mesh: str, cache: Path) -> dict[str, Any]:
    """What ``compiling`` finds, in a process of its own; kept for the next time.

    Args:
      config: the run.
      topology: the slice.
      mesh: as written.
      cache: folder of what is kept.

    Returns:
      The record.

    Raises:
      Refusal: where the run refuses slice or mesh.
      Failure: where the compiler fails otherwise than for lack of memory.
    """
    request = {"config": config.to_dict(), "topology": str(topology), "mesh": mesh}
    kept = cache / f"{_key(request)}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # there is no machine to ask
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # its lock is for those who use a chip
    }
    with tempfile.TemporaryDirectory(prefix="rvpo-plan-") as dump:
        child = subprocess.run(
            [sys.executable, "-m", "rvpo_jax.plan.compiling"],
            input=json.dumps(request | {"dump": dump}),
            env=environment | {"XLA_FLAGS": dumps.flags(Path(dump))},
            capture_output=True,
            text=True,
            check=False,
        )
    if child.returncode:
        said = child.stderr.strip().splitlines() or ["nothing was said"]
        raise Failure(f"compiling for {topology}, mesh {mesh} failed: {said[-1]}")
    found = json.loads(child.stdout.splitlines()[-1])
    if "refused" in found:
        problem, _, remedy = found["refused"].partition("\n")
        raise Refusal(problem, remedy.strip() or "Change the mesh or the config.")
    cache.mkdir(parents=True, exist_ok=True)
    write_text(kept, json.dumps(found, indent=1))
    return found


def summary(found: dict[str, Any], config: Config, topology: Topology, mesh: str) -> dict[str, Any]:
    """What follows from a compiled plan: whether it fits, and the least time of a step.

    The bounds are those of peaks that no program reaches. The update takes at least the longest of
    its products, its traffic with the chip's memory and its collectives; sampling reads all
    parameters, the cache and that of the prompts for every token, and has its own collectives.

    Args:
      found: of ``compiled``.
      config: the run.
      topology: the slice.
      mesh: as written.

    Returns:
      The record with ``needed``, ``fits`` and the times in seconds.
    """
    chip = topology.chip
    shape = mesh_shape(mesh, topology.num_chips)
    tensor = 1 if shape is None else shape[2]
    state = found["parameters"] + found["frozen"] + found["optimizer"]
    step, sampler = found["step"], found["sampler"]
    needed = max(step["total"], state + sampler["total"])
    fits = "error" not in step and "error" not in sampler and needed <= chip.memory
    products = found["flops"] / topology.num_chips / chip.flops
    memory, links = step.get("traffic", 0) / chip.bandwidth, _moved(step) / chip.links
    rollout = config.rollout
    # Half of the completions' keys and values on average, and those of their prompts, which slots
    # copy and groups share.
    prompts = found["prompt_tokens"] / rollout.max_completion_tokens
    share = 0.5 + prompts / (1 if rollout.num_slots else rollout.group_size)
    reads = found["rounds"] * (found["sampling_copy"] + share * found["cache"] / tensor)
    moved = rollout.num_parts * _moved(sampler)
    sampling = max(reads / chip.bandwidth, moved / chip.links)
    least = max(products, memory, links) + sampling
    return found | {
        "topology": str(topology),
        "mesh": mesh,
        "memory": chip.memory,
        "needed": needed,
        "fits": fits,
        "products_s": products,
        "memory_s": memory,
        "links_s": links,
        "sampling_s": sampling,
        "step_s": least,
        "mfu_bound": found["model_flops"] / topology.num_chips / chip.flops / least,
    }


def _moved(program: dict[str, Any]) -> float:
    """Bytes through the links of a chip: an all-reduce moves those of its result twice."""
    moved = program.get("collectives") or {}
    return float(sum(size * (2 if kind == "all-reduce" else 1) for kind, size in moved.items()))


def check(config: Config) -> None:
    """Refuses what cannot be planned.

    Args:
      config: the run.

    Raises:
      Refusal: if a part of it is a function.
      ModuleNotFoundError: if libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "rvpo plan needs the TPU compiler.\n  pip install 'rvpo-jax[plan]'"
        )
    functions = [
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(config)
        if dataclasses.is_dataclass(part := getattr(config, section.name))
        for field in dataclasses.fields(part)
        for value in (getattr(part, field.name),)
        if any(callable(one) for one in (value if isinstance(value, tuple) else (value,)))
    ]
    if functions:
        raise Refusal(
            f"rvpo plan compiles in a process of its own, which functions cannot go to, got one "
            f"for {', '.join(functions)}.",
            "Leave it out for the plan: a rule, a loss or a reward hardly changes it; a model "
            "needs a preset or a folder.",
        )


def _key(request: dict[str, Any]) -> str:
    """Of the request, the versions that compile it, and the source of this package."""
    versions = [importlib.metadata.version(name) for name in ("jax", "libtpu", "flax", "optax")]
    digest = hashlib.sha256(json.dumps([request, versions], sort_keys=True).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]
