"""Checkpoints: bitwise round trips, and every way in which one can be broken."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from rvpo_jax.basics.checksums import file_sums
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.run import checkpoint
from rvpo_jax.run.checkpoint import CheckpointError, Checkpoints
from rvpo_jax.types import TrainState


def make_state(step):
    """Every leaf differs between steps, so that a mixture of two checkpoints is seen."""
    params = {"table": jax.random.normal(jax.random.key(step), (64, 64)), "bias": jnp.zeros(3)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    opt_state = optimizer.init(params)
    _, opt_state = optimizer.update(params, opt_state, params)
    return TrainState(
        step=jnp.int32(step), params=params, opt_state=opt_state, key=jax.random.key(100 + step)
    )


def save_steps(directory, *steps, keep=5):
    with Checkpoints(directory, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"saved_at": step})


def bits(tree):
    def raw(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [(raw(leaf).dtype, raw(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def assert_is_step(restored, step):
    """State and meta are those of ``step``, bit for bit."""
    assert restored.step == step
    assert restored.meta == {"saved_at": step}
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(step))
    assert bits(restored.state) == bits(make_state(step))


def restore(directory):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.restore_latest(jax.eval_shape(make_state, 0))


def array_file(directory, step):
    """The largest file of a checkpoint: the arrays."""
    return max(
        (path for path in (directory / str(step)).rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_comes_back_bit_for_bit_with_key_and_optimizer(tmp_path):
    save_steps(tmp_path, 3)
    restored = restore(tmp_path)
    assert_is_step(restored, 3)
    assert jnp.issubdtype(restored.state.key.dtype, jax.dtypes.prng_key)


def test_an_empty_folder_has_nothing_to_restore(tmp_path):
    restored = restore(tmp_path / "new")
    assert restored is None
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.read_meta() is None


def test_a_state_restores_onto_the_shardings_of_its_target(tmp_path):
    save_steps(tmp_path, 1)
    second = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=second), make_state(0)
    )
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(target)
    assert restored.state.params["table"].devices() == {jax.devices()[1]}
    assert bits(restored.state) == bits(make_state(1))


def test_the_saved_arrays_may_be_donated_at_once(tmp_path):
    state = jax.tree.map(lambda leaf: leaf, make_state(1))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        step = jax.jit(
            lambda params: jax.tree.map(lambda leaf: leaf * 0 - 1, params), donate_argnums=0
        )
        jax.block_until_ready(step(state.params))
        checkpoints.wait()
        restored = checkpoints.restore_latest(make_state(0))
    assert bits(restored.state) == bits(make_state(1))


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, keep=2)
    assert names(tmp_path) == ["3", "4"]


def test_a_step_that_is_saved_already_stays_as_it_is(tmp_path):
    save_steps(tmp_path, 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert not checkpoints.save(2, make_state(9), {"saved_at": 9})
    assert_is_step(restore(tmp_path), 2)


@pytest.mark.parametrize(("step", "due"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_checkpoint_is_due_at_multiples_of_save_every(tmp_path, step, due):
    with Checkpoints(tmp_path, save_every=2) as checkpoints:
        assert checkpoints.is_due(step) == due


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        pytest.param(truncate, "bytes", id="truncated"),
        pytest.param(lambda path: path.unlink(), "is missing", id="missing"),
        pytest.param(flip_one_bit, "differs from what was written", id="one bit flipped"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(
    tmp_path, caplog, damage, cause
):
    save_steps(tmp_path, 1, 2)
    damage(array_file(tmp_path, 2))
    with caplog.at_level(logging.WARNING):
        restored = restore(tmp_path)
    assert_is_step(restored, 1)
    report = caplog.records[0].getMessage()
    assert str(tmp_path / "2") in report and cause in report
    assert names(tmp_path) == ["1", "2.damaged"]


def test_damage_that_the_file_list_cannot_show_is_found_while_restoring(tmp_path, caplog):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "2" / "meta" / "metadata").write_text("{")
    sums = file_sums(tmp_path / "2")  # the list agrees with the damaged file
    items = {name: pair for name, pair in sums.items() if "/" in name}
    (tmp_path / "2" / "files.json").write_text(json.dumps(items))
    assert_is_step(restore(tmp_path), 1)
    assert f"{tmp_path / '2'} cannot be restored: JSON" in caplog.records[0].getMessage()


@pytest.mark.parametrize("content", [None, "", "{}", "[]", "[" * 100_000, '{"state/x": 3}'])
def test_a_checkpoint_without_its_list_of_files_counts_as_damaged(tmp_path, caplog, content):
    save_steps(tmp_path, 1, 2)
    files = tmp_path / "2" / "files.json"
    files.unlink() if content is None else files.write_text(content)
    assert_is_step(restore(tmp_path), 1)
    assert "files.json is missing or damaged" in caplog.records[0].getMessage()


def test_a_list_of_files_that_names_none_of_an_item_counts_as_damage(tmp_path, caplog):
    save_steps(tmp_path, 1, 2)
    files = tmp_path / "2" / "files.json"
    sums = json.loads(files.read_text())
    files.write_text(json.dumps({k: v for k, v in sums.items() if not k.startswith("meta/")}))
    assert_is_step(restore(tmp_path), 1)
    assert "lists nothing of meta" in caplog.records[0].getMessage()


def test_a_checkpoint_renamed_to_another_step_is_set_aside(tmp_path, caplog):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "2").rename(tmp_path / "7")
    assert_is_step(restore(tmp_path), 1)
    assert "its folder says step 7 and its state 2" in caplog.records[0].getMessage()
    assert names(tmp_path) == ["1", "7.damaged"]


def test_a_state_with_memory_of_its_rule_comes_back_bit_for_bit(tmp_path):
    memory = {"ideal": jnp.float32([0.1, 1e-30]), "count": jnp.int32(3)}
    state = dataclasses.replace(make_state(1), rule_state=memory)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        restored = checkpoints.restore_latest(jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert bits(restored.state) == bits(state)


def test_a_checkpoint_from_before_rules_had_memory_restores_into_a_rule_without(tmp_path):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class OldState:
        step: jax.Array
        params: dict
        opt_state: tuple
        key: jax.Array

    fields = {name: getattr(make_state(1), name) for name in ("step", "params", "opt_state", "key")}
    manager = ocp.CheckpointManager(tmp_path / "old")
    manager.save(1, args=ocp.args.Composite(
        state=ocp.args.StandardSave(OldState(**fields)), meta=ocp.args.JsonSave({})
    ))  # fmt: skip
    manager.close()
    sums = {name: pair for name, pair in file_sums(tmp_path / "old/1").items() if "/" in name}
    (tmp_path / "old/1/files.json").write_text(json.dumps(sums))
    with Checkpoints(tmp_path / "old") as checkpoints:
        restored = checkpoints.restore_latest(jax.eval_shape(make_state, 0))
    assert restored.state.rule_state == ()
    assert bits(restored.state) == bits(make_state(1))


def test_a_damaged_step_can_be_saved_again_and_nothing_is_lost(tmp_path):
    for _ in range(2):
        save_steps(tmp_path, 1, 2)
        truncate(array_file(tmp_path, 2))
        assert_is_step(restore(tmp_path), 1)
    save_steps(tmp_path, 2)
    assert_is_step(restore(tmp_path), 2)
    assert names(tmp_path) == ["1", "2", "2.damaged", "2.damaged-2"]


def test_a_run_never_starts_anew_when_all_its_checkpoints_are_damaged(tmp_path):
    save_steps(tmp_path, 1, 2)
    for step in (1, 2):
        truncate(array_file(tmp_path, step))
    with pytest.raises(CheckpointError, match=r"(?s)None of the 2 .*step 2: .*step 1: .*bytes"):
        restore(tmp_path)
    assert names(tmp_path) == ["1", "2"]


def test_a_state_of_another_shape_is_an_error_that_leaves_the_checkpoints_alone(tmp_path):
    save_steps(tmp_path, 1)
    other = TrainState(
        step=jnp.int32(0), params={"wide": jnp.zeros(9)}, opt_state=(), key=jax.random.key(0)
    )
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="step 1: "):
        checkpoints.restore_latest(other)
    assert names(tmp_path) == ["1"]


def test_meta_is_read_without_the_arrays(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(array_file(tmp_path, 2))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.read_meta() == ({"saved_at": 2}, 2)


def test_an_older_checkpoint_is_read_where_it_is_asked_for(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path, read_only=True, only=2) as checkpoints:
        params, meta, step = checkpoints.restore_params(make_state(0).params)
    assert (meta, step) == ({"saved_at": 2}, 2)
    assert bits(params) == bits(make_state(2).params)
    message = r"must be that of a checkpoint in .* \(3, 2, 1\), got 4"
    with (
        Checkpoints(tmp_path, read_only=True, only=4) as checkpoints,
        pytest.raises(Refusal, match=message),
    ):
        checkpoints.read_meta()


def test_a_read_only_view_touches_nothing(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(array_file(tmp_path, 2))
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path, keep=1, read_only=True) as checkpoints:
        assert checkpoints.restore_latest(make_state(0)).step == 1
        with pytest.raises(ValueError, match="read_only"):
            checkpoints.save(4, make_state(4), {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_save_that_fails_in_the_background_is_reported(tmp_path, monkeypatch):
    def disk_full(path):
        raise OSError(28, "No space left on device")

    save_steps(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "file_sums", disk_full)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, make_state(2), {"saved_at": 2})
    with pytest.raises(CheckpointError, match=f"to {tmp_path}: the disk is full.\n  .* Free some"):
        checkpoints.wait()
    checkpoints.close()
    assert names(tmp_path) == ["1"]
    monkeypatch.undo()
    assert_is_step(restore(tmp_path), 1)


_SAVES_UNTIL_THE_DISK_IS_FULL = """
    import logging, pathlib, sys
    import jax, jax.numpy as jnp
    from rvpo_jax.run.checkpoint import Checkpoints, CheckpointError
    from rvpo_jax.types import TrainState

    logging.basicConfig(level=logging.WARNING)

    def state(step):  # noise does not compress: 2.4 MB on disk
        params = jax.random.normal(jax.random.key(step), (600, 1024))
        return TrainState(step=jnp.int32(step), params=params, opt_state=(), key=jax.random.key(0))

    if __name__ == "__main__":
        try:
            with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
                for step in (1, 2, 3):
                    checkpoints.save(step, state(step), {"saved_at": step})
                    checkpoints.wait()
        except CheckpointError as error:
            print(error)
