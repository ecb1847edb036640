"""Runs reward functions over completions and checks hard what they return.

A reward function sees text and returns one number per completion; here the numbers become
``[N, M]`` arrays. ``N`` completions, ``M`` reward channels.
"""

import logging
import numbers
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rvpo_jax.basics.raised import excerpt, frames_of, message_of, name_of
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Channel
from rvpo_jax.rewards.binding import Bound, bind, columns_of
from rvpo_jax.rewards.calling import call, own_rows
from rvpo_jax.rewards.channels import Example, RewardFn, channel_of, channels_of, filled_by
from rvpo_jax.rewards.failures import RewardError

_logger = logging.getLogger(__name__)


class Scores(NamedTuple):
    """What ``score`` returns."""

    rewards: npt.NDArray[np.float32]  # [N, M], each channel in its own unit; 0 where not scored
    where: npt.NDArray[np.bool_]  # [N, M], the channel applies and was scored
    num_failed: npt.NDArray[np.int64]  # [M], completions on which the function raised


def score(
    reward_fns: Sequence[RewardFn],
    completions: Sequence[str],
    examples: Sequence[Example],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    threads: int = 4,
) -> Scores:
    """The rewards of all completions in all channels, and where they exist.

    The functions run concurrently, each on all completions at once; ours, which only compute, in
    turn. Nothing is broadcast or
    repaired: a wrong length, text, inf or a value outside the declared range is an error, in
    both modes of ``on_error``. A rounding excess over the range of up to 1e-6 of it is clipped.
    Each function gets lists and rows of its own; one that edits them is named in a warning.

    Args:
      reward_fns: ``M`` reward functions with different channel names.
      completions: ``N`` texts.
      examples: ``N`` mappings, the row of the data behind each completion.
      on_error: When a function raises: ``raise`` a RewardError, or ``skip``: call it again for
        each completion alone, and mask and count those on which it raises again.
      threads: Functions that run at the same time, at least 1.

    Returns:
      ``rewards`` ``[N, M]`` float32 (0 where not scored, never NaN), ``where`` ``[N, M]`` bool,
      and ``num_failed`` ``[M]`` int64.

    Raises:
      Refusal: when the arguments do not fit together, or a function takes something that is
        neither known nor a column of the examples.
      RewardError: naming the function, the place where it raised, and the completion where one
        value is at fault.

    >>> def length(completions, examples):
    ...     return [len(text) / 8 if text else None for text in completions]
    >>> out = score([length], ["four", ""], [{}, {}])
    >>> out.rewards[:, 0].tolist(), out.where[:, 0].tolist()
    ([0.5, 0.0], [True, False])
    """
    channels_of(reward_fns)  # refuses two of the same name
    _check_arguments(completions, examples, on_error, threads)
    columns = columns_of(examples)
    jobs = [(fn, name := channel_of(fn).name, bind(fn, name, columns)) for fn in reward_fns]

    def scored_by(fn: RewardFn, name: str, bound: Bound) -> tuple[np.ndarray, int]:
        return _score_function(fn, name, bound, completions, examples, on_error)

    with ThreadPoolExecutor(threads) as pool:
        # Ours only compute, and in threads would queue for Python's lock.
        pending = [
            partial(scored_by, *job) if _is_ours(job[0]) else pool.submit(scored_by, *job).result
            for job in jobs
        ]
        scored = [result() for result in pending]
    values = np.concatenate([values for values, _ in scored], axis=-1)  # [N, M], NaN: not scored
    where = ~np.isnan(values)
    failed = [num_failed for values, num_failed in scored for _ in range(values.shape[1])]
    return Scores(
        rewards=np.where(where, values, 0.0).astype(np.float32),
        where=where,
        num_failed=np.array(failed, np.int64),
    )


def _is_ours(fn: RewardFn) -> bool:
    return str(getattr(fn, "__module__", "")).startswith("rvpo_jax.")


