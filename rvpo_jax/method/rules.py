"""A rule joins the channels of a completion into one number: the interface, in optax's manner.

A rule is a pair of pure functions, or a plain function of the scores. It sees the whole batch, also
on several devices, so that it may use statistics of a group or of the batch, drop completions, and
remember things from step to step.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rvpo_jax.basics.bounds import Bound
from rvpo_jax.basics.channel import Needs
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.method.binding import bind, name_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleOutput:
    """What a rule returns.

    Attributes:
      aggregate: ``[B, G]`` float, one number per completion.
      keep: ``[B, G]`` bool, completions that stay; None: all. A dropped one leaves the statistics
        of the whitening and has advantage 0; its tokens stay in the denominator of the loss unless
        the denominator asks for ``keep``.
      state: the rule's memory after this step; a rule without memory leaves it empty.
    """

    aggregate: jax.Array
    keep: jax.Array | None = None
    state: Any = ()


class Rule(NamedTuple):
    """A rule with memory, or one that drops completions.

    ``apply(scores, rule_state, *, ...)`` gets ``scores`` ``[B, G, M]`` and, by keyword, those of
    these that it names:

    * ``rewards`` ``[B, G, M]``, raw; ``lowest`` ``[B, 1, M]`` and ``shifted`` ``[B, G, M]``, which
      add up to them and keep the digits of large, nearly equal rewards
    * ``where`` ``[B, G, M]``, channels that count; ``scored``, the same with dead channels, where
      the config drops them; ``live`` ``[B, M]``, channels that vary within their group
    * ``levels`` ``[B, 1, M]``, group means on the scale of each channel's range, 0 to 1
    * ``channels``, the M channels; ``weights`` ``[M]`` or None; ``lengths`` ``[B, G]`` tokens;
      ``step`` scalar int
    * ``risk_coef``, ``variance_coef``, ``level_coef``, ``ddof``, ``eps``

    Attributes:
      init: ``num_channels -> rule_state``, a tree of arrays.
      apply: returns a ``RuleOutput``. It is called once per train step, whatever the number of
        minibatches, epochs and devices.

    >>> def init(num_channels):
    ...     return jnp.zeros(num_channels)
    >>> def apply(scores, rule_state, *, rewards):
    ...     best = jnp.maximum(rule_state, jnp.max(rewards, axis=(0, 1)))
    ...     return RuleOutput(aggregate=jnp.mean(scores, axis=-1), state=best)
    >>> Rule(init, apply).init(2).tolist()
    [0.0, 0.0]
    """

    init: Callable[[int], Any]
    apply: Callable[..., RuleOutput]


class Linear(NamedTuple):
    """A rule that is a weighted sum of the scores.

    Attributes:
      factors: ``(scores, *, ...)``, which gets what it names, to what broadcasts to ``[B, G, M]``.
        They are also who decided: the statistics that they come from count as fixed.
    """

    factors: Callable[..., jax.Array]


class Option(NamedTuple):
    """A number that one rule reads, beside the fields of ``AdvantageConfig``.

    Attributes:
      default: its value, as the rule's source has it unless the rule says otherwise.
      bound: its range.
      doc: what it is, a few words.
    """

    default: float
    bound: Bound
    doc: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A named rule: all that the package knows of it.

    Attributes:
      rule: a ``Rule``, a ``Linear``, or a function ``(scores, *, ...)`` that gets what it names and
        returns ``[B, G]`` or a ``RuleOutput``.
      label: what it is called in reports, in plain words.
      color: of its lines in figures.
      reads: the fields of ``AdvantageConfig`` that it looks at, besides ``weights``.
      needs: what it must know of the channels.
      options: further numbers that it reads, by name.
      pointwise: a completion's aggregate depends on that completion's scores alone. Its gradient is
        then one backward pass.
      weights: closed form of ``Advantages.weights``, a function like ``rule``; None: the gradient.
      whitened: its source standardises the aggregates over the batch; comparisons of rules leave
        others as they are.
    """

    rule: Rule | Linear | Callable[..., Any]
    label: str
    color: str = "#888888"
    reads: tuple[str, ...] = ()
    needs: Needs = ""
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict, hash=False)
    pointwise: bool = False
    weights: Callable[..., jax.Array] | None = None
    whitened: bool = True

    @property
    def tells_weights(self) -> bool:
        """Whether who decided comes without a backward pass for each completion."""
        return self.pointwise or self.weights is not None or isinstance(self.rule, Linear)


