"""When the next call may start: requests and tokens per minute, over all processes of a run.

Each rate is a gate in the run's file, which holds the time at which it is free again. A call takes
its place in one transaction and waits for it outside: calls leave evenly, without bursts, in the
order in which they came, and a call that took fewer tokens than were set aside gives them back.
Ours because no library has all of it: aiolimiter counts within one process; pyrate-limiter's SQLite
bucket writes a row per token, and takes none back.
"""

import sqlite3
import time
from collections.abc import Callable

from rvpo_jax.rewards.judge.settings import Judge
from rvpo_jax.rewards.judge.store import Store

Clock = Callable[[], float]
Sleep = Callable[[float], object]


class Limits:
    """The gates of a judge.

    Args:
      judge: its rates.
      store: the run's.
      clock: seconds, the same for all processes.
      sleep: waits so many seconds.
    """

    def __init__(
        self, judge: Judge, store: Store, clock: Clock = time.time, sleep: Sleep = time.sleep
    ) -> None:
        self._rates = {"requests": judge.requests_per_min, "tokens": judge.tokens_per_min}
        self._store, self._clock, self._sleep = store, clock, sleep

    def wait(self, tokens: int) -> float:
        """Takes a place and waits for it.

        Args:
          tokens: that the call will take at most, prompt and reply.

        Returns:
          Seconds that were waited.
        """
        begun = self._clock()
        start = self._take({"requests": 1, "tokens": tokens}, begun)
        while (left := max(start, self._free_at("pause")) - self._clock()) > 0:
            self._sleep(left)
        return self._clock() - begun

    def give_back(self, tokens: int) -> None:
        """Corrects what a call set aside.

        Args:
          tokens: set aside and not used; negative where it used more.
        """
        rate = self._rates["tokens"]
        if rate is not None:
            with self._store.transaction() as rows:
                rows.execute(
                    "UPDATE gates SET free_at = free_at - ? WHERE name = 'tokens'",
                    (tokens * 60 / rate,),
                )

    def pause(self, seconds: float) -> None:
        """Lets no process start a call for a while: the endpoint asked for it.

        Args:
          seconds: from now.
        """
        until = self._clock() + seconds
        with self._store.transaction() as rows:
            rows.execute(
                "INSERT INTO gates VALUES ('pause', ?) "
                "ON CONFLICT (name) DO UPDATE SET free_at = max(free_at, excluded.free_at)",
                (until,),
            )

    def _take(self, weights: dict[str, int], now: float) -> float:
        """The time at which all gates let the call through."""
        start = now
        with self._store.transaction() as rows:
            limited = {name: rate for name, rate in self._rates.items() if rate is not None}
            for name in limited:
                start = max(start, _free_at(rows, name))
            for name, rate in limited.items():
                free_at = start + weights[name] * 60 / rate
                rows.execute("INSERT OR REPLACE INTO gates VALUES (?, ?)", (name, free_at))
        return start

    def _free_at(self, name: str) -> float:
        with self._store.transaction() as rows:
            return _free_at(rows, name)


def _free_at(rows: sqlite3.Connection, name: str) -> float:
    found = rows.execute("SELECT free_at FROM gates WHERE name = ?", (name,)).fetchone()
    return found[0] if found else 0.0
