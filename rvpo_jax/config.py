"""The frozen configuration tree of a run, validated where it is built. Standard library only.

Every field has a type, a default and one line with its unit. A run is a Python function that
returns a ``Config``; ``cli.py`` overrides fields from the command line. ``M`` reward channels.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Protocol

from rvpo_jax.basics.bounds import (
    Bound,
    Checked,
    OneOf,
    check_choice,
    is_function,
    shown,
)
from rvpo_jax.basics.plain import from_plain, to_plain
from rvpo_jax.basics.refusals import Refusal

Function = Callable[..., Any]
Positive = Bound(gt=0, hint="Give a positive number.")
OrOff = Bound(ge=0, hint="0 turns it off.")
Eps = Bound(ge=0, hint="1e-6 is usual.")
Risk = Bound(ge=0, hint="k is 1/score: 0 is the plain mean.")
Decay = Bound(ge=0, lt=1, hint="Usual: 0.9.")
Weight = Annotated[float, Bound(ge=0, hint="Only their ratios matter.")]


class SupportsApply(Protocol):
    """A rule of the user's: ``rvpo_jax.method.rules.Rule`` and what looks like it."""

    @property
    def apply(self) -> Function:
        """Scores and state in, aggregate and state out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel(Checked):
    """What a reward channel is: its name, the range of its values and when it counts as met."""

    name: str
    """Name in logs and plots."""
    low: float = 0.0
    """Smallest possible raw value, in the unit of the channel."""
    high: float = 1.0
    """Largest possible raw value, in the unit of the channel."""
    pass_at: float = 1.0
    """Raw value from which the channel counts as met."""
    kind: Literal["quality", "constraint"] = "quality"
    """A constraint must be met; a quality is better when it is higher."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refusal(
                f"channel {self.name} must have a finite range with low < high, "
                f"got ({self.low}, {self.high}).",
                "Declare the smallest and the largest value that the reward function can return.",
            )
        if not self.low < self.pass_at <= self.high:
            raise Refusal(
                f"pass_at of channel {self.name} must lie in ({self.low}, {self.high}], "
                f"got {self.pass_at}.",
                "With pass_at = low every completion would pass.",
            )

    def _user_name(self, field: str) -> str:
        return f"{field} of channel {self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdvantageConfig(Checked, section="advantage"):
    """How reward channels become one advantage per completion. Defaults: the paper, literally."""

    method: Annotated[
        str | Function | SupportsApply, OneOf("rvpo_jax.method.aggregators:METHODS")
    ] = "rvpo"
    """rvpo: soft minimum; rvpo_level: the same, channels of a low level weigh more (ours);
    variance: mean - beta * variance; hard_min; gdpo: mean of standardised channels; gdpo_sum:
    their sum (GDPO's own formula); grpo: sum of raw channels, standardised.
    In Python also a rule: a function ``[B, G, M] -> [B, G]`` of the standardised channels, or a
    pair ``init``, ``apply``."""
    risk_coef: Annotated[float, Bound(ge=0, finite=False, hint=Risk.hint)] = 1.0
    """k of the soft minimum, 1/score: 0 is the mean, inf the minimum. May be a traced scalar."""
    variance_coef: Annotated[
        float, Bound(ge=0, hint="0 is the plain mean; the limit is method hard_min.")
    ] = 0.5
    """beta of method variance; beta = k/2 matches the soft minimum to second order."""
    level_coef: Annotated[float, Bound(ge=0, hint="0 ignores levels; 5 to 20 is usual.")] = 10.0
    """c of method rvpo_level, 1/level: a channel's weight falls by exp(-c) over its range; 0 is
    rvpo."""
    weights: Mapping[str, Weight] | tuple[Weight, ...] | None = None
    """Importance of each channel inside the aggregator, by name or in channel order, >= 0."""
    ddof: Literal[0, 1] = 1
    """1: sample standard deviation of a group (GDPO); 0: population."""
    eps: Annotated[float, Eps] = 1e-6
    """Added to the standard deviation of a group, in reward units."""
    dead_channels: Literal["keep", "drop"] = "keep"
    """A channel that is constant within its group: keep with score 0 (paper), or drop it."""
    recenter: bool = False
    """Subtract the group's mean from the aggregate before whitening (a soft minimum's is < 0)."""
    whiten: Annotated[str | Function, OneOf("rvpo_jax.method.advantages:WHITENINGS")] = "batch"
    """Statistics of the final standardisation: all completions of the batch, the same weighted by
    completion length, each group on its own, or no standardisation."""
    whiten_eps: Annotated[float, Eps] = 1e-6
    """Added in the final standardisation, to what whiten_eps_on says."""
    whiten_eps_on: Literal["std", "variance"] = "std"
    """std: (A - mean) / (std + eps); variance: (A - mean) / sqrt(variance + eps)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # By name the others weigh 1; with_channels checks the whole again.
        if isinstance(self.weights, tuple) and not sum(self.weights) > 0:
            raise Refusal(
                f"advantage.weights must be finite, >= 0 and not all 0, got {self.weights}.",
                "Only their ratios matter.",
            )

    @classmethod
    def of(cls, value: Any) -> "AdvantageConfig":
        """The config that a value stands for.

        Args:
          value: a config; the name of a method; a rule; a mapping of fields.

        Returns:
          The config.

        Raises:
          Refusal: on anything else, or a bad name or field.

        >>> AdvantageConfig.of("gdpo").method, AdvantageConfig.of({"risk_coef": 2}).risk_coef
        ('gdpo', 2.0)
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            return from_plain(cls, value, "advantage.")
        # A class is callable, and no rule: AdvantageConfig without its brackets.
        if isinstance(value, str) or (is_function(value) and not isinstance(value, type)):
            return cls(method=value)
        raise Refusal(
            "an advantage config must be an AdvantageConfig, the name of a method, a rule or a "
            f"mapping of fields, got {shown(value)}.",
            'For example AdvantageConfig(method="gdpo").',
        )

    def with_channels(self, names: tuple[str, ...]) -> "AdvantageConfig":
        """This config with weights in the order of ``names``; unnamed channels weigh 1.

        >>> AdvantageConfig(weights={"b": 3.0}).with_channels(("a", "b")).weights
        (1.0, 3.0)
        """
        if self.weights is None:
            return self
        if isinstance(self.weights, Mapping):
            unknown = [name for name in self.weights if name not in names]
            if unknown:
                raise Refusal(
                    f"advantage.weights names unknown channel(s): {', '.join(unknown)}.",
                    f"The channels of this run are: {', '.join(names)}.",
                )
            ordered = tuple(float(self.weights.get(name, 1.0)) for name in names)
            return dataclasses.replace(self, weights=ordered)
        if len(self.weights) != len(names):
            raise Refusal(
                f"advantage.weights has {len(self.weights)} values for {len(names)} channels: "
                f"{', '.join(names)}.",
                "Give one per channel, or weights by name.",
            )
        return self

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "AdvantageConfig":
        """The conventions of a named system; ``overrides`` change single fields.

        ``paper``: RVPO with GDPO's conventions. ``trl``, ``verl``, ``nemo``: GDPO as these
        trainers compute it (weighted sum of scores, then their own whitening).
        ``preset("trl", method="rvpo")`` is RVPO under TRL's conventions.

        >>> AdvantageConfig.preset("trl").eps
        0.0001
        """
        check_choice("preset", name, tuple(PRESETS))
        return cls(**{**PRESETS[name], **overrides})


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # TRL multi_objective_aggregation="normalize_then_sum": eps 1e-4 twice, over samples.
    "trl": {"method": "gdpo_sum", "eps": 1e-4, "whiten_eps": 1e-4},
    # verl adv_estimator=gdpo: masked_whiten over tokens, rsqrt(variance + 1e-8).
    "verl": {
        "method": "gdpo_sum",
        "whiten": "token",
        "whiten_eps": 1e-8,
        "whiten_eps_on": "variance",
    },
    # NeMo-RL with its GDPO recipe (leave-one-out baseline off): no eps in the last division.
    "nemo": {"method": "gdpo_sum", "whiten_eps": 0.0},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RiskScheduleConfig(Checked, section="risk"):
    """The risk coefficient k as a function of the step."""

    kind: Annotated[str | Function, OneOf("rvpo_jax.method.schedules:SCHEDULES")] = "constant"
    """constant: advantage.risk_coef; linear, cosine: start to end; piecewise: points.
    In Python also a function step -> k."""
    start: Annotated[float, Risk] = 0.5
    """k at step 0 of linear and cosine, 1/score (the paper's rubric tasks: 0.5)."""
    end: Annotated[float, Risk] = 2.0
    """k from the end of the horizon on, 1/score (the paper's rubric tasks: 2.0)."""
    horizon: Annotated[int | None, Positive] = None
    """Steps from start to end; None: the whole run."""
    points: tuple[tuple[int, Annotated[float, Risk]], ...] = ()
    """(step, k) pairs of piecewise, joined by straight lines and held at both ends."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = [step for step, _ in self.points]
        increasing = len(steps) >= 1 and steps == sorted(set(steps)) and steps[0] >= 0
        if self.kind == "piecewise" and not increasing:
            raise Refusal(
                f"risk.points must have increasing steps >= 0, got {self.points}.",
                "For example ((0, 0.5), (100, 2.0)).",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked, section="model"):
    """The policy: a named size and how it is computed."""

    preset: str = "tiny"
    """Size: tiny, small, qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b, qwen2.5-14b."""
    init: Literal["auto", "warm", "leaky", "random"] = "auto"
    """Parameters at step 0: warm (the shipped start of the embedded task; it leaks the secret in 4
    of 10 answers), leaky (another one: 7 of 10), random, or auto: warm for the embedded task and
    random for other data."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the matrix products; parameters, logprobs and losses stay float32."""
    remat: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked, section="rollout"):
    """What is sampled each step."""

    num_prompts: Annotated[int, Positive] = 16
    """B: prompts per step, over all devices."""
    group_size: Annotated[
        int, Bound(ge=2, hint="A group needs two completions to be standardised.")
    ] = 8
    """G: completions per prompt, at least 2."""
    max_prompt_tokens: Annotated[int | None, Positive] = None
    """P: longer prompts are dropped and counted; None: 128 for the embedded task, else 4096."""
    max_completion_tokens: Annotated[int, Positive] = 48
    """C: a completion is cut here when it has not ended."""
    temperature: Annotated[float, Positive] = 1.0
    """Logits are divided by it, when sampling and when logprobs are computed; > 0."""
    top_k: Annotated[int, OrOff] = 0
    """Sample from the k most likely tokens; 0: all."""
    top_p: Annotated[float, Bound(gt=0, le=1, hint="1 is off.")] = 1.0
    """Sample from the smallest set of tokens with at least this probability; 1: all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked, section="loss"):
    """The policy-gradient loss and how a batch is walked through."""

    objective: Annotated[str | Function, OneOf("rvpo_jax.method.losses:OBJECTIVES")] = "clipped"
    """clipped: PPO's clipped surrogate; gspo: one ratio per completion; cispo: clipped weights,
    gradient through every token; dr_grpo: clipped with a constant denominator; reinforce: plain
    policy gradient. In Python also a function of log_ratio ``[B, G, C]``, advantages ``[B, G]``
    and weights ``[B, G, C]`` that returns a sum; it may name clip_low, clip_high, dual_clip and
    completion_mask."""
    extra_terms: tuple[Function, ...] = ()
    """Python only: further terms of the loss, functions of logprobs, entropy, reference, masks."""
    clip_low: Annotated[float, Bound(ge=0, lt=1, hint="PPO has 0.2.")] = 0.2
    """The ratio is clipped at 1 - clip_low."""
    clip_high: Annotated[float, Bound(ge=0, finite=False, hint="PPO has 0.2.")] = 0.2
    """The ratio is clipped at 1 + clip_high."""
    dual_clip: Annotated[float | None, Bound(gt=1, finite=False, hint="Often 3.")] = None
    """Bound c > 1 on the loss of a negative advantage, c * |A|; None: off."""
    kl_coef: Annotated[float, OrOff] = 0.0
    """Weight of the KL divergence to the policy of step 0; GDPO and RVPO train with 0."""
    kl_estimator: Annotated[str | Function, OneOf("rvpo_jax.method.losses:KL_ESTIMATORS")] = "k3"
    """k1: log ratio; k2: half its square; k3: exp(-log ratio) - 1 + log ratio."""
    entropy_coef: Annotated[float, Bound(hint="0 turns it off.")] = 0.0
    """Weight of the policy's entropy, which is maximised."""
    denominator: Annotated[str | Function | None, OneOf("rvpo_jax.method.losses:DENOMINATORS")] = (
        None
    )
    """token: all completion tokens of the minibatch; sequence: mean over completions of their
    token mean (GRPO); constant: completions times max_completion_tokens (Dr.GRPO); None: the
    objective's own (gspo: sequence; dr_grpo: constant; else token)."""
    ratio_level: Literal["token", "sequence"] | None = None
    """sequence: one ratio per completion, the geometric mean of its tokens' (GSPO); None: the
    objective's own (gspo: sequence; else token)."""
    importance_cap: Annotated[
        float | None, Bound(gt=0, finite=False, hint="Give a positive number.")
    ] = None
    """Weigh tokens by min(trainer / sampler probability, cap) where both disagree; None: off."""
    num_minibatches: Annotated[int, Positive] = 1
    """Optimizer updates per pass over a rollout batch; divides num_prompts / devices."""
    num_epochs: Annotated[int, Positive] = 1
    """Passes over a rollout batch."""
    microbatch_size: Annotated[int | None, Positive] = 4
    """Prompts per device whose gradients are computed at once and then added up, to save memory
    (and time, on a CPU); None: the whole minibatch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked, section="optim"):
    """The optimizer."""

    name: Literal["adamw", "sgd"] = "adamw"
    """sgd is plain gradient descent, for tests."""
    learning_rate: Annotated[float, Positive] = 5e-4
    """Peak learning rate (for the tiny policy; 1e-6 is usual for billions of parameters)."""
    schedule: Literal["constant", "cosine", "linear"] | Function = "constant"
    """After the warmup: hold, or decay to 0 at the end of the run.
    In Python also a function update -> learning rate, in place of all of these."""
    warmup_steps: Annotated[int, OrOff] = 0
    """Optimizer updates of linear warmup from 0."""
    weight_decay: Annotated[float, OrOff] = 0.0
    """Decoupled weight decay of adamw."""
    b1: Annotated[float, Decay] = 0.9
    """adamw: decay of the first moment."""
    b2: Annotated[float, Decay] = 0.99
    """adamw: decay of the second moment."""
    max_grad_norm: Annotated[float, Bound(gt=0, finite=False, hint=Positive.hint)] = 1.0
    """The gradient is scaled down to this global norm; inf: never."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Checked, section="data"):
    """Where prompts come from and which rewards judge the completions."""

    source: str = "embedded"
    """embedded: the built-in tool-calling task; else a .jsonl or .parquet file of your rows."""
    rewards: tuple[str | Function, ...] = ()
    """Reward functions by name, or FILE.py:FUNCTION; empty: those of the embedded task.
    In Python also the functions themselves."""
    prompt_column: str = "prompt"
    """Column with the prompt: a text or a list of {role, content} messages."""
    eval_frac: Annotated[
        float, Bound(gt=0, lt=1, hint="0.1 keeps a tenth of the rows for evaluation.")
    ] = 0.1
    """Share of a file's rows that is held out for evaluation."""
    on_reward_error: Literal["raise", "skip"] = "raise"
    """A reward function that raises: stop the run, or count the completion as not scored."""
    reward_threads: Annotated[int, Positive] = 4
    """Reward functions that run at the same time."""

    def __post_init__(self) -> None:
        if isinstance(self.source, os.PathLike):
            object.__setattr__(self, "source", os.fspath(self.source))
        super().__post_init__()
        if self.source != "embedded" and not self.rewards:
            raise Refusal(
                f"data.rewards must name the reward functions for data.source {self.source}.",
                "For ToolRL's rules: --data.rewards toolrl_format toolrl_correctness.",
            )
        twice = [name for name in self.rewards if self.rewards.count(name) > 1]
        if twice:
            raise Refusal(
                f"data.rewards has a name twice: {', '.join(map(str, self.rewards))}.",
                "Each reward function is one channel.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(Checked, section="eval"):
    """Evaluation on held-out prompts, one sampled completion each."""

    num_prompts: Annotated[int, Positive] = 256
    """Held-out prompts per evaluation."""
    every: Annotated[int, OrOff] = 0
    """Steps between evaluations; 0: only at the start and at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Checked, section="checkpoint"):
    """When the state is saved."""

    every: Annotated[int, Positive] = 50
    """Steps between checkpoints; the last step is always saved."""
    keep: Annotated[int, Positive] = 2
    """Newest checkpoints that are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig(Checked, section="log"):
    """What is written beside metrics.jsonl, which is always written."""

    every: Annotated[int, Positive] = 1
    """Steps between lines of metrics.jsonl."""
    console_every: Annotated[int, Positive] = 10
    """Steps between lines on a console that is not a terminal."""
    samples_every: Annotated[int, OrOff] = 50
    """Steps between entries of samples.jsonl; 0: none."""
    num_samples: Annotated[int, OrOff] = 4
    """Completions per entry of samples.jsonl."""
    rollouts: Literal["texts", "rewards", "none"] = "texts"
    """rollouts/, a Parquet file per step with every completion, its rewards and its advantage:
    with the texts, without them, or not at all."""
    audit: bool = True
    """Write audit.html and audit.json at the end of the run; they read rollouts/."""
    audit_every: Annotated[int, OrOff] = 10
    """Steps between comparisons with other rules (audit/quiet_failures/<rule>) in metrics.jsonl;
    0: none."""
    sinks: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Further sinks of the metrics; they need the extra rvpo-jax[log]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollouts == "none" and self.audit:
            raise Refusal(
                "log.audit reads the files that log.rollouts none leaves out.",
                "Give log.rollouts texts or rewards, or turn log.audit off.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Checked, section="parallel"):
    """How the step runs on several devices."""

    impl: Literal["pmap", "shard_map", "jit"] = "pmap"
    """pmap or shard_map over all local devices; jit: one device."""
    num_devices: Annotated[int | None, Positive] = None
    """Local devices to use; None: all of them."""


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
