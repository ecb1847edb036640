"""Save and restore a run: its state and meta. The only file that names Orbax.

One checkpoint is a folder named after its step. It is written beside the others under a temporary
name and renamed when complete, so a killed save leaves the previous checkpoint untouched. Restoring
takes the newest undamaged one. The position in the data is the step: a step reads one batch. Of
several processes all call everything here, and write and read their parts of the arrays.
"""

import dataclasses
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from rvpo_jax.basics.checksums import damage, file_sums, is_file_sums
from rvpo_jax.basics.files import is_disk_full, to_json
from rvpo_jax.basics.refusals import Failure, Refusal
from rvpo_jax.run.bucket import checkpoint_folder, in_bucket, prepare_checkpoints, run_folder
from rvpo_jax.run.parallel import processes
from rvpo_jax.types import TrainState

_LOG = logging.getLogger(__name__)
# Orbax restores an array with flipped bits without a word, so size and CRC-32 of every file are
# kept in each checkpoint.
_FILES = "files.json"


class CheckpointError(Failure):
    """There are checkpoints, and none of them can be restored or the last one was not written."""


class Restored(NamedTuple):
    """One checkpoint, read back."""

    state: TrainState
    meta: dict[str, Any]
    step: int


class Checkpoints:
    """The checkpoints of one run; a context manager that waits for the last save.

    Saving is asynchronous: ``save`` returns when the arrays are copied to host memory, and the
    previous save is waited for first. With ``read_only`` nothing in ``directory`` is touched, which
    is what an evaluation beside a running training needs.

    Args:
      directory: Folder of the checkpoints; created, with its parents, unless ``read_only``.
      keep: Newest checkpoints that are kept, at least 1. With 1, a damaged one has no fallback.
      save_every: Steps between checkpoints, at least 1; only ``is_due`` looks at it.
      read_only: Neither create, delete nor rename anything; ``save`` is refused.
      only: The step of the one checkpoint that is looked at; None: all of them.

    Raises:
      ValueError: if ``directory`` is not a folder that can be used, or a number is too small.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int = 2,
        save_every: int = 1,
        read_only: bool = False,
        only: int | None = None,
    ) -> None:
        for name, value in (("keep", keep), ("save_every", save_every)):
            if value < 1:
                raise Refusal(f"{name} must be >= 1, got {value}.", "2 leaves one fallback.")
        _quiet_absl()
        self.save_every = save_every
        self.read_only = read_only
        self._only = only
        self._saving: int | None = None
        folder = run_folder(directory)
        self._local = not in_bucket(folder)
        if not self._local and not read_only and processes.is_first():
            prepare_checkpoints(folder)
        self._manager = ocp.CheckpointManager(
            str(checkpoint_folder(folder, read_only)),
            options=ocp.CheckpointManagerOptions(
                # Which checkpoints go is decided when one is saved, so this is safe to read with.
                max_to_keep=keep,
                create=not read_only,
                # A save that was killed leaves its temporary folder behind.
                cleanup_tmp_directories=self._local and not read_only,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_file_list),
            ),
        )

    def is_due(self, step: int) -> bool:
        """True where ``step`` is a multiple of ``save_every``, and not 0.

        Args:
          step: Rollout batches seen.

        Returns:
          Whether a checkpoint is due.
        """
        return step > 0 and step % self.save_every == 0

    def save(self, step: int, state: TrainState, meta: dict[str, Any]) -> bool:
        """Starts to save a checkpoint and returns; a step that is already saved stays as it is.

        Args:
          step: Rollout batches seen, the name of the checkpoint.
          state: Arrays on any devices. May be donated as soon as this returns.
          meta: Whatever JSON can hold; the resolved config of the run belongs here.

        Returns:
          Whether a save was started.

        Raises:
          CheckpointError: if this save cannot start, or the one before did not succeed.
        """
        if self.read_only:
            raise Refusal(
                "save needs checkpoints that are not read_only.", "Open them with read_only=False."
            )
        self.wait()
        if step in self._manager.all_steps():
            return False
        fields = _saved_fields(state)
        self._check_room(fields)
        items: dict[str, Any] = {
            "state": ocp.args.StandardSave(fields),
            "meta": ocp.args.JsonSave(meta),
        }
        self._saving = step
        try:
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        except OSError as error:
            raise self._not_written(error) from error
        return True

    def restore_latest(self, abstract_state: TrainState) -> Restored | None:
        """The newest checkpoint that can be read; ``None`` where there is no checkpoint at all.

        A checkpoint that cannot be read, or whose folder does not bear the step of its state, is
        reported by a warning. Once an older one has been restored, the folder of the unreadable one
        is renamed to ``<step>.damaged``, so that the step can be saved again and nothing is lost.

        Args:
          abstract_state: The state's tree of arrays or of ``jax.ShapeDtypeStruct``, for example
            from ``jax.eval_shape``. Leaves without a sharding go to the first local device.

        Returns:
          State, meta and step of the same checkpoint. The arrays equal the saved ones bit for bit.

        Raises:
          CheckpointError: if there are checkpoints and none can be restored. Then nothing has been
            renamed.
        """
        self.wait()
        target = jax.tree.map(_with_sharding, _saved_fields(abstract_state))
        items: dict[str, Any] = {
            "state": ocp.args.StandardRestore(target),
            "meta": ocp.args.JsonRestore(),
        }
        step, restored = self._newest_readable(items)
        if restored is None:
            return None
        state = dataclasses.replace(abstract_state, **restored["state"])
        return Restored(state=state, meta=restored["meta"], step=step)

    def restore_params(self, abstract_params: Any) -> tuple[Any, dict[str, Any], int] | None:
        """The parameters of the newest checkpoint, whatever optimizer and rule it was saved with.

        Args:
          abstract_params: Tree of arrays or of ``jax.ShapeDtypeStruct``.

        Returns:
          Parameters, meta and step, or ``None`` where there is no checkpoint at all.

        Raises:
          CheckpointError: if there are checkpoints and none has such parameters.
        """
        self.wait()
        step = jax.ShapeDtypeStruct((), np.int32)
        target = jax.tree.map(_with_sharding, {"step": step, "params": abstract_params})
        partial = ocp.args.PyTreeRestore(
            item=target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )
        items = {"state": partial, "meta": ocp.args.JsonRestore()}
        found, restored = self._newest_readable(items, rename=False)
        return None if restored is None else (restored["state"]["params"], restored["meta"], found)

    def read_meta(self) -> tuple[dict[str, Any], int] | None:
        """Meta and step of the newest checkpoint whose meta can be read, without any array.

        Returns:
          ``(meta, step)``, or ``None`` where there is no checkpoint at all.

        Raises:
          CheckpointError: if there are checkpoints and none has readable meta.
        """
        self.wait()
        step, restored = self._newest_readable({"meta": ocp.args.JsonRestore()}, rename=False)
        return None if restored is None else (restored["meta"], step)

    def wait(self) -> None:
        """Waits until the last save is complete on disk.

        Raises:
          CheckpointError: if it was not written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # whatever the background thread met: full disk, lost mount
            raise self._not_written(error) from error

    def close(self) -> None:
        """Waits for the last save and stops the background threads.

        Raises:
          CheckpointError: if the last save was not written.
        """
        try:
            self.wait()
        finally:
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_room(self, fields: dict[str, Any]) -> None:
        """Before anything is written: writers cut off by a full disk print tracebacks at will."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(fields))
        free = shutil.disk_usage(self._manager.directory).free if self._local else needed
        if free < needed:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise self._not_written(full, f" ({needed:,} bytes needed, {free:,} free)")

    def _newest_readable(
        self, items: dict[str, Any], rename: bool = True
    ) -> tuple[int, dict[str, Any] | None]:
        causes: dict[int, str] = {}
        for step in _chosen(self._manager.all_steps(), self._only, self._manager.directory):
            restored, cause = self._read(step, items)
            if rename and processes.any_of(restored is None):  # all come to the same
                restored, cause = None, cause or "another process cannot read it"
            if restored is None:
                causes[step] = cause
                where = self._manager.directory / str(step)
                _LOG.warning("Checkpoint %s cannot be restored: %s.", where, cause)
                continue
            if rename and not self.read_only:
                for damaged in causes:
                    self._set_aside(damaged)
            return step, restored
        if causes:
            listing = "".join(f"\n  step {step}: {cause}" for step, cause in causes.items())
            raise CheckpointError(
                f"None of the {len(causes)} checkpoint(s) in {self._manager.directory} can be "
                f"restored:{listing}\n  Nothing was changed. Restore them from a copy, use the "
                "model and optimizer they were saved with, or start in another folder."
            )
        return -1, None

    def _read(self, step: int, items: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
        """The items of a checkpoint, or why they cannot be had."""
        try:
            self._verify_files(step, tuple(items))
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            _check_step(restored.get("state"), step)
        except Exception as error:  # a damaged file may surface as anything
            return None, _cause(error)
        return dict(restored.items()), ""

    def _write_file_list(self) -> None:
        """Runs in Orbax' background thread, when all is written and before the final rename."""
        if not self._local:
            return  # a bucket has checksums of its own
        for root in self._unfinished():
            sums = {
                name: pair
                for name, pair in file_sums(root).items()
                if "/" in name and not name.endswith("commit_success.txt")
            }
            (root / _FILES).write_text(to_json(sums, indent=1))

    def _verify_files(self, step: int, items: tuple[str, ...]) -> None:
        if not self._local:
            return
        root = Path(self._manager.directory) / str(step)
        try:
            sums = json.loads((root / _FILES).read_bytes())
        except (OSError, ValueError, RecursionError):
            sums = None
        if not is_file_sums(sums):
            raise CheckpointError(f"file {_FILES} is missing or damaged")
        for item in items:
            listed = {name: pair for name, pair in sums.items() if name.split("/")[0] == item}
            problem = damage(root, listed) if listed else f"file {_FILES} lists nothing of {item}"
            if problem is not None:
                raise CheckpointError(problem)

    def _unfinished(self) -> list[Path]:
        """What there is of the checkpoint that is being saved, in its temporary folder."""
        return list(Path(self._manager.directory).glob(f"{self._saving}.*tmp*"))

    def _not_written(self, error: BaseException, detail: str = "") -> CheckpointError:
        """The one message for a save that failed; what there is of it goes, to free its space."""
        if self._local and self._saving is not None:
            for root in self._unfinished():
                shutil.rmtree(root, ignore_errors=True)
        full = is_disk_full(error)
        reason = f"the disk is full{detail}" if full else _cause(error)
        remedy = "Free some space" if full else "Make the folder writable"
        return CheckpointError(
            f"A checkpoint could not be written to {self._manager.directory}: {reason}.\n"
            f"  Earlier checkpoints are intact. {remedy}, then start the run again."
        )

    def _set_aside(self, step: int) -> None:
        source = self._manager.directory / str(step)
        target = self._manager.directory / f"{step}.damaged"
        number = 1
        while target.exists():
            number += 1
            target = self._manager.directory / f"{step}.damaged-{number}"
        if processes.is_first():
            source.rename(target)
            _LOG.warning("Going on from an older checkpoint; this one is now %s.", target)
        processes.wait_for_all(f"checkpoint {step} is set aside")
        self._manager.reload()


