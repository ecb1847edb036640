"""The log of a run of ours: what is written is what is read, whatever the texts."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from rvpo_jax.auditing.read import read_log
from rvpo_jax.basics.files import WriteError
from rvpo_jax.config import Channel
from rvpo_jax.run.rollout_log import (
    FOLDER,
    column_of,
    drop_rollouts,
    write_rollouts,
    written_steps,
)

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
    for unfinished in ("00000009.part", ".00000001.77.part.parquet"):
        (tmp_path / FOLDER / unfinished).write_bytes(b"cut")
    drop_rollouts(tmp_path, 2)
    left = sorted(path.name for path in (tmp_path / FOLDER).iterdir())
    assert left == ["00000000.parquet", "00000001.parquet"]
    drop_rollouts(tmp_path / "nothing here", 0)


@pytest.mark.slow
def test_a_flipped_bit_is_an_error_that_names_the_file_or_changes_nothing(tmp_path):
    path, *_ = write(tmp_path, 0)
    write(tmp_path, 1)
    good, right = path.read_bytes(), what_is_read(tmp_path)
    num_errors = 0
    places = range(0, 8 * len(good), 61)  # 61 and 8 share no factor: all bits of a byte occur
    for place in places:
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(data))
        try:
            found = what_is_read(tmp_path)
        except ValueError as error:
            num_errors += 1
            assert path.name in str(error)
        else:
            assert found == right, f"bit {place}"
    assert num_errors > len(places) / 3  # the others are in a copy of the schema and in statistics


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"pass_at": 3', b'"pass_at": 4'), (b"1.5", b"1.7"), (b"constraint", b"quality")],
    ids=["pass mark", "k", "kind"],
)
def test_another_description_than_the_one_written_is_told(tmp_path, old, new):
    path, *_ = write(tmp_path)
    table = pq.read_table(path)
    about = table.schema.metadata
    changed = {**about, b"rvpo": about[b"rvpo"].replace(old, new)}
    assert changed != about
    pq.write_table(table.replace_schema_metadata(changed), path)
    with pytest.raises(ValueError, match="00000000.parquet.*: its header differs from what was"):
        read_log(tmp_path)


def test_another_name_of_a_column_than_the_one_written_is_told(tmp_path):
    path, *_ = write(tmp_path)
    table = pq.read_table(path)
    renamed = table.rename_columns({"quality": "equality"})
    pq.write_table(renamed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(ValueError, match="00000000.parquet.*: its header differs from what was"):
        read_log(tmp_path)


def what_is_read(path):
    """All that a reader gets of a file; a file that is damaged is an error."""
    log = read_log(path)
    lost = [note.text for note in log.notes if note.kind in ("cut_file", "unreadable_file")]
    if lost:
        raise ValueError(f"the log must be whole, got: {lost}")
    values = [log.rewards, log.advantage, log.group, log.prompt, log.step]
    numbers = [(array.dtype, array.tobytes()) for array in values]
    return numbers, log.channels, log.method, log.risk_coef, log.read_texts(range(6))


def test_a_file_from_before_there_were_checksums_is_read(tmp_path):
    path, *_ = write(tmp_path)
    right, table = what_is_read(path), pq.read_table(path)
    about = {b"rvpo": table.schema.metadata[b"rvpo"]}
    pq.write_table(table.replace_schema_metadata(about), path, compression="zstd")
    assert what_is_read(path) == right


def test_a_file_that_is_being_written_is_not_read(tmp_path):
    write(tmp_path)
    (tmp_path / FOLDER / ".00000001.77.part.parquet").write_bytes(b"PAR1 half")
    notes = [(note.kind, note.count) for note in read_log(tmp_path).notes if "file" in note.kind]
    assert notes == [("unfinished_file", 1)]
    assert written_steps(tmp_path) == {0}


def test_a_full_disk_is_told_with_the_path_and_the_step_before_stays(tmp_path, small_disk):
    disk = small_disk(16)
    write(disk, 0)
    noise = [np.random.default_rng(n).bytes(4096).hex() for n in range(6)]
    with pytest.raises(
        WriteError, match=r"00000001\.parquet could not be written: the disk is full"
    ):
        write(disk, 1, completions=noise)
    assert [path.name for path in (disk / FOLDER).iterdir()] == ["00000000.parquet"]


@pytest.mark.parametrize("name", ["step", "prompt", "advantage"])
def test_a_channel_named_like_a_column_of_ours_gets_a_prefix(name):
    assert column_of(name) == f"reward/{name}"
