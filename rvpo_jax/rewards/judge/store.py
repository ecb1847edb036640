"""The file that the processes of a run share: replies, gates of the rates, what was spent.

SQLite from the standard library: its locks hold between processes of one machine, and a killed
process leaves the file whole. (diskcache would be a layer over the same SQLite that pickles its
values, so that whoever can write the file can run code; it has had no release since 2023.) Not for
a network file system, whose locks may not hold.
"""

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.rewards.failures import RewardError

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
  request TEXT, repeat INTEGER, texts TEXT, reply TEXT, input_tokens INTEGER,
  output_tokens INTEGER, cost REAL, PRIMARY KEY (request, repeat));
CREATE TABLE IF NOT EXISTS gates (name TEXT PRIMARY KEY, free_at REAL);
CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY, calls INTEGER, cost REAL);
INSERT OR IGNORE INTO spent VALUES (1, 0, 0.0);
"""
_BUSY_S = 60.0  # longest wait for another process's transaction


class Store:
    """An open file; may be used by several threads.

    Args:
      path: of the file, created if absent; None: in memory, for this process alone.

    Raises:
      Refusal: when it cannot be opened, or is another kind of file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._turn = threading.Lock()
        try:
            # isolation_level None: transactions are begun and ended below, and nowhere else.
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            weakref.finalize(self, self._connection.close)
            # A writer does not stop readers, and a commit need not wait for the disk: a machine
            # that loses power may lose the last replies, which are then asked again.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_TABLES)
        except sqlite3.Error as error:
            raise Refusal(
                f"judge.file must be a SQLite file that can be written to, got "
                f"{printable(path, keep='')}: {error}.",
                "Name another file; a damaged one can be deleted, its verdicts are asked again.",
            ) from None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what the block does, with all other processes waiting.

        Yields:
          The connection.

        Raises:
          RewardError: when the file cannot be read or written.
        """
        with self._turn:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise RewardError(
                    f"the judge's file {self.path} cannot be used: {error}.\n"
                    "  See that its disk is there and has space, then start again."
                ) from None
