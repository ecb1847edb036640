"""The house rules, read from the source: rooms and doors, who may name what, sizes, stray files.

Imports are found with ``ast``, also inside functions, so that no rule depends on what runs.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rvpo_jax"

# A room (a folder or a module of rvpo_jax) and what its modules may import besides each other: a
# room, or a module of one. Arrows go one way: basics, config, types <- method <- models, data,
# rewards <- run <- train. The audit stands beside them, and a run ends with one.
WORLDS = ("models", "data", "rewards")
PURE = ("basics", "config", "types", "method")
ROOMS = {
    "basics": (),
    "config": ("basics",),
    "types": ("basics",),
    "method": ("basics", "config", "types"),
    "aggregators": ("basics", "method"),
    **dict.fromkeys(WORLDS, PURE),
    "run": (*PURE, *WORLDS),
    "auditing": ("basics",),
    "what_if": ("basics", "config", "method", "auditing"),
    "train": (*PURE, *WORLDS, "run", "auditing"),
    "plan": (*PURE, *WORLDS, "run"),
    "lab": (*PURE, *WORLDS, "run", "auditing", "train"),
    "integrations": (*PURE, "rewards"),
    "__init__": ("basics", "config", "types", "method", "rewards", "auditing", "what_if"),
    "cli": (*PURE, *WORLDS, "run", "auditing", "what_if", "train", "lab", "plan", "__init__"),
    "__main__": ("cli",),
}
# Others import the room itself or its door for programs, never another module behind it.
DOORS = {"auditing": ("auditing", "auditing.command")}
# Also the source of the wheel rvpo-audit, under the name rvpo_audit: imports are relative there,
# and nowhere else.
PORTABLE = ("auditing", "basics")
# What a room may import besides the standard library; a room that is not here, anything.
LIBRARIES = {
    "basics": {"numpy"},
    "config": set(),
    "types": {"jax"},
    "method": {"jax", "chex", "numpy", "optax"},
    "rewards": {
        "numpy",
        "httpx2",
        "jsonschema",
        "langdetect",
        "nltk",
        "punkt",
        "referencing",
        "regex",
        "tenacity",
    },
    "integrations": {"jax", "numpy", "tunix"},
    "auditing": {"numpy", "pyarrow", "jinja2", "markupsafe", "rich", "tyro", "fsspec"},
}
# What a room may import only inside a function: what_if is loaded before anybody needs JAX, and
# other trainers, the clients of buckets and the libraries of single rewards need not be installed.
DEFERRED = {
    "what_if": ("method", "jax"),
    "integrations": ("tunix",),
    "auditing": ("fsspec",),
    "rewards": (
        "httpx2",
        "jsonschema",
        "langdetect",
        "nltk",
        "punkt",
        "referencing",
        "regex",
        "tenacity",
    ),
    "run": ("etils", "fsspec", "google"),
}
# Only these modules or rooms may import these libraries, or name these things.
OWNERS = {
    "orbax": ("run.checkpoint",),
    "grain.checkpoint": ("run.checkpoint",),
    "tyro": ("cli", "auditing.command"),
    "etils": ("run.bucket",),
    "google": ("run.lock",),
    "langdetect": ("rewards.instructions.language",),
    "nltk": ("rewards.instructions.sentences",),
    "punkt": ("rewards.instructions.sentences",),
    "httpx2": ("rewards.judge.http",),
    "tenacity": ("rewards.judge.retries",),
}
DEVICE_NAMES = {"pmap", "shard_map", "Mesh", "make_mesh", "NamedSharding", "jax.distributed"}
DEVICE_OWNER = "run.parallel"

MAX_FILE = 400
MAX_FUNCTION = 40  # lines of its own: without signature, docstring and functions inside it
# Longer today, and how long: the aim is an empty table. An entry that is no longer needed fails.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


def module_files():
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(name):
    """The room of a module, or None."""
    room = name.split(".")[0]
    return room if room in ROOMS else None


def imports(source):
    """Pairs: a dotted name that a module imports, with the imported name appended; and whether
    that happens when the module is loaded."""
    tree = ast.parse(source)
    later = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        or (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        for target in _targets(node):
            yield target, id(node) not in later


def _targets(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = "." * node.level + (f"{node.module}." if node.module else "")
        return [f"{base}{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args:  # importlib.import_module("x")
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        argument = node.args[0]
        if called in ("import_module", "__import__") and isinstance(argument, ast.Constant):
            return [argument.value]
    return []


def names(source):
    """Every name, attribute and imported name; ``jax.distributed`` as one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}"
    for imported, _ in imports(source):
        yield imported
        yield imported.rpartition(".")[2]


