"""A user's own rows, from .jsonl or .parquet, as a TensorFlow Datasets source with random access.

The file is checked whole, then written once into a cache of ArrayRecord files that belongs to its
content. Reading needs TensorFlow Datasets, never TensorFlow.
"""

import base64
import contextlib
import datetime
import decimal
import gzip
import hashlib
import io
import json
import logging
import math
import operator
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import pyarrow
import pyarrow.parquet
import tensorflow_datasets as tfds

from rvpo_jax.basics.checksums import damage, file_sums, is_file_sums
from rvpo_jax.basics.files import cannot_write, is_disk_full, to_json
from rvpo_jax.basics.refusals import Refusal

_LOG = logging.getLogger(__name__)
Row = dict[str, Any]  # "prompt" and the other columns of one example
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
CACHE_FORMAT = 1  # raise it where the same file would give other rows
_FILES = "files.json"  # size and checksum of each file of a cache


class RowSource:
    """Rows by number: ``{"prompt": a text or messages, **the other columns}``.

    Args:
      records: The data source of a ``PromptRows`` builder.
      fingerprint: Of the file's content, to tell whether a resumed run still has the same rows.
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


class _LocalInfo(tfds.core.DatasetInfo):
    """Metadata that is only ever read from the cache."""

    def initialize_from_bucket(self) -> None:
        """Neither asks a server nor leaves an empty temporary folder."""


class PromptRows(tfds.core.GeneratorBasedBuilder):
    """Builder of one file: ``prompt`` and ``columns``, both JSON, so that any column survives.

    Args:
      path: The .jsonl, .jsonl.gz or .parquet file.
      prompt_column: Name of the column with the prompt.
      data_dir: Folder of this file's cache; another file needs another folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    # No files beside the code. Looking for them needs importlib_resources, which
    # tensorflow-datasets 4.9.10 does not declare.
    code_path = None

    def __init__(self, *, path: str | Path, prompt_column: str, data_dir: str | Path) -> None:
        self._path = Path(path)
        self._prompt_column = prompt_column
        # The default format, tfrecord, needs TensorFlow.
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return _LocalInfo(
            builder=self,
            description="Prompts and the columns that their rewards need.",
            features=tfds.features.FeaturesDict({"prompt": text, "columns": text}),
            disable_shuffling=True,  # row i of the source is row i of the file
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Row]]]:
        del dl_manager  # nothing is downloaded
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Row]]:
        rows = _read_rows(self._path, self._prompt_column)
        for number, row in enumerate(rows):
            prompt = row.pop("prompt")
            yield number, {"prompt": json.dumps(prompt), "columns": json.dumps(row)}


def load_rows(path: str | Path, data_dir: str | Path, prompt_column: str = "prompt") -> RowSource:
    """Rows of a file with random access, through a cache that is built on the first call.

    A cache belongs to the content of the file and the name of the prompt column: a changed file
    gets a new one. It takes its place in one rename, so what a killed process leaves is not used.
    A damaged one is built again, with a warning.

    Args:
      path: A .jsonl, .jsonl.gz or .parquet file, one example per row.
      data_dir: Folder for the caches of any number of files; made if absent.
      prompt_column: Column with the prompt: a text, or a list of messages with role and content.

    Returns:
      The rows in the order of the file. Values are those of JSON: see ``to_plain``.

    Raises:
      ValueError: if the file is missing, unreadable or empty, or a row has no such prompt.
      WriteError: if the cache cannot be written.
    """
    path = Path(path).expanduser()
    _check_file(path)
    fingerprint = _fingerprint(path, prompt_column)
    cache = Path(data_dir) / fingerprint
    problem = _problem_of(cache)
    if problem is not None:
        _check_rows(path, prompt_column)
        if os.path.lexists(cache):
            _LOG.warning("The data cache %s is built again: %s.", cache, problem)
        _build(path, prompt_column, cache)
    builder = PromptRows(path=path, prompt_column=prompt_column, data_dir=cache)
    return RowSource(builder.as_data_source(split="train"), fingerprint)


def read_rows(path: str | Path, prompt_column: str = "prompt") -> Iterator[Row]:
    """Rows of a file one after the other, checked as they are read; nothing is cached.

    Args:
      path: As in ``load_rows``.
      prompt_column: As in ``load_rows``.

    Returns:
      The rows in the order of the file, as ``load_rows`` has them.

    Raises:
      ValueError: if the file is missing or of no known kind; later, if a row cannot be used.
    """
    path = Path(path).expanduser()
    _check_file(path)
    return _read_rows(path, prompt_column)


def _read_rows(path: Path, prompt_column: str) -> Iterator[Row]:
    """Checked rows, one at a time: ``{"prompt": ..., **the other columns}``."""
    numbered = _read_parquet(path) if path.name.endswith(".parquet") else _read_jsonl(path)
    for where, row in numbered:
        _check_row(row, where, prompt_column)
        yield {"prompt": row[prompt_column]} | {
            name: value for name, value in row.items() if name != prompt_column
        }


def _check_file(path: Path) -> None:
    """Raises where a path is not a file of a known kind."""
    if not path.name.endswith(SUFFIXES):
        raise Refusal(
            f"data.source must be a file ending in {', '.join(SUFFIXES)}, got {path}.",
            "Save the rows in one of these formats.",
        )
    if not path.is_file():
        raise Refusal(
            f"data.source must be an existing file, got {path}.",
            "Check the path; it is relative to the current directory.",
        )


