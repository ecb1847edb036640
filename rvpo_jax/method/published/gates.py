"""Gates: a channel counts only where others are met.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from rvpo_jax.basics.channel import Channel
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.method.aggregators import sum_aggregate
from rvpo_jax.method.channels import row
from rvpo_jax.method.rules import Method
from rvpo_jax.method.standardize import standardize


def gated(
    scores: jax.Array,
    *,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    weights: jax.Array | None = None,
    ddof: int = 1,
    eps: float = 1e-6,
) -> jax.Array:
    """Other channels count only where every constraint is met; then the sum of the scores.

    An absolute gate: a completion that breaks a constraint has the lowest reward in every channel
    that is none, before anything is standardised. A constraint that was not scored is not broken.
    Where all completions of a group break one, nothing is left to compare. Conventions: GDPO's.

    Args:
      scores: ``[B, G, M]``, not looked at.
      rewards: ``[B, G, M]`` float32, raw.
      scored: ``[B, G, M]`` bool.
      channels: M channels, some of kind constraint.
      weights: ``[M]`` float >= 0, multiplied as they are; None: 1 each.
      ddof: of the standard deviation.
      eps: added to it.

    Returns:
      ``[B, G]`` float32.

    Source:
      GDPO, arXiv:2601.05242, Eq. 8, with all constraints as the condition; there a reward behind a
      closed gate is 0, which is the lowest of its range, as here.
    """
    kinds = [channel.kind == "constraint" for channel in channels]
    is_constraint = jnp.array(kinds).reshape(1, 1, -1)
    broken = scored & is_constraint & (rewards < row(channels, "pass_at"))
    is_open = is_constraint | ~jnp.any(broken, axis=-1, keepdims=True)
    return _behind(is_open, rewards, scored, channels, weights, ddof, eps)


def conditioned(gates: Mapping[str, tuple[str, float]]) -> Callable[..., jax.Array]:
    """The rule in which a reward counts only where another one reaches a value.

    Args:
      gates: name of a channel to the name of its condition, and the raw value from which on the
        gate is open.

    Returns:
      A rule, for ``AdvantageConfig(method=...)``; it needs ``channels``.

    Source:
      GDPO, arXiv:2601.05242, Eq. 8.

    >>> rule = conditioned({"format": ("correctness", 1.0)})
    >>> names = [Channel(name="correctness", low=-3, high=3), Channel(name="format")]
    >>> rewards = jnp.array([[[1.0, 1.0], [-1.0, 1.0]]])  # the second format does not count
    >>> scored = jnp.ones(rewards.shape, bool)
    >>> rule(None, rewards=rewards, scored=scored, channels=names).round(4).tolist()
    [[1.4142, -1.4142]]
    """

    def conditioned_rewards(
        scores: jax.Array,
        *,
        rewards: jax.Array,
        scored: jax.Array,
        channels: Sequence[Channel],
        weights: jax.Array | None = None,
        ddof: int = 1,
        eps: float = 1e-6,
    ) -> jax.Array:
        names = [channel.name for channel in channels]
        unknown = {*gates, *(on for on, _ in gates.values())} - set(names)
        if unknown:
            raise Refusal(
                f"conditioned names unknown channel(s): {', '.join(sorted(unknown))}.",
                f"The channels are: {', '.join(names)}.",
            )
        is_open = jnp.ones(rewards.shape, bool)
        for name, (on, at) in gates.items():
            m = names.index(on)
            met = ~scored[..., m] | (rewards[..., m] >= at)
            is_open = is_open.at[..., names.index(name)].set(met)
        return _behind(is_open, rewards, scored, channels, weights, ddof, eps)

    return conditioned_rewards


def _behind(
    is_open: jax.Array,
    rewards: jax.Array,
    scored: jax.Array,
    channels: Sequence[Channel],
    weights: jax.Array | None,
    ddof: int,
    eps: float,
) -> jax.Array:
    """The sum of the scores of rewards that are at their lowest behind a closed gate."""
    counted = jnp.where(is_open, rewards, row(channels, "low"))
    scores, _ = standardize(counted, scored, ddof=ddof, eps=eps)
    return sum_aggregate(scores, weights=weights, where=scored)


METHODS: dict[str, Method] = {
    "gated": Method(
        rule=gated,
        label="gated by constraints",
        color="#44AA99",
        reads=("ddof", "eps"),
        needs="constraints",
    ),
}