def absolute(name, target):
    """The full name of what the module ``name`` of rvpo_jax imports as ``..log.Note``."""
    path = target.lstrip(".")
    level = len(target) - len(path)
    if not level:
        return target
    is_package = (PACKAGE.joinpath(*name.split(".")) / "__init__.py").exists()
    parents = ["rvpo_jax", *name.split(".")]
    kept = parents[: len(parents) - level + is_package]
    return ".".join([*kept, path])


def _inside(target, prefix):
    return target == prefix or target.startswith(prefix + ".")


def imported_module(target):
    """The module of rvpo_jax behind an import such as ``rvpo_jax.types.Batch``."""
    name = target.removeprefix("rvpo_jax").lstrip(".")
    while name:
        path = PACKAGE.joinpath(*name.split("."))
        if path.with_suffix(".py").exists() or path.is_dir() or name in ROOMS:
            return name
        name = name.rpartition(".")[0]
    return "__init__"


def violations(name, source):
    """What the module ``name`` with this source does against the rules, as sentences."""
    room = room_of(name)
    if room is None:
        return [f"{name} has no room: add it to ROOMS in tests/test_architecture.py"]
    found = []
    for written, at_once in imports(source):
        target = absolute(name, written)
        if target != written and room not in PORTABLE:
            found.append(f"{name} has the relative import {written}")
        if target == written and room in PORTABLE and _inside(target, "rvpo_jax"):
            found.append(f"{name} imports {target} by its full name: the audit has two names")
        if _inside(target, "rvpo_jax"):
            found += _against_the_rooms(name, room, imported_module(target))
        else:
            found += _against_the_libraries(name, room, target.split(".")[0])
        local = target.removeprefix("rvpo_jax.")
        if at_once and any(_inside(local, late) for late in DEFERRED.get(room, ())):
            found.append(f"{name} imports {local} when it is loaded: import it inside a function")
    for target in set(names(source)):
        for owned, owners in OWNERS.items():
            if _inside(target, owned) and not any(_inside(name, owner) for owner in owners):
                found.append(f"{name} names {owned}: only {' and '.join(owners)} may")
        if target in DEVICE_NAMES and not f"{name}.".startswith(f"{DEVICE_OWNER}."):
            found.append(f"{name} names {target}: only {DEVICE_OWNER} may")
    return found


def _against_the_rooms(name, room, other):
    other_room = room_of(other)
    if other_room is None:
        yield f"{name} imports {other}, which has no room"
    elif other_room != room:
        if not any(_inside(other, allowed) for allowed in ROOMS[room]):
            yield f"{name} imports {other}, which {room} may not"
        if other not in DOORS.get(other_room, (other,)):
            yield f"{name} imports {other}: the door is rvpo_jax.{other_room}"


def _against_the_libraries(name, room, library):
    allowed = LIBRARIES.get(room)
    if allowed is not None and library not in allowed | sys.stdlib_module_names:
        yield f"{name} imports {library}, which {room} may not"


