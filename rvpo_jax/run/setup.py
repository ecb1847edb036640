"""What a run is made of, built once from its config: task, policy, train step.

Shared by training and evaluation. ``B`` prompts, ``G`` completions per prompt, ``P`` prompt tokens.
"""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from rvpo_jax.config import AdvantageConfig, Channel, Config
from rvpo_jax.data import PromptStream, drop_long, split_held_out
from rvpo_jax.data.overlap import Repeats, find_repeats
from rvpo_jax.data.sources import load_eval_source, load_source
from rvpo_jax.data.tokenizer import TOKENIZERS, ByteTokenizer, Tokenizer, pad_prompts
from rvpo_jax.data.tool_task import PIECES, ToolTask
from rvpo_jax.method.binding import pick
from rvpo_jax.method.optim import make_optimizer
from rvpo_jax.method.schedules import make_risk_schedule
from rvpo_jax.method.step import init_state, make_train_step
from rvpo_jax.models import build_model
from rvpo_jax.rewards import EMBEDDED_REWARDS, RewardFn, Scores, channels_of, load_reward, score
from rvpo_jax.run import parallel, start
from rvpo_jax.run.bucket import scratch_of
from rvpo_jax.run.check_rewards import dry_run
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.policy import Policy
from rvpo_jax.run.sample_texts import spread
from rvpo_jax.run.shorten import prompt_width
from rvpo_jax.types import Rollout, TrainState

LOG = logging.getLogger(__name__)

