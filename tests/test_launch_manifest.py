"""The JobSet that gke.sh writes: against the published schemas, and what it says of the slice."""

import gzip
import shlex
import subprocess

import pytest
from launching import LAUNCH, PLACE, WHEEL, WORKDIR, Cloud, table, up

jsonschema = pytest.importorskip("jsonschema")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")

ROWS = table()
# One slice of a host, one of several, and one of a machine with eight chips, by generation.
SLICES = [
    row for row in ROWS if row["slice"].split(":")[1] in ("2x2x1", "2x2x4", "1x1", "2x4", "4x4")
]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """The JobSet of every slice in SLICES, by its name."""
    cloud = Cloud(tmp_path_factory.mktemp("manifests") / "cloud")
    found = {}
    for row in SLICES:
        options = ["--type", row["slice"], "--wheel", cloud.wheel, "--workdir", WORKDIR]
        run = cloud.run(LAUNCH / "gke.sh", "manifest", *PLACE, *options, "--", "--steps", "300")
        assert run.returncode == 0, run.stderr
        found[row["slice"]] = yaml.safe_load(run.stdout)
    assert cloud.calls() == []
    return found


@pytest.fixture(scope="module")
def check_jobset(shared_data):
    """A validator for the schema in JobSet's definition, closed: unknown fields are errors."""
    path = shared_data / "jobset" / "jobset.x-k8s.io_jobsets.yaml.gz"
    if not path.is_file():
        pytest.skip(f"no definition of JobSet at {path}")
    definition = yaml.load(gzip.decompress(path.read_bytes()), yaml.CSafeLoader)
    versions = {version["name"]: version for version in definition["spec"]["versions"]}
    schema = closed(versions["v1alpha2"]["schema"]["openAPIV3Schema"])
    return jsonschema.Draft7Validator(schema)


def closed(schema):
    """An OpenAPI schema as Kubernetes applies it: fields that it does not list are refused, and a
    number or a text may stand where it says so."""
    if not isinstance(schema, dict):
        return schema
    out = {
        key: {name: closed(value) for name, value in inner.items()}
        if key == "properties"
        else closed(inner)
        for key, inner in schema.items()
    }
    if out.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if out.get("properties") and not out.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    return out


NAMES = [row["slice"] for row in SLICES]


@pytest.mark.parametrize("name", NAMES)
def test_the_jobset_has_the_published_schema(manifests, check_jobset, name):
    assert [error.message for error in check_jobset.iter_errors(manifests[name])] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_job_inside_has_kubernetes_own_schema(manifests, name):
    [replicated] = manifests[name]["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}}
    kubernetes_validate.validate({**job, **replicated["template"]}, "1.33", strict=True)


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda spec: spec.update(maxRestarts=1), id="unknown field"),
        pytest.param(lambda spec: spec["failurePolicy"].update(maxRestarts="many"), id="type"),
        pytest.param(lambda spec: spec["failurePolicy"]["rules"][0].pop("name"), id="required"),
        pytest.param(
            lambda spec: spec["failurePolicy"]["rules"][0].update(action="Retry"), id="choice"
        ),
        pytest.param(
            lambda spec: spec["replicatedJobs"][0]["template"]["spec"].update(paralelism=2),
            id="inside the job",
        ),
    ],
)
def test_the_check_of_a_jobset_sees(manifests, check_jobset, break_it):
    manifest = yaml.safe_load(yaml.safe_dump(manifests[NAMES[0]]))
    break_it(manifest["spec"])
    assert list(check_jobset.iter_errors(manifest)) != []


@pytest.mark.parametrize("row", SLICES, ids=NAMES)
def test_a_pod_per_host_asks_for_the_chips_of_its_host(manifests, row):
    job = manifests[row["slice"]]["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["parallelism"] == job["completions"] == int(row["hosts"])
    assert job["completionMode"] == "Indexed"  # GKE numbers the workers by it
    [container] = pod["containers"]
    chips = {"google.com/tpu": int(row["chips_per_host"])}
    assert container["resources"] == {"requests": chips, "limits": chips}
    selector = pod["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-accelerator"] == row["gke_accelerator"]
    assert selector["cloud.google.com/gke-tpu-topology"] == row["slice"].split(":")[1]


def test_a_pod_that_ends_restarts_the_set_and_bad_usage_does_not(manifests):
    spec = manifests[NAMES[0]]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert spec["failurePolicy"]["maxRestarts"] >= 10
    [rule] = job["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])
    [fatal] = spec["failurePolicy"]["rules"]
    assert (fatal["action"], fatal["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert job["backoffLimit"] == 0  # one lost pod: all start anew, together
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # what podFailurePolicy needs
    assert pod["terminationGracePeriodSeconds"] >= 300
    [container] = pod["containers"]
    assert container["name"] == rule["onExitCodes"]["containerName"]
    # No shell between: SIGTERM reaches rvpo, and its exit code is the pod's.
    assert container["command"] == ["/rvpo/venv/bin/rvpo", "train"]
    assert container["args"] == ["--workdir", WORKDIR, "--steps", "300"]


def test_each_pod_installs_the_wheel_by_its_exact_name_and_checksum(manifests):
    pod = manifests[NAMES[0]]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    fetch, install = (container["command"][-1] for container in pod["initContainers"])
    assert f"{WHEEL}' | sha256sum --check" in fetch
    assert f"'./{WHEEL}[tpu,lora,gcs]'" in install
    for script in (fetch, install):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_the_pods_fetch_what_install_has_staged(tmp_path):
    cloud = Cloud(tmp_path / "cloud")
    done = cloud.run(*up(cloud, "gke"))
    assert done.returncode == 0, done.stderr
    [staged] = [call.arguments for call in cloud.calls() if call.arguments[:2] == ["storage", "cp"]]
    [target] = [word for word in staged if word.startswith("gs://")]
    assert str(cloud.wheel) in staged
    [text] = [text for call in cloud.calls() for text in call.files if "kind: JobSet" in text]
    pod = yaml.safe_load(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    script = pod["initContainers"][0]["command"][-1]
    copies = [shlex.split(line) for line in script.splitlines() if line.startswith("gcloud")]
    assert [copy[4] for copy in copies] == [f"{target}*", "gs://a-bucket/models/m"]
    for copy in copies:
        assert cloud.run(*copy).returncode == 0
