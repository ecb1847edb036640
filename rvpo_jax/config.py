"""The frozen configuration tree of a run, validated where it is built. Standard library only.

Every field has a type, a default and one line with its unit. A run is a Python function that
returns a ``Config``; ``cli.py`` overrides fields from the command line. ``M`` reward channels.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

METHODS = ("rvpo", "variance", "hard_min", "gdpo", "gdpo_sum", "grpo", "rvpo_level")
Method = Literal["rvpo", "variance", "hard_min", "gdpo", "gdpo_sum", "grpo", "rvpo_level"]
if TYPE_CHECKING:
    MethodOrFunction = Method | Callable[..., Any]
else:  # the command line offers the names only; Python code may pass a function
    MethodOrFunction = Method


def _check(ok: bool, problem: str, remedy: str) -> None:
    if not ok:
        raise ValueError(f"{problem}\n  {remedy}")


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    _check(
        isinstance(value, str) and value in choices,
        f"{field} must be one of {', '.join(choices)}, got {value!r}.",
        "Choose one of these names.",
    )


def _check_positive(**fields: float) -> None:
    for name, value in fields.items():
        name = name.replace("__", ".")
        _check(value > 0, f"{name} must be > 0, got {value}.", "Give a positive number.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
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
        _check_choice(f"kind of channel {self.name}", self.kind, ("quality", "constraint"))
        _check(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
            f"channel {self.name} must have a finite range with low < high, "
            f"got ({self.low}, {self.high}).",
            "Declare the smallest and the largest value that the reward function can return.",
        )
        _check(
            self.low < self.pass_at <= self.high,
            f"pass_at of channel {self.name} must lie in ({self.low}, {self.high}], "
            f"got {self.pass_at}.",
            "With pass_at = low every completion would pass.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdvantageConfig:
    """How reward channels become one advantage per completion. Defaults: the paper, literally."""

    method: MethodOrFunction = "rvpo"
    """rvpo: soft minimum; rvpo_level: the same, channels of a low level weigh more (ours);
    variance: mean - beta * variance; hard_min; gdpo: mean of standardised channels; gdpo_sum:
    their sum (GDPO's own formula); grpo: sum of raw channels, standardised.
    In Python also a function ``[B, G, M] -> [B, G]`` of the standardised channels."""
    risk_coef: float = 1.0
    """k of the soft minimum, 1/score: 0 is the mean, inf the minimum. May be a traced scalar."""
    variance_coef: float = 0.5
    """beta of method variance; beta = k/2 matches the soft minimum to second order."""
    level_coef: float = 10.0
    """c of method rvpo_level, 1/level: a channel's weight falls by exp(-c) over its range; 0 is
    rvpo."""
    weights: Mapping[str, float] | tuple[float, ...] | None = None
    """Importance of each channel inside the aggregator, by name or in channel order, >= 0."""
    ddof: Literal[0, 1] = 1
    """1: sample standard deviation of a group (GDPO); 0: population."""
    eps: float = 1e-6
    """Added to the standard deviation of a group, in reward units."""
    dead_channels: Literal["keep", "drop"] = "keep"
    """A channel that is constant within its group: keep with score 0 (paper), or drop it."""
    recenter: bool = False
    """Subtract the group's mean from the aggregate before whitening (a soft minimum's is < 0)."""
    whiten: Literal["batch", "token", "group", "none"] = "batch"
    """Statistics of the final standardisation: all completions of the batch, the same weighted by
    completion length, each group on its own, or no standardisation."""
    whiten_eps: float = 1e-6
    """Added in the final standardisation, to what whiten_eps_on says."""
    whiten_eps_on: Literal["std", "variance"] = "std"
    """std: (A - mean) / (std + eps); variance: (A - mean) / sqrt(variance + eps)."""

    def __post_init__(self) -> None:
        if not callable(self.method) and not hasattr(self.method, "apply"):
            _check_choice("advantage.method", self.method, METHODS)
        for name in ("risk_coef", "variance_coef", "level_coef"):
            value = getattr(self, name)
            if isinstance(value, (int, float)):  # a traced scalar is checked by nobody
                _check(
                    value >= 0,
                    f"advantage.{name} must be >= 0, got {value}.",
                    "0 ignores levels; a negative value would serve what is already easy."
                    if name == "level_coef"
                    else "0 is the plain mean; a negative value would reward disagreement.",
                )
        if isinstance(self.level_coef, (int, float)):
            _check(
                math.isfinite(self.level_coef),
                f"advantage.level_coef must be finite, got {self.level_coef}.",
                "5 to 20 is usual.",
            )
        if isinstance(self.variance_coef, (int, float)):
            _check(
                math.isfinite(self.variance_coef),
                f"advantage.variance_coef must be finite, got {self.variance_coef}.",
                "The limit is no aggregator: use method hard_min.",
            )
        _check_choice("advantage.dead_channels", self.dead_channels, ("keep", "drop"))
        _check_choice("advantage.whiten_eps_on", self.whiten_eps_on, ("std", "variance"))
        _check(
            self.ddof in (0, 1), f"advantage.ddof must be 0 or 1, got {self.ddof}.", "GDPO has 1."
        )
        for name in ("eps", "whiten_eps"):
            value = getattr(self, name)
            _check(value >= 0, f"advantage.{name} must be >= 0, got {value}.", "1e-6 is usual.")
        if self.weights is not None:
            weights = self.weights
            values = list(weights.values() if isinstance(weights, Mapping) else weights)
            _check(
                all(math.isfinite(w) and w >= 0 for w in values)
                # By name the others weigh 1; with_channels checks the whole again.
                and (isinstance(weights, Mapping) or sum(values) > 0),
                f"advantage.weights must be finite, >= 0 and not all 0, got {self.weights}.",
                "Only their ratios matter.",
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
            _check(
                not unknown,
                f"advantage.weights names unknown channel(s): {', '.join(unknown)}.",
                f"The channels of this run are: {', '.join(names)}.",
            )
            ordered = tuple(float(self.weights.get(name, 1.0)) for name in names)
            return dataclasses.replace(self, weights=ordered)
        _check(
            len(self.weights) == len(names),
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
        _check_choice("preset", name, tuple(PRESETS))
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
class RiskScheduleConfig:
    """The risk coefficient k as a function of the step."""

    kind: Literal["constant", "linear", "cosine", "piecewise"] = "constant"
    """constant: advantage.risk_coef; linear, cosine: start to end; piecewise: points."""
    start: float = 0.5
    """k at step 0 of linear and cosine, 1/score (the paper's rubric tasks: 0.5)."""
    end: float = 2.0
    """k from the end of the horizon on, 1/score (the paper's rubric tasks: 2.0)."""
    horizon: int | None = None
    """Steps from start to end; None: the whole run."""
    points: tuple[tuple[int, float], ...] = ()
    """(step, k) pairs of piecewise, joined by straight lines and held at both ends."""

    def __post_init__(self) -> None:
        _check_choice("risk.kind", self.kind, ("constant", "linear", "cosine", "piecewise"))
        for value in (self.start, self.end, *(k for _, k in self.points)):
            _check(
                math.isfinite(value) and value >= 0,
                f"risk schedule values must be finite and >= 0, got {value}.",
                "k is 1/score: 0 is the plain mean.",
            )
        if self.horizon is not None:
            _check_positive(risk__horizon=self.horizon)
        steps = [step for step, _ in self.points]
        if self.kind == "piecewise":
            _check(
                len(steps) >= 1 and steps == sorted(set(steps)) and steps[0] >= 0,
                f"risk.points must have increasing steps >= 0, got {self.points}.",
                "For example ((0, 0.5), (100, 2.0)).",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The policy: a named size and how it is computed."""

    preset: str = "tiny"
    """Size: tiny, small, qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b, qwen2.5-14b."""
    init: Literal["auto", "warm", "leaky", "random"] = "auto"
    """Parameters at step 0: warm (the shipped start of the embedded task; it leaks the secret in 4
    of 10 answers), leaky (another one: 7 of 10), random, or auto: warm for the embedded task and
    random for other data."""
    tokenizer: Any = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the matrix products; parameters, logprobs and losses stay float32."""
    remat: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        _check_choice("model.dtype", self.dtype, ("float32", "bfloat16"))
        _check_choice("model.init", self.init, ("auto", "warm", "leaky", "random"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """What is sampled each step."""

    num_prompts: int = 16
    """B: prompts per step, over all devices."""
    group_size: int = 8
    """G: completions per prompt, at least 2."""
    max_prompt_tokens: int | None = None
    """P: longer prompts are dropped and counted; None: 128 for the embedded task, else 4096."""
    max_completion_tokens: int = 48
    """C: a completion is cut here when it has not ended."""
    temperature: float = 1.0
    """Logits are divided by it, when sampling and when logprobs are computed; > 0."""
    top_k: int = 0
    """Sample from the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with at least this probability; 1: all."""

    def __post_init__(self) -> None:
        _check_positive(
            rollout__num_prompts=self.num_prompts,
            rollout__max_completion_tokens=self.max_completion_tokens,
            rollout__temperature=self.temperature,
        )
        _check(
            self.group_size >= 2,
            f"rollout.group_size must be >= 2, got {self.group_size}.",
            "A group needs two completions to be standardised.",
        )
        if self.max_prompt_tokens is not None:
            _check_positive(rollout__max_prompt_tokens=self.max_prompt_tokens)
        _check(self.top_k >= 0, f"rollout.top_k must be >= 0, got {self.top_k}.", "0 is off.")
        _check(
            0 < self.top_p <= 1, f"rollout.top_p must lie in (0, 1], got {self.top_p}.", "1 is off."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The clipped policy-gradient loss and how a batch is walked through."""

    clip_low: float = 0.2
    """The ratio is clipped at 1 - clip_low."""
    clip_high: float = 0.2
    """The ratio is clipped at 1 + clip_high."""
    dual_clip: float | None = None
    """Bound c > 1 on the loss of a negative advantage, c * |A|; None: off."""
    kl_coef: float = 0.0
    """Weight of the KL divergence to the policy of step 0; GDPO and RVPO train with 0."""
    objective: Any = "clipped"
    extra_terms: tuple = ()
    kl_estimator: Any = "k3"
    """k1: log ratio; k2: half its square; k3: exp(-log ratio) - 1 + log ratio."""
    entropy_coef: float = 0.0
    """Weight of the policy's entropy, which is maximised."""
    denominator: Any = None
    """token: all completion tokens of the minibatch; sequence: mean over completions of their
    token mean (GRPO); constant: completions times max_completion_tokens (Dr.GRPO)."""
    ratio_level: Literal["token", "sequence"] | None = None
    """sequence: one ratio per completion, the geometric mean of its tokens' (GSPO)."""
    importance_cap: float | None = None
    """Weigh tokens by min(trainer / sampler probability, cap) where both disagree; None: off."""
    num_minibatches: int = 1
    """Optimizer updates per pass over a rollout batch; divides num_prompts / devices."""
    num_epochs: int = 1
    """Passes over a rollout batch."""
    microbatch_size: int | None = 4
    """Prompts per device whose gradients are computed at once and then added up, to save memory
    (and time, on a CPU); None: the whole minibatch."""

    def __post_init__(self) -> None:
        _check(
            0 <= self.clip_low < 1,
            f"loss.clip_low must lie in [0, 1), got {self.clip_low}.",
            "PPO has 0.2.",
        )
        _check(
            self.clip_high >= 0, f"loss.clip_high must be >= 0, got {self.clip_high}.", "PPO: 0.2."
        )
        if self.dual_clip is not None:
            _check(
                self.dual_clip > 1, f"loss.dual_clip must be > 1, got {self.dual_clip}.", "Often 3."
            )
        if self.importance_cap is not None:
            _check_positive(loss__importance_cap=self.importance_cap)
        _check(
            self.kl_coef >= 0, f"loss.kl_coef must be >= 0, got {self.kl_coef}.", "0 turns it off."
        )
        _check_positive(
            loss__num_minibatches=self.num_minibatches,
            loss__num_epochs=self.num_epochs,
        )
        if self.microbatch_size is not None:
            _check_positive(loss__microbatch_size=self.microbatch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer."""

    name: Literal["adamw", "sgd"] = "adamw"
    """sgd is plain gradient descent, for tests."""
    learning_rate: float = 5e-4
    """Peak learning rate (for the tiny policy; 1e-6 is usual for billions of parameters)."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """After the warmup: hold, or decay to 0 at the end of the run."""
    warmup_steps: int = 0
    """Optimizer updates of linear warmup from 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay of adamw."""
    b1: float = 0.9
    """adamw: decay of the first moment."""
    b2: float = 0.99
    """adamw: decay of the second moment."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this global norm; inf: never."""

    def __post_init__(self) -> None:
        _check_choice("optim.name", self.name, ("adamw", "sgd"))
        _check_choice("optim.schedule", self.schedule, ("constant", "cosine", "linear"))
        _check_positive(
            optim__learning_rate=self.learning_rate, optim__max_grad_norm=self.max_grad_norm
        )
        for name in ("warmup_steps", "weight_decay"):
            value = getattr(self, name)
            _check(value >= 0, f"optim.{name} must be >= 0, got {value}.", "0 turns it off.")
        for name in ("b1", "b2"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"optim.{name} must lie in [0, 1), got {value}.", "Usual: 0.9.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where prompts come from and which rewards judge the completions."""

    source: str = "embedded"
    """embedded: the built-in tool-calling task; else a .jsonl or .parquet file of your rows."""
    rewards: tuple[str, ...] = ()
    """Reward functions by name, or FILE.py:FUNCTION; empty: those of the embedded task."""
    prompt_column: str = "prompt"
    """Column with the prompt: a text or a list of {role, content} messages."""
    eval_frac: float = 0.1
    """Share of a file's rows that is held out for evaluation."""
    on_reward_error: Literal["raise", "skip"] = "raise"
    """A reward function that raises: stop the run, or count the completion as not scored."""
    reward_threads: int = 4
    """Reward functions that run at the same time."""

    def __post_init__(self) -> None:
        _check(
            0 < self.eval_frac < 1,
            f"data.eval_frac must lie in (0, 1), got {self.eval_frac}.",
            "0.1 keeps a tenth of the rows for evaluation.",
        )
        _check(
            self.source == "embedded" or len(self.rewards) > 0,
            f"data.rewards must name the reward functions for data.source {self.source}.",
            "For ToolRL's rules: --data.rewards toolrl_format toolrl_correctness.",
        )
        _check(
            len(set(self.rewards)) == len(self.rewards),
            f"data.rewards has a name twice: {', '.join(self.rewards)}.",
            "Each reward function is one channel.",
        )
        _check_choice("data.on_reward_error", self.on_reward_error, ("raise", "skip"))
        _check_positive(data__reward_threads=self.reward_threads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation on held-out prompts, one sampled completion each."""

    num_prompts: int = 256
    """Held-out prompts per evaluation."""
    every: int = 0
    """Steps between evaluations; 0: only at the start and at the end."""

    def __post_init__(self) -> None:
        _check_positive(eval__num_prompts=self.num_prompts)
        _check(self.every >= 0, f"eval.every must be >= 0, got {self.every}.", "0 is off.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved."""

    every: int = 50
    """Steps between checkpoints; the last step is always saved."""
    keep: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        _check_positive(checkpoint__every=self.every, checkpoint__keep=self.keep)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is written beside metrics.jsonl, which is always written."""

    every: int = 1
    """Steps between lines of metrics.jsonl."""
    console_every: int = 10
    """Steps between lines on a console that is not a terminal."""
    samples_every: int = 50
    """Steps between entries of samples.jsonl; 0: none."""
    num_samples: int = 4
    """Completions per entry of samples.jsonl."""
    rollouts: Literal["texts", "rewards", "none"] = "texts"
    """rollouts/, a Parquet file per step with every completion, its rewards and its advantage:
    with the texts, without them, or not at all."""
    audit_every: int = 10
    """Steps between comparisons with other rules."""
    audit: bool = True
    """Write audit.html and audit.json at the end of the run; they read rollouts/."""
    sinks: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Further sinks of the metrics; they need the extra rvpo-jax[log]."""

    def __post_init__(self) -> None:
        _check_positive(log__every=self.every, log__console_every=self.console_every)
        for name in ("samples_every", "num_samples"):
            value = getattr(self, name)
            _check(value >= 0, f"log.{name} must be >= 0, got {value}.", "0 is off.")
        _check_choice("log.rollouts", self.rollouts, ("texts", "rewards", "none"))
        _check(
            self.rollouts != "none" or not self.audit,
            "log.audit reads the files that log.rollouts none leaves out.",
            "Give log.rollouts texts or rewards, or turn log.audit off.",
        )
        for sink in self.sinks:
            _check_choice("log.sinks", sink, ("tensorboard", "wandb"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How the step runs on several devices."""

    impl: Literal["pmap", "shard_map", "jit"] = "pmap"
    """pmap or shard_map over all local devices; jit: one device."""
    num_devices: int | None = None
    """Local devices to use; None: all of them."""

    def __post_init__(self) -> None:
        _check_choice("parallel.impl", self.impl, ("pmap", "shard_map", "jit"))
        if self.num_devices is not None:
            _check_positive(parallel__num_devices=self.num_devices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
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
    steps: int = 200
    """Rollout batches to train on."""
    seed: int = 0
    """The one seed: data order, sampling and random initialisation."""

    def __post_init__(self) -> None:
        _check_positive(steps=self.steps)
        _check(
            0 <= self.seed < 2**32, f"seed must lie in [0, 2**32), got {self.seed}.", "0 is fine."
        )
        _check(
            self.rollout.num_prompts % self.loss.num_minibatches == 0,
            f"rollout.num_prompts = {self.rollout.num_prompts} must be divisible by "
            f"loss.num_minibatches = {self.loss.num_minibatches}.",
            "Groups are never split: change one of the two.",
        )
        _check(
            self.model.init in ("auto", "random") or self.data.source == "embedded",
            f"model.init {self.model.init} belongs to data.source embedded, "
            f"got {self.data.source}.",
            "Use model.init random.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of what JSON can hold; a function becomes its qualified name.

        >>> Config().to_dict()["rollout"]["group_size"]
        8
        """
        return _to_plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The config that ``to_dict`` wrote; a method that was a function cannot come back.

        Args:
          values: nested dictionaries, every field optional.

        Returns:
          The config.

        Raises:
          ValueError: on an unknown field or a bad value.

        >>> Config.from_dict({"optim": {"max_grad_norm": "inf"}}).optim.max_grad_norm
        inf
        """
        return _from_plain(cls, values, "")


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in value]
    if callable(value):
        bound = getattr(value, "keywords", {})  # of functools.partial
        function = getattr(value, "func", value)
        return f"{function.__module__}:{function.__qualname__}" + (f" {bound}" if bound else "")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value


def _from_plain(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field.default for field in dataclasses.fields(cls)}
    given = {}
    for name, value in values.items():
        _check(
            name in fields,
            f"unknown config field {prefix}{name}.",
            f"{prefix or 'The config '}has: {', '.join(fields)}.",
        )
        default = fields[name]
        if dataclasses.is_dataclass(default):
            given[name] = _from_plain(type(default), value, f"{prefix}{name}.")
        elif isinstance(value, list):
            given[name] = _to_tuple(value)
        else:
            given[name] = math.inf if value == "inf" else value
    return cls(**given)


def _to_tuple(value: Any) -> Any:
    return tuple(_to_tuple(item) for item in value) if isinstance(value, list) else value
