"""What the launch scripts refuse, the tables that they read, and the fake programs themselves."""

import configparser
import re
from importlib import metadata
from math import prod

import pytest
from launching import ALLOWED, LAUNCH, ROOT, WHEEL, Cloud, table, up
from packaging.requirements import Requirement


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "cloud")


HOSTILE = ["a b", "a;rm -rf x", "$(touch x)", "`touch x`", "a\nb", "-a", "A", "", "a'b", "a" * 70]


NAMING = ("--project", "--zone", "--type", "--workdir")


@pytest.mark.parametrize(
    ("option", "value"),
    [*(("--name", value) for value in HOSTILE), *((option, "a;$(x)") for option in NAMING)],
)
def test_a_name_that_is_none_is_refused_before_any_call(cloud, option, value):
    script, command, *rest = up(cloud, "queued")
    rest[rest.index(option) + 1] = value
    done = cloud.run(script, command, *rest)
    assert done.returncode == 2
    assert re.match(rf"tpu_vm.sh: {option} must be .*, got .*\.\n  \S", done.stderr)
    assert cloud.calls() == []


@pytest.mark.parametrize(
    ("kind", "extra", "message"),
    [
        ("queued", ["--service-account", "x;y"], "--service-account must be"),
        ("queued", ["--wheel", "no-1.whl"], "--wheel must be a wheel of rvpo-jax"),
        ("queued", ["--wheel", f"absent/{WHEEL}"], "--wheel must be a file"),
        ("queued", ["--with", "absent.py"], "--with must be a file or folder"),
        ("queued", ["--fetch", "gs://b/'x'"], "--fetch must be"),
        ("queued", ["--runtime", "a b"], "--runtime must be"),
        ("queued", ["--reserved"], "--spot must stand alone"),
        ("queued", ["--worker", "all"], "--worker must be"),
        ("queued", ["--bogus"], "there is no option --bogus"),
        ("queued", ["--type", "tpu7x:2x2x2"], "Use gke.sh"),
        ("queued", ["--type", "v6e-12"], "Known: v6e:1x1 = v6e-1, v6e:2x2 = v6e-4"),
        ("queued", ["--type", "v5p:3x3x3"], "Known: v5p:2x2x1 = v5p-8"),
        ("gke", ["--cluster", "a$b"], "--cluster must be"),
        ("gke", ["--reservation", "a b"], "--reservation must be"),
        ("gke", ["--type", "tpu7x:4x4"], "Known: tpu7x:2x2x1, tpu7x:2x2x2"),
    ],
)
def test_a_bad_value_gets_one_clear_error_before_any_call(cloud, kind, extra, message):
    script, command, *rest = up(cloud, kind)
    done = cloud.run(script, command, *rest[:-5], *extra, *rest[-5:])
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert cloud.calls() == []


@pytest.mark.parametrize("option", ["a b", "$(x)", "a'b", "a;b", "--workdir", "--workdir=gs://b/x"])
@pytest.mark.parametrize("kind", ["queued", "gke"])
def test_options_of_rvpo_train_that_a_shell_would_read_are_refused(cloud, kind, option):
    done = cloud.run(*up(cloud, kind), option)
    assert done.returncode == 2
    assert cloud.calls() == []


# The fake


@pytest.mark.parametrize(
    "command",
    [
        "gcloud compute tpus queued-resources create a --bogus=1",
        "gcloud compute tpus queued-resources create a --version=x",  # tpu-vm's, not this one's
        "gcloud compute tpus tpu-vm destroy a",
        "gcloud container clusters create a --tpu=2",
        "kubectl drain a",
        "kubectl get jobset --bogus",
    ],
)
def test_the_fake_refuses_what_the_reference_has_not(cloud, command):
    assert cloud.run(*command.split()).returncode == 2
    assert cloud.things() == []


def test_the_list_of_the_fake_says_where_it_is_from():
    assert "help pages of gcloud" in ALLOWED["source"]
    assert re.fullmatch(r"Google Cloud SDK \d+\.\d+\.\d+", ALLOWED["versions"]["gcloud"])
    assert re.match(r"v\d+\.\d+", ALLOWED["versions"]["kubectl"])


# The tables


@pytest.mark.parametrize("row", table(), ids=lambda row: row["slice"])
def test_the_table_of_accelerators_adds_up(row):
    generation, topology = row["slice"].split(":")
    chips = prod(map(int, topology.split("x")))
    assert int(row["hosts"]) * int(row["chips_per_host"]) == chips
    # Types of v4 and v5p count TensorCores, two a chip; those of v5e and v6e count chips.
    prefix, factor = {"v4": ("v4", 2), "v5p": ("v5p", 2), "v5e": ("v5litepod", 1)}.get(
        generation, (generation, 1)
    )
    expected = "-" if generation == "tpu7x" else f"{prefix}-{factor * chips}"
    assert row["vm_type"] == expected
    assert row["gke_machine"].endswith(f"-{row['chips_per_host']}t")
    assert len(topology.split("x")) == (2 if generation in ("v5e", "v6e") else 3)


def test_the_pinned_versions_are_ones_that_the_package_allows():
    lines = (LAUNCH / "constraints.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    needed = parser["options"]["install_requires"].split()
    extras = re.search("^EXTRAS=(.*)$", (LAUNCH / "calls.sh").read_text(), re.M)[1].split(",")
    for extra in extras:
        needed += parser["options.extras_require"][extra].split()
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    libtpu = [r for r in map(Requirement, metadata.requires("jax") or ()) if r.name == "libtpu"]
    if metadata.version("jax") == pinned["jax"]:
        assert all(r.specifier.contains(pinned["libtpu"]) for r in libtpu)