"""


def test_a_full_disk_is_one_message_without_tracebacks_and_leaves_no_unfinished_checkpoint(
    tmp_path, small_disk
):
    directory = small_disk(6 << 10) / "checkpoints"  # two fit, the third does not
    script = tmp_path / "full.py"
    script.write_text(textwrap.dedent(_SAVES_UNTIL_THE_DISK_IS_FULL))
    run = subprocess.run(
        [sys.executable, script, directory],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.stderr == ""
    needed = 600 * 1024 * 4 + 4 + 8  # parameters, step and random key
    message = (
        f"A checkpoint could not be written to {re.escape(str(directory))}: the disk is full "
        rf"\({needed:,} bytes needed, 1,[\d,]+ free\)\.\n"
        r"  Earlier checkpoints are intact\. Free some space, then start the run again\.\n"
    )
    assert re.fullmatch(message, run.stdout)
    assert names(directory) == ["1", "2"]


_KILLED_WHILE_SAVING = """
    import os, pathlib, signal, sys, time
    import jax, jax.numpy as jnp
    from rvpo_jax.run.checkpoint import Checkpoints
    from rvpo_jax.types import TrainState

    def state(step):  # noise does not compress: 64 MB on disk
        params = jax.random.normal(jax.random.key(step), (4096, 4096))
        return TrainState(step=jnp.int32(step), params=params, opt_state=(), key=jax.random.key(0))

    if __name__ == "__main__":
        directory = pathlib.Path(sys.argv[1])
        checkpoints = Checkpoints(directory)
        checkpoints.save(1, state(1), {"saved_at": 1})
        checkpoints.wait()
        second = jax.block_until_ready(state(2))
        checkpoints.save(2, second, {"saved_at": 2})
        while not list(directory.glob("2.*")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_run_killed_while_saving_resumes_from_the_checkpoint_before(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(_KILLED_WHILE_SAVING))
    run = subprocess.run(
        [sys.executable, script, tmp_path / "run"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert names(tmp_path / "run") == ["1", "2.orbax-checkpoint-tmp"]

    target = TrainState(
        step=jnp.int32(0), params=jnp.zeros((4096, 4096)), opt_state=(), key=jax.random.key(0)
    )
    with Checkpoints(tmp_path / "run") as checkpoints:
        restored = checkpoints.restore_latest(target)
        assert restored.step == int(restored.state.step) == 1
        checkpoints.save(2, restored.state, {"saved_at": 2})
    assert names(tmp_path / "run") == ["1", "2"]


def test_what_a_killed_save_left_is_gone_after_the_next_save(tmp_path):
    (tmp_path / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    save_steps(tmp_path, 3)
    assert names(tmp_path) == ["3"]


def test_the_file_list_names_every_file_of_the_items(tmp_path):
    save_steps(tmp_path, 1)
    listed = set(json.loads((tmp_path / "1" / "files.json").read_text()))
    present = {
        path.relative_to(tmp_path / "1").as_posix()
        for item in ("state", "data", "meta")
        for path in (tmp_path / "1" / item).rglob("*")
        if path.is_file() and path.name != "commit_success.txt"
    }
    assert listed == present


@pytest.mark.parametrize("arguments", [{"keep": 0}, {"save_every": 0}])
def test_counts_below_one_are_refused(tmp_path, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} must be >= 1, got 0\.\n  "):
        Checkpoints(tmp_path, **arguments)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"directory must be a folder, got .*file.*\n  "):
        Checkpoints(tmp_path / "file" / below)


def test_a_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match=r"directory must be writable, got .*\n  "):
        Checkpoints(tmp_path)


def test_a_read_only_view_needs_an_existing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"existing folder of checkpoints, got .*\n  Train first"):
        Checkpoints(tmp_path / "absent", read_only=True)


def test_a_save_says_nothing_on_a_console_at_info(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        save_steps(tmp_path, 1)
        restore(tmp_path)
    assert caplog.records == []