def check_any_scored(
    where: npt.ArrayLike,
    channel_names: Sequence[str],
    *,
    enough: int = 1,
    may_be_absent: Collection[str] = (),
) -> None:
    """Raises when a channel was never scored: a function that abstains everywhere is broken.

    Not part of ``score``: a small batch may well hold only prompts to which a channel does not
    apply. Call it on many prompts, for instance on the first evaluation.

    Args:
      where: ``[..., M]`` bool, from ``score``.
      channel_names: ``M`` names.
      enough: So many completions tell; fewer may well be without a prompt that has the channel, and
        only a warning is given, unless no channel at all was scored: nothing can be learned then.
      may_be_absent: names of channels that no row need have.

    Raises:
      RewardError: naming the channels without a single score.

    >>> check_any_scored([[True, False], [False, True]], ["format", "brevity"])
    """
    mask = np.asarray(where, bool)
    mask = mask.reshape(-1, mask.shape[-1])
    counts = mask.sum(0).tolist()
    never = [name for name, count in zip(channel_names, counts, strict=True) if count == 0]
    if len(never) < len(counts):
        never = [name for name in never if name not in may_be_absent]
    if not never:
        return
    message = (
        f"reward channel(s) {', '.join(never)} scored none of {len(mask)} completions.\n"
        "  The function returned None or NaN, or raised, on every one, or it never applies: "
        "fix it, or leave it out of data.rewards."
    )
    if len(mask) >= enough or len(never) == len(channel_names):
        raise RewardError(message)
    _logger.warning("%s With so few completions that may also be chance.", message)


def _check_arguments(
    completions: Sequence[str], examples: Sequence[Example], on_error: str, threads: int
) -> None:
    if isinstance(completions, str):
        raise Refusal(
            f"completions must be a sequence of texts, got one text: {excerpt(completions)}.",
            "Put it in a list.",
        )
    if len(completions) != len(examples):
        raise Refusal(
            "completions and examples must have the same length, got "
            f"{len(completions)} and {len(examples)}.",
            "Repeat the example of a prompt for each of its completions.",
        )
    if on_error not in ("raise", "skip"):
        raise Refusal(f"on_error must be raise or skip, got {on_error!r}.", "Choose one.")
    if threads < 1:
        raise Refusal(f"threads must be >= 1, got {threads}.", "1 runs them in turn.")


def _score_function(
    fn: RewardFn,
    name: str,
    bound: Bound,
    completions: Sequence[str],
    examples: Sequence[Example],
    on_error: str,
) -> tuple[np.ndarray, int]:
    """Its channels, ``[N, 1]`` for most functions: float64 with NaN where not scored, and how many
    calls failed."""
    try:
        return _masked_call(fn, name, bound, completions, examples, first=0), 0
    except RewardError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit in a reward must not end the run unsaid
        if on_error == "skip":
            return _score_one_by_one(fn, name, bound, completions, examples)
        raise _raised_error(name, error) from error


def _raised_error(name: str, error: BaseException) -> RewardError:
    if isinstance(error, Refusal):  # a built-in reward that says what is wrong with the data
        return RewardError(f"reward function {name}: {error}")
    lines = [
        f"reward function {name} raised {name_of(error)}: {excerpt(message_of(error))}.",
        *frames_of(error),
        "Fix the function, or set data.on_reward_error to skip: completions on which it raises "
        "then count as not scored.",
    ]
    return RewardError("\n  ".join(lines))


def _score_one_by_one(
    fn: RewardFn,
    name: str,
    bound: Bound,
    completions: Sequence[str],
    examples: Sequence[Example],
) -> tuple[np.ndarray, int]:
    values = np.full((len(completions), len(filled_by(fn))), np.nan)
    failures: list[tuple[int, BaseException]] = []
    for i, (completion, example) in enumerate(zip(completions, examples, strict=True)):
        try:
            one = _masked_call(fn, name, bound, [completion], [example], first=i)
        except RewardError:
            raise
        except (Exception, SystemExit) as error:
            failures.append((i, error))
        else:
            values[i] = one[0]
    if failures:  # a skipped error that nobody sees would be a quiet failure
        i, cause = failures[0]
        _logger.warning(
            "reward function %s raised on %d of %d completions; first on example %d, %s: %s: %s%s",
            *(name, len(failures), len(completions), i, excerpt(completions[i])),
            *(name_of(cause), excerpt(message_of(cause))),
            "".join(f"\n  {frame}" for frame in frames_of(cause)),
        )
    return values, len(failures)


