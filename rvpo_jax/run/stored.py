"""The config of a run that is there already, and what scoring its completions would execute."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rvpo_jax.basics.plain import named_only
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.config import Config
from rvpo_jax.rewards import EMBEDDED_REWARDS, REWARDS
from rvpo_jax.run.workdir import read_config


def stored_config(workdir: Path) -> Config:
    """The config in a run's folder, with the defaults where Python functions stood.

    Args:
      workdir: the folder.

    Returns:
      Enough to build the run's policy.

    Raises:
      Refusal: if there is none, or it cannot be read.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise Refusal(
            f"--workdir {workdir} holds no run: config.json is missing.",
            f"Train one: rvpo train --workdir {workdir}",
        )
    return Config.from_dict(named_only(Config, read_config(path)))


def with_rewards(config: Config, workdir: Path, rewards: Sequence[str], trust: bool) -> Config:
    """The config with rewards that may be executed.

    Somebody else's run folder may name any file: it is executed only where the user says so. What
    the user names on the command line is the user's own choice.

    Args:
      config: of the run.
      workdir: its folder, for the message.
      rewards: named on the command line, in place of the run's; empty: those of the run.
      trust: the user said that the run's reward files may be executed.

    Returns:
      The config; with other rewards its weights per channel are gone, which only training reads.

    Raises:
      Refusal: naming what would be executed.
    """
    if rewards:
        return _replaced(config, tuple(rewards))
    foreign = [str(name) for name in config.data.rewards if name not in REWARDS]
    if foreign and not trust:
        raise Refusal(
            f"scoring would execute code that {workdir / 'config.json'} names: "
            f"{printable(', '.join(foreign), keep='')}.",
            "Read that code, then add --trust; or name rewards of your own: --rewards NAME ...",
        )
    return config


def without_rewards(config: Config) -> Config:
    """The config for a program that scores nothing: no code of the run's rewards is executed.

    Args:
      config: of the run.

    Returns:
      The same with a built-in reward, because a task has at least one channel.
    """
    return _replaced(config, EMBEDDED_REWARDS[:1])


def _replaced(config: Config, rewards: tuple[str, ...]) -> Config:
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, rewards=rewards),
        advantage=dataclasses.replace(config.advantage, weights=None),
    )
