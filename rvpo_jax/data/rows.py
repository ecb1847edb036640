"""A user's own rows, from a file of JSON Lines, JSON, CSV or Parquet, with random access."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.row_cache import RowsBuilder, RowSource, fingerprint_of, load_cached
from rvpo_jax.data.row_files import SUFFIXES, Row, kind_of, read_file

CACHE_FORMAT = 1  # raise it where the same file would give other rows


class PromptRows(RowsBuilder):
    """Builder of one file.

    Args:
      path: The file.
      prompt_column: Name of the column with the prompt.
      data_dir: Folder of this file's cache; another file needs another folder.
    """

    def __init__(self, *, path: str | Path, prompt_column: str, data_dir: str | Path) -> None:
        self._path = Path(path)
        self._prompt_column = prompt_column
        super().__init__(data_dir=data_dir)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Row]]]:
        del dl_manager  # nothing is downloaded
        return {"train": self._generate_examples(_read_rows(self._path, self._prompt_column))}


def load_rows(path: str | Path, data_dir: str | Path, prompt_column: str = "prompt") -> RowSource:
    """Rows of a file with random access, through a cache that is built on the first call.

    A cache belongs to the content of the file and the name of the prompt column: a changed file
    gets a new one. A damaged one is built again, with a warning.

    Args:
      path: A .jsonl, .json, .csv or .parquet file, all but the last also with .gz, one example per
        row. The columns of a .csv file are texts.
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
    fingerprint = fingerprint_of([CACHE_FORMAT, prompt_column, path.suffix], [path])

    def make(folder: Path) -> PromptRows:
        return PromptRows(path=path, prompt_column=prompt_column, data_dir=folder)

    def check() -> None:
        check_not_empty(_read_rows(path, prompt_column), path)

    return load_cached(make, Path(data_dir) / fingerprint, check)["train"]


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


def check_not_empty(rows: Iterator[Row], path: Path) -> None:
    """Reads rows to their end, so that whatever is wrong with one is raised.

    Args:
      rows: That raise where they cannot be used.
      path: Where they come from, for the message.

    Raises:
      Refusal: where there are none.
    """
    if not sum(1 for _ in rows):
        raise Refusal(f"{path} must have at least one row, got none.", "Add rows.")


def _read_rows(path: Path, prompt_column: str) -> Iterator[Row]:
    """Checked rows, one at a time: ``{"prompt": ..., **the other columns}``."""
    for where, row in read_file(path):
        _check_row(row, where, prompt_column)
        yield {"prompt": row[prompt_column]} | {
            name: value for name, value in row.items() if name != prompt_column
        }


def _check_file(path: Path) -> None:
    """Raises where a path is not a file of a known kind."""
    if kind_of(path.name) is None:
        raise Refusal(
            f"data.source must be a file ending in {', '.join(SUFFIXES)}, got {path}.",
            "Save the rows in one of these formats.",
        )
    if not path.is_file():
        raise Refusal(
            f"data.source must be an existing file, got {path}.",
            "Check the path; it is relative to the current directory.",
        )


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
    if not (isinstance(prompt, str) or is_messages(prompt)):
        raise Refusal(
            f"{prompt_column} in {where} must be a text or a list of messages with the texts role "
            f"and content, got {prompt!r:.120}.",
            'A message is {"role": "user", "content": "..."}.',
        )
    if not prompt:
        raise Refusal(f"{prompt_column} in {where} is empty.", "Remove the row.")


def is_messages(value: object) -> bool:
    """Whether a value is a list of messages, also an empty one.

    Args:
      value: Anything.

    Returns:
      True where every entry has the texts role and content.

    >>> is_messages([{"role": "user", "content": "Hi"}]), is_messages("Hi")
    (True, False)
    """
    return isinstance(value, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    )


def _names(row: Row) -> str:
    return ", ".join(row) or "none"
