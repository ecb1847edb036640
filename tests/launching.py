"""Runs the launch scripts beside a fake gcloud and kubectl; what the tests of them share."""

import ast
import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from fake_cloud.fake import normal
from test_architecture import ROOT

LAUNCH = ROOT / "experiments" / "launch"
FAKE = ROOT / "tests" / "fake_cloud"
ALLOWED = json.loads((FAKE / "allowed.json").read_text())
NAME = "probe-7b"
WHEEL = "rvpo_jax-0.1.0-py3-none-any.whl"
WORKDIR = "gs://a-bucket/runs/seven"


def table():
    """The rows of accelerators.tsv."""
    head, *rows = (LAUNCH / "accelerators.tsv").read_text().splitlines()
    return [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]


@dataclasses.dataclass
class Call:
    """A recorded or printed call."""

    program: str
    arguments: list
    files: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.line = " ".join([self.program, *self.arguments])


class Cloud:
    """A folder with the fake programs, what they recorded, and what exists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for program in ("gcloud", "kubectl"):
            path = folder / "bin" / program
            lines = [f"#!{sys.executable} -IS", "import sys", f"sys.path.insert(0, {str(FAKE)!r})"]
            path.write_text("\n".join([*lines, "import fake", "sys.exit(fake.main())", ""]))
            path.chmod(0o755)
        self.wheel = folder / WHEEL
        self.wheel.write_bytes(b"a wheel")
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "FAKE_CLOUD": str(folder),
            "FAKE_CLOUD_ALLOWED": str(FAKE / "allowed.json"),
            "TMPDIR": str(folder),
        }

    def plan(self, **plan: object) -> None:
        """What the fake programs do from now on."""
        (self.folder / "plan").write_text(repr(plan))
        (self.folder / "used").unlink(missing_ok=True)

    def start(self, *command: object) -> subprocess.Popen:
        # A shell that starts the tests in the background makes them, and what they start, deaf
        # to SIGINT; a signal that is handled here has its default in what is started.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [str(word) for word in command],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: object) -> subprocess.CompletedProcess:
        process = self.start(*command)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self):
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [Call(**ast.literal_eval(line)) for line in lines]

    def normal(self, call):
        """A call's arguments without what differs from one fake cloud to another."""
        return normal(call.arguments, self.folder)

    def things(self):
        path = self.folder / "things"
        return ast.literal_eval(path.read_text()) if path.exists() else []


def printed_calls(output):
    """The calls that a dry run prints."""
    found = [shlex.split(line[2:]) for line in bash_words(output) if line.startswith("+ ")]
    return [Call(program, arguments) for program, *arguments in found]


def bash_words(output):
    """Lines with bash's $'...' undone."""

    def plain(match):
        return shlex.quote(match[1].replace("\\n", "\n").replace("\\'", "'").replace("\\\\", "\\"))

    return [re.sub(r"\$'((?:[^'\\]|\\.)*)'", plain, line) for line in output.splitlines()]


PLACE = ["--project", "my-project", "--zone", "us-east5-b", "--name", NAME, "--every", "0"]


def up(cloud, kind, command="up"):
    """A command that takes all that ``up`` takes, for one of the ways to train."""
    ways = {
        "queued": ["tpu_vm.sh", "--type", "v6e-16", "--spot"],
        "direct": ["tpu_vm.sh", "--type", "v5p:2x2x2", "--direct"],
        "gke": ["gke.sh", "--type", "tpu7x:2x2x2"],
        "gke shared": ["gke.sh", "--type", "v5litepod-16", "--cluster", "shared"],
    }
    script, *options = ways[kind]
    files = ["--wheel", cloud.wheel, "--workdir", WORKDIR, "--fetch", "gs://a-bucket/models/m"]
    training = ["--", "--model.path", "m", "--steps", "300"]
    return [LAUNCH / script, command, *PLACE, *options, *files, *training]
