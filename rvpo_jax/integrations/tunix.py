"""RVPO inside Tunix: a reward manager, an advantage estimator, configs and metrics of its GRPO.

Needs the extra ``rvpo-jax[tunix]``, from ``register`` on. ``README.md`` in this folder shows a
whole run. ``N`` completions, groups in a row; ``M`` reward channels.
"""

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rvpo_jax.basics.plain import from_plain
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import AdvantageConfig, Channel, RiskScheduleConfig
from rvpo_jax.integrations.scored import INSTEAD, alone, judge, scored_of, whitens_over_groups
from rvpo_jax.integrations.tunix_rewards import (
    AGENTIC_NAME,
    NAME,
    AgenticRewardManager,
    LogMetrics,
    RewardManager,
)
from rvpo_jax.method.diagnostics import channel_metrics
from rvpo_jax.method.live_audit import make_live_audit


@functools.cache
def register() -> None:
    """Makes Tunix know the names of ``RVPOConfig`` and ``AgenticRVPOConfig``.

    Registered are the reward managers ``rvpo`` and ``rvpo-agentic`` and the advantage estimator
    ``rvpo``. The loss stays Tunix's.

    Raises:
      ModuleNotFoundError: where Tunix is not installed.
    """
    registry = _tunix("rl.function_registry")
    _tunix("rl.reward_manager").AbstractRewardManager.register(RewardManager)
    registry.register_reward_manager(NAME)(RewardManager)
    registry.register_reward_manager(AGENTIC_NAME)(AgenticRewardManager)
    registry.register_advantage_estimator(NAME)(advantage_estimator)


def bind(learner: Any) -> None:
    """Shows the rule the learner's step and batch; to be called before ``learner.train``.

    k schedules read the engine's ``global_steps``, which Tunix restores from its checkpoints, and
    whitening over the batch is compared with what the learner judges at once.

    Args:
      learner: a ``GRPOLearner`` with an ``RVPOConfig``.

    Raises:
      Refusal: when the rule would whiten over less than a batch of one update.
    """
    manager = getattr(learner, "reward_manager", None)
    if not isinstance(manager, RewardManager):
        raise Refusal(
            f"bind needs a learner with the reward manager {NAME}, got {type(learner).__name__} "
            f"with {type(manager).__name__}.",
            "Give the learner algo_config=RVPOConfig(...).",
        )
    # Its name in 0.1.7 and after.
    manager.bind(learner.rl_cluster if hasattr(learner, "rl_cluster") else learner.rl_engine)


def advantage_estimator(
    rewards: Any, num_generations: int, valid_mask: Any = None
) -> np.ndarray[Any, Any]:
    """The advantage estimator ``rvpo``.

    Args:
      rewards: ``[N]``, what the reward manager returned.
      num_generations: completions per prompt.
      valid_mask: ``[N]`` bool, completions that count; Tunix after 0.1.7 passes it. The others,
        and groups with fewer than two that count, have advantage 0.

    Returns:
      ``[N]`` float32.

    Raises:
      Refusal: on rewards of another manager, or where the rule whitens over groups and one came
        alone.
    """
    scored = scored_of(rewards)
    if num_generations != scored.group_size:
        raise Refusal(
            f"num_generations must be that of the config, {scored.group_size}, got "
            f"{num_generations}.",
            "Set it in RVPOConfig.",
        )
    return np.array(judge(scored, valid_mask).advantages, np.float32).reshape(-1)


def rvpo_metrics(
    prompts: Any, completions: Any, rewards: Any, advantages: Any, **columns: Any
) -> LogMetrics:
    """A metric function for ``metric_fns``: what the average of the channels hides.

    Names and meanings are those of a run of ours, see ``rvpo_jax.run.metrics``: pass rates, dead
    groups, weights, quiet failures, bottlenecks. Means over the completions of one call, which
    Tunix averages over the calls of a step.

    Args:
      prompts: ``N`` texts, not read.
      completions: ``N`` texts, not read.
      rewards: ``[N]``, what the reward manager returned.
      advantages: ``[N]``, what the estimator returned.
      columns: of the data, not read.

    Returns:
      A number and its reduction by name.
    """
    del prompts, completions, columns
    scored = scored_of(rewards)
    # The advantages are at hand, so it does not matter which groups are here.
    config = dataclasses.replace(scored.config, whiten="none")
    judged = judge(dataclasses.replace(scored, config=config), with_weights=True)
    used = jnp.asarray(np.asarray(advantages, np.float32).reshape(judged.aggregate.shape))
    table = scored.rewards.reshape(judged.scores.shape)
    where = jnp.asarray(~np.isnan(table))
    raw = jnp.asarray(np.nan_to_num(table), jnp.float32)
    pass_at = jnp.array([channel.pass_at for channel in scored.channels])
    audit = make_live_audit(scored.config, scored.channels)
    found = {f"reward/{name}": x for name, x in channel_metrics(raw, where, pass_at).items()}
    found |= audit(dataclasses.replace(judged, advantages=used), raw, where, scored.risk_coef)
    found["aggregate/weight"] = jnp.mean(judged.weights, axis=(0, 1))
    found["aggregate/group_mean"] = jnp.mean(judged.aggregate)
    return {name: (x, np.mean) for name, x in _named(found, scored.channels).items()}


