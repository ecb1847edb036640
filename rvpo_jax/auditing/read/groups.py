"""Which rows belong to one prompt at one step, and what is odd about that.

``N`` rows. A key is a code per row and whether the row has one; a row without is on its own.
"""

import dataclasses

import numpy as np

from .log import Note

Key = tuple[np.ndarray, np.ndarray]  # [N] int64 codes, [N] bool present


@dataclasses.dataclass(frozen=True)
class Groups:
    """Rows in groups."""

    group: np.ndarray  # [N] int64 ids from 0, in order of appearance
    prompt: np.ndarray  # [N] int64 ids from 0; equal within a group
    missing: int  # rows without a value that names their group
    mixed: int  # groups whose rows name several prompts


def dense(codes: np.ndarray) -> np.ndarray:
    """Ids from 0 in order of appearance.

    Args:
      codes: ``[N]`` int64.

    Returns:
      ``[N]`` int64, equal where codes are equal.

    >>> dense(np.array([7, -3, 7])).tolist()
    [0, 1, 0]
    """
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def group_by_key(key: Key, step: np.ndarray | None, prompt: Key) -> Groups:
    """Groups of equal keys at equal steps, wherever in the log their rows are.

    Args:
      key: What names the prompt within a step.
      step: ``[N]`` int64, or None.
      prompt: What names the prompt at every step.

    Returns:
      The groups.
    """
    ids = _ids(key)
    if step is not None:
        steps = dense(step)
        ids = ids * (int(steps.max(initial=0)) + 1) + steps
    return _make(dense(ids), prompt, missing=int((~key[1]).sum()))


def group_by_size(
    size: int, step: np.ndarray | None, part: np.ndarray, ordinal: np.ndarray, prompt: Key | None
) -> Groups:
    """Groups of rows that follow each other.

    Counting starts anew with every file and step. A row that was left out keeps its place, so
    that a bad line does not shift the groups after it.

    Args:
      size: Rows per group.
      step: ``[N]`` int64, or None.
      part: ``[N]`` int64 number of the file.
      ordinal: ``[N]`` int64 number of the row in its file.
      prompt: What names the prompt at every step; None: nothing does.

    Returns:
      The groups.
    """
    starts = np.ones(len(part), bool)
    starts[1:] = part[1:] != part[:-1]
    if step is not None:
        starts[1:] |= step[1:] != step[:-1]
    run = np.cumsum(starts) - 1
    block = (ordinal - ordinal[starts][run]) // size
    group = dense(run * (int(block.max(initial=0)) + 1) + block)
    if prompt is None:
        return Groups(group, group, missing=0, mixed=0)
    return _make(group, prompt, missing=0)


def _ids(key: Key) -> np.ndarray:
    """Ids of codes; a row without a code has one of its own."""
    codes, present = key
    ids = dense(codes)
    return np.where(present, ids, len(codes) + np.arange(len(codes)))


def _make(group: np.ndarray, prompt: Key, missing: int) -> Groups:
    """Groups whose rows all have the prompt of the first one."""
    ids = _ids(prompt)
    _, first = np.unique(group, return_index=True)
    of_first = ids[first][group]
    mixed = len(np.unique(group[of_first != ids]))
    return Groups(group, dense(of_first), missing, mixed)


def constant_in_groups(values: np.ndarray, group: np.ndarray) -> bool:
    """Whether a column is the same for all completions of every group.

    Args:
      values: ``[N]`` float, NaN where missing, which is not looked at.
      group: ``[N]`` int64 ids from 0.

    Returns:
      True where no group has two different values.

    >>> constant_in_groups(np.array([1.0, 1.0, 0.0, np.nan]), np.array([0, 0, 1, 1]))
    True
    """
    size = int(group.max()) + 1
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    known = np.isfinite(values)
    np.minimum.at(low, group[known], values[known])
    np.maximum.at(high, group[known], values[known])
    return bool(np.all(low >= high))


def group_notes(groups: Groups, steps: bool) -> list[Note]:
    """What is odd about the groups.

    Args:
      groups: Of the log.
      steps: Whether the log has steps.

    Returns:
      Notes of kinds missing_group, mixed_prompts, group_of_one and unequal_groups.
    """
    sizes = np.bincount(groups.group)
    usual = int(np.bincount(sizes).argmax())
    ones, unequal = int((sizes == 1).sum()), int((sizes != usual).sum())
    same = "prompt at one step" if steps else "prompt"
    texts = [
        (
            "missing_group",
            groups.missing,
            f"{groups.missing} row(s) name no prompt; each is a group of its own.",
        ),
        (
            "mixed_prompts",
            groups.mixed,
            f"{groups.mixed} group(s) hold rows of several prompts; the first one counts.",
        ),
        (
            "group_of_one",
            ones,
            f"{ones} group(s) have one completion, which nothing can be compared with.",
        ),
        (
            "unequal_groups",
            unequal,
            f"{unequal} of {len(sizes)} groups do not have the usual {usual} completions of one "
            f"{same}.",
        ),
    ]
    return [Note(kind=kind, count=count, text=text) for kind, count, text in texts if count]


def duplicate_notes(groups: Groups, completion: Key, rewards: np.ndarray) -> list[Note]:
    """How many rows and groups say the same as an earlier one.

    Args:
      groups: Of the log.
      completion: Codes of the completion texts; rows without a text are never equal.
      rewards: ``[N, M]`` float32.

    Returns:
      Notes of kinds duplicate_rows (same group, text and rewards) and repeated_groups (all rows
      of a group of another step, with the same prompt).
    """
    codes, present = completion
    row = _mix(np.where(present, codes, np.arange(len(codes))).astype(np.uint64))
    row = np.where(present, row, ~row)
    for column in rewards.T:
        # + 0.0: -0.0 is 0.0. All NaN are one.
        bits = np.where(np.isnan(column), np.float32(np.nan), column + np.float32(0))
        row = _mix(row ^ bits.astype(np.float32).view(np.uint32).astype(np.uint64))
    rows = len(row) - _num_distinct(_mix(row ^ _mix(groups.group.astype(np.uint64))))
    _, first, sizes = np.unique(groups.group, return_index=True, return_counts=True)
    whole = np.zeros(len(first), np.uint64)
    np.add.at(whole, groups.group, _mix(row))
    whole = _mix(whole ^ _mix(groups.prompt[first].astype(np.uint64)))
    whole = _mix(whole ^ sizes.astype(np.uint64))
    repeated = len(whole) - _num_distinct(whole)
    texts = [
        (
            "duplicate_rows",
            rows,
            f"{rows} row(s) repeat the completion and the rewards of a row of their group; "
            "they are kept.",
        ),
        (
            "repeated_groups",
            repeated,
            f"{repeated} group(s) repeat all completions and rewards of a group of another step, "
            "as when a batch is logged twice; they are kept.",
        ),
    ]
    return [Note(kind=kind, count=count, text=text) for kind, count, text in texts if count]


def _num_distinct(values: np.ndarray) -> int:
    # Sorting integers takes a fiftieth of the time of NumPy's table of distinct ones.
    return int(np.count_nonzero(np.diff(np.sort(values)))) + 1


def _mix(values: np.ndarray) -> np.ndarray:
    """Splitmix64: a bijection that spreads every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) + np.uint64(0x9E3779B97F4A7C15)
