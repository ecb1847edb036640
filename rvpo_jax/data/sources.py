"""What ``data.source`` and ``data.eval_source`` name: a public data set or a file of rows."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from rvpo_jax.data.datasets import DATASETS, builder_of, load_dataset, read_dataset
from rvpo_jax.data.row_cache import RowSource
from rvpo_jax.data.row_files import Row
from rvpo_jax.data.rows import load_rows, read_rows

_NAMED = re.compile(r"([A-Za-z0-9_-]{1,80})(?::(.+))?", re.DOTALL)


class Loaded(NamedTuple):
    """Rows of a source."""

    train: RowSource
    held_out: RowSource | None
    """Those that the data set keeps for evaluation; None: there are none."""
    others: Mapping[str, RowSource]
    """Further parts of the data set, such as ``rar_science/test``, by name."""


def named(source: str) -> tuple[str, str | None] | None:
    """The data set of a source, and where its files are; None where it is a file of rows.

    Args:
      source: NAME, NAME:PATH, or a file.

    Returns:
      Name and path; the path is None where there is none.

    Raises:
      Refusal: on a name that no data set has, naming the nearest.

    >>> named("gsm8k"), named("gsm8k:downloads/gsm8k"), named("rows.jsonl")
    (('gsm8k', None), ('gsm8k', 'downloads/gsm8k'), None)
    """
    match = _NAMED.fullmatch(source)
    if match is None or (match[1] not in DATASETS and Path(source).expanduser().exists()):
        return None
    builder_of(match[1])
    return match[1], match[2]


def load_source(source: str, data_dir: Path, prompt_column: str) -> Loaded:
    """The rows to train on, and those that a data set keeps for evaluation.

    Args:
      source: A data set's NAME or NAME:PATH, or a file.
      data_dir: Folder for caches.
      prompt_column: Of a file.

    Returns:
      The rows.

    Raises:
      ValueError: where there is no such data set or file, or a row cannot be used.
    """
    dataset = named(source)
    if dataset is None:
        return Loaded(load_rows(source, data_dir, prompt_column), None, {})
    name, path = dataset
    splits = load_dataset(name, data_dir, path)
    first, *others = splits
    kept = DATASETS[name].held_out
    # Of RaR, whoever has only train and test evaluates on test.
    held_out = kept if kept in splits else ("test" if "test" in others else None)
    further = {f"{name}/{split}": splits[split] for split in others if split != held_out}
    return Loaded(splits[first], None if held_out is None else splits[held_out], further)


def load_eval_source(source: str, data_dir: Path, prompt_column: str) -> RowSource:
    """The rows to evaluate on: all of a file, or what a data set keeps for it.

    Args:
      source: As in ``load_source``.
      data_dir: As in ``load_source``.
      prompt_column: As in ``load_source``.

    Returns:
      The rows.

    Raises:
      ValueError: as ``load_source``.
    """
    rows = load_source(source, data_dir, prompt_column)
    return rows.train if rows.held_out is None else rows.held_out


def read_source(source: str, prompt_column: str) -> Iterator[Row]:
    """The rows to train on, one after the other; nothing is cached.

    Args:
      source: As in ``load_source``.
      prompt_column: As in ``load_source``.

    Returns:
      The rows.

    Raises:
      ValueError: as ``load_source``; of a row when it is read.
    """
    dataset = named(source)
    return read_rows(source, prompt_column) if dataset is None else read_dataset(*dataset)
