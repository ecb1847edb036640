"""Parameters that a run trains beside parameters that stay as they are."""

from collections.abc import Mapping
from typing import Any


def join(params: Any, frozen: Any) -> Any:
    """One parameter tree, as a model takes it, of what is trained and what is not.

    Args:
      params: what is trained.
      frozen: nested dictionaries without a leaf in the same place; empty: there is nothing else.

    Returns:
      The tree; no array is copied.

    >>> join({"q": {"lora": 1}}, {"q": {"kernel": 2}, "norm": 3})
    {'q': {'kernel': 2, 'lora': 1}, 'norm': 3}
    >>> join(params := [1], ()) is params
    True
    """
    if isinstance(frozen, tuple) and not frozen:
        return params
    joined = dict(frozen)
    for name, new in params.items():
        there = joined.get(name)
        if name in joined and not isinstance(there, Mapping):
            raise ValueError(f"parameter {name} is both trained and frozen")
        joined[name] = new if there is None else join(new, there)
    return joined
