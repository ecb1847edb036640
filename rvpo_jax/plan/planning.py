"""Plans: which meshes to try, each compiled in a process of its own and kept, and what follows."""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rvpo_jax.basics.files import write_text
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.config import Config
from rvpo_jax.models.presets import PRESETS
from rvpo_jax.plan.chips import Topology

PACKAGE = Path(__file__).resolve().parents[1]
MOST_COMPILED = 4  # meshes that are compiled for one slice where none is given


def plan(
    config: Config, topology: Topology, mesh: str | None, say: Callable[[str], None], cache: Path
) -> list[dict[str, Any]]:
    """Compiles a run for a slice, on one mesh or on the sensible ones.

    Args:
      config: the run.
      topology: the slice.
      mesh: such as ``fsdp=16``; None: up to four, until one fits.
      say: takes lines about the progress.
      cache: folder where compiled plans are kept.

    Returns:
      A record for each mesh that was compiled; the one that is recommended, the first that fits and
      else the smallest, comes first.

    Raises:
      ValueError: if the mesh and the run do not go together, or no mesh does.
      ModuleNotFoundError: if libtpu is not installed.
    """
    _check(config)
    tried = [mesh] if mesh else list(sensible_meshes(config, topology))[:MOST_COMPILED]
    if not tried:
        raise Refusal(
            f"no mesh of {topology} divides rollout.num_prompts = {config.rollout.num_prompts} in "
            f"{config.loss.num_minibatches} minibatch(es).",
            "Give a smaller --topology, or more prompts.",
        )
    plans: list[dict[str, Any]] = []
    for one in tried:
        say(f"compiling for {topology}, mesh {one}: some minutes")
        found = compiled(config, topology, one, cache)
        plans.append(summary(found, config, topology, one))
        if plans[-1]["fits"]:
            break
    return sorted(plans, key=lambda found: (not found["fits"], found["needed"]))


def sensible_meshes(config: Config, topology: Topology) -> Iterator[str]:
    """Meshes that divide the batch and the heads, fewest collectives first.

    Args:
      config: the run.
      topology: the slice.

    Yields:
      Meshes: fully split parameters without tensor shards, then with more and more of them.
    """
    num, preset = topology.num_chips, PRESETS.get(str(config.model.preset), {})
    for tensor in (1, 2, 4):
        shards = num // tensor
        per_minibatch = config.rollout.num_prompts // config.loss.num_minibatches
        if per_minibatch % shards == 0 and preset.get("num_kv_heads", 1) % tensor == 0:
            yield f"data=1,fsdp={shards},tensor={tensor}"


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
    environment.pop("XLA_FLAGS", None)
    child = subprocess.run(
        [sys.executable, "-m", "rvpo_jax.plan.compiling"],
        input=json.dumps(request),
        env=environment,
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

    The bounds are those of peaks that no program reaches: products at the chip's peak, links at
    theirs (an all-reduce moves its bytes twice), while sampling every token reads all parameters.

    Args:
      found: of ``compiled``.
      config: the run.
      topology: the slice.
      mesh: as written.

    Returns:
      The record with ``needed``, ``fits``, ``spare`` and the times in seconds.
    """
    chip = topology.chip
    state = found["parameters"] + found["frozen"] + found["optimizer"]
    step, sampler = found["step"], found["sampler"]
    totals = [step["total"], None if sampler["total"] is None else state + sampler["total"]]
    needed = None if None in totals else max(totals)
    moved = step.get("collectives") or {}
    num_bytes = sum(size * (2 if kind == "all-reduce" else 1) for kind, size in moved.items())
    products = found["flops"] / topology.num_chips / chip.flops
    reads = config.rollout.max_completion_tokens * (found["sampling_copy"] + found["cache"] / 2)
    sampling = reads / chip.bandwidth
    update = max(products, num_bytes / chip.links)
    return found | {
        "topology": str(topology),
        "mesh": mesh,
        "memory": chip.memory,
        "needed": needed if needed is not None else float("inf"),
        "fits": needed is not None
        and "error" not in step
        and "error" not in sampler
        and needed <= chip.memory,
        "products_s": products,
        "links_s": num_bytes / chip.links,
        "sampling_s": sampling,
        "step_s": update + sampling,
        "peak_share_bound": products / (update + sampling),
    }


def _check(config: Config) -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            "rvpo plan needs the TPU compiler.\n  pip install 'rvpo-jax[plan]'"
        )
    if config.model.path is None and callable(config.model.preset):
        raise Refusal(
            "rvpo plan takes a model by name, got a function.", "Give --model.preset or a folder."
        )


def _key(request: dict[str, Any]) -> str:
    """Of the request, the versions that compile it, and the source of this package."""
    versions = [importlib.metadata.version(name) for name in ("jax", "libtpu", "flax", "optax")]
    digest = hashlib.sha256(json.dumps([request, versions], sort_keys=True).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]
