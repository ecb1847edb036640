"""Prompts that stand twice: among the training rows, and in training and evaluation."""

from collections.abc import Iterable
from typing import NamedTuple

from rvpo_jax.data.stream import Prompt, Source


class Repeats(NamedTuple):
    """How many prompts are seen more than once."""

    num_train: int
    num_repeated: int
    """Training rows whose prompt an earlier one has."""
    num_held_out: int
    num_shared: int
    """Held-out rows whose prompt a training row has."""

    def lines(self) -> list[str]:
        """A line on each, for a reader.

        >>> Repeats(10, 1, 8, 1).lines()[1]
        'overlap: 1 of 8 held-out prompts (12.5 %) is among the training prompts'
        """
        return [
            f"duplicates: {_of(self.num_repeated, self.num_train, 'training prompts')} repeated",
            f"overlap: {_of(self.num_shared, self.num_held_out, 'held-out prompts')} among the "
            "training prompts",
        ]


def _of(count: int, total: int, what: str) -> str:
    share = 100 * count / max(total, 1)
    return f"{count:,} of {total:,} {what} ({share:.1f} %) {'is' if count == 1 else 'are'}"


def find_repeats(train: Source, held_out: Source) -> Repeats:
    """Compares prompts by their text, up to case and white space. Reads every row once.

    Args:
      train: Rows to train on.
      held_out: Rows to evaluate on.

    Returns:
      The counts.

    >>> rows = [{"prompt": "Name a cat."}, {"prompt": "name a  cat."}]
    >>> find_repeats(rows, [{"prompt": "Name a dog."}])[:4]
    (2, 1, 1, 0)
    """
    seen = set(_keys(train))
    return Repeats(
        num_train=len(train),
        num_repeated=len(train) - len(seen),
        num_held_out=len(held_out),
        num_shared=sum(key in seen for key in _keys(held_out)),
    )


def _keys(rows: Source) -> Iterable[int]:
    return (hash(_normal(rows[index]["prompt"])) for index in range(len(rows)))


def _normal(prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return " ".join(prompt.casefold().split())
