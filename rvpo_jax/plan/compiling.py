"""The real step and the real sampler of a run, compiled for a TPU slice. Run as a program.

Reads a request, JSON, from standard input and writes what it found, JSON, as the last line of
standard output. A process of its own: libtpu wants an environment that no ordinary run may have.
"""

import dataclasses
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from rvpo_jax.config import Config
from rvpo_jax.method.frozen import join
from rvpo_jax.models.flops import forward_flops
from rvpo_jax.models.from_config import architecture_of
from rvpo_jax.plan import dumps
from rvpo_jax.plan.meshes import whole_state
from rvpo_jax.plan.programs import bytes_by_kind, collectives
from rvpo_jax.plan.traffic import traffic
from rvpo_jax.plan.work import matmul_flops
from rvpo_jax.run.memory import bytes_on_device, cache_bytes, longest_batch
from rvpo_jax.run.setup import Run, assemble, task_without_rows


def compile_run(config: Config, topology: str, mesh: str, dump: Path) -> dict[str, Any]:
    """Compiles a run for a slice.

    Args:
      config: the run.
      topology: such as ``v5e:4x4``.
      mesh: such as ``data=1,fsdp=16,tensor=1``.
      dump: the folder that XLA writes its programs to, of ``dumps.flags``.

    Returns:
      Bytes of a chip, work and collectives, as JSON can hold them.

    Raises:
      ValueError: if model, mesh and batch do not go together.
    """
    description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    model = config.model
    if model.attention == "auto":  # asks which devices there are: a CPU
        model = dataclasses.replace(model, attention="splash")
    parallel = dataclasses.replace(config.parallel, impl="mesh", mesh=mesh)
    config = dataclasses.replace(config, model=model, parallel=parallel)
    run = assemble(config, task_without_rows(config), description.devices)
    state = whole_state(run)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), longest_batch(run))
    found: dict[str, Any] = {
        "parameters": bytes_on_device(state.params),
        "frozen": bytes_on_device(state.frozen),
        "optimizer": bytes_on_device(state.opt_state),
        "gradients": bytes_on_device(state.params),
        "flops": matmul_flops(run.train_step.jaxpr(state, batch)),
        "model_flops": _model_flops(run),
        "prompt_tokens": run.task.prompt_tokens,
    }
    step = run.train_step
    found["step"] = _compiled(lambda: step.program(state, batch), state, dump)
    found["sampler"] = _sampler(run, state, found, dump)
    return found


def _sampler(run: Run, state: Any, found: dict[str, Any], dump: Path) -> dict[str, Any]:
    """The sampler's program; the sizes of its copy of the parameters and of its cache."""
    rollout, layout = run.config.rollout, run.policy.layout
    params = layout.sampling_shapes(join(state.params, state.frozen))
    found["sampling_copy"], found["cache"] = bytes_on_device(params), cache_bytes(run)
    num, width = rollout.prompts_at_once, run.task.prompt_tokens
    arrays = (
        jax.ShapeDtypeStruct((num, width), np.int32),
        jax.ShapeDtypeStruct((num, width), bool),
        jax.ShapeDtypeStruct((num,), jax.random.key(0).dtype),
        jax.ShapeDtypeStruct((num, rollout.group_size), bool),
    )
    # Full completions, one wave of slots after the other.
    own = num // layout.num_shards * rollout.group_size
    waves = -(-own // (run.policy.num_slots(rollout.group_size) or own))
    rounds = waves * rollout.max_completion_tokens
    found["rounds"] = rollout.num_parts * rounds
    sample = run.policy.mapped_sampler(rollout.group_size)
    return _compiled(lambda: sample.program(params, arrays), params, dump, rounds)


def _model_flops(run: Run) -> float:
    """Operations of a step that no layer is recomputed in: sampling 1, update 3 forward passes.

    With adapters the update has 2: gradients of activations alone.
    """
    rollout, arch = run.config.rollout, architecture_of(run.config.model, 0)[0]
    forward = sum(
        forward_flops(
            arch,
            rollout.num_prompts,
            rollout.group_size,
            run.task.prompt_tokens,
            rollout.max_completion_tokens,
        )
    )
    return forward * (1 + (2 if run.config.model.lora_rank else 3))


def _compiled(compile_it: Any, arguments: Any, dump: Path, rounds: int = 1) -> dict[str, Any]:
    """What a program needs of a chip; of one that does not fit, what the compiler says of it."""
    start = time.monotonic()
    try:
        memory = compile_it().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        over = re.search(r"temporaries \(([\d.]+)([GM])\) exceeds", str(error))
        if "RESOURCE_EXHAUSTED" not in str(error) or over is None:
            raise
        temporaries = int(float(over[1]) * (2**30 if over[2] == "G" else 2**20))
        total = bytes_on_device(arguments) + temporaries
        found = {"temporaries": temporaries, "total": total, "error": str(error).splitlines()[0]}
    else:
        results = memory.output_size_in_bytes - memory.alias_size_in_bytes
        found = {
            "temporaries": memory.temp_size_in_bytes,
            "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes + results,
        }
    text, buffers = dumps.take(dump)
    found |= {"buffers": buffers, "seconds": time.monotonic() - start}
    if text is not None:
        found["collectives"] = bytes_by_kind(collectives(text, rounds))
        found["traffic"] = traffic(text, rounds)
    return found


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    try:
        config = Config.from_dict(request["config"])
        dump = Path(request["dump"])
        found = compile_run(config, request["topology"], request["mesh"], dump)
    except ValueError as error:
        found = {"refused": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
