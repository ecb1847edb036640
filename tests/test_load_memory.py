"""Host memory of loading a Hugging Face folder, in a process of its own."""

import shutil
import sys
from pathlib import Path

import pytest
from test_architecture import ROOT

sys.path.insert(0, str(ROOT / "experiments" / "benchmarks"))

from load import ALLOWED, CONFIG, measure, write_folder

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory without file pages is read from /proc"
)

# 290 MB as float32, of which a layer's largest tensor is 3 MB and the stack of them 75 MB. Half of
# what is allowed is more than an import and compiling leave, and less than any of: the folder once
# more, in either type, or one stack once more.
SMALL = CONFIG | {"vocab_size": 1_000}
TIGHT = ALLOWED // 2


@pytest.fixture(scope="module", params=[("float32", 1), ("bfloat16", 3)], ids=lambda p: p[0])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_folder(folder, SMALL, *request.param)
    yield folder
    shutil.rmtree(folder)  # pytest would keep it for three sessions


@pytest.mark.slow
def test_loading_takes_no_more_than_two_tensors_and_a_constant(folder):
    peak = measure(folder)
    assert peak.params > 2.5 * TIGHT
    assert peak.beyond <= 2 * peak.largest + TIGHT


@pytest.mark.slow
def test_the_measure_sees_a_loader_that_reads_files_whole(folder):
    peak = measure(folder, whole_files=True)
    assert peak.beyond > 2 * peak.largest + TIGHT
