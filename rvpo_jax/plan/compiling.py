"""The real step and the real sampler of a run, compiled for a TPU slice. Run as a program.

Reads a request, JSON, from standard input and writes what it found, JSON, as the last line of
standard output. A process of its own: libtpu wants an environment that no ordinary run may have.
"""

import dataclasses
import json
import re
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from rvpo_jax.config import Config
from rvpo_jax.method.frozen import join
from rvpo_jax.plan.programs import bytes_by_kind, collectives
from rvpo_jax.plan.work import matmul_flops
from rvpo_jax.run.memory import bytes_on_device, longest_batch
from rvpo_jax.run.setup import Run, assemble, task_without_rows


def compile_run(config: Config, topology: str, mesh: str) -> dict[str, Any]:
    """Compiles a run for a slice.

    Args:
      config: the run.
      topology: such as ``v5e:4x4``.
      mesh: such as ``data=1,fsdp=16,tensor=1``.

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
    state = run.state_shapes()
    if run.policy.model.adapters is not None:
        frozen = jax.eval_shape(run.policy.model.init, jax.random.key(0))
        state = dataclasses.replace(state, frozen=run.policy.layout.shapes(frozen))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), longest_batch(run))
    found: dict[str, Any] = {
        "parameters": bytes_on_device(state.params),
        "frozen": bytes_on_device(state.frozen),
        "optimizer": bytes_on_device(state.opt_state),
        "gradients": bytes_on_device(state.params),
        "flops": matmul_flops(run.train_step.jaxpr(state, batch)),
    }
    found["step"] = _compiled(lambda: run.train_step.program(state, batch))
    found["sampler"] = _sampler(run, state, found)
    return found


def _sampler(run: Run, state: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The sampler's program; the sizes of its copy of the parameters and of its cache."""
    rollout, layout = run.config.rollout, run.policy.layout
    params = layout.sampling_shapes(join(state.params, state.frozen))
    cache = jax.eval_shape(
        lambda: run.policy.model.empty_cache(
            rollout.num_prompts // layout.num_shards,
            rollout.group_size,
            rollout.max_completion_tokens,
        )
    )
    found["sampling_copy"], found["cache"] = bytes_on_device(params), bytes_on_device(cache)
    num, width = rollout.num_prompts, run.task.prompt_tokens
    arrays = (
        jax.ShapeDtypeStruct((num, width), np.int32),
        jax.ShapeDtypeStruct((num, width), bool),
        jax.ShapeDtypeStruct((num,), jax.random.key(0).dtype),
        jax.ShapeDtypeStruct((num, rollout.group_size), bool),
    )
    sample = run.policy.mapped_sampler(rollout.group_size)
    return _compiled(lambda: sample.program(params, arrays), rollout.max_completion_tokens)


def _compiled(compile_it: Any, rounds: int = 1) -> dict[str, Any]:
    """Memory and collectives of a program; where it does not fit, what the compiler said."""
    start = time.monotonic()
    try:
        program = compile_it()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+)([GM]) of", str(error))
        size = float(used[1]) * (2**30 if used[2] == "G" else 2**20) if used else None
        return {"total": size, "error": str(error)[:4000], "seconds": time.monotonic() - start}
    memory = program.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes + results,
        "collectives": _moved(program, rounds),
        "seconds": time.monotonic() - start,
    }


def _moved(program: Any, rounds: int) -> dict[str, int] | None:
    """Bytes by kind; None where libtpu compiles a program and then cannot write it down."""
    try:
        return bytes_by_kind(collectives(program.as_text(), rounds))
    except jax.errors.JaxRuntimeError:
        return None


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    try:
        config = Config.from_dict(request["config"])
        found = compile_run(config, request["topology"], request["mesh"])
    except ValueError as error:
        found = {"refused": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