@pytest.mark.parametrize("name", module_files())
def test_a_module_keeps_to_its_room_and_names_only_what_it_owns(name):
    assert violations(name, module_files()[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        pytest.param("method.losses", "import flax", "imports flax", id="library of another room"),
        pytest.param("config", "import numpy", "imports numpy", id="config beyond stdlib"),
        pytest.param("basics.text", "import scipy.stats", "imports scipy", id="basics"),
        pytest.param("rewards.scoring", "import jax", "imports jax", id="arrays beside text"),
        pytest.param(
            "auditing.replay", "def f():\n  import jax", "imports jax", id="jax in the audit"
        ),
        pytest.param(
            "method.losses", "from rvpo_jax.models import x", "method may not", id="upwards"
        ),
        pytest.param(
            "method.losses",
            "def f():\n  from rvpo_jax.run.metrics import x",
            "method may not",
            id="in a function",
        ),
        pytest.param(
            "method.step", "from rvpo_jax import train", "imports train", id="from the package"
        ),
        pytest.param("run.metrics", "from rvpo_jax import audit", "__init__", id="the package"),
        pytest.param(
            "models.hf",
            "import importlib as i\ni.import_module('rvpo_jax.run.setup')",
            "models may not",
            id="by import_module",
        ),
        pytest.param("data.rows", "import rvpo_jax.rewards", "data may not", id="sideways"),
        pytest.param(
            "data.rows", "from rvpo_jax.auditing import audit", "data may not", id="data and audit"
        ),
        pytest.param(
            "auditing.tables", "from ..run import x", "auditing may not", id="audit and run"
        ),
        pytest.param(
            "auditing.tables",
            "def f():\n  from ..method.step import x",
            "auditing may not",
            id="part of a room",
        ),
        pytest.param(
            "auditing.tables",
            "from ..config import x",
            "auditing may not",
            id="audit and config",
        ),
        pytest.param("what_if", "import jax", "when it is loaded", id="too early"),
        pytest.param("auditing.tables", "def f():\n  import scipy", "imports scipy", id="scipy"),
        pytest.param("auditing.page.svg", "import matplotlib", "matplotlib", id="matplotlib"),
        pytest.param("lab.worlds", "import rvpo_jax.cli", "lab may not", id="the command line"),
        pytest.param(
            "train", "from rvpo_jax.auditing.read import x", "the door is", id="behind a door"
        ),
        pytest.param(
            "cli", "import rvpo_jax.auditing.read.log", "the door is", id="far behind a door"
        ),
        pytest.param(
            "integrations.tunix", "import rvpo_jax.run.setup", "may not", id="adapter and run"
        ),
        pytest.param(
            "train",
            "from rvpo_jax.integrations import tunix",
            "may not",
            id="nobody needs adapters",
        ),
        pytest.param(
            "integrations.tunix", "import tunix.rl", "when it is loaded", id="another trainer"
        ),
        pytest.param("novelty", "", "has no room", id="not listed"),
        pytest.param("train", "from rvpo_jax.novelty import x", "__init__", id="a lost room"),
        pytest.param("data.rows", "from . import stream", "relative", id="relative import"),
        pytest.param(
            "auditing.tables", "from rvpo_jax.basics import x", "by its full name", id="two names"
        ),
        pytest.param(
            "auditing.read.log", "from ...config import x; import jax", "imports jax", id="deep"
        ),
        pytest.param("train", "import orbax.checkpoint as o", "only run.checkpoint", id="orbax"),
        pytest.param(
            "data.rows", "import grain; grain.checkpoint.X", "only run.checkpoint", id="grain"
        ),
        pytest.param("train", "import importlib as i\ni.import_module('tyro')", "cli", id="string"),
        pytest.param("train", "import jax\njax.pmap(f)", "only run.parallel", id="pmap"),
        pytest.param(
            "method.step", "from jax.sharding import Mesh", "only run.parallel", id="Mesh"
        ),
        pytest.param("train", "import jax\njax.distributed.x()", "run.parallel", id="distributed"),
    ],
)
def test_the_rules_see(name, source, problem):
    assert any(problem in violation for violation in violations(name, source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param("method.schedules", "import optax", id="a library of the room"),
        pytest.param("data.rows", "from rvpo_jax.data.stream import x", id="inside one room"),
        pytest.param("models.hf", "from rvpo_jax.method import masking", id="down"),
        pytest.param(
            "what_if",
            "def f():\n  from rvpo_jax.method.aggregators import x",
            id="when it is needed",
        ),
        pytest.param("auditing.tables", "from .read import x", id="own room"),
        pytest.param("cli", "from rvpo_jax.auditing import show_audit", id="the door"),
        pytest.param("config", "impl = 'pmap'", id="a string is not a name"),
        pytest.param("cli", "import tyro\nfrom rvpo_jax import __version__", id="a program"),
    ],
)
def test_the_rules_allow(name, source):
    assert violations(name, source) == []


