"""What a run is made of, built from its config: task, policy and its mapped functions.

Shared by training and evaluation. ``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rvpo_jax.config import Channel, Config
from rvpo_jax.data import drop_long, load_rows, split_held_out
from rvpo_jax.data.tokenizer import ByteTokenizer, pad_prompts, render_messages
from rvpo_jax.data.tool_task import PIECES, ToolTask
from rvpo_jax.method import losses
from rvpo_jax.method.sampling import Decoder, make_sampler
from rvpo_jax.method.step import num_microbatches
from rvpo_jax.models.params_io import STARTS, load_params
from rvpo_jax.models.presets import architecture
from rvpo_jax.models.transformer import Transformer, init_params
from rvpo_jax.rewards import EMBEDDED_REWARDS, RewardFn, Scores, channels_of, load_reward, score
from rvpo_jax.run import parallel
from rvpo_jax.types import Batch, Rollout

LOG = logging.getLogger(__name__)

EMBEDDED_PROMPTS = 4096
EMBEDDED_HELD_OUT = 1024
DEFAULT_PROMPT_TOKENS = {"embedded": 128, "file": 4096}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts and the rewards that judge what is written for them."""

    tokenizer: ByteTokenizer
    reward_fns: tuple[RewardFn, ...]
    channels: tuple[Channel, ...]
    train: Any  # source of rows
    held_out: Any  # source of rows
    prompt_tokens: int  # P, the width that holds every prompt
    num_dropped: int  # prompts that were too long
    fingerprint: str  # changes with the rows
    config: Config

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The M names, in the order of the reward axis."""
        return tuple(channel.name for channel in self.channels)

    @property
    def pass_at(self) -> np.ndarray:
        """``[M]`` float32, from which raw value each channel counts as met."""
        return np.array([channel.pass_at for channel in self.channels], np.float32)

    def encode(self, prompt: str | list) -> list[int]:
        """Token ids of a text or a list of messages."""
        return self.tokenizer.encode(render_messages(prompt))

    def encode_batch(self, examples: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts ``[B, P]`` int32, left-padded, and their mask ``[B, P]`` bool."""
        ids = [self.encode(example["prompt"]) for example in examples]
        return pad_prompts(ids, self.prompt_tokens, self.tokenizer.pad_id)

    def decode_batch(self, rollout: Rollout) -> list[str]:
        """Texts of all completions, prompt by prompt, ``B * G`` of them."""
        completions = np.asarray(rollout.completions)
        return self.tokenizer.decode_batch(completions.reshape(-1, completions.shape[-1]).tolist())

    def score(self, texts: Sequence[str], examples: Sequence[Mapping]) -> Scores:
        """Rewards ``[B * G, M]`` of the completions of ``B`` examples."""
        group_size = len(texts) // len(examples)
        repeated = [example for example in examples for _ in range(group_size)]
        return score(
            self.reward_fns,
            texts,
            repeated,
            on_error=self.config.data.on_reward_error,
            threads=self.config.data.reward_threads,
        )