EMBEDDED_PROMPTS = 4096
EMBEDDED_HELD_OUT = 1024
DEFAULT_PROMPT_TOKENS = {"embedded": 128, "file": 4096}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts and the rewards that judge what is written for them.

    Attributes:
      tokenizer: text to ids and back.
      reward_fns: M functions.
      channels: M channels, in the order of the reward axis.
      train: source of rows to train on.
      held_out: source of rows to evaluate on.
      prompt_tokens: P, the width that holds every prompt.
      num_dropped: prompts that were too long.
      repeats: prompts that stand twice; None: of the embedded task, which has none.
      fingerprint: changes with the rows.
      on_reward_error: what a reward function that raises does to the run.
      reward_threads: reward functions that run at the same time.
    """

    tokenizer: Tokenizer
    reward_fns: tuple[RewardFn, ...]
    channels: tuple[Channel, ...]
    train: Any
    held_out: Any
    prompt_tokens: int
    num_dropped: int
    repeats: Repeats | None
    fingerprint: str
    on_reward_error: Any
    reward_threads: int

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
        return self.tokenizer.encode(self.tokenizer.render(prompt))

    def encode_batch(self, examples: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
        """Prompts ``[B, P]`` int32, left-padded, and their mask ``[B, P]`` bool.

        Where those of all processes are short, they have half the columns, or a quarter.
        """
        ids = [self.encode(example["prompt"]) for example in examples]
        longest = processes.largest(max(map(len, ids), default=0))
        width = prompt_width(self.prompt_tokens, longest)
        return pad_prompts(ids, width, self.tokenizer.pad_id)

    def decode_batch(self, rollout: Rollout) -> list[str]:
        """Texts of all completions, prompt by prompt, ``B * G`` of them."""
        completions = np.asarray(rollout.completions)
        rows = completions.reshape(-1, completions.shape[-1]).tolist()
        lengths = np.sum(rollout.completion_mask, axis=-1).reshape(-1).tolist()
        return self.tokenizer.decode_batch([row[:n] for row, n in zip(rows, lengths, strict=True)])

    def score(self, texts: Sequence[str], examples: Sequence[Mapping]) -> Scores:
        """Rewards ``[B * G, M]`` of the completions of ``B`` examples."""
        group_size = len(texts) // len(examples)
        repeated = [example for example in examples for _ in range(group_size)]
        return score(
            self.reward_fns,
            texts,
            repeated,
            on_error=self.on_reward_error,
            threads=self.reward_threads,
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
    reward_fns = tuple(load_reward(name) for name in config.data.rewards or EMBEDDED_REWARDS)
    tokenizer = _tokenizer(config)
    parts, others, fingerprint = _rows(config, data_dir)
    limit = config.rollout.max_prompt_tokens
    if limit is None:
        limit = DEFAULT_PROMPT_TOKENS["embedded" if embedded else "file"]
    usual = tokenizer is _embedded_tokenizer()
    fitting = _embedded_that_fit(limit) if usual else _that_fit(parts, tokenizer, limit)
    (train, dropped, longest), (held_out, dropped_held_out, longest_held_out) = fitting
    if dropped + dropped_held_out:
        num_dropped = dropped + dropped_held_out
        LOG.warning("Dropped %d prompt(s) longer than %d tokens.", num_dropped, limit)
    return Task(
        tokenizer=tokenizer,
        reward_fns=reward_fns,
        channels=channels_of(reward_fns),
        train=train,
        held_out=held_out,
        prompt_tokens=-(-max(longest, longest_held_out) // 8) * 8,
        num_dropped=dropped + dropped_held_out,
        repeats=None if embedded else find_repeats(train, {"held-out": held_out, **others}),
        fingerprint=fingerprint,
        on_reward_error=config.data.on_reward_error,
        reward_threads=config.data.reward_threads,
    )


def _rows(config: Config, data_dir: Path) -> tuple[tuple[Any, Any], Mapping[str, Any], str]:
    """Rows to train on and to evaluate on, further ones by name, and what changes with them."""
    data = config.data
    if data.source == "embedded":
        return _embedded(), {}, f"embedded {EMBEDDED_PROMPTS}"
    train, held_out, others = load_source(data.source, data_dir, data.prompt_column)
    if data.eval_source is not None:
        held_out = load_eval_source(data.eval_source, data_dir, data.prompt_column)
        return (train, held_out), others, f"{train.fingerprint} {held_out.fingerprint}"
    if held_out is not None:
        return (train, held_out), others, train.fingerprint
    parts = split_held_out(train, data.eval_frac, config.seed)
    return parts, others, train.fingerprint


def _embedded() -> tuple[ToolTask, ToolTask]:
    return ToolTask("train", EMBEDDED_PROMPTS), ToolTask("held_out", EMBEDDED_HELD_OUT)


def _that_fit(parts: tuple[Any, Any], tokenizer: Tokenizer, limit: int) -> tuple[Any, Any]:
    """What ``drop_long`` returns of training and of held-out rows."""

    def encode(prompt: str | list) -> list[int]:
        return tokenizer.encode(tokenizer.render(prompt))

    train, held_out = (drop_long(rows, encode, limit) for rows in parts)
    return train, held_out


# The same for every run of a process, and half a second each time.
@functools.lru_cache(maxsize=2)
def _embedded_that_fit(limit: int) -> tuple[Any, Any]:
    return _that_fit(_embedded(), _embedded_tokenizer(), limit)


def task_without_rows(config: Config) -> Task:
    """A task of which only shapes are asked: no rows are read.

    Args:
      config: the run; ``rollout.max_prompt_tokens`` is the width of its prompts.

    Returns:
      The task; it has no prompts.

    Raises:
      ValueError: on a reward function or tokenizer that does not exist.
    """
    reward_fns = tuple(load_reward(name) for name in config.data.rewards or EMBEDDED_REWARDS)
    kind = "embedded" if config.data.source == "embedded" else "file"
    return Task(
        tokenizer=_tokenizer(config),
        reward_fns=reward_fns,
        channels=channels_of(reward_fns),
        train=(),
        held_out=(),
        prompt_tokens=config.rollout.max_prompt_tokens or DEFAULT_PROMPT_TOKENS[kind],
        num_dropped=0,
        repeats=None,
        fingerprint="none",
        on_reward_error=config.data.on_reward_error,
        reward_threads=config.data.reward_threads,
    )


def _tokenizer(config: Config) -> Tokenizer:
    """The user's, that of the model's folder, or bytes, with whole words for the embedded task."""
    if config.model.path is not None and config.model.tokenizer == "bytes":
        from rvpo_jax.data.hf_tokenizer import HfTokenizer

        return HfTokenizer(config.model.path)
    make = pick(config.model.tokenizer, TOKENIZERS, "model.tokenizer")
    if make is ByteTokenizer and config.data.source == "embedded":
        return _embedded_tokenizer()
    return make()


@functools.cache
def _embedded_tokenizer() -> ByteTokenizer:
    return ByteTokenizer(PIECES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run, built and not started: the one copy of its config and what follows from it.

    Attributes:
      config: the run.
      advantage: the rule and its conventions, weights in channel order.
      task: prompts and rewards.
      policy: the network on the devices of the run.
      optimizer: optax chain.
      train_step: ``(state, batch) -> (state, judged, metrics)`` over all devices.
    """

    config: Config
    advantage: AdvantageConfig
    task: Task
    policy: Policy
    optimizer: optax.GradientTransformation
    train_step: parallel.Compiled

    def try_rewards(self) -> None:
        """Calls the reward functions once on sample texts, so that a bad one shows in a second.

        Raises:
          RewardError: naming the function that cannot be used.
        """
        task, embedded = self.task, self.config.data.source == "embedded"
        tried = dry_run(
            task.reward_fns, spread(task.train), on_error=task.on_reward_error, embedded=embedded
        )
        for sentence in tried.warnings:
            LOG.warning(sentence)

    def initial_params(self) -> Any:
        """What is trained, at step 0, on the devices; the same for the same config."""
        return start.initial_params(self.config, self.policy.model, self.policy.layout)

    def initial_state(self) -> TrainState:
        """The state at step 0, on the devices."""
        layout = self.policy.layout
        state = layout.create(self._state, self.initial_params())
        frozen = start.frozen_params(self.config, self.policy.model, layout)
        return dataclasses.replace(state, frozen=frozen)

    def state_shapes(self) -> TrainState:
        """Shapes and types of what a checkpoint has of a state: no start is read or computed."""
        model = self.policy.model
        make = model.adapters or model.init
        shapes = jax.eval_shape(lambda: self._state(make(jax.random.key(0))))
        return self.policy.layout.shapes(shapes)

    def _state(self, params: Any) -> TrainState:
        return init_state(
            params,
            self.optimizer,
            jax.random.key(self.config.seed),
            rule=self.advantage,
            num_channels=len(self.task.channels),
        )


