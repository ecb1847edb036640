"""SIMULATED Tunix: the part of its surface that rvpo_jax.integrations.tunix touches.

Signatures of google-tunix 0.1.7, and, for ``newer=True``, of its main branch after that, whose
estimators take ``valid_mask`` and whose learners call their cluster ``rl_engine``. The installed
Tunix is tested in tests/peers/test_tunix.py; the newer one is not published, so only here.
"""

import dataclasses
import sys
import types
from types import SimpleNamespace

import numpy as np


@dataclasses.dataclass(slots=True, kw_only=True)
class AlgorithmConfig:
    advantage_estimator: str = "grpo"
    reward_manager: str = "sequence-level"


@dataclasses.dataclass(kw_only=True)
class GRPOConfig(AlgorithmConfig):
    num_generations: int = 2
    beta: float = 0.04

    def __post_init__(self):
        if self.num_generations <= 1:
            raise ValueError("num_generations must be greater than 1.")


@dataclasses.dataclass(kw_only=True)
class AgenticGRPOConfig(GRPOConfig):
    reward_manager: str = "agentic-sequence-level"


class AbstractRewardManager:
    registered: list = []

    @classmethod
    def register(cls, manager):
        cls.registered.append(manager)


def install(monkeypatch):
    """Puts the modules where Tunix's would be; returns the registry, ``{category: {name: f}}``."""
    registry = {"reward_manager": {}, "advantage_estimator": {}}

    def register_in(category):
        def register(name):
            return lambda thing: registry[category].setdefault(name, thing)

        return register

    modules = {
        "tunix": {},
        "tunix.rl": {},
        "tunix.rl.function_registry": {
            f"register_{category}": register_in(category) for category in registry
        },
        "tunix.rl.reward_manager": {"AbstractRewardManager": AbstractRewardManager},
        "tunix.rl.grpo": {},
        "tunix.rl.grpo.grpo_learner": {"GRPOConfig": GRPOConfig},
        "tunix.rl.agentic": {},
        "tunix.rl.agentic.agentic_grpo_learner": {"GRPOConfig": AgenticGRPOConfig},
    }
    for name, attributes in modules.items():
        module = types.ModuleType(name)
        vars(module).update(attributes, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)
    return registry


def make_engine(*, global_steps=0, **sizes):
    """A cluster with its step and the sizes of its training config."""
    names = ("mini", "train_micro", "rollout_micro", "compute_logps_micro")
    training = {f"{name}_batch_size": sizes.get(name) for name in names}
    return SimpleNamespace(
        global_steps=global_steps,
        cluster_config=SimpleNamespace(training_config=SimpleNamespace(**training)),
    )


class Learner:
    """Judges one batch as ``GRPOLearner`` does: manager, estimator, metric functions."""

    def __init__(self, registry, engine, algo_config, reward_fns, metric_fns=(), *, newer=False):
        self.algo_config, self.metric_fns, self.newer = algo_config, metric_fns, newer
        setattr(self, "rl_engine" if newer else "rl_cluster", engine)
        make = registry["reward_manager"][algo_config.reward_manager]
        self.reward_manager = make(reward_fns=reward_fns, algo_config=algo_config)
        self.estimator = registry["advantage_estimator"][algo_config.advantage_estimator]

    def judge(self, prompts, completions, *, mode="train", valid_mask=None, **columns):
        """Advantages ``[N]`` and the metrics of the step."""
        info = self.reward_manager(prompts=prompts, completions=completions, mode=mode, **columns)
        masked = {"valid_mask": valid_mask} if self.newer else {}
        advantages = self.estimator(
            rewards=info["rewards"], num_generations=self.algo_config.num_generations, **masked
        )
        metrics = dict(info["log_metrics"])
        metrics["rewards/score/mean"] = (np.mean(info["rewards"]), np.mean)
        for function in self.metric_fns:
            metrics |= function(
                prompts=prompts,
                completions=completions,
                rewards=info["rewards"],
                advantages=advantages,
                **columns,
            )
        return advantages, metrics
