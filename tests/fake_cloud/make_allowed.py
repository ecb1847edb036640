"""Writes allowed.json: the subcommands and flags that the fake gcloud and kubectl accept.

They are read from the help pages of the installed programs, which need no network and no account:
``python tests/fake_cloud/make_allowed.py``.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

GCLOUD = """
compute resource-policies create workload-policy
compute resource-policies delete
compute resource-policies list
compute tpus queued-resources create
compute tpus queued-resources delete
compute tpus queued-resources describe
compute tpus queued-resources list
compute tpus tpu-vm create
compute tpus tpu-vm delete
compute tpus tpu-vm describe
compute tpus tpu-vm list
compute tpus tpu-vm scp
compute tpus tpu-vm ssh
container clusters create
container clusters delete
container clusters get-credentials
container clusters list
container node-pools create
container node-pools delete
container node-pools list
iam service-accounts create
iam service-accounts describe
projects add-iam-policy-binding
services enable
storage buckets add-iam-policy-binding
storage buckets create
storage buckets describe
storage cp
"""
KUBECTL = """
apply
create
delete
get
logs
rollout status
"""


def flags_of(text: str) -> list[str]:
    """Long flags that begin a line of a help page, or stand in the synopsis of one of gcloud's."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    synopsis = plain.partition("SYNOPSIS")[2].partition("DESCRIPTION")[0]
    heads = re.findall(r"^ *(?:-\w, )?(--[a-z][a-z0-9-]*)", plain, re.M)
    return sorted({*heads, *re.findall(r"--[a-z][a-z0-9-]*", synopsis)})


def output(*command: str) -> str:
    """What a program prints."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = {
            "CLOUDSDK_CONFIG": folder,
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "PAGER": "cat",
        }
        run = subprocess.run(
            command, env={**os.environ, **quiet}, capture_output=True, text=True, check=True
        )
    return run.stdout


def main() -> None:
    """Asks both programs for their versions and help pages."""
    versions = json.loads(output("gcloud", "version", "--format=json"))
    kubectl = json.loads(output("kubectl", "version", "--client", "--output=json"))
    pages = {line: output("gcloud", *line.split(), "--help") for line in GCLOUD.split("\n") if line}
    allowed = {
        "source": "the help pages of gcloud and kubectl, by make_allowed.py",
        "versions": {
            "gcloud": f"Google Cloud SDK {versions['Google Cloud SDK']}",
            "kubectl": kubectl["clientVersion"]["gitVersion"],
        },
        "gcloud": {
            # gcloud-wide flags stand on a page of their own; these are the ones that are used.
            "": ["--flatten", "--format", "--project", "--quiet", "--verbosity"],
            **{line: flags_of(page) for line, page in pages.items()},
        },
        "kubectl": {
            "": flags_of(output("kubectl", "options")),
            **{
                line: flags_of(output("kubectl", *line.split(), "--help"))
                for line in KUBECTL.split("\n")
                if line
            },
        },
    }
    path = Path(__file__).with_name("allowed.json")
    path.write_text(json.dumps(allowed, indent=1) + "\n")


if __name__ == "__main__":
    main()