def _chosen(steps: Iterable[int], only: int | None, where: Any) -> list[int]:
    """Newest first, or the one that was asked for."""
    found = sorted(steps, reverse=True)
    if only is not None and only not in found:
        listed = ", ".join(map(str, found)) or "none"
        raise Refusal(
            f"the step must be that of a checkpoint in {where} ({listed}), got {only}.",
            "checkpoint.keep says how many are kept.",
        )
    return found if only is None else [only]


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:  # else Orbax asks for the devices of the run that saved
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _saved_fields(state: TrainState) -> dict[str, Any]:
    """The fields of a state but the frozen ones, which the start of the run still has.

    A rule state that is empty is left out, for checkpoints that are older than it.
    """
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    empty = () if jax.tree.leaves(state.rule_state) else ("rule_state",)
    return {name: value for name, value in fields.items() if name not in ("frozen", *empty)}


def _check_step(fields: Any, step: int) -> None:
    if fields is not None and int(fields["step"]) != step:
        raise CheckpointError(f"its folder says step {step} and its state {int(fields['step'])}")


def _quiet_absl() -> None:
    """Keeps Orbax' log from the console; a level chosen by the user stays.

    It logs about forty lines per save, and every failure several times with its traceback, which
    comes back as an exception from ``wait``.
    """
    absl = logging.getLogger("absl")
    if absl.level == logging.NOTSET:
        absl.setLevel(logging.CRITICAL)


def _cause(error: BaseException) -> str:
    if isinstance(error, CheckpointError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
