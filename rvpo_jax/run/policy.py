"""The policy of a run: its network's functions, mapped over the devices of the run.

``B`` prompts, ``G`` completions per prompt, ``C`` completion tokens.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rvpo_jax.config import Config
from rvpo_jax.data.tokenizer import Tokenizer
from rvpo_jax.method import losses
from rvpo_jax.method.sampling import make_sampler
from rvpo_jax.method.step import num_microbatches
from rvpo_jax.models import Model
from rvpo_jax.run import parallel
from rvpo_jax.types import Batch, Rollout

Sampler = Callable[[Any, np.ndarray, np.ndarray, jax.Array], Rollout]


class Policy:
    """The model of a run and its functions over all devices.

    Args:
      model: the network.
      tokenizer: gives the ids of padding and ends.
      config: of the run; how to sample, and on which devices.

    Raises:
      ValueError: if the prompts of a step do not split evenly.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, config: Config) -> None:
        self.model = model
        self.devices = parallel.local_devices(config.parallel.num_devices)
        self._tokenizer = tokenizer
        self._rollout = config.rollout
        self._impl = config.parallel.impl
        self._samplers: dict[tuple[int, float | None], Sampler] = {}
        loss = config.loss
        parallel.check_divisible(
            config.rollout.num_prompts, len(self.devices), loss.num_minibatches
        )
        per_device = config.rollout.num_prompts // len(self.devices)
        num_microbatches(per_device // loss.num_minibatches, loss.microbatch_size)

    def logprobs(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Logprobs and entropies of the completions, ``[B, G, C]``, at the sampling temperature."""
        logits = self.model.logits(params, batch.prompts, batch.prompt_mask, batch.completions)
        return losses.token_logprobs(logits / self._rollout.temperature, batch.completions)

    @functools.cached_property
    def reference_logprobs(self) -> Callable[[Any, Batch], jax.Array]:
        """``(params, batch) -> [B, G, C]`` over all devices, for the KL term."""
        return parallel.map_prompts(
            lambda params, batch: self.logprobs(params, batch)[0], self.devices, self._impl
        )

    def sampler(self, group_size: int, temperature: float | None = None) -> Sampler:
        """The sampling function over all devices; the same one, compiled once, when asked again.

        Args:
          group_size: G.
          temperature: other than that of the config.

        Returns:
          ``(params, prompts, prompt_mask, keys) -> Rollout``.
        """
        if (group_size, temperature) not in self._samplers:
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
            )
            mapped = parallel.map_prompts(sample, self.devices, self._impl)
            self._samplers[group_size, temperature] = mapped
        return self._samplers[group_size, temperature]
