"""Tunix's reward managers as channels: Python that needs no Tunix to be installed.

``N`` completions, groups in a row; ``M`` reward channels.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Channel
from rvpo_jax.integrations.scored import RewardsView, Scored, whitens_over_groups
from rvpo_jax.method.advantages import init_rule_state
from rvpo_jax.method.rules import rule_name
from rvpo_jax.method.schedules import make_risk_schedule
from rvpo_jax.rewards import RewardError, channels_of

NAME, AGENTIC_NAME = "rvpo", "rvpo-agentic"
LogMetrics = dict[str, tuple[Any, Callable[..., Any] | None]]


class RewardManager:
    """The reward manager ``rvpo``: every function is a channel of its own.

    Functions are called as Tunix calls them, in turn: prompts, completions, the columns of the data
    and fields of the config, by name. ``None`` or NaN means "not scored". ``@reward_channel``
    declares the range of a channel and when it is met.

    Args:
      reward_fns: a function or several; their names are those of the channels.
      algo_config: an ``RVPOConfig``.
      unused: what later versions pass besides.

    Raises:
      Refusal: on another config, or a rule with a memory, which Tunix would not checkpoint.
    """

    def __init__(self, reward_fns: Any, algo_config: Any, **unused: Any) -> None:
        if not isinstance(getattr(algo_config, "advantage", None), AdvantageConfig):
            raise Refusal(
                f"reward manager {NAME} needs an RVPOConfig, got {type(algo_config).__name__}.",
                "It is in rvpo_jax.integrations.tunix.",
            )
        self.reward_fns = list(reward_fns) if isinstance(reward_fns, Sequence) else [reward_fns]
        self.algo_config = algo_config
        self.channels = self._channels()
        self._engine: Any = None
        config, num_channels = algo_config.advantage, len(self.channels)
        config.with_channels(tuple(channel.name for channel in self.channels))  # checks weights
        if jax.tree.leaves(init_rule_state(config, num_channels)):
            raise Refusal(
                f"advantage.method must have no memory in Tunix, got {rule_name(config.method)}.",
                "Tunix's checkpoints would not hold it. Take a rule without init.",
            )

    def bind(self, engine: Any) -> None:
        """Keeps the learner's ``rl_cluster`` for its step; see ``tunix.bind``.

        Args:
          engine: a cluster with ``global_steps`` and ``cluster_config``.

        Raises:
          Refusal: when the rule would whiten over less than a batch of one update.
        """
        if whitens_over_groups(self.algo_config.advantage):
            _check_scope(engine.cluster_config.training_config)
        self._engine = engine

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> dict[str, Any]:
        """Scores completions.

        Args:
          prompts: ``N`` texts.
          completions: ``N`` texts.
          columns: of the data, and ``mode``.

        Returns:
          ``rewards``, a ``RewardsView`` ``[N]``; ``log_metrics``, value and reduction by name.
        """
        table = self._table(list(prompts), list(completions), columns)
        training = columns.get("mode") != "eval"
        config, risk_coef = self.algo_config.advantage, self._risk_coef()
        if self._engine is None and training and whitens_over_groups(config):
            raise _unbound(f"advantage.whiten={config.whiten!r}")
        scored = Scored(
            rewards=table,
            channels=self.channels,
            group_size=self.algo_config.num_generations,
            config=config,
            risk_coef=risk_coef,
            step=None if self._engine is None else int(self._engine.global_steps),
            training=training,
        )
        metrics: LogMetrics = {"prompts": (prompts, None), "completions": (completions, None)}
        for index, channel in enumerate(self.channels):
            metrics[f"rewards/{channel.name}"] = (table[:, index], mean_of_scored)
        return {
            "rewards": RewardsView(scored),
            "log_metrics": metrics | {"risk_coef": (risk_coef, np.mean)},
        }

    def _channels(self) -> tuple[Channel, ...]:
        return channels_of(self.reward_fns)

    def _table(self, prompts: list, completions: list, columns: Mapping[str, Any]) -> np.ndarray:
        """``[N, M]`` float64, NaN where not scored."""
        fields = {field.name for field in dataclasses.fields(self.algo_config)}
        given = {name: getattr(self.algo_config, name) for name in fields} | dict(columns)
        given |= {"prompts": prompts, "completions": completions}
        values = []
        for fn, channel in zip(self.reward_fns, self.channels, strict=False):
            named = {name: given[name] for name in _wanted(fn, columns) if name in given}
            values.append(_numbers(fn(**named), channel.name, len(prompts)))
        return np.stack(values, axis=-1) if values else np.empty((len(prompts), 0))

    def _risk_coef(self) -> float:
        """A function of the engine's step alone: nothing here needs a checkpoint."""
        risk, risk_coef = self.algo_config.risk, self.algo_config.advantage.risk_coef
        if risk.kind == "constant":
            return risk_coef
        if self._engine is None:
            raise _unbound(f"risk.kind={risk.kind!r}")
        schedule = make_risk_schedule(risk, risk_coef, steps=1)  # the config names the horizon
        return float(schedule(jnp.asarray(self._engine.global_steps)))