@pytest.mark.parametrize(
    ("name", "written", "full"),
    [
        ("auditing.report", ".cases", "rvpo_jax.auditing.cases"),
        ("auditing.report", "..__version__", "rvpo_jax.__version__"),
        ("auditing.report", ".read.Note", "rvpo_jax.auditing.read.Note"),
        ("auditing.report", "..basics.files.to_json", "rvpo_jax.basics.files.to_json"),
        ("auditing.read", ".log.Note", "rvpo_jax.auditing.read.log.Note"),
        ("auditing.read.log", "...basics.text.x", "rvpo_jax.basics.text.x"),
        ("auditing.report", "numpy", "numpy"),
    ],
)
def test_a_relative_import_is_resolved(name, written, full):
    assert absolute(name, written) == full


def test_every_name_in_the_tables_exists():
    named = {
        *ROOMS,
        *LIBRARIES,
        *DEFERRED,
        *DOORS,
        *PORTABLE,
        *sum(OWNERS.values(), ()),
        DEVICE_OWNER,
    }
    named |= {allowed for some in ROOMS.values() for allowed in some}
    assert named - set(module_files()) == set()
    assert {*LIBRARIES, *DEFERRED, *DOORS} <= set(ROOMS)


def test_the_rooms_have_one_direction():
    def reached(room):
        found, left = set(), [room]
        while left:
            for allowed in ROOMS[left.pop()]:
                if room_of(allowed) not in found:
                    found.add(room_of(allowed))
                    left.append(room_of(allowed))
        return found

    assert [room for room in ROOMS if room in reached(room)] == []


def behind_a_door(text):
    """Modules behind a door that a text names, such as ``rvpo_jax.auditing.read``."""
    pattern = rf"\brvpo_jax\.(?:{'|'.join(DOORS)})\.\w+"
    return [name for name in re.findall(pattern, text) if _is_module(name)]


def _is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def test_a_module_behind_a_door_is_recognised():
    assert behind_a_door("from rvpo_jax.auditing.read import x") == ["rvpo_jax.auditing.read"]
    assert behind_a_door("rvpo_jax.auditing.audit(log); rvpo_jax.lab.style") == []


def test_experiments_notebooks_and_the_readme_use_the_doors():
    users = [*ROOT.glob("experiments/**/*.py"), *ROOT.glob("notebooks/*.ipynb"), ROOT / "README.md"]
    assert {str(path): found for path in users if (found := behind_a_door(path.read_text()))} == {}


def test_no_module_is_a_drawer():
    assert not {"utils.py", "common.py"} & {path.name for path in PACKAGE.rglob("*.py")}


def sized_files():
    paths = [*PACKAGE.rglob("*.py"), *ROOT.glob("experiments/**/*.py")]
    return {path.relative_to(ROOT).as_posix(): path for path in sorted(paths)}


def lines_of_functions(source):
    """Lines that each function has of its own, by its dotted name in the module."""
    found = {}

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                name = f"{prefix}{child.name}"
                visit(child, f"{name}.")
                body = child.body[1:] if ast.get_docstring(child) is not None else child.body
                inner = [n for n in ast.walk(child) if n is not child and isinstance(n, FUNCTIONS)]
                own = set(range(body[0].lineno, child.end_lineno + 1)) if body else set()
                for nested in inner:
                    own -= set(range(nested.lineno, nested.end_lineno + 1))
                found[name] = len(own)
            else:
                is_class = isinstance(child, ast.ClassDef)
                visit(child, f"{prefix}{child.name}." if is_class else prefix)

    visit(ast.parse(source), "")
    return found


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_a_functions_own_lines_are_counted():
    source = '''
class A:
    def f(
        self,
    ):
        """Two
        lines."""

        def g():
            return 1

        return g


def h():
    """Nothing."""
'''
    # f: the empty line before the return, and the return.
    assert lines_of_functions(source) == {"A.f.g": 1, "A.f": 2, "h": 0}


