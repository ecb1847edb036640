"""Work done ahead in threads, in order: for code that computes without holding Python's lock."""

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map`` with the next ``AHEAD`` results under way while one is used.

    Args:
      function: called in other threads, for several items at a time.
      items: taken one by one, in the caller's thread.

    Yields:
      The results, in the order of the items.

    >>> list(map_ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(AHEAD) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, the next one of which is fetched while one is used.

    Args:
      items: iterated over in another thread.

    Yields:
      The same, in order.

    >>> list(read_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    iterator = iter(items)

    def take() -> list[Item]:
        return list(itertools.islice(iterator, 1))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(take)
        while item := coming.result():
            coming = pool.submit(take)
            yield item[0]
