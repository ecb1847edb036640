"""The house rules, read from the source: layers, rooms, who may name what, no stray files.

Imports are found with ``ast``, also inside functions, so that no rule depends on what runs.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rvpo_jax"

# A module or package of rvpo_jax and its layer; a new one gets a line here. A module of a package
# has the layer of the package unless it is listed itself.
LAYERS = {
    # 0: pure maths, and what every room may use
    "types": 0,
    "config": 0,
    "basics": 0,
    "method": 0,
    "aggregators": 0,
    # 1: pure, given a model function; and what `import rvpo_jax` loads
    "__init__": 1,
    "method.step": 1,
    "method.sampling": 1,
    "method.optim": 1,
    "models": 1,
    # 2: one outside world each
    "models.params_io": 2,
    "data": 2,
    "rewards": 2,
    # 3: programs
    "run": 3,
    "train": 3,
    "auditing": 3,
    "lab": 3,
    "cli": 3,
    "__main__": 3,
}
# What layers 0 and 1 may import besides the standard library and lower layers.
LIBRARIES = {0: {"jax", "chex", "numpy"}, 1: {"jax", "chex", "numpy", "flax", "optax"}}
LIBRARIES_OF = {"config": set(), "method.schedules": LIBRARIES[0] | {"optax"}}
# What the package's own names lead to from inside a function.
FACADE = {"auditing", "rewards"}
# Only these modules may import these libraries, or name these things.
OWNERS = {"orbax": "run.checkpoint", "grain.checkpoint": "run.checkpoint", "tyro": "cli"}
DEVICE_NAMES = {"pmap", "shard_map", "Mesh", "make_mesh", "NamedSharding", "jax.distributed"}


def module_files():
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def listed(name):
    """The entry of LAYERS that covers a module, or None."""
    while name and name not in LAYERS:
        name = name.rpartition(".")[0]
    return name or None


def imports(source):
    """Dotted names that a module imports, with the imported name appended."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:  # importlib.import_module("x")
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            argument = node.args[0]
            if called in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield argument.value


