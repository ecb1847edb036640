"""The policy of a run: its network's functions, mapped over the devices of the run.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config import Config, RolloutConfig
from rvpo_jax.data.tokenizer import Tokenizer
from rvpo_jax.method import losses
from rvpo_jax.method.frozen import join
from rvpo_jax.method.microbatches import num_microbatches
from rvpo_jax.method.packing import ROW
from rvpo_jax.method.sampling import make_sampler
from rvpo_jax.models import Model
from rvpo_jax.run import parallel
from rvpo_jax.types import Batch, Rollout, TrainState

Sampler = Callable[..., Rollout]


class Policy:
    """The model of a run and its functions over all devices.

    Args:
      model: the network.
      layout: how it lies on the devices.
      tokenizer: gives the ids of padding and ends.
      config: of the run; how to sample.

    Raises:
      ValueError: if the prompts of a step do not split evenly.
    """

    def __init__(
        self, model: Model, layout: parallel.Layout, tokenizer: Tokenizer, config: Config
    ) -> None:
        self.model, self.layout = model, layout
        self._tokenizer = tokenizer
        self._rollout = config.rollout
        self._samplers: dict[tuple[int, float | None], Sampler] = {}
        loss = config.loss
        _check_parts(config.rollout, layout.num_shards)
        per_device = config.rollout.num_prompts // layout.num_shards
        self._microbatch_tokens = loss.microbatch_tokens
        if loss.microbatch_tokens is None:
            num_microbatches(per_device // loss.num_minibatches, loss.microbatch_size)
        else:
            _check_microbatch_tokens(loss.microbatch_tokens, config.rollout, model)

    def logprobs(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Logprobs and entropies of the completions, ``[B, G, C]``, at the sampling temperature."""
        temperature = self._rollout.temperature
        if self.model.logprobs is not None:
            return self.model.logprobs(params, batch, temperature, None)
        logits = self.model.logits(params, batch.prompts, batch.prompt_mask, batch.completions)
        return losses.token_logprobs(logits / temperature, batch.completions)

    def microbatch_logprobs(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """``logprobs`` of a microbatch of the step, packed where the loss counts tokens."""
        params = self.layout.constrain_params(params)
        if self._microbatch_tokens is None or self.model.logprobs is None:
            return self.logprobs(params, batch)
        capacity = self._microbatch_tokens // ROW
        return self.model.logprobs(params, batch, self._rollout.temperature, capacity)

    @functools.cached_property
    def reference_logprobs(self) -> Callable[[Any, Batch], jax.Array]:
        """``(params, batch) -> [B, G, C]`` over all devices, for the KL term."""
        mapped = self.layout.map_batch(lambda params, batch: self.logprobs(params, batch)[0])
        return lambda params, batch: self.layout.host_rows(mapped(params, (batch,)))

    def sampling_params(self, state: TrainState) -> Any:
        """The parameters of a state, trained and frozen in one tree, as the samplers take them."""
        return self.layout.for_sampling(join(state.params, state.frozen))

    def sampler(self, group_size: int, temperature: float | None = None) -> Sampler:
        """The sampling function over all devices; the same one, compiled once, when asked again.

        Args:
          group_size: G.
          temperature: other than that of the config.

        Returns:
          ``(params, prompts, prompt_mask, keys, wanted=None) -> Rollout`` with arrays on the host;
          ``params`` as ``sampling_params`` returns them, the rest of the rows of this process;
          ``wanted``, ``[B, G]`` bool, leaves completions out.
        """
        if (group_size, temperature) not in self._samplers:
            mapped = self.mapped_sampler(group_size, temperature)

            def run(
                params: Any, prompts: Any, prompt_mask: Any, keys: Any, wanted: Any = None
            ) -> Rollout:
                wanted = np.ones((len(prompts), group_size), bool) if wanted is None else wanted
                rollout = mapped(params, (prompts, prompt_mask, keys, wanted))
                return self.layout.host_rows(rollout)

            self._samplers[group_size, temperature] = run
        return self._samplers[group_size, temperature]

    def mapped_sampler(self, group_size: int, temperature: float | None = None) -> Any:
        """A new sampling function over all devices, with arrays on them.

        Args:
          group_size: G.
          temperature: other than that of the config.

        Returns:
          ``(params, (prompts, prompt_mask, keys, wanted)) -> Rollout``.
        """
        rollout = self._rollout
        sample = make_sampler(
            self.model,
            group_size=group_size,
            max_tokens=rollout.max_completion_tokens,
            eos_id=self._tokenizer.eos_id,
            pad_id=self._tokenizer.pad_id,
            temperature=rollout.temperature if temperature is None else temperature,
            top_k=rollout.top_k,
            top_p=rollout.top_p,
            num_slots=self.num_slots(group_size),
        )
        return self.layout.map_prompts(sample)

    def num_slots(self, group_size: int) -> int | None:
        """Completions that a device writes at the same time; None: all.

        Args:
          group_size: G.

        Returns:
          How many.
        """
        if self._rollout.num_slots is not None or self.layout.devices[0].platform != "cpu":
            return self._rollout.num_slots
        num = self._rollout.prompts_at_once // self.layout.num_shards * group_size
        return max(num // 16, 32)


def _check_parts(rollout: RolloutConfig, num_shards: int) -> None:
    if rollout.num_prompts % (rollout.num_parts * num_shards):
        raise Refusal(
            f"rollout.num_prompts = {rollout.num_prompts} must be divisible by rollout.num_parts = "
            f"{rollout.num_parts} times {num_shards} device(s).",
            "Change one of them: each part has as many prompts on each device.",
        )


def _check_microbatch_tokens(microbatch_tokens: int, rollout: RolloutConfig, model: Model) -> None:
    """A microbatch holds whole groups, and the model packs them."""
    if model.logprobs is None:
        raise Refusal(
            f"loss.microbatch_tokens packs completions, which model {model.name} does not.",
            "Leave it out, or give the Model a logprobs that takes a capacity.",
        )
    most = rollout.group_size * rollout.max_completion_tokens
    if microbatch_tokens // ROW < -(-most // ROW):
        raise Refusal(
            f"loss.microbatch_tokens = {microbatch_tokens} must hold one group: rollout.group_size "
            f"x rollout.max_completion_tokens = {most}, in rows of {ROW}.",
            f"Give {-(-most // ROW) * ROW} or more.",
        )
