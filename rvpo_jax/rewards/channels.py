"""What a reward function is, and how it declares its channel.

``N`` completions, ``M`` reward channels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Channel

Example = Mapping[str, Any]
"""One row of the data: what a reward function may know about the prompt."""


class RewardFn(Protocol):
    """A reward function: ``N`` completions and what is known about them in, ``N`` numbers out.

    ``fn(completions, examples)``: texts and rows. Or arguments by name, as in TRL, each a list of
    ``N``: ``completions``, ``prompts`` (texts or messages, as in the data), ``examples`` and the
    columns of the data; ``**kwargs`` gets prompts, completions and all columns. Unlike TRL's,
    completions are always texts, also where the prompt is a list of messages.

    ``None`` or NaN means "not applicable here". It must judge each completion on its own:
    with ``on_error="skip"`` it may be called again with one completion at a time. The lists and
    rows are its own copies; editing them changes nothing elsewhere.

    A function that fills several channels, such as ``rubric``, names them in ``fn.channels`` and
    returns per completion a list of at most that many numbers: the first for the first channel and
    so on, and none for those that the row does not have. With a method ``use_folder`` it is told
    the run's folder, before it is first called; a method ``take_metrics`` returns numbers by name,
    which add up over processes, of its calls since it was last asked: they join a step's metrics.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns an array-like ``[N]`` of numbers, bools, None or NaN."""


_Fn = TypeVar("_Fn", bound=Callable[..., Any])


def reward_channel(
    *,
    low: float = 0.0,
    high: float = 1.0,
    pass_at: float = 1.0,
    kind: Literal["quality", "constraint"] = "quality",
    target: float | None = None,
    name: str | None = None,
    applies: Callable[[Example], bool] | None = None,
) -> Callable[[_Fn], _Fn]:
    """Declares the channel of a reward function; the function itself stays as it is.

    Attaches ``fn.channel`` and ``fn.applies``. A function without this decorator has the
    range 0 to 1 and passes at 1.

    Args:
      low: Smallest value the function returns, in its own unit.
      high: Largest value the function returns.
      pass_at: Value from which the channel counts as met.
      kind: A constraint must be met; a quality is better when it is higher.
      target: Mean value that a rule with targets or multipliers aims for.
      name: Name of the channel; None: the name of the function.
      applies: Tells from the example alone whether the channel means anything there. ``score``
        masks the others, whatever the function returned. None: it always applies.

    Returns:
      A decorator that returns the function it was given.

    Raises:
      ValueError: when the range or ``pass_at`` is impossible.

    >>> @reward_channel(high=5.0, pass_at=3.3)
    ... def politeness(completions, examples):
    ...     return [5.0 * ("please" in text) for text in completions]
    >>> channel_of(politeness).high
    5.0
    """

    def attach(fn: _Fn) -> _Fn:
        channel = Channel(
            name=_function_name(fn) if name is None else name,
            low=low,
            high=high,
            pass_at=pass_at,
            kind=kind,
            target=target,
        )
        vars(fn).update(channel=channel, applies=applies)
        return fn

    return attach


def channel_of(fn: RewardFn) -> Channel:
    """The declared channel of a reward function, or the default one with the function's name.

    >>> def plain(completions, examples):
    ...     return [1.0 for _ in completions]
    >>> channel_of(plain)
    Channel(name='plain', low=0.0, high=1.0, pass_at=1.0, kind='quality', target=None)
    """
    declared = getattr(fn, "channel", None)
    return declared if isinstance(declared, Channel) else Channel(name=_function_name(fn))


def filled_by(fn: RewardFn) -> tuple[Channel, ...]:
    """The channels that one reward function fills: those of ``fn.channels``, or its one.

    Args:
      fn: the function.

    Returns:
      At least one channel.
    """
    several = getattr(fn, "channels", None)
    return tuple(several) if several else (channel_of(fn),)


def may_be_absent(reward_fns: Sequence[RewardFn]) -> set[str]:
    """Channels that no row need have: of a function that fills several, all but its first.

    Args:
      reward_fns: the functions.

    Returns:
      Names.
    """
    return {channel.name for fn in reward_fns for channel in filled_by(fn)[1:]}


def channels_of(reward_fns: Sequence[RewardFn]) -> tuple[Channel, ...]:
    """The channels of several reward functions, in their order.

    Args:
      reward_fns: Functions, which fill ``M`` channels.

    Returns:
      ``M`` channels with different names.

    Raises:
      ValueError: when there is no function, or two channels have the same name.
    """
    channels = tuple(channel for fn in reward_fns for channel in filled_by(fn))
    names = [channel.name for channel in channels]
    if not names:
        raise Refusal("reward_fns must hold at least one function, got none.", "Name a reward.")
    for name in names:
        if names.count(name) > 1:
            raise Refusal(
                f"reward channels must have different names, got {name} twice.",
                "Give one of them another name: @reward_channel(name=...).",
            )
    return channels


def assumed_channels(reward_fns: Sequence[RewardFn]) -> list[str]:
    """What a run assumes about functions that declare no channel, to be said when it starts.

    Args:
      reward_fns: ``M`` functions.

    Returns:
      Lines for a reader: none where every function is decorated.

    >>> def plain(completions, examples):
    ...     return [1.0 for _ in completions]
    >>> assumed_channels([plain])[0]
    'assumed of the reward plain: values from 0 to 1, and only a full 1.0 passes'
    """
    plain = [
        fn
        for fn in reward_fns
        if not isinstance(getattr(fn, "channel", None), Channel) and not hasattr(fn, "channels")
    ]
    names = [channel_of(fn).name for fn in plain]
    if not names:
        return []
    rewards = f"reward{'s' if len(names) > 1 else ''} {printable(', '.join(names), keep='')}"
    return [
        f"assumed of the {rewards}: values from 0 to 1, and only a full 1.0 passes",
        "  declare other values with @reward_channel(low=..., high=..., pass_at=...)",
    ]


def _function_name(fn: object) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))
