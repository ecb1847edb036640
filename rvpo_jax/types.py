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
    """What the sampler wrote for ``B`` prompts, before any scoring.

    Attributes:
      prompts: ``[B, P]`` int32, left-padded.
      prompt_mask: ``[B, P]`` bool, True on the prompt's own tokens.
      completions: ``[B, G, C]`` int32, right-padded.
      completion_mask: ``[B, G, C]`` bool, True up to and including EOS.
      logprobs: ``[B, G, C]`` float32, nats, at the sampling temperature; 0 outside the mask.
      truncated: ``[B, G]`` bool, cut at the length limit before EOS.
      computed: ``[B]`` float32, token positions that decoding computed, those of ended completions
        among them: an equal share of its device's for each prompt.
    """

    prompts: jax.Array
    prompt_mask: jax.Array
    completions: jax.Array
    completion_mask: jax.Array
    logprobs: jax.Array
    truncated: jax.Array
    computed: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """One rollout batch with its rewards, or one device's share of it.

    Attributes:
      prompts: ``[B, P]`` int32, left-padded.
      prompt_mask: ``[B, P]`` bool, True on the prompt's own tokens.
      completions: ``[B, G, C]`` int32, right-padded.
      completion_mask: ``[B, G, C]`` bool, True up to and including EOS.
      old_logprobs: ``[B, G, C]`` float32, nats, the sampler's.
      rewards: ``[B, G, M]`` float32, each channel in its own unit.
      where: ``[B, G, M]`` bool, channel exists and was scored.
      ref_logprobs: ``[B, G, C]`` float32, nats, of the reference policy; only with a KL term.
      max_tokens: the length limit of completions, not an array; C may be shorter where all of a
        batch are. None: C.
    """

    prompts: jax.Array
    prompt_mask: jax.Array
    completions: jax.Array
    completion_mask: jax.Array
    old_logprobs: jax.Array
    rewards: jax.Array
    where: jax.Array
    ref_logprobs: jax.Array | None = None
    max_tokens: int | None = dataclasses.field(default=None, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that training changes on the device.

    Attributes:
      step: scalar int32, rollout batches seen.
      params: tree of the parameters that are trained.
      opt_state: optax state.
      key: typed PRNG key of the run; step keys are folded in from it.
      rule_state: memory of the multi-reward rule, a tree of arrays; empty for most rules.
      frozen: tree of the parameters that stay as they are, beside adapters; not in checkpoints.
        ``method.frozen.join`` makes one tree of both, as a model takes it.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    key: jax.Array
    rule_state: Any = ()
    frozen: Any = ()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Advantages:
    """What ``compute_advantages`` returns: how a batch was judged.

    Attributes:
      advantages: ``[B, G]`` float32, what the policy gradient uses.
      scores: ``[B, G, M]`` float32, standardised channels; 0 where dead or absent.
      weights: ``[B, G, M]`` float32, who decided: the gradient of a completion's own aggregate by
        its own scores; NaN where it was not computed.
      aggregate: ``[B, G]`` float32, the rule's value before recentring and whitening.
      live: ``[B, M]`` bool, channels that varied within their group.
      keep: ``[B, G]`` bool, scored completions that the rule did not drop.
      rule_state: memory of the rule after this batch.
    """

    advantages: jax.Array
    scores: jax.Array
    weights: jax.Array
    aggregate: jax.Array
    live: jax.Array
    keep: jax.Array
    rule_state: Any = ()