def names(source):
    """Every name, attribute and imported name; ``jax.distributed`` as one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}"
    for imported in imports(source):
        yield imported
        yield imported.rpartition(".")[2]


def _inside(target, prefix):
    return target == prefix or target.startswith(prefix + ".")


def _imported_module(target):
    """The module of rvpo_jax behind an import such as ``rvpo_jax.types.Batch``."""
    name = target.removeprefix("rvpo_jax").lstrip(".")
    while name:
        path = PACKAGE.joinpath(*name.split("."))
        if path.with_suffix(".py").exists() or path.is_dir() or name in LAYERS:
            return name
        name = name.rpartition(".")[0]
    return "__init__"


def violations(name, source):
    """What the module ``name`` with this source does against the rules, as sentences."""
    me = listed(name)
    if me is None:
        return [f"{name} has no layer: add it to LAYERS in tests/test_architecture.py"]
    layer, found = LAYERS[me], []
    libraries = LIBRARIES_OF.get(name, LIBRARIES.get(layer))
    for target in imports(source):
        if target.startswith("."):
            found.append(f"{name} has the relative import {target}")
        elif _inside(target, "rvpo_jax"):
            other = _imported_module(target)
            entry = listed(other)
            if entry is None:
                found.append(f"{name} imports {other}, which has no layer")
            elif name == "__init__" and entry in FACADE:
                pass  # imported when called: `import rvpo_jax` loads none of it (tested below)
            elif LAYERS[entry] > layer or (entry == "__init__" and layer < 3):
                found.append(f"{name} (layer {layer}) imports {other} (layer {LAYERS[entry]})")
            elif layer == 2 and LAYERS[entry] == 2 and entry != me:
                found.append(f"{name} imports sideways from {other}")
            elif entry == "integrations" and me != "integrations":
                found.append(f"{name} imports {other}: nothing imports the integrations")
        elif libraries is not None:
            library = target.split(".")[0]
            if library not in libraries and library not in sys.stdlib_module_names:
                found.append(f"{name} (layer {layer}) imports {library}")
    for target in set(names(source)):
        for owned, owner in OWNERS.items():
            if _inside(target, owned) and not _inside(name, owner):
                found.append(f"{name} names {owned}: only {owner} may")
        if target in DEVICE_NAMES and name != "run.parallel":
            found.append(f"{name} names {target}: only parallel may")
    return found


@pytest.mark.parametrize("name", module_files())
def test_a_module_keeps_to_its_layer_and_names_only_what_it_owns(name):
    assert violations(name, module_files()[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        pytest.param("method.losses", "import flax", "imports flax", id="library of another layer"),
        pytest.param(
            "method.losses", "import optax", "imports optax", id="optax outside schedules"
        ),
        pytest.param("config", "import numpy", "imports numpy", id="config beyond stdlib"),
        pytest.param(
            "method.losses",
            "def f():\n  from rvpo_jax.method.step import x",
            "(layer 1)",
            id="in a function",
        ),
        pytest.param(
            "method.step", "from rvpo_jax import metrics", "(layer 2)", id="from the package"
        ),
        pytest.param(
            "method.step", "from rvpo_jax import __version__", "__init__", id="the package"
        ),
        pytest.param(
            "method.step", "from rvpo_jax.models import hf", "(layer 2)", id="listed submodule"
        ),
        pytest.param("run.metrics", "import rvpo_jax.train", "(layer 3)", id="a program"),
        pytest.param("run.metrics", "import rvpo_jax.data.tokenizer", "sideways", id="sideways"),
        pytest.param("data.rows", "import rvpo_jax.rewards", "sideways", id="sideways in package"),
        pytest.param("train", "import rvpo_jax.integrations", "integrations", id="integrations"),
        pytest.param("novelty", "", "has no layer", id="not listed"),
        pytest.param("data.rows", "from . import stream", "relative", id="relative import"),
        pytest.param("train", "import orbax.checkpoint as o", "only checkpoint", id="orbax"),
        pytest.param(
            "data.rows", "import grain; grain.checkpoint.X", "only checkpoint", id="grain"
        ),
        pytest.param("train", "import importlib as i\ni.import_module('tyro')", "cli", id="string"),
        pytest.param("train", "import jax\njax.pmap(f)", "only parallel", id="pmap"),
        pytest.param("method.step", "from jax.sharding import Mesh", "only parallel", id="Mesh"),
        pytest.param("train", "import jax\njax.distributed.x()", "only parallel", id="distributed"),
    ],
)
def test_the_rules_see(name, source, problem):
    assert any(problem in violation for violation in violations(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param("schedules", "import optax", id="optax in schedules"),
        pytest.param("data.rows", "from rvpo_jax.data.stream import x", id="inside one room"),
        pytest.param("models.hf", "from rvpo_jax.models import transformer", id="down"),
        pytest.param("config", "impl = 'pmap'", id="a string is not a name"),
        pytest.param("cli", "import tyro\nfrom rvpo_jax import __version__", id="a program"),
    ],
)
def test_the_rules_allow(name, source):
    assert violations(name, source) == []


def test_no_module_is_a_drawer():
    assert not {"utils.py", "common.py"} & {path.name for path in PACKAGE.rglob("*.py")}


def test_importing_the_package_loads_no_outside_world():
    heavy = "tensorflow matplotlib orbax grain tyro wandb pyarrow jinja2".split()
    program = f"import sys, rvpo_jax; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def repository_files():
    """Files that git tracks or would track; skips where this is not a git checkout."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of its files")
    paths = [ROOT / name for name in listing.split("\0") if name]
    return [path for path in paths if path.is_file()]


# A path of the machine that wrote it: absolute, so nothing of a path or host before it.
MACHINE_PATH = re.compile(rb"(?<![\w.~-])/(?:root|work)/")


@pytest.mark.parametrize(
    ("text", "is_machine_path"),
    [
        (b"see /" + b"root/x", True),
        (b'"/' + b'work/y"', True),
        (b"runs/work/x", False),
        (b"https://example.com/root/", False),
    ],
)
def test_a_machine_path_is_recognised(text, is_machine_path):
    assert bool(MACHINE_PATH.search(text)) == is_machine_path


def test_no_file_of_the_repository_names_a_path_of_the_machine_that_wrote_it():
    found = [path for path in repository_files() if MACHINE_PATH.search(path.read_bytes())]
    assert found == []
