"""Files are whole or not there; what JSON cannot hold becomes what it can; one message."""

import errno
import json
import math

import numpy as np
import pytest

from rvpo_jax.basics import files


def test_a_file_takes_its_place_only_when_its_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError):
        with files.replacing(path) as part:
            part.write_text("half")
            raise KeyError("stopped")
    assert path.read_text() == "old"
    with files.replacing(path) as part:
        assert part.suffix == ".txt"  # libraries choose the format by it
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        pytest.param(errno.ENOSPC, "the disk is full.\n  Free some space", id="full"),
        pytest.param(errno.EDQUOT, "the disk is full.\n  Free some space", id="quota"),
        pytest.param(errno.EACCES, "Permission denied.\n  Make its folder writable", id="denied"),
    ],
)
def test_what_cannot_be_written_is_said_with_its_path_and_the_old_file_stays(
    tmp_path, number, reason
):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(files.WriteError) as error:
        with files.replacing(path) as part:
            part.write_text("half")
            raise OSError(number, {errno.EACCES: "Permission denied"}.get(number, "x"))
    assert str(error.value).startswith(f"{path} could not be written: {reason}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(files.WriteError, match="No such file or directory"):
        files.write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_json_holds_arrays_scalars_and_what_is_not_finite():
    value = {1: np.array([[1.0, math.inf]]), "n": np.int64(3), "x": (np.float32(0.5), None, True)}
    assert json.loads(files.to_json(value), parse_constant=pytest.fail) == {
        "1": [[1.0, None]],
        "n": 3,
        "x": [0.5, None, True],
    }
    with pytest.raises(TypeError):
        files.to_json({"x": object()})


def test_a_lone_surrogate_survives_json_in_a_file(tmp_path):
    files.write_text(tmp_path / "a.json", files.to_json({"text": "\ud800"}))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"text": "\ud800"}
