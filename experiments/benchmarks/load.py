"""How much host memory loading a Hugging Face folder takes beyond the parameters.

python experiments/benchmarks/load.py [--smoke]

The promise: at most twice the largest tensor of the folder and 200 MB, file pages excluded. Folders
of random weights in Qwen2's shape, 24 layers, are loaded by a process of its own; this one reads
its RssAnon every millisecond from before the load to its end. RssAnon is what the promise names:
memory of the process that no file backs (VmHWM, the kernel's own maximum, has the file's pages in
it, and their maximum need not be at the same time). A sample a millisecond misses what is touched
and freed within it, which is not more than some MB. On a CPU the parameters are in the same memory
and are subtracted; what compiling and first imports leave behind is counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file, save_file

from rvpo_jax.config import ModelConfig
from rvpo_jax.models import build_model
from rvpo_jax.models.hf import INDEX, SINGLE, load_weights, read_sources, tensors_of

CONFIG = {
    "model_type": "qwen2",
    "vocab_size": 32_000,
    "num_hidden_layers": 24,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1536,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}
SMOKE = CONFIG | {"vocab_size": 4_000, "hidden_size": 128, "intermediate_size": 384}
ALLOWED = 200_000_000  # bytes, beside twice the largest tensor
CASES = [
    # type in the folder, type of the parameters, files
    ("float32", "float32", 1),
    ("float32", "float32", 3),
    ("bfloat16", "float32", 1),
    ("bfloat16", "float32", 3),
    ("bfloat16", "bfloat16", 3),
]


class Peak(NamedTuple):
    """What a load took, in bytes."""

    params: int
    largest: int  # tensor of the folder, as it is there
    beyond: int  # peak beside the parameters
    left: int  # at the end beside the parameters

    @property
    def allowed(self) -> int:
        return 2 * self.largest + ALLOWED


def write_folder(folder: Path, config: dict, dtype: str, num_files: int) -> None:
    """Random weights with the names and shapes of a model, in one file or several and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    tensors = {
        t.name: rng.standard_normal(t.shape, np.float32).astype(jnp.dtype(dtype))
        for t in tensors_of(_shapes(folder, "float32"))
    }
    names = list(tensors)
    files = {f"part-{i}.safetensors" if num_files > 1 else SINGLE: names[i::num_files]
             for i in range(num_files)}  # fmt: skip
    for file, members in files.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    if num_files > 1:
        weight_map = {name: file for file, members in files.items() for name in members}
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def _shapes(folder: Path, dtype: str) -> Any:
    """Shapes of the parameters of a folder, in a type of choice."""
    config = json.loads((folder / "config.json").read_text())
    model = build_model(ModelConfig(path=str(folder)), config["vocab_size"])
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype)), shapes)


def load_when_told(folder: Path, dtype: str, whole_files: bool) -> None:
    """The process that is watched: says that it is ready, loads, says how large the result is."""
    shapes = _shapes(folder, dtype)
    jax.block_until_ready(jax.jit(jnp.sum)(jnp.ones(8)))  # the backend is up
    print("ready", flush=True)
    sys.stdin.readline()
    held = [load_file(file) for file in folder.glob("*.safetensors")] if whole_files else []
    params = jax.block_until_ready(load_weights(folder, shapes))
    print(sum(x.nbytes for x in jax.tree.leaves(params)), flush=True)
    sys.stdin.readline()
    del held


def measure(folder: Path, dtype: str = "float32", whole_files: bool = False) -> Peak:
    """Loads a folder in a process of its own and watches its memory.

    With ``whole_files`` the process reads all files into memory first, as a loader that does not
    stream would: what a measure must not miss.
    """
    command = [sys.executable, __file__, "--watched", str(folder), dtype, str(int(whole_files))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None and stdout is not None
        if not stdout.readline():
            raise SystemExit("The process that loads ended before it began: see above.")
        before = peak = _anonymous(process.pid)
        answer: list[str] = []
        waiting = threading.Thread(target=lambda: answer.append(stdout.readline()))
        waiting.start()
        stdin.write("go\n")
        stdin.flush()
        while waiting.is_alive():
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.001)
        params, after = int(answer[0]), _anonymous(process.pid)
        stdin.write("end\n")
    sizes = [
        int(np.prod(source.shape)) * {"F32": 4, "BF16": 2}[source.dtype]
        for source in read_sources(folder).values()
    ]
    here = params if jax.default_backend() == "cpu" else 0
    return Peak(params, max(sizes), peak - before - here, after - before - here)


def _anonymous(pid: int) -> int:
    """Bytes of a process' memory that no file backs; 0 after its end."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """A line per case: size of the parameters, largest tensor, peak beyond, what is left of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a small model, in seconds")
    parser.add_argument("--watched", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.watched:
        folder, dtype, whole_files = args.watched
        load_when_told(Path(folder), dtype, whole_files == "1")
        return
    table = Table(title=f"host memory of loading, MB, parameters on {jax.default_backend()}")
    for name in ("folder", "parameters", "size", "largest", "beyond", "left", "allowed"):
        table.add_column(name, justify="right")
    for stored, wanted, num_files in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_folder(folder, SMOKE if args.smoke else CONFIG, stored, num_files)
            peak = measure(folder, wanted)
        sizes = (peak.params, peak.largest, peak.beyond, peak.left, peak.allowed)
        files = f"{stored}, {num_files} file{'s' if num_files > 1 else ''}"
        table.add_row(files, wanted, *(f"{size / 1e6:.0f}" for size in sizes))
    Console().print(table)


if __name__ == "__main__":
    main()
