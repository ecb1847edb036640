"""The folders of experiments/: each smoke runs, each is in the index, each says what it claims."""

import json
import os
import re
import subprocess
import sys

import pytest
from test_architecture import ROOT

from rvpo_jax.lab.evidence import read_expected

FOLDER = ROOT / "experiments"
# A folder with a config makes a claim; the others hold tools and examples.
EXPERIMENTS = sorted(path.parent.name for path in FOLDER.glob("*/config.py"))
STATUS_WORDS = {"reproduced", "scaled down", "mechanism only", "not run"}
INDEX = (FOLDER / "README.md").read_text()


def index_rows():
    """Folder, command and status of each row of the index."""
    for line in INDEX.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        folder = re.match(r"\[?(\w+)\]?", cells[1]) if len(cells) == 6 else None
        if folder and cells[0] != "Figure" and not set(cells[0]) <= set("-: "):
            yield folder[1], cells[3], cells[5]


@pytest.fixture(scope="module")
def run_smoke(tmp_path_factory):
    """Runs experiments in a process that imports JAX once, and compiles quickly."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(tmp_path_factory.mktemp("jax"))
    environment = os.environ | {"XLA_FLAGS": flags.strip(), "JAX_COMPILATION_CACHE_DIR": cache}
    said = tmp_path_factory.mktemp("said") / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "smokes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        ) as process,
    ):

        def run(name, folder):
            script = str(FOLDER / name / "run.py")
            process.stdin.write(json.dumps([script, str(folder)]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer == "0\n", said.read_text()

        yield run
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_smoke_run_writes_its_results_and_a_picture(name, tmp_path, run_smoke):
    run_smoke(name, tmp_path)
    assert len(list(tmp_path.rglob("results.json"))) == 1
    assert len(list((tmp_path / "runs" / name).rglob("smoke/figure.png"))) == 1


def status_of(name):
    found = re.search(r"\*\*Status:\*\* ([a-z ]+)", (FOLDER / name / "README.md").read_text())
    return found and found[1].strip()


def test_what_was_not_run_shows_no_numbers():
    for name in EXPERIMENTS:
        files = {path.name for path in (FOLDER / name).iterdir()}
        assert (status_of(name) == "not run") == ("expected.json" not in files), name


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if status_of(n) != "not run"])
def test_an_experiment_has_its_files_and_says_what_it_expects(name):
    files = {path.name for path in (FOLDER / name).iterdir()}
    assert files >= {"README.md", "config.py", "run.py", "plot.py", "expected.json", "figure.png"}
    expected = read_expected(FOLDER / name / "expected.json")
    assert expected["command"] == f"rvpo figure {name}"
    assert expected["claim"].endswith(".")
    assert expected["values"]
    assert (FOLDER / name / "figure.png").stat().st_size <= 150_000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_readme_of_an_experiment_has_its_parts(name):
    text = (FOLDER / name / "README.md").read_text()
    for part in ("**Claim.**", "**Status:**", "**Command:**", "## Result", "figure.png"):
        assert part in text
    assert status_of(name) in STATUS_WORDS


def test_the_index_links_every_folder():
    folders = {path.parent.name for path in FOLDER.glob("*/*.py")}
    assert {name for name in folders if f"]({name}/" not in INDEX} == set()


def test_the_index_lists_every_experiment_with_a_status_word():
    rows = list(index_rows())
    assert sorted(folder for folder, _, _ in rows) == EXPERIMENTS
    assert {status for _, _, status in rows} <= STATUS_WORDS
    assert all(f"`rvpo figure {folder}`" in command for folder, command, _ in rows)
    for folder, _, status in rows:
        readme = (FOLDER / folder / "README.md").read_text()
        assert f"**Status:** {status}" in readme
