"""Documentation that can go stale: docstrings of the core, commands and links in Markdown."""

import ast
import re
import subprocess
import sys

import pytest
from test_architecture import ROOT, module_files, repository_files

# What a notebook imports.
CORE_ROOMS = {"__init__", "aggregators", "basics", "config", "method", "models", "types"}
CORE = {name: path for name, path in module_files().items() if name.split(".")[0] in CORE_ROOMS}


def undocumented(source):
    """What the public functions and classes of a module leave undocumented, as sentences."""
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        docstring = ast.get_docstring(node)
        if not docstring:
            found.append(f"{node.name} has no docstring")
        elif isinstance(node, ast.FunctionDef):
            arguments = node.args
            has_arguments = any(
                (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
            ) or bool(arguments.vararg or arguments.kwarg)
            if has_arguments and "\nArgs:\n" not in docstring:
                found.append(f"{node.name} has no Args section")
            returns_none = isinstance(node.returns, ast.Constant) and node.returns.value is None
            if not returns_none and not re.search("\n(Returns|Yields):\n", docstring):
                found.append(f"{node.name} has no Returns section")
    return found


@pytest.mark.parametrize("name", CORE)
def test_public_names_of_the_core_have_the_docstring_template(name):
    assert undocumented(CORE[name].read_text()) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(): pass", "f has no docstring"),
        ("class C: pass", "C has no docstring"),
        ('def f(x):\n  """Doc.\n\n  Returns:\n    y\n  """', "f has no Args section"),
        ('def f(*, x):\n  """Doc.\n\n  Args:\n    x: y\n  """', "f has no Returns section"),
    ],
)
def test_the_docstring_rule_sees(source, problem):
    assert undocumented(source) == [problem]


def markdown_files():
    return [path for path in repository_files() if path.suffix == ".md"]


def shell_commands(text):
    """Lines of fenced shell blocks, without prompt and comment; `\\` joins lines."""
    for block in re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split(" #")[0].removeprefix("$ ").strip()
            if command and not command.startswith("#"):
                yield command


def used_words(program):
    """First arguments of ``program`` in all Markdown files: sub-commands or targets."""
    words = set()
    for path in markdown_files():
        for command in shell_commands(path.read_text()):
            called = re.match(rf"(?:\w+=\S+ )*(?:\S*/)?{program} ([a-z_]\w*)", command)
            words |= {called[1]} if called else set()
    return words


def test_shell_commands_are_found_in_fenced_blocks_only():
    text = "rvpo no\n```bash\n$ rvpo train \\\n  --x 1  # why\n# rvpo no\nmake test\n```\nrvpo no\n"
    assert list(shell_commands(text)) == ["rvpo train    --x 1", "make test"]


def test_make_targets_in_the_documentation_exist():
    targets = set(re.findall(r"^([a-z_]\w*):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= targets
    assert used_words("make") <= targets


def test_rvpo_commands_in_the_documentation_exist():
    used = used_words("rvpo")
    if not used:
        return
    run = subprocess.run(
        [sys.executable, "-m", "rvpo_jax", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert used <= set(re.findall(r"[a-z_]\w*", run.stdout))


def test_relative_links_in_the_documentation_lead_somewhere():
    broken = []
    for path in markdown_files():
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
            if not re.match(r"[a-z]+:|#", target):
                if not (path.parent / target.split("#")[0]).exists():
                    broken.append((path.name, target))
    assert broken == []