class AgenticRewardManager(RewardManager):
    """The reward manager ``rvpo-agentic``: the environment's own reward is one more channel."""

    def _channels(self) -> tuple[Channel, ...]:
        self.reward_fns = [fn for fn in self.reward_fns if fn is not None]
        own = channels_of(self.reward_fns) if self.reward_fns else ()
        name = self.algo_config.trajectory_channel
        if name is None and not own:
            raise Refusal(
                "trajectory_channel must be set where there are no reward_fns, got None.",
                "It names the environment's own reward.",
            )
        return own if name is None else (*own, Channel(name=name))

    def _table(self, prompts: list, completions: list, columns: Mapping[str, Any]) -> np.ndarray:
        rest = dict(columns)
        trajectory = _numbers(rest.pop("trajectory_rewards"), "trajectory_rewards", len(prompts))
        table = super()._table(prompts, completions, rest)
        if self.algo_config.trajectory_channel is not None:
            return np.concatenate([table, trajectory[:, None]], axis=-1)
        # Tunix passes zeros where the environment gives no reward.
        if np.any(np.nan_to_num(trajectory) != 0):
            raise Refusal(
                "trajectory_channel must be set where the environment gives rewards, got None.",
                "It is the name of their channel; the sum of Tunix counts them too.",
            )
        return table


def mean_of_scored(values: Any) -> float:
    """Mean without the NaN of what was not scored.

    Args:
      values: any shape.

    Returns:
      A number; NaN where nothing was scored.

    >>> mean_of_scored([1.0, float("nan"), 0.0])
    0.5
    """
    numbers = np.asarray(values, np.float64)
    known = numbers[~np.isnan(numbers)]
    return float(known.mean()) if known.size else math.nan


def _check_scope(training: Any) -> None:
    """Refuses where the learner judges less at once than one optimizer update is made of."""
    mini = training.mini_batch_size
    micro = training.train_micro_batch_size or mini
    rollout = training.rollout_micro_batch_size or micro
    logps = training.compute_logps_micro_batch_size or micro
    if mini is None:  # then a missing size is the whole batch
        whole = rollout is None or logps is None
    else:
        whole = math.lcm(rollout, logps) >= mini
    if not whole:
        raise Refusal(
            f"advantage.whiten over the batch needs all of it at once, got mini_batch_size {mini}"
            f", judged in parts of lcm({rollout}, {logps}) = {math.lcm(rollout, logps)} prompts.",
            "Set rollout_micro_batch_size or compute_logps_micro_batch_size to mini_batch_size, or "
            'use AdvantageConfig(whiten="none", recenter=True) or whiten="group".',
        )


def _unbound(what: str) -> Refusal:
    return Refusal(
        f"{what} needs the learner's engine, and the rule is not bound to one.",
        "Call rvpo_jax.integrations.tunix.bind(learner) before learner.train(...).",
    )


def _wanted(fn: Callable[..., Any], columns: Mapping[str, Any]) -> list[str]:
    """The names of a function's arguments; with ``**kwargs`` also prompts and all columns."""
    parameters = inspect.signature(fn).parameters
    names = list(parameters)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        names += ["prompts", "completions", *columns]
    return list(dict.fromkeys(names))


def _numbers(values: Any, name: str, num: int) -> np.ndarray:
    """``[N]`` float64 of what a reward function returned."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise RewardError(f"reward {name} must return numbers, None or NaN: {error}.") from error
    if numbers.shape != (num,):
        raise RewardError(
            f"reward {name} must return one number per completion ({num}), got shape "
            f"{numbers.shape}.\n  None or NaN stands for what it does not judge."
        )
    return numbers
