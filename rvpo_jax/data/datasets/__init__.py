"""Public data sets by name. None is part of this package: each is read from its original files.

``data.source gsm8k`` downloads them and says so first; ``data.source gsm8k:FOLDER`` reads what is
there.
"""

import difflib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.data.datasets.bfcl import BfclV3
from rvpo_jax.data.datasets.fetching import DownloadFailed, fetch, original
from rvpo_jax.data.datasets.gpqa import GpqaDiamond, permute_choices
from rvpo_jax.data.datasets.gsm8k import Gsm8k
from rvpo_jax.data.datasets.ifeval import Ifbench, Ifeval
from rvpo_jax.data.datasets.public import PublicRows
from rvpo_jax.data.datasets.rlla import Rlla
from rvpo_jax.data.datasets.rubrics import Healthbench, RarMedicine, RarScience
from rvpo_jax.data.row_cache import RowSource, fingerprint_of, load_cached
from rvpo_jax.data.row_files import Row

__all__ = [
    "DATASETS",
    "DownloadFailed",
    "PublicRows",
    "builder_of",
    "load_dataset",
    "original",
    "permute_choices",
    "read_dataset",
]

_LOG = logging.getLogger(__name__)
CACHE_FORMAT = 1  # raise it where the same files would give other rows

DATASETS: dict[str, type[PublicRows]] = {
    "rlla": Rlla,
    "rar_medicine": RarMedicine,
    "rar_science": RarScience,
    "ifeval": Ifeval,
    "ifbench": Ifbench,
    "gsm8k": Gsm8k,
    "healthbench": Healthbench,
    "gpqa_diamond": GpqaDiamond,
    "bfcl_v3": BfclV3,
}
"""Builders of the public data sets by name."""


def builder_of(name: str) -> type[PublicRows]:
    """The builder of a name.

    Args:
      name: A key of ``DATASETS``.

    Returns:
      Its builder.

    Raises:
      Refusal: where there is none, naming the nearest.

    >>> builder_of("gsmk8")
    Traceback (most recent call last):
    ...
    rvpo_jax.basics.refusals.Refusal: there is no data set 'gsmk8'.
      Did you mean gsm8k?
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name[:80], DATASETS, n=1, cutoff=0.5)
    known = f"There are: {', '.join(DATASETS)}; or a file of your rows."
    raise Refusal(
        f"there is no data set {name[:80]!r}.", f"Did you mean {near[0]}?" if near else known
    )


def load_dataset(
    name: str,
    data_dir: str | Path,
    path: str | Path | None = None,
    download_dir: str | Path | None = None,
) -> dict[str, RowSource]:
    """The splits of a public data set, through a cache that is built on the first call.

    What is downloaded, from where, under which licence and how it is cited is said before.

    Args:
      name: A key of ``DATASETS``.
      data_dir: Folder for caches; made if absent.
      path: File or folder with the original files; a file is the first split. None: download.
      download_dir: Where downloads are kept; None: ``downloads`` in TensorFlow Datasets' folder,
        which TFDS_DATA_DIR names.

    Returns:
      Rows by split, in the order of the files.

    Raises:
      Refusal: where there is no such data set, its files are not there, or a row cannot be used.
      DownloadFailed: where a file cannot be fetched.
      WriteError: where the cache cannot be written.
    """
    dataset = builder_of(name)
    found = fetch(dataset, download_dir) if path is None else dataset.find(path)
    paths = [file for files in found.values() for file in files.values()]
    layout = {split: list(files) for split, files in found.items()}

    def make(folder: Path) -> PublicRows:
        return dataset(files=found, data_dir=folder)

    cache = Path(data_dir) / fingerprint_of([CACHE_FORMAT, name, layout], paths)
    sources = load_cached(make, cache, lambda: dataset.check(found))
    for sentence in unlike_published(name, {split: len(sources[split]) for split in found}):
        _LOG.warning("%s", sentence)
    return {split: sources[split] for split in found}


def read_dataset(
    name: str, path: str | Path | None = None, download_dir: str | Path | None = None
) -> Iterator[Row]:
    """Rows of a data set's first split, checked as they are read; nothing is cached.

    Args:
      name: As in ``load_dataset``.
      path: As in ``load_dataset``.
      download_dir: As in ``load_dataset``.

    Returns:
      The rows.

    Raises:
      Refusal: as ``load_dataset``; of a row when it is read.
      DownloadFailed: as ``load_dataset``.
    """
    dataset = builder_of(name)
    found = fetch(dataset, download_dir) if path is None else dataset.find(path)
    split = next(iter(found))
    return dataset.read(split, found[split])


def unlike_published(name: str, counts: Mapping[str, int]) -> list[str]:
    """Splits that have another number of rows than was published.

    Args:
      name: Of the data set.
      counts: Rows by split.

    Returns:
      Sentences.

    >>> unlike_published("gsm8k", {"train": 7473, "test": 2})
    ['gsm8k/test has 2 rows; 1,319 were published.']
    """
    published = {split: about.num_rows for split, about in DATASETS[name].splits.items()}
    return [
        f"{name}/{split} has {count:,} rows; {published[split]:,} were published."
        for split, count in counts.items()
        if published.get(split) not in (None, count)
    ]