def _masked_call(
    fn: RewardFn,
    name: str,
    bound: Bound,
    completions: Sequence[str],
    examples: Sequence[Example],
    first: int,
) -> np.ndarray:
    """Calls the function and checks the result; ``first`` is the index of the first example."""
    returned = call(fn, name, bound, completions, examples)
    channels = filled_by(fn)
    ragged = getattr(fn, "channels", None) is not None
    lists = _columns(returned, name, len(channels), len(completions)) if ragged else [returned]
    columns = []
    for channel, found in zip(channels, lists, strict=True):
        values = _to_floats(found, channel, completions, first)
        _check_range(values, channel, completions, first)
        columns.append(np.clip(values, channel.low, channel.high))
    table = np.stack(columns, axis=-1)
    applies = getattr(fn, "applies", None)
    if applies is not None:
        table[[not applies(row) for row in own_rows(examples)]] = np.nan
    return table


def _columns(returned: Any, name: str, width: int, size: int) -> list[list[Any]]:
    """What a function of several channels returned, by channel; None where a list has ended."""
    rows = list(returned) if isinstance(returned, (list, tuple, np.ndarray)) else None
    fits = rows is not None and len(rows) == size
    if rows is None or not fits or not all(_is_row(row) and len(row) <= width for row in rows):
        came = type(returned).__name__ if rows is None else f"{len(rows)} entries"
        if fits:
            came = "one that is no list, or longer"
        raise RewardError(
            f"reward function {name} must return {size} lists of at most {width} numbers, one per "
            f"completion, got {came}.\n  It names {width} channels: name more, or shorten the "
            "lists."
        )
    return [[row[place] if place < len(row) else None for row in rows] for place in range(width)]


def _is_row(row: object) -> bool:
    return isinstance(row, (list, tuple)) or (isinstance(row, np.ndarray) and row.ndim == 1)


def _to_floats(
    returned: Any, channel: Channel, completions: Sequence[str], first: int
) -> np.ndarray:
    """``[N]`` float64 from whatever the function returned; NaN for None."""
    # Lists become object arrays: NumPy would turn [1.0, "0.5"] into text without a word.
    dtype = object if isinstance(returned, (list, tuple)) else None
    try:
        array = np.asarray(returned, dtype)
    except Exception as error:
        raise RewardError(
            f"reward function {channel.name} must return one number per completion, got "
            f"{type(returned).__name__}: {excerpt(error)}.\n  Return a list or an array of numbers."
        ) from error
    if array.shape != (len(completions),):
        raise RewardError(
            f"reward function {channel.name} must return one number per completion, shape "
            f"({len(completions)},), got {type(returned).__name__} of shape {array.shape}.\n"
            "  Return a list or an array of numbers; None where it does not apply."
        )
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind != "O":
        raise RewardError(
            f"reward function {channel.name} must return numbers, got dtype {array.dtype}.\n"
            "  Convert them to float; None where it does not apply."
        )
    floats = np.empty(len(array))
    for i, value in enumerate(array):
        if hasattr(value, "shape") and value.shape == ():  # a zero-dimensional array
            value = value.item()
        if value is not None and not isinstance(value, (numbers.Real, np.bool_)):
            raise _value_error(
                channel, f"{excerpt(value)} ({type(value).__name__})", i, first, completions
            )
        try:
            floats[i] = np.nan if value is None else float(value)
        except OverflowError:  # an integer beyond the range of a float
            floats[i] = np.inf
    return floats


def _check_range(
    values: np.ndarray, channel: Channel, completions: Sequence[str], first: int
) -> None:
    slack = 1e-6 * (channel.high - channel.low)
    inside = (values >= channel.low - slack) & (values <= channel.high + slack)
    for i in np.flatnonzero(~inside & ~np.isnan(values)):
        raise _value_error(channel, f"{values[i]}", int(i), first, completions)


def _value_error(
    channel: Channel, value: str, i: int, first: int, completions: Sequence[str]
) -> RewardError:
    return RewardError(
        f"reward function {channel.name} must return numbers in [{channel.low}, {channel.high}], "
        f"got {value} for example {first + i}, completion {excerpt(completions[i])}.\n"
        "  Declare the range with @reward_channel(low=..., high=...), or fix the value; "
        "None where it does not apply."
    )