def build_run(config: Config, workdir: Path) -> Run:
    """Builds everything that a config names; nothing is compiled.

    Args:
      config: the run.
      workdir: its folder, for the cache of a file's rows and what reward functions keep.

    Returns:
      The run.

    Raises:
      ValueError: on input that does not exist or does not fit.
    """
    task = build_task(config, scratch_of(workdir) / "data")
    for fn in task.reward_fns:
        use_folder = getattr(fn, "use_folder", None)
        if use_folder is not None:
            use_folder(workdir)
    return assemble(config, task)


def assemble(config: Config, task: Task, devices: Sequence[jax.Device] | None = None) -> Run:
    """Builds a run around a task.

    Args:
      config: the run.
      task: prompts and rewards.
      devices: to run on, or to compile for; None: those of all processes.

    Returns:
      The run.

    Raises:
      ValueError: on what does not fit together.
    """
    advantage = config.advantage.with_channels(task.channel_names)
    vocab_size = task.tokenizer.vocab_size
    model = build_model(config.model, vocab_size)
    layout = parallel.make_layout(config, model, devices)
    if layout.placement is not None:
        model = build_model(config.model, vocab_size, layout.placement)
    policy = Policy(model, layout, task.tokenizer, config)
    size = layout.microbatch_size(config.loss.microbatch_size)
    loss = dataclasses.replace(config.loss, microbatch_size=size)
    optimizer = make_optimizer(config.optim, config.steps * loss.num_minibatches * loss.num_epochs)
    train_step = make_train_step(
        policy.microbatch_logprobs,
        advantage,
        optimizer,
        loss=loss,
        channels=task.channels,
        risk_schedule=make_risk_schedule(config.risk, advantage.risk_coef, config.steps),
        weights_every=config.log.audit_every,
    )
    return Run(
        config=config,
        advantage=advantage,
        task=task,
        policy=policy,
        optimizer=optimizer,
        train_step=layout.step(train_step),
    )


def make_stream(run: Run) -> PromptStream:
    """The prompts to train on, from the first batch; of several processes, each has its part.

    Args:
      run: the run.

    Returns:
      The stream.
    """
    return PromptStream(
        run.task.train,
        run.config.rollout.num_prompts // processes.count(),
        seed=run.config.seed,
        process_index=processes.index(),
        process_count=processes.count(),
    )
