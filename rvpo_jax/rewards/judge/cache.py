"""Replies that are there already: a request that was answered once costs nothing again."""

import hashlib
import json
from typing import NamedTuple

from rvpo_jax.rewards.judge.protocol import Question
from rvpo_jax.rewards.judge.settings import Judge
from rvpo_jax.rewards.judge.store import Store


class Reply(NamedTuple):
    """What the judge wrote, and what it took."""

    text: str
    input_tokens: int | None  # None: the endpoint does not say
    output_tokens: int | None
    problem: str = ""  # why the text cannot be the whole answer


def request_key(judge: Judge, question: Question) -> str:
    """What tells requests apart: the endpoint and the whole body, and never the key.

    Args:
      judge: whom it is for.
      question: the request.

    Returns:
      A checksum in hexadecimal.
    """
    whole = [judge.endpoint.rstrip("/"), question.body]
    text = json.dumps(whole, sort_keys=True)  # ASCII: any text has this form
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Replies whose verdicts could be read, by request and by how often it was asked before.

    Args:
      store: the run's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str, repeat: int = 0) -> str | None:
        """A reply.

        Args:
          key: from ``request_key``.
          repeat: 0 for the first time that a request is asked, and so on.

        Returns:
          Its text; None where there is none.
        """
        with self._store.transaction() as rows:
            found = rows.execute(
                "SELECT reply FROM replies WHERE request = ? AND repeat = ?", (key, repeat)
            ).fetchone()
        return found[0] if found else None

    def put(self, key: str, repeat: int, texts: tuple[str, ...], reply: Reply, cost: float) -> None:
        """Keeps a reply.

        Args:
          key: from ``request_key``.
          repeat: as in ``get``.
          texts: of the items that were asked, for reports.
          reply: what came.
          cost: of the call.
        """
        row = (key, repeat, json.dumps(texts), reply.text, *reply[1:3], cost)
        with self._store.transaction() as rows:
            rows.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)", row)
