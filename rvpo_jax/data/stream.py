"""From a source of rows to batches of prompts: split, filter, shuffle, shard, resume.

A source is anything with a length and random access, a list of rows included. Nothing here starts
a thread, so the position of a stream is one number and a resumed run sees exactly the next batch.
"""

import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, SupportsIndex

import grain

from rvpo_jax.basics.refusals import Refusal

Row = dict[str, Any]  # "prompt" and the other columns of one example
Prompt = str | list[dict[str, Any]]  # a text or a list of messages


class Source(Protocol):
    """Rows by number."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int, /) -> Row:
        """One row."""


class View:
    """Some rows of a source, by number, without a copy.

    Args:
      source: The rows.
      indices: Numbers of the rows to show, in order.

    >>> View([{"prompt": "a"}, {"prompt": "b"}], [1])[0]
    {'prompt': 'b'}
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: SupportsIndex, /) -> Row:
        return self.source[self.indices[operator.index(index)]]

    def __iter__(self) -> Iterator[Row]:
        return (self.source[index] for index in self.indices)

    def __repr__(self) -> str:
        return f"View({len(self)} of {self.source!r:.80})"


class PromptStream(Iterator[list[Row]]):
    """Endless batches of rows in a seeded order, and a position that can be saved.

    Each epoch shows every row once, in a new order; a batch may reach over the end of an epoch.
    Of each run of ``process_count`` batches, a process reads the one at its index: together they
    read what one process would with ``process_count * batch_size``, in the same order.

    Args:
      source: Rows by number; at least one.
      batch_size: Rows per batch of this process.
      seed: Of the order, in [0, 2**32).
      process_index: Of this process, from 0.
      process_count: Processes that share the rows.

    Raises:
      ValueError: if the source is empty or a number is out of its range.

    >>> stream = PromptStream([{"prompt": "a"}], 2, seed=0)
    >>> next(stream)
    [{'prompt': 'a'}, {'prompt': 'a'}]
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if len(source) == 0:
            raise Refusal("source must have at least one row, got none.", "Add rows.")
        if batch_size <= 0:
            raise Refusal(f"batch_size must be > 0, got {batch_size}.", "Read a row or more.")
        if not 0 <= seed < 2**32:
            raise Refusal(f"seed must lie in [0, 2**32), got {seed}.", "0 is fine.")
        if not 0 <= process_index < process_count:
            raise Refusal(
                f"process_index must lie in [0, process_count = {process_count}), "
                f"got {process_index}.",
                "Pass jax.process_index() and jax.process_count().",
            )
        batches = (
            grain.MapDataset.source(source)
            .seed(seed)
            .shuffle()
            .repeat()  # before batch: the rest of an epoch fills up with the next one
            # drop_remainder: the other way to count endless batches of one row overflows in grain.
            .batch(batch_size, drop_remainder=True, batch_fn=list)
            .slice(slice(process_index, None, process_count))
        )
        # No reader threads: what is buffered there would make get_state a matter of timing.
        unbuffered = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator = iter(batches.to_iter_dataset(unbuffered))

    def __next__(self) -> list[Row]:
        return next(self._iterator)

    def seek(self, num_batches: int) -> None:
        """Moves to where so many batches have been read, by each of the processes.

        A number, and not grain's own file per process: so another number of processes goes on.

        Args:
          num_batches: at least 0.
        """
        self._iterator.set_state({"next_index": num_batches})


def split_held_out(source: Source, frac: float, seed: int) -> tuple[View, View]:
    """Training rows and held-out rows, told apart by a hash of the prompt.

    Equal prompts are always on the same side, and adding rows to a file moves none of the old
    ones. The shares are therefore only about ``frac``. Where one side would stay empty, the prompt
    nearest to the border goes there.

    Args:
      source: Rows by number.
      frac: Share of the prompts to hold out, in (0, 1).
      seed: Of the hash; another seed holds out other prompts.

    Returns:
      Training rows and held-out rows, both in the order of the source.

    Raises:
      ValueError: if ``frac`` is not in (0, 1) or there are no two different prompts.
    """
    if not 0 < frac < 1:
        raise Refusal(f"frac must lie in (0, 1), got {frac}.", "0.1 holds out a tenth.")
    places = [_hash_place(source[index]["prompt"], seed) for index in range(len(source))]
    distinct = sorted(set(places))
    if len(distinct) < 2:
        raise Refusal(
            f"source must have two different prompts to hold one out, got {len(distinct)}.",
            "Add rows.",
        )
    # At least one prompt below the border, and at least one at or above it.
    border = min(max(frac, distinct[1]), distinct[-1])
    train = [index for index, place in enumerate(places) if place >= border]
    held_out = [index for index, place in enumerate(places) if place < border]
    return View(source, train), View(source, held_out)


def drop_long(
    source: Source, encode: Callable[[Prompt], Sequence[int]], max_tokens: int
) -> tuple[View, int, int]:
    """The rows whose prompt fits, and how many did not. Measures every row once.

    Args:
      source: Rows by number.
      encode: From the prompt (a text or messages) to its token ids.
      max_tokens: Longest prompt to keep, in tokens.

    Returns:
      The rows that fit, in order; the number of rows dropped; the longest prompt kept, in tokens.

    Raises:
      ValueError: if no row fits.

    >>> kept, num_dropped, longest = drop_long([{"prompt": "a"}, {"prompt": "abc"}], list, 2)
    >>> len(kept), num_dropped, longest
    (1, 1, 1)
    """
    lengths = [len(encode(source[index]["prompt"])) for index in range(len(source))]
    kept = [index for index, length in enumerate(lengths) if length <= max_tokens]
    if not kept:
        raise Refusal(
            f"max_tokens = {max_tokens} leaves no prompt: the shortest of {len(lengths)} has "
            f"{min(lengths, default=0)} tokens.",
            "Raise rollout.max_prompt_tokens, or shorten the prompts.",
        )
    return View(source, kept), len(lengths) - len(kept), max(lengths[index] for index in kept)


def _hash_place(prompt: Prompt, seed: int) -> float:
    """A number in [0, 1) that only the prompt and the seed decide."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    key = f"rvpo-held-out\n{seed}\n{text}".encode(errors="surrogatepass")
    # 53 bits: every such number is exact as a float and less than 1.
    return int.from_bytes(hashlib.sha256(key).digest()[:7], "big") // 8 / 2**53