def method_of(rule: Any, methods: Mapping[str, Method]) -> Method:
    """The record of whatever stands where a method name is accepted.

    Args:
      rule: a name, a ``Method``, a ``Rule`` or a plain function.
      methods: the named ones.

    Returns:
      The record; one made up for a user's rule.
    """
    if isinstance(rule, Method):
        return rule
    if isinstance(rule, str):
        return methods[rule]
    return Method(rule=rule, label=rule_name(rule))


def rule_name(rule: Any) -> str:
    """How messages call a rule.

    Args:
      rule: whatever stands where a method name is accepted.

    Returns:
      Its name or label.

    >>> rule_name("rvpo"), rule_name(max)
    ('rvpo', 'max')
    """
    if isinstance(rule, str):
        return rule
    if isinstance(rule, Method):
        return rule.label
    if isinstance(rule, Linear):
        return name_of(rule.factors)
    return name_of(rule.apply if isinstance(rule, Rule) else rule)


def init_rule(method: Method, num_channels: int) -> Any:
    """The memory of a rule before the first step; empty for a rule without one.

    Args:
      method: the rule's record.
      num_channels: M.

    Returns:
      A tree of arrays.
    """
    if not isinstance(method.rule, Rule):
        return ()
    # Copies: one array in two places cannot be donated.
    return jax.tree.map(jnp.array, method.rule.init(num_channels))


def check_state(method: Method, rule_state: Any, num_channels: int) -> None:
    """Refuses a memory that belongs to another rule.

    Args:
      method: the rule's record.
      rule_state: what came.
      num_channels: M.

    Raises:
      ValueError: if ``init_rule`` makes another tree.
    """
    expected = jax.eval_shape(lambda: init_rule(method, num_channels))
    if str(jax.tree.structure(expected)) != str(jax.tree.structure(rule_state)):
        raise Refusal(
            f"rule_state must be what {rule_name(method.rule)} made, a tree "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(rule_state)}.",
            "A train step needs init_state(..., rule=RULE, num_channels=M).",
        )


def apply_rule(
    method: Method, scores: jax.Array, rule_state: Any, available: Mapping[str, Any]
) -> RuleOutput:
    """Calls a rule with what it names, and checks what it returns.

    Args:
      method: the rule's record.
      scores: ``[B, G, M]`` float32.
      rule_state: its memory, as ``init_rule`` made it.
      available: what it may name.

    Returns:
      Its output, the aggregate as float32.

    Raises:
      ValueError: if it asks for what is not there, or returns another shape.
    """
    what = "rule" if isinstance(method.rule, Rule) else "aggregator"
    if isinstance(method.rule, Rule):
        out = bind(method.rule.apply, available, what=what, leading=2, hints=HINTS)(
            scores, rule_state
        )
    elif isinstance(method.rule, Linear):
        factors = bind(method.rule.factors, available, what=what, hints=HINTS)(scores)
        out = jnp.sum(factors * scores, axis=-1)
    else:
        out = bind(method.rule, available, what=what, hints=HINTS)(scores)
    if not isinstance(out, RuleOutput):
        out = RuleOutput(aggregate=out, state=rule_state)
    name = rule_name(method.rule)
    for field, value in (("aggregate", out.aggregate), ("keep", out.keep)):
        if value is not None and jnp.shape(value) != scores.shape[:2]:
            raise Refusal(
                f"{what} {name} must map [B, G, M] = {scores.shape} to {field} [B, G] = "
                f"{scores.shape[:2]}, got {jnp.shape(value)}.",
                "Reduce the last axis only.",
            )
    given, returned = (str(jax.tree.structure(state)) for state in (rule_state, out.state))
    if given != returned:
        raise Refusal(
            f"rule {name} must return a state like the one it was given, {given}, got {returned}.",
            "Its init and its apply must agree.",
        )
    return dataclasses.replace(out, aggregate=jnp.asarray(out.aggregate, jnp.float32))


