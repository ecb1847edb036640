"""Settings of all tests and doctests: eight simulated CPU devices, strict ranks, fixed examples."""

import gc
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import jax
import jaxlib
import pytest

if TYPE_CHECKING:
    from tests.bucket_server import Server

ROOT = Path(__file__).resolve().parent

# Most of the tests' time is compiling: programs that run for milliseconds need no optimising. A
# flag that XLA does not know ends the process, so the second one only where it is known.
FAST_COMPILE = ["--xla_backend_optimization_level=0"]
if jaxlib.__version__.startswith("0.10."):
    FAST_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FAST_COMPILE))
# Threads of XLA: a collective of a simulated device holds one while it waits for the others, and
# where each core has one, those of a mesh with several axes wait for each other forever.
os.environ.setdefault("NPROC", "64")

# Tests run on the CPU unless JAX_PLATFORMS says otherwise (the `tpu` marker needs that).
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Broadcasting [B, G] against [B, G, M] by accident is an error, here as in the libraries below.
jax.config.update("jax_numpy_rank_promotion", "raise")

# derandomize: a failure in CI is the same failure on a laptop.
hypothesis.settings.register_profile("rvpo", deadline=None, derandomize=True)
hypothesis.settings.load_profile("rvpo")


# With two workers the longest files go first, so that neither waits for the other at the end.
LONG_FILES = (
    "test_experiments.py",
    "test_notebooks.py",
    "test_train.py",
    "test_processes.py",
    "test_lora.py",
    "test_advantages.py",
    "test_sampling.py",
    "test_mesh.py",
    "test_packaging.py",
    "test_auditing_page_browser.py",
    "test_auditing_page_first_screen.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that open a browser slow; moves those of the long files to the front."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    place = {name: index for index, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """Keeps what was imported and collected out of garbage collection, which tracing sets off."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Root of the public data sets that some tests compare with; skips where it is absent."""
    root = Path(os.environ.get("RVPO_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no test data at {root}; set RVPO_TEST_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """An object store on this machine, which the clients of this process and its children find."""
    from tests.bucket_server import serving

    with serving(tmp_path_factory.mktemp("bucket") / "requests.log") as running:
        yield running


@pytest.fixture
def bucket(server: "Server", request: pytest.FixtureRequest) -> str:
    """The address of an empty folder in a bucket."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return f"gs://{server.bucket}/{request.path.stem}/{name}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many KiB that can be filled up; skips without the right to."""
    folder = tmp_path / "small disk"
    folder.mkdir()

    def mount(size_kib: int) -> Path:
        options = ["-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        try:
            subprocess.run(["mount", *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only the superuser may mount a small file system")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)
