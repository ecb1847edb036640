"""The committed TRL log: its columns, its rewards, its advantages; and that TRL still writes it so.

``N`` completions of the whole log in file order, ``G`` = 4 per prompt, ``M`` = 2 reward functions.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import make_trl_log
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "trl_completions"
SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "prompt": pa.large_string(),
        "completion": pa.large_string(),
        "helpful_length": pa.float64(),
        "no_digits": pa.float64(),
        "advantage": pa.float64(),
    }
)


def read_files(folder: Path) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted(folder.glob("completions_*.parquet"))]


@pytest.fixture(scope="module")
def log() -> dict[str, list]:
    """Column name -> ``[N]`` values; ``None`` where the file holds a null."""
    return pa.concat_tables(read_files(FIXTURE)).to_pydict()


def by_group(values) -> np.ndarray:
    """``[N] -> [N / G, G]`` float64, ``None`` as NaN."""
    return np.array(values, np.float64).reshape(-1, make_trl_log.NUM_GENERATIONS)


def test_each_file_is_one_step_of_sixteen_rows_under_its_own_name():
    files = sorted(FIXTURE.glob("*"))
    assert [path.name for path in files] == [f"completions_{i:05d}.parquet" for i in range(1, 13)]
    for step, table in enumerate(read_files(FIXTURE), start=1):
        assert table.schema.equals(SCHEMA)
        assert table["step"].to_pylist() == [step] * make_trl_log.BATCH_SIZE


def test_the_completions_of_a_prompt_are_neighbours_and_no_step_asks_a_prompt_twice(log):
    groups = np.array(log["prompt"]).reshape(12, -1, make_trl_log.NUM_GENERATIONS)
    assert (groups == groups[..., :1]).all()
    for step in groups[..., 0]:
        assert len(set(step)) == len(step)


def test_rewards_are_those_of_the_functions_with_null_for_none(log):
    prompts, completions = log["prompt"], log["completion"]
    assert log["helpful_length"] == make_trl_log.helpful_length(completions)
    assert log["no_digits"] == make_trl_log.no_digits(prompts, completions)


def test_none_leaves_out_whole_groups_and_single_completions(log):
    missing = np.isnan(by_group(log["no_digits"])).sum(-1)
    assert 0 in missing
    assert make_trl_log.NUM_GENERATIONS in missing
    assert ((missing > 0) & (missing < make_trl_log.NUM_GENERATIONS)).any()


def test_advantage_is_the_standardised_sum_of_the_rewards_that_exist(log):
    # TRL's default, "sum_then_normalize": nansum over functions, then (x - mean) / (std + 1e-4)
    # in each group, ddof 1. No row lacks both rewards, so no sum is left out.
    total = np.nansum([by_group(log["helpful_length"]), by_group(log["no_digits"])], axis=0)
    mean = total.mean(-1, keepdims=True)
    std = total.std(-1, ddof=1, keepdims=True)
    # Absolute: TRL computes in float32, values up to 1.5.
    np.testing.assert_allclose(by_group(log["advantage"]), (total - mean) / (std + 1e-4), atol=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="needs TRL: pip install 'rvpo-jax[parity]'"
)
def test_the_installed_trl_writes_the_columns_of_the_fixture(tmp_path):
    subprocess.run(
        [sys.executable, make_trl_log.__file__, tmp_path, "--steps", "2"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    written = read_files(tmp_path / "completions")
    assert len(written) == 2
    for new, old in zip(written, read_files(FIXTURE), strict=False):
        assert new.schema.equals(old.schema)
        assert new["step"].equals(old["step"])