def _check_rows(path: Path, prompt_column: str) -> None:
    """Raises where a file has no rows or one that cannot be used; reads it whole."""
    if not sum(1 for _ in _read_rows(path, prompt_column)):
        raise Refusal(f"{path} must have at least one row, got none.", "Add rows.")


def _check_row(row: Row, where: str, prompt_column: str) -> None:
    """Raises where a row, named by ``where``, has no usable prompt."""
    if prompt_column not in row:
        raise Refusal(
            f"{where} must have the column {prompt_column}, got the columns: {_names(row)}.",
            "Name the column of the prompt in data.prompt_column.",
        )
    if prompt_column != "prompt" and "prompt" in row:
        raise Refusal(
            f"{where} must not have a column prompt beside data.prompt_column = {prompt_column}, "
            f"got the columns: {_names(row)}.",
            "Rename one of the two: rewards get the prompt under that name.",
        )
    prompt = row[prompt_column]
    if not (_is_text(prompt) or (isinstance(prompt, list) and all(map(_is_message, prompt)))):
        raise Refusal(
            f"{prompt_column} in {where} must be a text or a list of messages with the texts role "
            f"and content, got {prompt!r:.120}.",
            'A message is {"role": "user", "content": "..."}.',
        )
    if not prompt:
        raise Refusal(f"{prompt_column} in {where} is empty.", "Remove the row.")


def _names(row: Row) -> str:
    return ", ".join(row) or "none"


def to_plain(value: Any) -> Any:
    """The value in JSON's types, for any value that a row of a file may have.

    Arrays and tuples become lists, structs and maps objects, NaN and infinities ``None``, dates
    and times ISO 8601 text, durations seconds, decimals floats, bytes their UTF-8 text or, if they
    are not UTF-8, base64, UUIDs text.

    Args:
      value: A value of Python, NumPy or pyarrow.

    Returns:
      None, bool, int, float, str, or lists and string-keyed dicts of these.

    Raises:
      ValueError: for a value of any other type.

    >>> to_plain({"score": float("nan"), "day": datetime.date(2026, 1, 2), "raw": b"ok"})
    {'score': None, 'day': '2026-01-02', 'raw': 'ok'}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, bytes):
        return _bytes_to_text(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return to_plain(float(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    for method in ("tolist", "as_py"):  # NumPy, pyarrow
        if hasattr(value, method):
            return to_plain(getattr(value, method)())
    raise Refusal(
        f"a column must hold values of JSON, got {value!r:.80} of type {type(value).__name__}.",
        "Convert it to text or numbers when the file is written.",
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict) and _is_text(value.get("role")) and _is_text(value.get("content"))
    )


def _bytes_to_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows with a name for messages; blank lines are skipped."""
    opened = gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")
    with opened as lines:
        for number, line in enumerate(_read_lines(lines, path), start=1):
            if line.strip():
                where = f"line {number} of {path}"
                yield where, _parse_line(line, where)


def _read_lines(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Lines, with damage to the compression turned into one clear error."""
    try:
        yield from lines
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Refusal(
            f"{path} must be a whole gzip file, got: {error}.",
            "Fetch it again, or compress it again.",
        ) from error


def _parse_line(line: bytes, where: str) -> Row:
    try:
        row = to_plain(json.loads(line.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:  # also bad UTF-8, 5,000 digits, deep nesting
        raise Refusal(
            f"{where} must be valid JSON, got: {error}.",
            "Write one JSON object per line; the file may have been cut off.",
        ) from error
    if not isinstance(row, dict):
        raise Refusal(
            f"{where} must be a JSON object, got {row!r:.80}.",
            'Write one object per line, for example {"prompt": "..."}.',
        )
    return row


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows with a name for messages, a thousand in memory at a time."""
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                for row in batch.to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    yield f"row {number} of {path}", to_plain(row)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise Refusal(
            f"{path} must be a readable Parquet file, got after row {number}: {problem}.",
            "Fetch it again, or write it again.",
        ) from error


def _fingerprint(path: Path, prompt_column: str) -> str:
    """Name of a cache folder: changes with the content of the file."""
    digest = hashlib.sha256(json.dumps([CACHE_FORMAT, prompt_column, path.suffix]).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _problem_of(cache: Path) -> str | None:
    """Why a cache cannot be used; None where it is as it was built."""
    try:
        sums = json.loads((cache / _FILES).read_bytes())
    except (OSError, ValueError, RecursionError):
        sums = None
    if not is_file_sums(sums):
        return f"file {_FILES} is missing or damaged"
    return damage(cache, sums)


def _build(path: Path, prompt_column: str, cache: Path) -> None:
    """Writes a cache in a folder of its own, which then takes the place of a damaged one."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=cache.parent, prefix=f"{cache.name}.incomplete.", ignore_cleanup_errors=True
        ) as temporary:
            built = Path(temporary) / "cache"
            _write_records(PromptRows(path=path, prompt_column=prompt_column, data_dir=built))
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


def _write_records(builder: PromptRows) -> None:
    """Without the messages and the progress bars of TensorFlow Datasets."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
