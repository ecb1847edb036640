"""Rows as a TensorFlow Datasets source with random access, in a cache that is sealed by checksums.

A cache is written once, of ArrayRecord files, in a folder that belongs to the content of what it
was made from. Reading needs TensorFlow Datasets, never TensorFlow.
"""

import contextlib
import hashlib
import io
import json
import logging
import operator
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import tensorflow_datasets as tfds

from rvpo_jax.basics.checksums import damage, file_sums, is_file_sums
from rvpo_jax.basics.files import cannot_write, is_disk_full, to_json
from rvpo_jax.data.row_files import Row

_LOG = logging.getLogger(__name__)
_FILES = "files.json"  # size and checksum of each file of a cache


class RowSource:
    """Rows by number: ``{"prompt": a text or messages, **the other columns}``.

    Args:
      records: The data source of a ``RowsBuilder``.
      fingerprint: Of the files' content, to tell whether a resumed run still has the same rows.
    """

    def __init__(self, records: Any, fingerprint: str) -> None:
        self._records = records
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: SupportsIndex, /) -> Row:
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of {len(self)} rows.")
        record = self._records[place % len(self)]
        return {"prompt": json.loads(record["prompt"]), **json.loads(record["columns"])}

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"RowSource({len(self)} rows)"


class LocalInfo(tfds.core.DatasetInfo):
    """Metadata that is only ever read from the cache."""

    def initialize_from_bucket(self) -> None:
        """Neither asks a server nor leaves an empty temporary folder."""


class RowsBuilder(tfds.core.GeneratorBasedBuilder):
    """Builder of rows: ``prompt`` and ``columns``, both JSON, so that any column survives.

    A subclass has ``_split_generators``, which may use ``numbered``.

    Args:
      data_dir: Folder of the cache; other content needs another folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    # No files beside the code. Looking for them needs importlib_resources, which
    # tensorflow-datasets 4.9.10 does not declare.
    code_path = None

    def __init_subclass__(cls, **options: Any) -> None:
        # TensorFlow Datasets has a gsm8k of its own, and refuses a second one.
        super().__init_subclass__(skip_registration=True, **options)

    def __init__(self, *, data_dir: str | Path) -> None:
        # The default format, tfrecord, needs TensorFlow.
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return self._described(description="Prompts and the columns that their rewards need.")

    def _described(self, **about: Any) -> tfds.core.DatasetInfo:
        """What is known of the data, beside its features, which are always the same."""
        text = tfds.features.Text()
        return LocalInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"prompt": text, "columns": text}),
            disable_shuffling=True,  # row i of the source is row i of the file
            **about,
        )

    def _generate_examples(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        for number, row in enumerate(rows):
            columns = {name: value for name, value in row.items() if name != "prompt"}
            yield number, {"prompt": json.dumps(row["prompt"]), "columns": json.dumps(columns)}


def fingerprint_of(marks: list[Any], paths: Iterable[Path]) -> str:
    """Name of a cache folder: changes with the content of files and with how they are read.

    Args:
      marks: What else the rows depend on, in JSON's types.
      paths: The files.

    Returns:
      32 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(marks).encode())
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:32]


def load_cached(
    make: Callable[[Path], RowsBuilder], cache: Path, check: Callable[[], None]
) -> dict[str, RowSource]:
    """The rows of a cache, which is built where it is not there or damaged.

    It takes its place in one rename, so what a killed process leaves is not used.

    Args:
      make: Builder of the data in a folder.
      cache: Folder of the cache; its name is the fingerprint.
      check: Raises where the data cannot be used; called before anything is written.

    Returns:
      The rows of each split.

    Raises:
      Refusal: from ``check``.
      WriteError: if the cache cannot be written.
    """
    problem = _problem_of(cache)
    if problem is not None:
        check()
        if os.path.lexists(cache):
            _LOG.warning("The data cache %s is built again: %s.", cache, problem)
        _build(make, cache)
    builder = make(cache)
    sources = builder.as_data_source()
    return {split: RowSource(records, cache.name) for split, records in sources.items()}


def _problem_of(cache: Path) -> str | None:
    """Why a cache cannot be used; None where it is as it was built."""
    try:
        sums = json.loads((cache / _FILES).read_bytes())
    except (OSError, ValueError, RecursionError):
        sums = None
    if not is_file_sums(sums):
        return f"file {_FILES} is missing or damaged"
    return damage(cache, sums)


def _build(make: Callable[[Path], RowsBuilder], cache: Path) -> None:
    """Writes a cache in a folder of its own, which then takes the place of a damaged one."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=cache.parent, prefix=f"{cache.name}.incomplete.", ignore_cleanup_errors=True
        ) as temporary:
            built = Path(temporary) / "cache"
            _write_records(make(built))
            (built / _FILES).write_text(to_json(file_sums(built)))
            if _problem_of(cache) is None:
                return  # another process was faster
            if os.path.lexists(cache):
                cache.rename(Path(temporary) / "damaged")
            built.rename(cache)
    except (OSError, RuntimeError) as error:
        if _problem_of(cache) is None:
            return  # another process was faster
        # ArrayRecord says with a RuntimeError that the disk is full.
        if isinstance(error, OSError) or is_disk_full(error):
            raise cannot_write(cache, error) from error
        raise


def _write_records(builder: RowsBuilder) -> None:
    """Without the messages and the progress bars of TensorFlow Datasets."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
