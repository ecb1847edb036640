"""The log of a run of ours: one Parquet file per step and process, a row per completion.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rvpo_jax.basics.checksums import CHECKSUM_KEY, header_checksum
from rvpo_jax.basics.files import replacing, to_json
from rvpo_jax.basics.rollout_format import FOLDER, METADATA_KEY, column_of
from rvpo_jax.config import Channel


def write_rollouts(
    workdir: Path,
    step: int,
    channels: Sequence[Channel],
    rewards: np.ndarray,
    where: np.ndarray,
    advantages: np.ndarray,
    *,
    prompts: Sequence[str],
    completions: Sequence[str] | None,
    method: str,
    risk_coef: float,
    weights: Any = None,
    part: int | None = None,
) -> Path:
    """Writes the completions of one step, as a whole or not at all, in place of an older file.

    Args:
      workdir: Folder of the run; the file goes to its ``rollouts/``.
      step: Rollout batches seen before.
      channels: M channels; kept in the file, so that it can be read on its own.
      rewards: ``[B, G, M]`` float32.
      where: ``[B, G, M]`` bool; other entries become null.
      advantages: ``[B, G]`` float32, as the update used them.
      prompts: B texts; with ``completions=None`` only their hashes are kept.
      completions: ``B * G`` texts, prompt by prompt; None leaves all texts out.
      method: the run's rule.
      risk_coef: k of this step, 1/score.
      weights: ``[M]`` float >= 0, what the run's rule multiplies channels with; None: equal.
      part: which process's part of the batch this is; None: there is one process.

    Returns:
      The path.

    Raises:
      WriteError: when the disk is full or the folder cannot be written to.
    """
    group_size = rewards.shape[1]
    count = rewards.shape[0] * group_size
    groups = (part or 0) * len(prompts) + np.arange(len(prompts), dtype=np.int32)
    ids = np.array([_hash(prompt) for prompt in prompts], np.int64)
    columns: dict[str, pa.Array] = {
        "step": pa.array(np.full(count, step, np.int32)),
        "group": pa.array(np.repeat(groups, group_size)),
        "prompt_id": pa.array(np.repeat(ids, group_size)),
    }
    if completions is not None:
        columns["prompt"] = _texts([text for text in prompts for _ in range(group_size)])
        columns["completion"] = _texts(completions)
    for index, channel in enumerate(channels):
        values, scored = rewards[..., index].reshape(-1), where[..., index].reshape(-1)
        columns[column_of(channel.name)] = pa.array(values.astype(np.float32), mask=~scored)
    columns["advantage"] = pa.array(advantages.reshape(-1).astype(np.float32))
    about = {
        "channels": [dataclasses.asdict(channel) for channel in channels],
        "method": method,
        "risk_coef": risk_coef if np.isfinite(risk_coef) else "inf",
        "weights": None if weights is None else [float(weight) for weight in weights],
    }
    table = pa.table(columns)
    described = to_json(about).encode()
    table = table.replace_schema_metadata(
        {METADATA_KEY: described, CHECKSUM_KEY: header_checksum(described, table.schema, count)}
    )
    end = "" if part is None else f"-{part:03d}"
    path = workdir / FOLDER / f"{step:08d}{end}.parquet"
    with replacing(path) as unfinished:
        unfinished.parent.mkdir(exist_ok=True)
        pq.write_table(
            table, unfinished, compression="zstd", write_page_checksum=True, write_statistics=False
        )
    return path


def written_steps(workdir: Path) -> set[int]:
    """The steps that have a file.

    Args:
      workdir: Folder of the run.

    Returns:
      The steps; none where there is no folder.
    """
    steps = map(_step_of, (workdir / FOLDER).glob("*.parquet"))
    return {step for step in steps if step is not None}


def drop_rollouts(workdir: Path, resume_step: int) -> None:
    """Deletes the files of the steps that a resumed run will write again, and unfinished ones.

    Args:
      workdir: Folder of the run.
      resume_step: First step that will be written.
    """
    for path in (workdir / FOLDER).glob("*.*"):
        step = _step_of(path)
        is_late = step is not None and step >= resume_step
        is_unfinished = ".part" in path.suffixes  # .part.parquet, of older versions .part
        if is_unfinished or (path.suffix == ".parquet" and is_late):
            path.unlink()


def _step_of(path: Path) -> int | None:
    """Of ``00000012.parquet`` and ``00000012-001.parquet`` 12."""
    step, _, part = path.stem.partition("-")
    return int(step) if step.isdecimal() and (part.isdecimal() or not part) else None


def _texts(texts: Sequence[str]) -> pa.Array:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # a lone surrogate, which a policy can write, has no UTF-8 form
        shown = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
        return pa.array(shown, pa.large_string())


def _hash(text: str) -> int:
    data = text.encode("utf-8", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)
