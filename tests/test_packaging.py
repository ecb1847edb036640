"""The wheel rvpo-audit: one source under two names, alone and beside rvpo-jax."""

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import make_log
from test_architecture import PACKAGE, PORTABLE, ROOT, imports

FOLDER = ROOT / "packaging" / "rvpo_audit"
# Libraries that come with another one, which is what is asked for.
COMES_WITH = {"markupsafe": "jinja2", "fsspec": "gcsfs"}


def metadata(path):
    parser = configparser.ConfigParser()
    parser.read(path)
    return parser


def test_the_wheel_lists_every_folder_of_its_source():
    folders = {path.parent for room in PORTABLE for path in (PACKAGE / room).rglob("*.py")}
    names = {".".join(["rvpo_audit", *folder.relative_to(PACKAGE).parts]) for folder in folders}
    packages = metadata(FOLDER / "setup.cfg")["options"]["packages"]
    assert set(packages.split()) == {"rvpo_audit", *names}


def test_the_wheel_needs_what_its_source_imports_and_no_other_versions_than_rvpo_jax():
    ours, theirs = (
        {
            line.split(">=")[0]: line
            for line in metadata(path)["options"]["install_requires"].split()
        }
        for path in (FOLDER / "setup.cfg", ROOT / "setup.cfg")
    )
    assert {name: theirs.get(name) for name in ours} == ours
    imported = {
        target.split(".")[0]
        for room in PORTABLE
        for path in (PACKAGE / room).rglob("*.py")
        for target, _ in imports(path.read_text())
        if not target.startswith(".")
    }
    outside = imported - sys.stdlib_module_names
    extras = metadata(FOLDER / "setup.cfg")["options.extras_require"]
    assert extras["gcs"] == metadata(ROOT / "setup.cfg")["options.extras_require"]["gcs"]
    optional = {line.split(">=")[0] for line in extras["gcs"].split()}
    assert {COMES_WITH.get(name, name) for name in outside} == set(ours) | optional


def test_both_wheels_are_built_alike_under_one_license():
    ours, theirs = (tomllib.loads((path / "pyproject.toml").read_text()) for path in (FOLDER, ROOT))
    assert ours["build-system"] == theirs["build-system"]
    ours, theirs = (metadata(path / "setup.cfg") for path in (FOLDER, ROOT))
    for section, key in (("metadata", "license"), ("options", "python_requires")):
        assert ours[section][key] == theirs[section][key]
    assert (FOLDER / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_package_exports_what_it_says():
    tree = ast.parse((FOLDER / "rvpo_audit" / "__init__.py").read_text())
    [listed] = [n.value for n in tree.body if isinstance(n, ast.Assign)]
    found = {alias.name for n in tree.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    found |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert set(ast.literal_eval(listed)) <= found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both wheels, built in a copy of the source, by name; skips without a package registry."""
    fetched = tmp_path_factory.mktemp("fetched")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", fetched, "jinja2"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no package registry to install from")
    tree, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    shutil.copytree(PACKAGE, tree / "rvpo_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "packaging", tree / "packaging", symlinks=True)
    for name in ("LICENSE", "README.md", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tree / name)
    for folder in (tree, tree / "packaging" / "rvpo_audit"):
        pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", out, folder)
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


def pip(python, *arguments):
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A small log with a failure that is paid for."""
    import pyarrow as pa

    made = make_log(("paid",), steps=6)
    columns = {channel.name: made.rewards[:, i] for i, channel in enumerate(made.channels)}
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    pq.write_table(pa.table({"step": made.step, "prompt_id": made.prompt, **columns}), path)
    return path


class Environment:
    """A virtual environment, and programs run in it and in no folder of the source."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(self.bin / "python")
        self.folder = folder

    def pip(self, *arguments: object) -> None:
        pip(sys.executable, "--python", self.python, *map(str, arguments))

    def run(self, *command: object) -> subprocess.CompletedProcess:
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        program = str(self.bin / str(command[0]))
        return subprocess.run(
            [program, *map(str, command[1:])],
            capture_output=True, text=True, cwd=self.folder, env=clean,
        )  # fmt: skip

    def audit(self, *command: object) -> dict:
        """The report of an audit of a log by this program."""
        done = self.run(*command, "--group", "prompt_id", "--out", self.folder / command[0])
        assert done.returncode == 0, done.stderr
        page = (self.folder / command[0] / "audit.html").read_text()
        product = {"rvpo-audit": "rvpo-audit", "rvpo": "rvpo-jax"}[command[0]]
        assert f'<footer class="muted">{product} ' in page
        return json.loads((self.folder / command[0] / "audit.json").read_text())


@pytest.mark.slow
def test_the_wheels_work_alone_together_and_after_one_another(wheels, log, tmp_path):
    environment = Environment(tmp_path / "environment")
    environment.pip("install", wheels["rvpo_audit"])
    alone = environment.audit("rvpo-audit", log)
    assert alone["counts"]["completions"] == len(pq.read_table(log))
    python = environment.run("python", "-c", "import rvpo_audit as r; print(r.Channel(name='a'))")
    assert python.stdout.startswith("Channel(name='a'"), python.stderr
    refused = environment.run("rvpo-audit", log, "--what-if", "rvpo_level")
    assert refused.returncode == 2 and "the package rvpo-jax" in refused.stderr

    # Without its dependencies, of which this environment has only what an audit needs: no JAX.
    environment.pip("install", "--no-deps", wheels["rvpo_jax"])
    assert environment.run("python", "-c", "import jax").returncode == 1
    assert environment.audit("rvpo", "audit", log)["sentences"] == alone["sentences"]
    assert environment.audit("rvpo-audit", log) == alone

    environment.pip("uninstall", "--yes", "rvpo-audit")
    assert environment.run("python", "-c", "import rvpo_audit").returncode == 1
    assert environment.audit("rvpo", "audit", log)["sentences"] == alone["sentences"]

    environment.pip("install", "--no-deps", wheels["rvpo_audit"])
    environment.pip("uninstall", "--yes", "rvpo-jax")
    assert environment.run("python", "-c", "import rvpo_jax").returncode == 1
    assert environment.audit("rvpo-audit", log) == alone
