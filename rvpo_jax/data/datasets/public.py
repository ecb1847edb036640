"""What a public data set is: where it comes from, under which licence, and how its rows are read.

A builder reads the original files, from a file or folder of the user's or from TensorFlow
Datasets' download manager. None of these data sets is part of this package.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from rvpo_jax.basics.raised import excerpt
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.row_cache import RowsBuilder
from rvpo_jax.data.row_files import Row, kind_of, read_file
from rvpo_jax.data.rows import check_not_empty

Files = Mapping[str, Path]  # a file by the name that its publisher gave it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set, as its publisher divided it.

    Attributes:
      files: names of the original files; of a folder, each may also end in .gz.
      patterns: further names, with wildcards, under which a folder may have them.
      num_rows: as published; None: not known, or not all of the files are used.
    """

    files: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    num_rows: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a data set comes from.

    Attributes:
      base: address of the folder with the original files.
      homepage: where it is described.
      licence: its name, and whose parts have another one.
      citation: of the paper, in one line.
      megabytes: of the download; None: not known.
      redistribution: what its authors ask of those who pass it on, or empty.
    """

    base: str
    homepage: str
    licence: str
    citation: str
    megabytes: float | None = None
    redistribution: str = ""


class PublicRows(RowsBuilder):
    """Builder of a public data set; a subclass says what it is and reads one of its rows.

    Args:
      path: File or folder with the original files; None: they are downloaded.
      files: The original files of each split, where they are known already.
      data_dir: Folder of the cache; None: rvpo_jax in the default folder of TensorFlow Datasets,
        whose own gsm8k has other columns.
    """

    origin: ClassVar[Origin]
    splits: ClassVar[Mapping[str, Split]]
    """By name; a single file that the user names is the first one."""
    held_out: ClassVar[str | None] = None
    """The split to evaluate on beside the first; None: there is none."""

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        files: Mapping[str, Files] | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        self._path = None if path is None else Path(path).expanduser()
        self._files = files
        super().__init__(data_dir=data_dir or Path(tfds.core.constants.DATA_DIR, "rvpo_jax"))

    @classmethod
    def to_row(cls, row: Row, where: str) -> Row:
        """A row of an original file as the run needs it.

        Args:
          row: As in the file.
          where: Its name for messages.

        Returns:
          ``prompt``, a list of messages, and the columns that rewards read.

        Raises:
          Refusal: where a column is missing or of another type.
        """
        raise NotImplementedError

    @classmethod
    def read(cls, split: str, files: Files) -> Iterator[Row]:
        """Rows of a split, one after the other.

        Args:
          split: Its name.
          files: Of the split.

        Returns:
          The rows, each checked when it is read.
        """
        del split
        for name, path in files.items():
            for where, row in read_file(path, kind_of(name)):
                yield cls.to_row(row, where)

    @classmethod
    def check(cls, files: Mapping[str, Files]) -> None:
        """Reads every row.

        Args:
          files: The original files of each split.

        Raises:
          Refusal: where a file or a row cannot be used, or a split has no rows.
        """
        for split, of_split in files.items():
            check_not_empty(cls.read(split, of_split), next(iter(of_split.values())))

    @classmethod
    def find(cls, path: str | Path) -> dict[str, Files]:
        """The original files at a path of the user's.

        Args:
          path: A file, which is the first split whatever its name; or a folder.

        Returns:
          Files by split, of those that are there.

        Raises:
          Refusal: where nothing is there.
        """
        return find_files(cls.name, Path(path).expanduser(), cls.splits)

    @classmethod
    def download(cls, dl_manager: Any) -> dict[str, Files]:
        """The original files, through TensorFlow Datasets' download manager.

        Args:
          dl_manager: The manager.

        Returns:
          Files by split.
        """
        names = sorted({name for split in cls.splits.values() for name in split.files})
        paths = dl_manager.download({name: cls.origin.base + name for name in names})
        return {
            split: {name: Path(paths[name]) for name in about.files}
            for split, about in cls.splits.items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        about = self.origin
        return self._described(
            description=(type(self).__doc__ or "").splitlines()[0],
            homepage=about.homepage,
            citation=about.citation,
            license=" ".join(filter(None, (f"{about.licence}.", about.redistribution))),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Row]]]:
        found = self._files
        if found is None:
            found = self.download(dl_manager) if self._path is None else self.find(self._path)
        return {
            split: self._generate_examples(self.read(split, files))
            for split, files in found.items()
        }


def find_files(name: str, path: Path, splits: Mapping[str, Split]) -> dict[str, Files]:
    """The original files at a path.

    Args:
      name: Of the data set, for messages.
      path: A file, which is the first split whatever its name; or a folder.
      splits: What to look for.

    Returns:
      Files by split, of those that are there.

    Raises:
      Refusal: where nothing is there.

    >>> find_files("toy", Path("no such folder"), {"train": Split(files=("train.jsonl",))})
    Traceback (most recent call last):
    ...
    rvpo_jax.basics.refusals.Refusal: data set toy must be in a file or folder, got no such folder.
      Its files are: train.jsonl. Without a path they are downloaded.
    """
    expected = ", ".join(file for split in splits.values() for file in split.files)
    remedy = f"Its files are: {expected}. Without a path they are downloaded."
    if path.is_file():
        if kind_of(path.name) is None:
            raise Refusal(f"data set {name} must be in files of rows, got {path}.", remedy)
        return {next(iter(splits)): {path.name: path}}
    if not path.is_dir():
        raise Refusal(f"data set {name} must be in a file or folder, got {path}.", remedy)
    found = {split: _in_folder(path, about) for split, about in splits.items()}
    present: dict[str, Files] = {split: files for split, files in found.items() if files}
    if not present:
        raise Refusal(f"data set {name} must have files in {path}, got none of them.", remedy)
    return present


def _in_folder(folder: Path, split: Split) -> dict[str, Path]:
    """The files of a split by their published names; only without any, what its patterns fit."""
    found = {}
    for name in split.files:
        places = [place for place in (folder / name, folder / f"{name}.gz") if place.is_file()]
        if places:
            found[name] = places[0]
    if found:
        return found
    further = [place for pattern in split.patterns for place in sorted(folder.glob(pattern))]
    return {place.name: place for place in further if kind_of(place.name) is not None}


def column(row: Row, name: str, kind: type, where: str) -> Any:
    """The value of a column that a data set must have.

    Args:
      row: The row.
      name: Of the column.
      kind: What its value must be.
      where: Name of the row for messages.

    Returns:
      The value.

    Raises:
      Refusal: where it is missing or something else.

    >>> column({"answer": 3}, "answer", str, "line 1")
    Traceback (most recent call last):
    ...
    rvpo_jax.basics.refusals.Refusal: answer in line 1 must be a text, got int '3'.
      Take the files as they were published.
    """
    if name not in row:
        raise Refusal(
            f"{where} must have the column {name}, got the columns: {excerpt(', '.join(row))}.",
            "Take the files as they were published.",
        )
    value = row[name]
    if not isinstance(value, kind):
        words: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
        raise Refusal(
            f"{name} in {where} must be {words[kind]}, got {type(value).__name__} "
            f"{excerpt(value)}.",
            "Take the files as they were published.",
        )
    return value


def text(row: Row, name: str, where: str) -> str:
    """The text of a column, which is not empty.

    Args:
      row: The row.
      name: Of the column.
      where: Name of the row for messages.

    Returns:
      The text.

    Raises:
      Refusal: where it is missing, empty or no text.

    >>> text({"question": "Why?"}, "question", "line 1")
    'Why?'
    """
    value = column(row, name, str, where)
    if not value.strip():
        raise Refusal(f"{name} in {where} is empty.", "Remove the row.")
    return value


def user(content: str) -> list[dict[str, str]]:
    """A prompt of one message by the user.

    Args:
      content: Its text.

    Returns:
      The messages.

    >>> user("Hi")
    [{'role': 'user', 'content': 'Hi'}]
    """
    return [{"role": "user", "content": content}]
