"""The method: channels, the rule, its schedule, the loss, the optimizer. ``M`` reward channels."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from rvpo_jax.basics.bounds import Bound, Checked, OneOf, check_choice, is_function, shown
from rvpo_jax.basics.plain import from_plain
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config.bounds import Decay, Eps, OrOff, Positive, Risk, Weight

Function = Callable[..., Any]


class Numbers(Mapping[str, float]):
    """Numbers by name that can be hashed, as configs are."""

    def __init__(self, numbers: Mapping[str, float]) -> None:
        self._numbers = dict(numbers)

    def __getitem__(self, name: str) -> float:
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __hash__(self) -> int:
        return hash(frozenset(self._numbers.items()))

    def __repr__(self) -> str:
        return repr(self._numbers)


class SupportsApply(Protocol):
    """A rule of the user's: ``rvpo_jax.method.rules.Rule`` and what looks like it."""

    @property
    def apply(self) -> Function:
        """Scores and state in, aggregate and state out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdvantageConfig(Checked, section="advantage"):
    """How reward channels become one advantage per completion. Defaults: the paper, literally."""

    method: Annotated[str | Function | SupportsApply, OneOf("rvpo_jax.method.methods:METHODS")] = (
        "rvpo"
    )
    """rvpo: soft minimum; rvpo_level: the same, channels of a low level weigh more (ours);
    variance: mean - beta * variance; hard_min; gdpo: mean of standardised channels; gdpo_sum:
    their sum (GDPO's own formula); grpo: sum of raw channels, standardised. The others are
    published rules (``rvpo_jax/method/published``); set whiten as their sources do.
    In Python also a rule: a function ``[B, G, M] -> [B, G]`` of the standardised channels, or a
    pair ``init``, ``apply``."""
    risk_coef: Annotated[float, Bound(ge=0, finite=False, hint=Risk.hint)] = 1.0
    """k of the soft minimum, 1/score: 0 is the mean, inf the minimum. Above ln(M / D) sqrt(G) /
    (G - 1) whatever alone in its group fails D of M channels is refused, spurious or not. May be a
    traced scalar."""
    variance_coef: Annotated[
        float, Bound(ge=0, hint="0 is the plain mean; the limit is method hard_min.")
    ] = 0.5
    """beta of method variance; beta = k/2 matches the soft minimum to second order."""
    level_coef: Annotated[float, Bound(ge=0, hint="0 ignores levels; 5 to 20 is usual.")] = 10.0
    """c of method rvpo_level, 1/level: a channel's weight falls by exp(-c) over its range; 0 is
    rvpo."""
    options: Mapping[str, float] | None = None
    """Numbers that only the rule in use reads, by name: gamma of sa_mrpo, tail of cvar, ..."""
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
        if self.options is not None:
            object.__setattr__(self, "options", Numbers(self.options))
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
        trainers compute it (weighted sum of scores, then their own whitening). A published rule's
        name: the rule with the whitening of its source, such as none for ``dvao``.
        ``preset("trl", method="rvpo")`` is RVPO under TRL's conventions.

        >>> AdvantageConfig.preset("trl").eps
        0.0001
        """
        check_choice("preset", name, tuple(PRESETS))
        return cls(**{**PRESETS[name], **overrides})


# GDPO's whitening in verl: masked_whiten over tokens, rsqrt(variance + 1e-8).
_VERL = {"whiten": "token", "whiten_eps": 1e-8, "whiten_eps_on": "variance"}
_AS_IS = (
    *("mo_grpo", "dvao", "corrgrpo", "gdpo_corr", "soft_and", "tchebycheff", "lagrangian"),
    *("lagrangian_after", "constrained_grpo", "tchebycheff_running", "ctwa"),
)
_BY_TOKEN = ("dara_sym", "dara_asym", "gdpo_saw", "gd2po_hard", "gd2po_snr")
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # TRL multi_objective_aggregation="normalize_then_sum": eps 1e-4 twice, over samples.
    "trl": {"method": "gdpo_sum", "eps": 1e-4, "whiten_eps": 1e-4},
    "verl": {"method": "gdpo_sum", **_VERL},  # adv_estimator=gdpo
    # NeMo-RL with its GDPO recipe (leave-one-out baseline off): no eps in the last division.
    "nemo": {"method": "gdpo_sum", "whiten_eps": 0.0},
    # Published rules with the whitening of their sources; sa_mrpo has the default one.
    "sa_mrpo": {"method": "sa_mrpo"},
    **{name: {"method": name, "whiten": "none"} for name in _AS_IS},
    **{name: {"method": name, **_VERL} for name in _BY_TOKEN},
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
    kl_estimator: Annotated[str | Function, OneOf("rvpo_jax.method.ratios:KL_ESTIMATORS")] = "k3"
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
    microbatch_tokens: Annotated[int | None, Bound(ge=32, hint="Often a few thousand.")] = None
    """Put prompts together until their completions have so many tokens, at most microbatch_size
    prompts, and pack the tokens so that no padding is computed: for lengths that differ much. At
    least group_size x max_completion_tokens; None: microbatches by prompts, padded."""


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
    moment_dtype: Literal["float32", "bfloat16"] = "float32"
    """adamw: type of the first moment; the second one stays float32."""
    max_grad_norm: Annotated[float, Bound(gt=0, finite=False, hint=Positive.hint)] = 1.0
    """The gradient is scaled down to this global norm; inf: never."""