HINTS = {
    "channels": "channels need channels=[Channel(...), ...].",
    "levels": "levels need channels=[Channel(...), ...].",
    "lengths": "lengths need lengths=completion_mask.sum(-1).",
    "step": "step needs step=...; in a train step it is there.",
}


def pointwise_weights(aggregate: Callable[[jax.Array], jax.Array], scores: jax.Array) -> jax.Array:
    """Gradient of each completion's aggregate by its own scores, for a pointwise rule.

    Args:
      aggregate: ``[B, G, M] -> [B, G]``; completions do not see each other.
      scores: ``[B, G, M]`` float32.

    Returns:
      ``[B, G, M]`` float32.
    """
    value, pullback = jax.vjp(aggregate, scores)
    return pullback(jnp.ones_like(value))[0]


def own_weights(
    aggregate: Callable[[jax.Array], jax.Array], scores: jax.Array, scored: jax.Array
) -> jax.Array:
    """Who decided, for any rule: the gradient of a completion's own aggregate by its own scores.

    The diagonal of the Jacobian, not its sum over the group, which is 0 for a rule that centres.
    Less what the same change does to the average other completion of the group: a baseline, such as
    the group's mean, falls out, so that mean minus group mean has the weights of the mean. Where
    completions do not see each other it is the plain gradient.

    Args:
      aggregate: ``[B, G, M] -> [B, G]``, any function of the whole batch.
      scores: ``[B, G, M]`` float32.
      scored: ``[B, G]`` bool, completions that count.

    Returns:
      ``[B, G, M]`` float32. It takes B * G backward passes, some groups at a time.

    Source:
      Ours.

    >>> scores = jnp.array([[[1.0, 0.0], [0.0, 3.0]]])
    >>> def centered(z):
    ...     mean = jnp.mean(z, axis=-1)
    ...     return mean - jnp.mean(mean, axis=1, keepdims=True)
    >>> own_weights(centered, scores, jnp.ones((1, 2), bool)).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """
    _, pullback = jax.vjp(aggregate, scores)
    num_prompts, group_size, _ = scores.shape
    eye = jnp.eye(group_size, dtype=jnp.float32)

    def of_group(group: jax.Array) -> jax.Array:
        def row(one_hot: jax.Array) -> jax.Array:
            cotangent = jnp.zeros((num_prompts, group_size)).at[group].set(one_hot)
            return pullback(cotangent)[0][group]

        rows = jax.vmap(row)(eye)  # [G, G, M]: aggregate of the first by scores of the second
        own = jnp.einsum("iim->im", rows)
        counted = jnp.where(scored[group][:, None, None], rows, 0.0)
        others = jnp.sum(counted, axis=0) - jnp.where(scored[group][:, None], own, 0.0)
        num_others = jnp.sum(scored[group]) - scored[group]
        return own - others / jnp.maximum(num_others, 1)[:, None]

    at_once = max(MAX_ELEMENTS // (group_size * scores.size), 1)
    groups = jnp.arange(num_prompts)
    if at_once >= num_prompts:
        return jax.vmap(of_group)(groups)
    return jax.lax.map(of_group, groups, batch_size=at_once)


# Of the gradients that exist at the same time: 64 MB.
MAX_ELEMENTS = 2**24