def __getattr__(name: str) -> Any:
    """``RVPOConfig`` and ``AgenticRVPOConfig`` extend Tunix's: they need it to be installed."""
    if name == "RVPOConfig":
        return _config_class(name, "rl.grpo.grpo_learner", NAME)
    if name == "AgenticRVPOConfig":
        return _config_class(name, "rl.agentic.agentic_grpo_learner", AGENTIC_NAME)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _config_class(name: str, module: str, manager: str) -> Any:
    """Tunix's ``GRPOConfig`` of a module with our rule, which is checked where it is built."""
    base, agentic = _tunix(module).GRPOConfig, manager == AGENTIC_NAME

    def __post_init__(self: Any) -> None:
        base.__post_init__(self)
        self.advantage, self.risk = checked_rule(self.advantage, self.risk, alone_=agentic)

    fields: list[tuple[str, Any, Any]] = [
        ("advantage_estimator", str, dataclasses.field(default=NAME)),
        ("reward_manager", str, dataclasses.field(default=manager)),
        ("advantage", Any, dataclasses.field(default=AdvantageConfig())),
        ("risk", Any, dataclasses.field(default=RiskScheduleConfig())),
    ]
    if agentic:
        fields.append(("trajectory_channel", "str | None", dataclasses.field(default=None)))
    doc = f"""Tunix's GRPOConfig with a rule of rvpo_jax.

    advantage: an AdvantageConfig, a method's name, a rule, or a mapping of fields.
    risk: a RiskScheduleConfig or a mapping: k as a function of the engine's step.
    {"trajectory_channel: name of the environment's own reward; None: it has none." * agentic}
    """
    namespace = {"__post_init__": __post_init__, "__doc__": doc, "__module__": __name__}
    return dataclasses.make_dataclass(
        name, fields, bases=(base,), namespace=namespace, kw_only=True
    )


def checked_rule(
    advantage: Any, risk: Any, *, alone_: bool
) -> tuple[AdvantageConfig, RiskScheduleConfig]:
    """The two configs of the rule, as far as Tunix can follow them.

    Args:
      advantage: whatever ``AdvantageConfig.of`` takes.
      risk: a ``RiskScheduleConfig`` or a mapping of its fields.
      alone_: whether groups arrive one at a time.

    Returns:
      Both, as dataclasses.

    Raises:
      Refusal: on what needs to know more than Tunix says.
    """
    config = AdvantageConfig.of(advantage)
    if isinstance(risk, Mapping):
        risk = from_plain(RiskScheduleConfig, risk, "risk.")
    if config.whiten == "token":
        raise Refusal(
            "advantage.whiten must not be 'token' in Tunix: its reward managers see no lengths.",
            'Use "batch", "group" or "none".',
        )
    if alone_ and whitens_over_groups(config):
        raise Refusal(alone(config), INSTEAD)
    if risk.kind in ("linear", "cosine") and risk.horizon is None:
        raise Refusal(
            f"risk.horizon must be set for kind {risk.kind} in Tunix, got None.",
            "Tunix does not tell the length of a run in global steps: give it here.",
        )
    return config, risk


def _named(found: Mapping[str, Any], channels: Sequence[Channel]) -> dict[str, float]:
    """One number per name: ``reward/mean`` of M channels is ``reward/<channel>/mean``."""
    numbers = {}
    for name, value in found.items():
        if np.ndim(value) == 0:
            numbers[name] = float(value)
            continue
        for channel, number in zip(channels, np.asarray(value), strict=True):
            room, rest = name.split("/", 1)
            full = f"{room}/{channel.name}/{rest}" if room == "reward" else f"{name}/{channel.name}"
            numbers[full] = float(number)
    return numbers


def _tunix(module: str) -> Any:
    try:
        importlib.import_module("tunix")
    except ModuleNotFoundError as error:
        if error.name != "tunix":
            raise
        raise ModuleNotFoundError(
            "rvpo_jax.integrations.tunix needs Tunix, which is not installed.\n"
            "  Install it: pip install 'rvpo-jax[tunix]'",
            name="tunix",
        ) from error
    return importlib.import_module(f"tunix.{module}")
