"""The array containers, and the one legend of shape letters for the whole package.

======  =============================  ======  ======================================
Letter  Axis                           Letter  Axis
======  =============================  ======  ======================================
``B``   prompts (of this device)       ``V``   vocabulary
``G``   completions per prompt         ``D``   model width
``M``   reward channels                ``H``   query heads; ``K`` key/value heads
``P``   prompt tokens, left-padded     ``L``   layers
``C``   completion tokens, right-p.    ``N``   any number of completions or texts
======  =============================  ======  ======================================
"""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rollout:
    """What the sampler wrote for ``B`` prompts, before any scoring."""

    prompts: jax.Array  # [B, P] int32, left-padded
    prompt_mask: jax.Array  # [B, P] bool
    completions: jax.Array  # [B, G, C] int32, right-padded
    completion_mask: jax.Array  # [B, G, C] bool, True up to and including EOS
    logprobs: jax.Array  # [B, G, C] float32, at the sampling temperature, 0 outside the mask
    truncated: jax.Array  # [B, G] bool, cut at the length limit before EOS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One rollout batch with its rewards, or one device's share of it."""

    prompts: jax.Array  # [B, P] int32
    prompt_mask: jax.Array  # [B, P] bool
    completions: jax.Array  # [B, G, C] int32
    completion_mask: jax.Array  # [B, G, C] bool
    old_logprobs: jax.Array  # [B, G, C] float32, the sampler's
    rewards: jax.Array  # [B, G, M] float32, each channel in its own unit
    where: jax.Array  # [B, G, M] bool, channel exists and was scored
    ref_logprobs: jax.Array | None = None  # [B, G, C] float32, only with a KL term


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that training changes on the device."""

    step: jax.Array  # scalar int32, rollout batches seen
    params: Any  # parameter tree
    opt_state: Any  # optax state
    key: jax.Array  # typed key of the run; step keys are folded in from it
    rule_state: Any = ()  # what the rule remembers between steps; () for rules without memory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Advantages:
    """What ``compute_advantages`` returns."""

    advantages: jax.Array  # [B, G] float32, what the policy gradient uses
    scores: jax.Array  # [B, G, M] float32, standardised channels; 0 where dead or absent
    weights: jax.Array  # [B, G, M] float32, d aggregate / d scores
    aggregate: jax.Array  # [B, G] float32, before recentring and whitening
    live: jax.Array  # [B, M] bool, channels that varied within their group
