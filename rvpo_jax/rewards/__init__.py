"""Reward functions: text in, NumPy out. The table of contents of the built-in ones.

A reward function is ``fn(completions, examples) -> [N]`` numbers, one per completion; ``None`` or
NaN where it does not apply. A function written for TRL, ``fn(prompts, completions, **columns)``,
gets its arguments by name. ``@reward_channel(low=..., high=..., pass_at=...)`` declares its range.
"""

import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from rvpo_jax.basics.raised import frames_of, message_of, name_of
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.rewards.binding import bind
from rvpo_jax.rewards.channels import (
    Example,
    RewardFn,
    assumed_channels,
    channel_of,
    channels_of,
    filled_by,
    may_be_absent,
    reward_channel,
)
from rvpo_jax.rewards.checks import json_schema, regex
from rvpo_jax.rewards.failures import RewardError
from rvpo_jax.rewards.function_calls import bfcl
from rvpo_jax.rewards.gsm8k import (
    gsm8k_calculations,
    gsm8k_correctness,
    gsm8k_format,
    gsm8k_length,
)
from rvpo_jax.rewards.instructions import (
    instructions_loose,
    instructions_share,
    instructions_strict,
)
from rvpo_jax.rewards.personal_data import no_personal_data, secret_kept
from rvpo_jax.rewards.scoring import Scores, check_any_scored, score
from rvpo_jax.rewards.text_size import length, repetition
from rvpo_jax.rewards.tool_call_channels import (
    toolrl_argument_names,
    toolrl_argument_values,
    toolrl_tool_names,
)
from rvpo_jax.rewards.tool_calling import toolrl_correctness, toolrl_format
from rvpo_jax.rewards.tool_task import (
    answer_format,
    arguments,
    brevity,
    explanation,
    privacy,
    terseness,
    tool_name,
)

__all__ = [
    "EMBEDDED_REWARDS",
    "REWARDS",
    "Example",
    "RewardError",
    "RewardFn",
    "Scores",
    "assumed_channels",
    "channel_of",
    "channels_of",
    "check_any_scored",
    "filled_by",
    "load_reward",
    "may_be_absent",
    "reward_channel",
    "score",
]

REWARDS: dict[str, RewardFn] = {
    "toolrl_format": toolrl_format,
    "toolrl_correctness": toolrl_correctness,
    "toolrl_tool_names": toolrl_tool_names,
    "toolrl_argument_names": toolrl_argument_names,
    "toolrl_argument_values": toolrl_argument_values,
    "format": answer_format,
    "tool_name": tool_name,
    "arguments": arguments,
    "explanation": explanation,
    "brevity": brevity,
    "privacy": privacy,
    "terseness": terseness,
    "instructions_strict": instructions_strict,
    "instructions_loose": instructions_loose,
    "instructions_share": instructions_share,
    "bfcl": bfcl,
    "gsm8k_correctness": gsm8k_correctness,
    "gsm8k_format": gsm8k_format,
    "gsm8k_length": gsm8k_length,
    "gsm8k_calculations": gsm8k_calculations,
    "length": length,
    "repetition": repetition,
    "no_personal_data": no_personal_data,
    "secret_kept": secret_kept,
    "json_schema": json_schema,
    "regex": regex,
}
"""The built-in reward functions by the name of their channel."""

EMBEDDED_REWARDS: tuple[str, ...] = (
    "format",
    "tool_name",
    "arguments",
    "explanation",
    "brevity",
    "privacy",
)
"""The channels of the embedded task, in their order."""


def load_reward(name: str | RewardFn) -> RewardFn:
    """The reward function of a name: a built-in one, or one of the user's own files or packages.

    Args:
      name: A key of ``REWARDS``, ``FILE.py:FUNCTION`` (relative to the current directory) or
        ``package.module:FUNCTION``. A function stands for itself.

    Returns:
      The function. A file is executed once, however many functions are loaded from it.

    Raises:
      Refusal: when there is no such function, its file cannot be imported, or its parameters can
        never be bound; whether those that may be columns are columns is for ``score`` to see.

    >>> load_reward("brevity") is REWARDS["brevity"]
    True
    """
    if not isinstance(name, str):
        bind(name, channel_of(name).name)
        return name
    if name in REWARDS:
        return REWARDS[name]
    place, separator, function = name.rpartition(":")
    if name == "rubric":
        raise Refusal(
            "the reward rubric needs a judge, which a name alone does not give.",
            "In Python: rewards=(rubric(Judge(endpoint=..., model=...)),), both from "
            "rvpo_jax.rewards.judge; by name: FILE.py:NAME of such a reward.",
        )
    if not (separator and place and function):
        near = difflib.get_close_matches(name, REWARDS, 1)
        raise Refusal(
            f"data.rewards must name reward functions, got {name!r}.",
            f"{f'Perhaps {near[0]}. ' if near else ''}Built in are: {', '.join(REWARDS)}. Your "
            "own: FILE.py:FUNCTION or package.module:FUNCTION.",
        )
    module = _import(place, name)
    fn = getattr(module, function, None)
    if fn is None:
        own = [key for key, value in vars(module).items() if _is_own_function(value, module)]
        raise Refusal(
            f"reward {name!r}: {place} has no function {function}.",
            f"It has: {', '.join(own) or 'no functions'}.",
        )
    bind(fn, repr(name))
    return fn


def _import(place: str, name: str) -> ModuleType:
    path = Path(place).expanduser()
    if place.endswith(".py") and not path.is_file():
        raise Refusal(
            f"reward {name!r}: there is no file {place}.",
            f"The path is relative to the current directory, {Path.cwd()}.",
        )
    try:
        if place.endswith(".py"):
            return _execute(path.resolve(), path.stat().st_mtime_ns)
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        where = "".join(f"{frame}\n  " for frame in frames_of(error))
        raise Refusal(
            f"reward {name!r}: importing {place} raised {name_of(error)}: {message_of(error)}.",
            f"{where}Import it on its own in Python to see where it fails.",
        ) from error


@functools.lru_cache
def _execute(path: Path, modified_ns: int) -> ModuleType:
    """Runs a user's file as a module; an edited file (another time stamp) runs again."""
    name = f"rvpo_user_rewards_{path.stem}_{hash((path, modified_ns)) & 0xFFFFFFFF:08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a module up by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_own_function(value: object, module: ModuleType) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__
