"""The notebooks run as they are, from nothing, and are committed as they should be."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from test_architecture import ROOT

FOLDER = ROOT / "notebooks"
NAMES = (
    "01_softmin_by_hand",
    "02_extend_the_loss",
    "03_read_a_run",
    "04_audit_your_log",
    "05_your_own_model",
)
MAX_CELLS, MAX_LINES = 25, 10
# Not any leading slash: "/pass_rate" is the end of a metric's name.
ABSOLUTE = re.compile(r"/(home|root|tmp|usr|var|opt|mnt|data|content|Users|work)\b|~/|[A-Za-z]:\\")


def load(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def parse(cell):
    """The cell as Python; IPython's lines become comments of the same length."""
    return ast.parse(re.sub(r"^([%!])", r"#\1", source(cell), flags=re.M))


INSTALL = load(NAMES[0])["cells"][1]


def problems(notebook):
    """What a notebook does against the rules, as sentences; its claims are not among them."""
    cells, found = notebook["cells"], []
    if len(cells) > MAX_CELLS:
        found.append(f"{len(cells)} cells, more than {MAX_CELLS}")
    if len({cell.get("id") for cell in cells} - {None}) != len(cells):
        found.append("cells without an id of their own")
    if cells[0]["cell_type"] != "markdown" or not source(cells[0]).startswith("# "):
        found.append("the first cell is not a title")
    if not {"**Question.**", "**Runtime.**", "**You will see**"} <= set(
        re.findall(r"\*\*[^*]+\*\*", source(cells[0]))
    ):
        found.append("the first cell lacks question, runtime or what the reader will see")
    if cells[1]["id"] != "install" or source(cells[1]) != source(INSTALL):
        found.append("the second cell does not install the package as the others do")
    if cells[-1]["cell_type"] != "code" or num_claims(cells[-1]) < 2:
        found.append("the last cell does not assert the claims")
    if any(cell["outputs"] or cell["execution_count"] is not None for cell in code_cells(notebook)):
        found.append("outputs or execution counts are committed")
    for cell in code_cells(notebook):
        if re.search(r"^\s*(!|%pip|%conda|%cd|%%)", source(cell), re.M):
            found.append(f"cell {cell['id']} runs a shell")
            continue
        found += [f"cell {cell['id']} {problem}" for problem in code_problems(parse(cell))]
    return found


def num_claims(cell):
    """Bare asserts, and those that NumPy makes."""
    return sum(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Attribute) and node.attr.startswith("assert_"))
        for node in ast.walk(parse(cell))
    )


def code_problems(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if ABSOLUTE.match(node.value):
                yield f"has the absolute path {node.value}"
        elif isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body[-1].end_lineno - body[0].lineno >= MAX_LINES:
                yield f"has the function {node.name} of more than {MAX_LINES} lines"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", None) or node.names[0].name]
            if modules[0].split(".")[0] in ("tests", "experiments", "conftest", "pandas"):
                yield f"imports {modules[0]}, which a plain installation lacks"


def test_every_notebook_is_listed():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_keeps_the_rules(name):
    assert problems(load(name)) == []


def edited(cell, **changes):
    """The first notebook with one cell changed; a text is added to its source."""
    notebook = load(NAMES[0])
    if isinstance(changes.get("source"), str):
        changes["source"] = [*notebook["cells"][cell]["source"], changes["source"]]
    notebook["cells"][cell] |= changes
    return notebook


@pytest.mark.parametrize(
    ("cell", "changes", "problem"),
    [
        pytest.param(2, {"outputs": [{}]}, "outputs", id="outputs"),
        pytest.param(2, {"execution_count": 1}, "execution counts", id="execution count"),
        pytest.param(2, {"source": "\n!pip install x"}, "runs a shell", id="shell"),
        pytest.param(2, {"source": "\n%pip install x"}, "runs a shell", id="pip"),
        pytest.param(2, {"source": "\nx = '/tmp/x'"}, "absolute path", id="absolute path"),
        pytest.param(2, {"source": "\nimport tests.toys"}, "imports tests", id="imports tests"),
        pytest.param(1, {"source": "\nimport os"}, "does not install", id="another installation"),
        pytest.param(
            2, {"source": "\ndef f():\n" + 11 * "    x = 1\n"}, "the function f", id="long function"
        ),
        pytest.param(2, {"id": "title"}, "an id of their own", id="double id"),
        pytest.param(0, {"cell_type": "raw"}, "not a title", id="no title"),
        pytest.param(0, {"source": ["Softly."]}, "not a title", id="prose first"),
        pytest.param(-1, {"cell_type": "markdown"}, "does not assert", id="no claims"),
    ],
)
def test_the_rules_see(cell, changes, problem):
    assert any(problem in found for found in problems(edited(cell, **changes)))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Executes the first code cell in an empty folder; returns what pip would have been given."""
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")

    def run(devices=()):
        def glob(path, pattern):
            return [d for d in devices if str(path) == "/dev" and fnmatch(d, pattern)]

        monkeypatch.setattr(Path, "glob", glob)
        exec(source(INSTALL), {})
        return calls

    return run


def test_the_first_cell_does_nothing_where_the_package_is(install):
    assert install(["accel0"]) == []


@pytest.mark.parametrize(
    ("devices", "checkout", "wanted"),
    [
        ([], False, "rvpo-jax"),
        (["accel0", "accel1"], False, "rvpo-jax[tpu]"),
        (["vfio"], False, "rvpo-jax[tpu]"),
        ([], True, ".."),
        (["accel0"], True, "..[tpu]"),
    ],
)
def test_the_first_cell_installs_what_the_machine_needs(
    install, tmp_path, monkeypatch, devices, checkout, wanted
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if checkout:
        (tmp_path / "setup.cfg").touch()
    (command,) = install(devices)
    assert command == [sys.executable, "-m", "pip", "install", "--quiet", wanted]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in a kernel of its own, in an empty folder, without anyone's settings."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # read when jupyter_core is imported
    import nbclient
    import nbformat

    def run(notebook):
        work = tmp_path / "work"
        work.mkdir()
        client = nbclient.NotebookClient(
            nbformat.reads(json.dumps(notebook), as_version=4),
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": str(work)}},
        )
        # The rest of the environment is inherited: a compilation cache, where there is one. Here
        # running takes longer than compiling, so XLA optimises a little (the last flag counts).
        flags = f"{os.environ['XLA_FLAGS']} --xla_backend_optimization_level=1"
        return client.execute(env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags})

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_nothing_and_its_claims_hold(name, execute):
    notebook = execute(load(name))
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    pictures = {"image/png", "image/svg+xml"}
    assert sum(bool(pictures & {*output.get("data", {})}) for output in outputs) >= 2
    # A warning of the kernel would stand there, which pytest cannot see.
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []


@pytest.mark.slow
def test_a_claim_that_does_not_hold_fails(execute):
    import nbclient

    notebook = load(NAMES[0])
    imports, by_hand, claims = (
        cell for cell in notebook["cells"] if cell["id"] in ("imports", "by-hand", "claims")
    )
    broken = source(by_hand).replace("np.log(4 / 3)", "np.log(5 / 3)")
    assert broken != source(by_hand)
    notebook["cells"] = [imports, by_hand | {"source": broken}, claims]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        execute(notebook)
