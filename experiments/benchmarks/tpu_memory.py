"""Temporaries of one microbatch on a TPU chip, from the real TPU compiler, without a TPU.

    pip install 'rvpo-jax[plan]'
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python experiments/benchmarks/tpu_memory.py

Qwen2.5-1.5B's shape in bfloat16 with every layer recomputed: prompts of 2,048 tokens, four
completions of 1,024. Compiled is the gradient of a policy loss for one, two and four prompts. Near
the chip's limit the compiler trades time for memory, so that sizes there need not grow evenly.
"""

import argparse
import os
import re

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before JAX: libtpu is for the compiler alone
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

from rvpo_jax.method.losses import token_logprobs
from rvpo_jax.method.vocabulary import vocabulary_logprobs
from rvpo_jax.models.presets import architecture
from rvpo_jax.models.transformer import Transformer, init_params

P, C, G = 2048, 1024, 4
NUM_PROMPTS = (1, 2, 4)
GIB = 2**30
# How completions attend, and whether the logits exist all at once.
VARIANTS = {
    "before: two streams, all logits": ("streams", False),
    "two streams, logits in chunks": ("streams", True),
    "after: splash kernel, logits in chunks": ("splash", True),
}


def gradient(preset: str, attention: str, chunked: bool):
    """The gradient of a weighted sum of logprobs and entropies, and the shapes of parameters."""
    arch = architecture(preset, 1000)
    model = Transformer(arch, dtype=jnp.bfloat16, remat=True, attention=attention)
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    # In bfloat16, so that one chip holds them and their gradient; on a pod they are sharded.
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)

    def loss(params, prompts, mask, completions, weights):
        inputs = ({"params": params}, prompts, mask, completions)
        if chunked:
            states = model.apply(*inputs, method="states")
            table = params["embed"]["embedding"]
            logprobs, entropy = vocabulary_logprobs(states, table, completions)
        else:
            logprobs, entropy = token_logprobs(model.apply(*inputs), completions)
        return jnp.sum(weights * logprobs + 0.01 * entropy)

    return jax.grad(loss), shapes


def temporaries(
    topology: str, preset: str, attention: str, chunked: bool, num: int
) -> tuple[float, bool]:
    """GiB beside arguments and results for so many prompts, and whether that fits the chip."""
    device = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    sharding = NamedSharding(Mesh(np.array([device]), ("data",)), PartitionSpec())
    function, shapes = gradient(preset, attention, chunked)
    batch = (
        jax.ShapeDtypeStruct((num, P), jnp.int32),
        jax.ShapeDtypeStruct((num, P), bool),
        jax.ShapeDtypeStruct((num, G, C), jnp.int32),
        jax.ShapeDtypeStruct((num, G, C), jnp.float32),
    )
    jitted = jax.jit(function, in_shardings=sharding, out_shardings=sharding)
    try:
        analysis = jitted.lower(shapes, *batch).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"temporaries \(([\d.]+)G\)", str(error))
        if needed is None:
            raise
        return float(needed[1]), False
    return analysis.temp_size_in_bytes / GIB, True


def main() -> None:
    """A line per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2", help="whose chip, such as v5e:2x2")
    parser.add_argument("--preset", default="qwen2.5-1.5b")
    args = parser.parse_args()
    table = Table(title=f"{args.preset} on a chip of {args.topology}, GiB of temporaries")
    table.add_column("step")
    for num in NUM_PROMPTS:
        table.add_column(f"{num} prompt{'s' * (num > 1)}", justify="right")
    table.add_column("per prompt, of the most", justify="right")
    for name, (attention, chunked) in VARIANTS.items():
        found = [
            temporaries(args.topology, args.preset, attention, chunked, num) for num in NUM_PROMPTS
        ]
        cells = [f"{size:.2f}{'' if fits else ' (does not fit)'}" for size, fits in found]
        table.add_row(name, *cells, f"{found[-1][0] / NUM_PROMPTS[-1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
