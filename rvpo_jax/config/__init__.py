"""The frozen configuration tree of a run, checked where it is built. Standard library only.

Every field has a type, a default and one line with its unit. A run is a Python function that
returns a ``Config``; ``cli`` overrides fields from the command line.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from rvpo_jax.basics.bounds import Bound, Checked
from rvpo_jax.basics.channel import Channel
from rvpo_jax.basics.plain import from_plain, to_plain
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config.bounds import Positive
from rvpo_jax.config.method import (
    PRESETS,
    AdvantageConfig,
    LossConfig,
    OptimConfig,
    RiskScheduleConfig,
)
from rvpo_jax.config.run import (
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    ModelConfig,
    ParallelConfig,
    RolloutConfig,
)

__all__ = [
    "PRESETS",
    "AdvantageConfig",
    "Channel",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvalConfig",
    "LogConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "ParallelConfig",
    "RiskScheduleConfig",
    "RolloutConfig",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Checked):
    """A complete run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig = RolloutConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    risk: RiskScheduleConfig = RiskScheduleConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    parallel: ParallelConfig = ParallelConfig()
    steps: Annotated[int, Positive] = 200
    """Rollout batches to train on."""
    seed: Annotated[int, Bound(ge=0, lt=2**32, hint="0 is fine.")] = 0
    """The one seed: data order, sampling and random initialisation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollout.num_prompts % self.loss.num_minibatches:
            raise Refusal(
                f"rollout.num_prompts = {self.rollout.num_prompts} must be divisible by "
                f"loss.num_minibatches = {self.loss.num_minibatches}.",
                "Groups are never split: change one of the two.",
            )
        if self.model.init not in ("auto", "random") and self.data.source != "embedded":
            raise Refusal(
                f"model.init {self.model.init} belongs to data.source embedded, "
                f"got {self.data.source}.",
                "Use model.init random.",
            )
        if self.log.profiled is not None and self.log.profiled[1] > self.steps:
            raise Refusal(
                f"log.profile must end by step {self.steps}, the number of steps, got "
                f"{self.log.profile}.",
                f"{max(self.steps - 3, 0)}:{self.steps} traces the last ones.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of what JSON can hold; a function becomes its qualified name.

        >>> Config().to_dict()["rollout"]["group_size"]
        8
        """
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The config that ``to_dict`` wrote; functions cannot come back.

        Args:
          values: nested dictionaries, every field optional.

        Returns:
          The config.

        Raises:
          Refusal: on an unknown field or a bad value.

        >>> Config.from_dict({"optim": {"max_grad_norm": "inf"}}).optim.max_grad_norm
        inf
        """
        return from_plain(cls, values)