def build_task(config: Config, data_dir: Path) -> Task:
    """Loads prompts, tokenizer and rewards, and checks that the config fits them.

    Args:
      config: the run.
      data_dir: cache for a file's converted rows.

    Returns:
      The task.

    Raises:
      ValueError: on a file, reward or weight that does not exist or does not fit.
    """
    embedded = config.data.source == "embedded"
    names = config.data.rewards or EMBEDDED_REWARDS
    reward_fns = tuple(load_reward(name) if isinstance(name, str) else name for name in names)
    channels = channels_of(reward_fns)
    config.advantage.with_channels(tuple(channel.name for channel in channels))
    tokenizer = ByteTokenizer(PIECES if embedded else ())

    limit = config.rollout.max_prompt_tokens
    if limit is None:
        limit = DEFAULT_PROMPT_TOKENS["embedded" if embedded else "file"]
    if embedded:
        train: Any = ToolTask("train", EMBEDDED_PROMPTS)
        held_out: Any = ToolTask("held_out", EMBEDDED_HELD_OUT)
        fingerprint = f"embedded {EMBEDDED_PROMPTS}"
    else:
        rows = load_rows(config.data.source, data_dir, config.data.prompt_column)
        fingerprint = rows.fingerprint
        train, held_out = split_held_out(rows, config.data.eval_frac, config.seed)

    def encode(prompt: str | list) -> list[int]:
        return tokenizer.encode(render_messages(prompt))

    train, dropped = drop_long(train, encode, limit)
    held_out, dropped_held_out = drop_long(held_out, encode, limit)
    num_dropped = dropped + dropped_held_out
    if num_dropped:
        LOG.warning("Dropped %d prompt(s) longer than %d tokens.", num_dropped, limit)
    longest = max(len(encode(row["prompt"])) for source in (train, held_out) for row in source)
    return Task(
        tokenizer=tokenizer,
        reward_fns=reward_fns,
        channels=channels,
        train=train,
        held_out=held_out,
        prompt_tokens=-(-longest // 8) * 8,
        num_dropped=num_dropped,
        fingerprint=fingerprint,
        config=config,
    )


class Policy:
    """The model of a run and its functions, mapped over the devices of the run.

    Args:
      config: the run.
      task: gives the tokenizer.
    """

    def __init__(self, config: Config, task: Task) -> None:
        self.config = config
        self.task = task
        self._samplers: dict[tuple[int, float | None], Callable[..., Rollout]] = {}
        self.devices = parallel.local_devices(config.parallel.num_devices)
        parallel.check_divisible(
            config.rollout.num_prompts, len(self.devices), config.loss.num_minibatches
        )
        per_device = config.rollout.num_prompts // len(self.devices)
        num_microbatches(per_device // config.loss.num_minibatches, config.loss.microbatch_size)
        self.model = Transformer(
            architecture(config.model.preset, task.tokenizer.vocab_size),
            dtype=jax.numpy.dtype(config.model.dtype),
            remat=config.model.remat,
        )

    def initial_params(self) -> Any:
        """Parameters at step 0: the warm start or random ones, the same for the same config."""
        config = self.config
        init = config.model.init
        if init == "auto":
            embedded = config.data.source == "embedded" and config.model.preset == "tiny"
            init = "warm" if embedded else "random"
        key = jax.random.fold_in(jax.random.key(config.seed), 0xF00D)
        if init == "random":
            return init_params(self.model, key)
        return load_params(STARTS[init], jax.eval_shape(lambda: init_params(self.model, key)))

    def logprobs(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Logprobs and entropies of the completions, ``[B, G, C]``, at the sampling temperature."""
        logits: Any = self.model.apply(
            {"params": params}, batch.prompts, batch.prompt_mask, batch.completions
        )
        return losses.token_logprobs(logits / self.config.rollout.temperature, batch.completions)

    @functools.cached_property
    def reference_logprobs(self) -> Callable[[Any, Batch], jax.Array]:
        """``(params, batch) -> [B, G, C]`` over all devices, for the KL term."""
        return parallel.map_prompts(
            lambda params, batch: self.logprobs(params, batch)[0],
            self.devices,
            self.config.parallel.impl,
        )

    def sampler(
        self, group_size: int, temperature: float | None = None
    ) -> Callable[[Any, np.ndarray, np.ndarray, jax.Array], Rollout]:
        """The sampling function over all devices; the same one, compiled once, when asked again.

        Args:
          group_size: G.
          temperature: other than that of the config.

        Returns:
          ``(params, prompts, prompt_mask, keys) -> Rollout``.
        """
        if (group_size, temperature) in self._samplers:
            return self._samplers[group_size, temperature]
        rollout = self.config.rollout

        def apply(method: str) -> Callable[..., Any]:
            return lambda params, *args: self.model.apply({"params": params}, *args, method=method)

        sample = make_sampler(
            Decoder(apply("prefill"), apply("decode"), self.model.empty_cache),
            group_size=group_size,
            max_tokens=rollout.max_completion_tokens,
            eos_id=self.task.tokenizer.eos_id,
            pad_id=self.task.tokenizer.pad_id,
            temperature=rollout.temperature if temperature is None else temperature,
            top_k=rollout.top_k,
            top_p=rollout.top_p,
        )
        mapped = parallel.map_prompts(sample, self.devices, self.config.parallel.impl)
        self._samplers[group_size, temperature] = mapped
        return mapped