def against_the_limit(sizes, limit, exceptions):
    """What is longer than it may be, and exceptions that are not needed, as sentences."""
    found = [
        f"{name} has {size} lines: at most {exceptions.get(name, limit)}"
        for name, size in sizes.items()
        if size > exceptions.get(name, limit)
    ]
    stale = [name for name in exceptions if sizes.get(name, 0) <= limit]
    return found + [f"{name} needs no exception: delete it" for name in stale]


@pytest.mark.parametrize(
    ("size", "exceptions", "problem"),
    [
        pytest.param(41, {}, ["a has 41 lines: at most 40"], id="too long"),
        pytest.param(50, {"a": 49}, ["a has 50 lines: at most 49"], id="longer than excepted"),
        pytest.param(40, {"a": 49}, ["a needs no exception: delete it"], id="stale"),
        pytest.param(1, {"b": 9}, ["b needs no exception: delete it"], id="gone"),
        pytest.param(40, {}, [], id="just right"),
    ],
)
def test_the_limits_see(size, exceptions, problem):
    assert against_the_limit({"a": size}, 40, exceptions) == problem


def test_no_file_is_too_long():
    sizes = {name: len(path.read_text().splitlines()) for name, path in sized_files().items()}
    assert against_the_limit(sizes, MAX_FILE, LONG_FILES) == []


def test_no_function_is_too_long():
    sizes = {
        f"{name}:{function}": size
        for name, path in sized_files().items()
        for function, size in lines_of_functions(path.read_text()).items()
    }
    assert against_the_limit(sizes, MAX_FUNCTION, LONG_FUNCTIONS) == []


SILENCERS = re.compile(r"#\s*(ruff:\s*)?noqa|#\s*type:\s*ignore|#\s*mypy:|#\s*pylint:")


def silencers(source):
    """Comments that silence a checker."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [comment for comment in comments if SILENCERS.match(comment)]


@pytest.mark.parametrize(
    "comment", ["# noqa", "#noqa: E402", "# ruff: noqa", "# type: ignore[arg-type]", "# mypy: x"]
)
def test_a_silencer_is_recognised(comment):
    assert silencers(f"import os  {comment}\ntext = '{comment}'\n") == [comment]


def test_nothing_silences_a_checker():
    paths = [path for path in repository_files() if path.suffix == ".py"]
    assert {str(path): found for path in paths if (found := silencers(path.read_text()))} == {}


def loaded_by(program, libraries):
    """Which of the libraries a program has loaded at its end, in a process of its own."""
    report = f"import sys; sys.stderr.write(' '.join(m for m in {libraries} if m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    return run.stderr.split()


def test_importing_the_package_loads_no_outside_world():
    heavy = "tensorflow matplotlib orbax grain tyro wandb pyarrow jinja2".split()
    assert loaded_by("import rvpo_jax", heavy) == []


HELP = """import contextlib
from rvpo_jax.cli import main
with contextlib.suppress(SystemExit):
  main"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import rvpo_jax", id="import"),
        pytest.param(f"{HELP}(['--help'])", id="rvpo --help"),
        pytest.param(f"{HELP}(['audit', '--help'])", id="rvpo audit --help"),
    ],
)
def test_nothing_that_needs_no_jax_loads_it(program):
    assert loaded_by(program, ["jax", "flax", "optax", "scipy"]) == []


def test_the_audits_door_loads_nothing_until_it_is_used():
    # Without the package's own __init__, which is tested above.
    alone = f"""import sys, types
package = types.ModuleType("rvpo_jax")
package.__path__ = [{str(PACKAGE)!r}]
sys.modules["rvpo_jax"] = package
import rvpo_jax.auditing"""
    heavy = ["jax", "flax", "optax", "scipy", "matplotlib", "jinja2", "tensorflow", "orbax"]
    used = f"{alone}\nrvpo_jax.auditing.audit, rvpo_jax.auditing.show_audit"
    assert loaded_by(alone, [*heavy, "numpy", "pyarrow", "rich"]) == []
    assert loaded_by(used, heavy) == []
    assert loaded_by(used, ["numpy", "pyarrow"]) == ["numpy", "pyarrow"]


def test_every_name_of_the_audits_door_is_there():
    from rvpo_jax import auditing

    assert dir(auditing) == sorted(auditing._HOMES)
    assert [name for name in dir(auditing) if not hasattr(auditing, name)] == []


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
