"""Prompts that stand twice: among the training rows, and in training and evaluation."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rvpo_jax.data.stream import Prompt, Source


class Share(NamedTuple):
    """So many of so many."""

    num: int
    total: int

    def __str__(self) -> str:
        return f"{self.num:,} of {self.total:,}"


class Repeats(NamedTuple):
    """How many prompts are seen more than once."""

    repeated: Share
    """Training rows whose prompt an earlier one has."""
    shared: Mapping[str, Share]
    """By the name of other rows, those whose prompt a training row has."""

    def lines(self) -> list[str]:
        """A line on each, for a reader.

        >>> Repeats(Share(1, 10), {"held-out": Share(1, 8)}).lines()[1]
        'overlap: 1 of 8 held-out prompts (12.5 %) is among the training prompts'
        """
        return [
            f"duplicates: {_sentence(self.repeated, 'training')} repeated",
            *(
                f"overlap: {_sentence(share, name)} among the training prompts"
                for name, share in self.shared.items()
            ),
        ]


def _sentence(share: Share, name: str) -> str:
    percent = 100 * share.num / max(share.total, 1)
    return f"{share} {name} prompts ({percent:.1f} %) {'is' if share.num == 1 else 'are'}"


def find_repeats(train: Source, others: Mapping[str, Source]) -> Repeats:
    """Compares prompts by their text, up to case and white space. Reads every row once.

    Args:
      train: Rows to train on.
      others: Rows to evaluate on, by name.

    Returns:
      The counts.

    >>> rows = [{"prompt": "Name a cat."}, {"prompt": "name a  cat."}]
    >>> found = find_repeats(rows, {"held-out": [{"prompt": "Name a dog."}]})
    >>> str(found.repeated), str(found.shared["held-out"])
    ('1 of 2', '0 of 1')
    """
    seen = set(_keys(train))
    return Repeats(
        Share(len(train) - len(seen), len(train)),
        {
            name: Share(sum(key in seen for key in _keys(rows)), len(rows))
            for name, rows in others.items()
        },
    )


def _keys(rows: Source) -> Iterable[int]:
    return (hash(_normal(rows[index]["prompt"])) for index in range(len(rows)))


def _normal(prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return " ".join(prompt.casefold().split())
