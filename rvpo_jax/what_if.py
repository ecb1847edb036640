"""Named methods of which the audit has no NumPy formula, as it takes them. JAX is loaded late.

``B`` prompts of a step, ``G`` completions per prompt, ``M`` reward channels.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rvpo_jax.auditing import Formula
from rvpo_jax.basics.channel import Channel
from rvpo_jax.config import AdvantageConfig

# The setting that ``k`` means, by what a method reads, in units of k: a variance penalty with
# beta = k/2 matches the soft minimum to second order.
_COEFFICIENTS = {"risk_coef": 1.0, "variance_coef": 0.5}


def further_rules() -> dict[str, Formula]:
    """The records of all named methods, for ``audit(further=...)``.

    Returns:
      By name.
    """
    from rvpo_jax.method.methods import METHODS
    from rvpo_jax.method.rules import Rule

    found = {}
    for name, record in METHODS.items():
        coefficient = next((key for key in _COEFFICIENTS if key in record.reads), None)
        found[name] = Formula(
            label=record.label,
            color=record.color,
            takes_k=coefficient is not None,
            largest_k=math.inf if coefficient == "risk_coef" else float(np.finfo(np.float32).max),
            whitened=record.whitened,
            advantages=advantages_under(name, coefficient, whiten=record.whitened),
            needs="ranges" if "levels" in record.reads else record.needs,
            options={option: value.bound for option, value in record.options.items()},
            remembers=isinstance(record.rule, Rule),
        )
    return found


def advantages_under(
    method: object, coefficient: str | None = None, *, whiten: bool = True
) -> Callable[..., tuple[np.ndarray, Any]]:
    """The advantages of a step under a rule, as training has them.

    Args:
      method: as ``AdvantageConfig.method``.
      coefficient: the field of the config that k sets; None: the rule takes no k.
      whiten: whether it is standardised over the batch.

    Returns:
      What ``auditing.formulas.Advantages`` describes.
    """

    def advantages(
        rewards: np.ndarray,
        settings: Mapping[str, float],
        channels: Sequence[Channel],
        weights: np.ndarray | None,
        state: Any,
    ) -> tuple[np.ndarray, Any]:
        fields: dict[str, Any] = {"method": method, "whiten": "batch" if whiten else "none"}
        fields["weights"] = None if weights is None else tuple(weights.tolist())
        options = {name: value for name, value in settings.items() if name != "k"}
        if coefficient is not None and "k" in settings:
            fields[coefficient] = settings["k"] * _COEFFICIENTS[coefficient]
        run = _compiled(AdvantageConfig.of(fields), tuple(options.items()), tuple(channels))
        values, state = run(rewards, state)
        return np.asarray(values), state

    return advantages


@functools.cache
def _compiled(
    config: AdvantageConfig, options: tuple[tuple[str, float], ...], channels: tuple[Channel, ...]
) -> Callable[..., tuple[Any, Any]]:
    import jax

    from rvpo_jax.method.advantages import compute_advantages

    config = dataclasses.replace(config, options=dict(options))

    def judge(rewards: Any, state: Any) -> tuple[Any, Any]:
        out = compute_advantages(
            rewards, config=config, channels=channels, rule_state=state, with_weights=False
        )
        return out.advantages, out.rule_state

    return jax.jit(judge)
