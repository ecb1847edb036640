"""Public data sets from where they are published: what is fetched is said before, and kept."""

import contextlib
import io
import json
import logging
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from rvpo_jax.basics.checksums import damage, file_sum, is_file_sums
from rvpo_jax.basics.files import replacing, write_text
from rvpo_jax.basics.raised import message_of
from rvpo_jax.basics.refusals import Failure
from rvpo_jax.data.datasets.public import Files, PublicRows

_LOG = logging.getLogger(__name__)
PROBE_TIMEOUT = 20.0  # seconds, for the first answer of a server
_KEPT = "kept.json"  # what was fetched: addresses, files, their sizes and checksums


class DownloadFailed(Failure):
    """A public data set could not be fetched."""


def fetch(dataset: type[PublicRows], download_dir: str | Path | None = None) -> Mapping[str, Files]:
    """The original files of a data set: kept ones as they are, else downloaded.

    Before anything is asked of a server it is said what comes from where, under which licence and
    how it is cited.

    Args:
      dataset: The builder.
      download_dir: Where downloads are kept; None: ``downloads`` in TensorFlow Datasets' folder,
        which TFDS_DATA_DIR names.

    Returns:
      Files by split.

    Raises:
      DownloadFailed: where a file cannot be fetched.
    """
    folder = _download_folder(download_dir)
    kept = folder / dataset.name / _KEPT
    files = _kept_files(dataset, kept)
    if files is not None:
        return files
    _announce(dataset, folder)
    try:
        _probe(dataset)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            manager = tfds.download.DownloadManager(
                download_dir=folder, dataset_name=dataset.name, force_download=kept.exists()
            )
            files = dataset.download(manager)
        _keep(dataset, files, kept)
    except Exception as error:  # of requests, of TensorFlow Datasets, of the disk
        names = ", ".join(_names(dataset))
        raise DownloadFailed(
            f"data set {dataset.name} could not be downloaded from {dataset.origin.base}: "
            f"{message_of(error)}.\n  Fetch {names} yourself and give data.source "
            f"{dataset.name}:FOLDER."
        ) from error
    return files


def original(dataset: type[PublicRows], split: str, download_dir: str | Path | None = None) -> Path:
    """The original files of a split under the names that their publisher gave them.

    Args:
      dataset: The builder.
      split: Its name.
      download_dir: As in ``fetch``, which gets them.

    Returns:
      The file, or the folder of several.

    Raises:
      DownloadFailed: as ``fetch``.
      WriteError: where they cannot be copied.
    """
    files = fetch(dataset, download_dir)[split]
    folder = _download_folder(download_dir) / dataset.name / "original"
    for name, path in files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as part:
            shutil.copyfile(path, part)
    return folder / next(iter(files)) if len(files) == 1 else folder


def _download_folder(download_dir: str | Path | None) -> Path:
    return Path(download_dir or Path(tfds.core.constants.DATA_DIR, "downloads")).expanduser()


def _names(dataset: type[PublicRows]) -> list[str]:
    return [name for split in dataset.splits.values() for name in split.files]


def _kept_files(dataset: type[PublicRows], kept: Path) -> dict[str, Files] | None:
    """The files of an earlier call; None where one is not there, or not as it was."""
    try:
        found = json.loads(kept.read_bytes())
        names, sums = found["names"], found["sums"]
        usable = found["base"] == dataset.origin.base and set(names) == set(_names(dataset))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not usable or not is_file_sums(sums) or damage(kept.parent, sums) is not None:
        return None
    return {
        split: {name: kept.parent / names[name] for name in about.files}
        for split, about in dataset.splits.items()
    }


def _keep(dataset: type[PublicRows], files: Mapping[str, Files], kept: Path) -> None:
    names = {
        name: path.relative_to(kept.parent).as_posix()
        for of_split in files.values()
        for name, path in of_split.items()
    }
    sums = {name: file_sum(kept.parent / name) for name in names.values()}
    write_text(kept, json.dumps({"base": dataset.origin.base, "names": names, "sums": sums}))


def _announce(dataset: type[PublicRows], folder: Path) -> None:
    about, names = dataset.origin, _names(dataset)
    size = "size not known" if about.megabytes is None else f"about {about.megabytes:g} MB"
    _LOG.warning(
        "Downloading the data set %s into %s: %d file(s), %s, from %s: %s.\n"
        "  Licence: %s. Cite: %s.%s",
        *(dataset.name, folder, len(names), size, about.base, ", ".join(names)),
        *(about.licence, about.citation, about.redistribution and f" {about.redistribution}"),
    )


def _probe(dataset: type[PublicRows]) -> None:
    """Raises at once where there is no way to the server: TFDS tries for minutes."""
    request = urllib.request.Request(dataset.origin.base + _names(dataset)[0], method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # a server is there; TFDS tells the rest
        urllib.request.urlopen(request, timeout=PROBE_TIMEOUT).close()
