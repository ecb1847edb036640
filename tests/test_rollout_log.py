"""The log of a run of ours: what is written is what is read, whatever the texts."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from rvpo_jax.auditing.read import read_log
from rvpo_jax.config import Channel
from rvpo_jax.run.rollout_log import FOLDER, column_of, drop_rollouts, write_rollouts

CHANNELS = (
    Channel(name="quality", low=0, high=5, pass_at=3),
    Channel(name="step", kind="constraint"),  # like one of our own columns
)
HOSTILE = ["plain", "", "\x1b[2J\0", "\ud800 lone", "<script>", "{{ 7 * 7 }}"]


def write(workdir, step=0, completions=HOSTILE, prompts=("a", "b"), **changes):
    rng = np.random.default_rng(step)
    rewards = rng.integers(0, 2, (2, 3, 2)).astype(np.float32)
    where = np.ones((2, 3, 2), bool)
    where[0, 1, 0] = False
    advantages = rng.normal(size=(2, 3)).astype(np.float32)
    options = {"method": "rvpo", "risk_coef": 1.5, **changes}
    path = write_rollouts(
        workdir,
        step,
        CHANNELS,
        rewards,
        where,
        advantages,
        prompts=list(prompts),
        completions=completions,
        **options,
    )
    return path, rewards, where, advantages


def test_what_is_written_is_what_is_read(tmp_path):
    written = [write(tmp_path, step) for step in (0, 1)]
    log = read_log(tmp_path / FOLDER)
    assert (log.format, log.channels, log.method) == ("rvpo", CHANNELS, "rvpo")
    assert log.risk_coef == 1.5
    for name, place in (("rewards", 1), ("advantage", 3)):
        values = [entry[place] for entry in written]
        if name == "rewards":
            values = [np.where(entry[2], entry[1], np.nan) for entry in written]
        flat = np.concatenate([value.reshape(6, -1) for value in values]).squeeze()
        np.testing.assert_array_equal(getattr(log, name), flat)
    assert log.step.tolist() == [0] * 6 + [1] * 6
    assert log.group.tolist() == np.repeat(np.arange(4), 3).tolist()
    assert log.prompt.tolist() == np.repeat([0, 1, 0, 1], 3).tolist()  # the same two prompts again
    shown = [completion for _, completion in log.read_texts(range(6))]
    assert shown == ["plain", "", "\x1b[2J\0", "\\ud800 lone", "<script>", "{{ 7 * 7 }}"]


def test_equal_prompts_of_one_step_stay_two_groups(tmp_path):
    write(tmp_path, prompts=("same", "same"))
    log = read_log(tmp_path / FOLDER)
    assert log.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert set(log.prompt.tolist()) == {0}


def test_without_texts_no_text_is_in_the_file(tmp_path):
    path, *_ = write(tmp_path, completions=None)
    assert not {"prompt", "completion"} & set(pq.read_schema(path).names)
    log = read_log(path)
    assert log.read_texts([0]) == [(None, None)]


def test_an_infinite_k_survives(tmp_path):
    path, *_ = write(tmp_path, risk_coef=float("inf"))
    assert read_log(path).risk_coef == float("inf")


def test_resuming_drops_later_steps_and_unfinished_files(tmp_path):
    for step in range(4):
        write(tmp_path, step)
    (tmp_path / FOLDER / "00000009.part").write_bytes(b"cut")
    drop_rollouts(tmp_path, 2)
    left = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert left == ["00000000.parquet", "00000001.parquet"]
    drop_rollouts(tmp_path / "nothing here", 0)


@pytest.mark.parametrize("name", ["step", "prompt", "advantage"])
def test_a_channel_named_like_a_column_of_ours_gets_a_prefix(name):
    assert column_of(name) == f"reward/{name}"
