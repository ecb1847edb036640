"""A run: the policy, its data, what is sampled, evaluated, saved and logged."""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from rvpo_jax.basics.bounds import Bound, Checked, OneOf, shown
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.config.bounds import OrOff, Positive

USUAL_REWARDS = {
    "rlla": "toolrl_format toolrl_correctness",
    "gsm8k": "gsm8k_format gsm8k_correctness",
    "ifeval": "instructions_strict instructions_share",
    "bfcl_v3": "bfcl",
}
"""What is usual for a data set, for a message."""
LORA_TARGETS = tuple(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked, section="model"):
    """The policy: a named size and how it is computed."""

    preset: Annotated[str | Callable[..., Any], OneOf("rvpo_jax.models.presets:PRESETS")] = "tiny"
    """Size. In Python also a function vocab_size -> rvpo_jax.models.Model."""
    path: str | None = None
    """Hugging Face folder of a Qwen2, Qwen3 or Llama model, in place of preset."""
    tokenizer: Annotated[str | Callable[..., Any], OneOf("rvpo_jax.data.tokenizer:TOKENIZERS")] = (
        "bytes"
    )
    """bytes: UTF-8 bytes, and whole words of the embedded task; with path, that of its folder. In
    Python also a function () -> rvpo_jax.data.tokenizer.Tokenizer."""
    init: Literal["auto", "warm", "leaky", "random"] = "auto"
    """Parameters at step 0: warm (the shipped start of the embedded task; it leaks the secret in 4
    of 10 answers), leaky (another one: 7 of 10), random, or auto: the weights in path, else warm
    for the embedded task and random for other data."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the matrix products; parameters, logprobs and losses stay float32."""
    attention: Literal["auto", "streams", "repeat", "splash"] = "auto"
    """How completions attend to their prompt in training. streams: one copy of its keys and values
    for the group; repeat: one each, in a fused kernel; splash: one sequence, in the Pallas kernel
    for TPUs; auto: splash on a TPU, repeat on a GPU, else streams."""
    remat: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    remat_keeps: Literal["nothing", "products"] = "nothing"
    """With remat, what is kept of a layer: products are those with weights, a few times the memory
    of nothing, and only the cheap rest is computed again."""
    lora_rank: Annotated[int, OrOff] = 0
    """Train adapters of this rank beside the parameters, which stay as they are (LoRA); 0: train
    the parameters. Needs the extra rvpo-jax[lora]."""
    lora_alpha: Annotated[float | None, Positive] = None
    """Adapters count alpha / rank times; None: alpha is twice the rank."""
    lora_targets: tuple[str, ...] = LORA_TARGETS
    """Matrices of each layer that get an adapter; all of them by default."""

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):
            object.__setattr__(self, "path", os.fspath(self.path))
        super().__post_init__()
        unknown = [name for name in self.lora_targets if name not in LORA_TARGETS]
        if unknown or not self.lora_targets:
            raise Refusal(
                f"model.lora_targets must be of {', '.join(LORA_TARGETS)}, got "
                f"{shown(unknown[0]) if unknown else 'none'}.",
                "Leave it out for all of them.",
            )
        if self.path is not None and self.preset != "tiny":
            raise Refusal(
                f"model.preset {shown(self.preset)} and model.path {self.path} name two models.",
                "Give one of them.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutConfig(Checked, section="rollout"):
    """What is sampled each step."""

    num_prompts: Annotated[int, Positive] = 16
    """B: prompts per step, over all devices."""
    group_size: Annotated[
        int, Bound(ge=2, hint="A group needs two completions to be standardised.")
    ] = 8
    """G: completions per prompt, at least 2."""
    num_parts: Annotated[int, Positive] = 1
    """Parts that the prompts of a step are sampled in: one is scored while the next is sampled, for
    rewards that wait, such as a judge. Same completions; decoding has smaller batches."""
    max_prompt_tokens: Annotated[int | None, Positive] = None
    """P: longer prompts are dropped and counted; None: 128 for the embedded task, else 4096."""
    max_completion_tokens: Annotated[int, Positive] = 48
    """C: a completion is cut here when it has not ended."""
    num_slots: Annotated[int | None, Positive] = None
    """Completions that a device writes at the same time; one that ends makes room for the next.
    None: on a CPU a sixteenth of the device's, at least 32; elsewhere all at once."""
    temperature: Annotated[float, Positive] = 1.0
    """Logits are divided by it, when sampling and when logprobs are computed; > 0."""
    top_k: Annotated[int, OrOff] = 0
    """Sample from the k most likely tokens; 0: all."""
    top_p: Annotated[float, Bound(gt=0, le=1, hint="1 is off.")] = 1.0
    """Sample from the smallest set of tokens with at least this probability; 1: all."""

    @property
    def prompts_at_once(self) -> int:
        """Prompts of a part, over all devices."""
        return self.num_prompts // self.num_parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Checked, section="data"):
    """Where prompts come from and which rewards judge the completions."""

    source: str = "embedded"
    """embedded: the built-in tool-calling task; or a public data set, which is downloaded, or read
    from NAME:PATH, its original files: rlla, rar_medicine, rar_science, ifeval, gsm8k, healthbench,
    gpqa_diamond, bfcl_v3, ifbench; or a .jsonl, .json, .csv or .parquet file of your rows."""
    eval_source: str | None = None
    """Rows to evaluate on, as in source. None: what the data set keeps for it, else eval_frac."""
    rewards: tuple[str | Callable[..., Any], ...] = ()
    """Reward functions by name, or FILE.py:FUNCTION; empty: those of the embedded task.
    In Python also the functions themselves."""
    prompt_column: str = "prompt"
    """Column with the prompt: a text or a list of {role, content} messages."""
    eval_frac: Annotated[
        float, Bound(gt=0, lt=1, hint="0.1 keeps a tenth of the rows for evaluation.")
    ] = 0.1
    """Share of the rows that is held out for evaluation, where nothing else is."""
    on_reward_error: Literal["raise", "skip"] = "raise"
    """A reward function that raises: stop the run, or count the completion as not scored."""
    reward_threads: Annotated[int, Positive] = 4
    """Reward functions that run at the same time."""

    def __post_init__(self) -> None:
        for name in ("source", "eval_source"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        super().__post_init__()
        if self.source != "embedded" and not self.rewards:
            usual = USUAL_REWARDS.get(self.source.partition(":")[0], USUAL_REWARDS["rlla"])
            raise Refusal(
                f"data.rewards must name the reward functions for data.source {self.source}.",
                f"For example: --data.rewards {usual}.",
            )
        if self.source == "embedded" and self.eval_source is not None:
            raise Refusal(
                f"data.eval_source {shown(self.eval_source)} does not go with data.source "
                "embedded, which has held-out prompts of its own.",
                "Leave it out, or name rows to train on.",
            )
        twice = [name for name in self.rewards if self.rewards.count(name) > 1]
        if twice:
            raise Refusal(
                f"data.rewards has a name twice: {', '.join(map(str, self.rewards))}.",
                "Each reward function is one channel.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig(Checked, section="eval"):
    """Evaluation on held-out prompts, one sampled completion each."""

    num_prompts: Annotated[int, Positive] = 256
    """Held-out prompts per evaluation."""
    every: Annotated[int, OrOff] = 0
    """Steps between evaluations; 0: only at the start and at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Checked, section="checkpoint"):
    """When the state is saved."""

    every: Annotated[int, Positive] = 50
    """Steps between checkpoints; the last step is always saved."""
    keep: Annotated[int, Positive] = 2
    """Newest checkpoints that are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig(Checked, section="log"):
    """What is written beside metrics.jsonl, which is always written."""

    every: Annotated[int, Positive] = 1
    """Steps between lines of metrics.jsonl."""
    console_every: Annotated[int, Positive] = 10
    """Steps between lines on a console that is not a terminal."""
    samples_every: Annotated[int, OrOff] = 50
    """Steps between entries of samples.jsonl; 0: none."""
    num_samples: Annotated[int, OrOff] = 4
    """Completions per entry of samples.jsonl."""
    rollouts: Literal["texts", "rewards", "none"] = "texts"
    """rollouts/, a Parquet file per step with every completion, its rewards and its advantage:
    with the texts, without them, or not at all."""
    audit: bool = True
    """Write audit.html and audit.json at the end of the run; they read rollouts/. On the way, after
    10, 20, 40, ... steps, say so where failing a channel is paid."""
    audit_every: Annotated[int, OrOff] = 10
    """Steps between comparisons with other rules (audit/quiet_failures/<rule>) in metrics.jsonl;
    0: none."""
    sinks: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Further sinks of the metrics; they need the extra rvpo-jax[log]."""
    profile: str | None = None
    """Steps that leave a profiler trace in profile/, such as 10:13 for 10, 11 and 12; None: none.
    The first step that a process makes is mostly compiling."""

    @property
    def profiled(self) -> tuple[int, int] | None:
        """The first of the steps in ``profile``, and the one after the last."""
        if self.profile is None:
            return None
        first, _, end = self.profile.partition(":")
        return int(first), int(end)

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = re.fullmatch(
            r"([0-9]{1,9}):([0-9]{1,9})", "0:1" if self.profile is None else self.profile
        )
        if steps is None or int(steps[1]) >= int(steps[2]):
            raise Refusal(
                f"log.profile must read FIRST:END, two steps, got {shown(self.profile)}.",
                "10:13 traces the steps 10, 11 and 12.",
            )
        if self.rollouts == "none" and self.audit:
            raise Refusal(
                "log.audit reads the files that log.rollouts none leaves out.",
                "Give log.rollouts texts or rewards, or turn log.audit off.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig(Checked, section="parallel"):
    """How the step runs on several devices."""

    impl: Literal["pmap", "mesh", "jit"] | None = None
    """pmap: every device has all parameters; mesh: they are split as well; jit: one device. None:
    pmap, and mesh where there are several processes."""
    mesh: str | None = None
    """Of impl mesh, such as data=2,fsdp=4,tensor=1; None: one that suits model and devices."""
    num_devices: Annotated[int | None, Positive] = None
    """Devices of each process; None: all of them. rvpo train takes a CPU for two where the model
    is a small preset."""
    processes: Annotated[int | None, Positive] = None
    """Processes of the run; without a coordinator rvpo train starts all of them on this machine.
    None: one, or what auto finds."""
    coordinator: str | None = None
    """HOST:PORT of the machine of process 0, which opens the port; or auto, where Cloud TPU, SLURM
    or Open MPI tell the rest. None: one process, and auto on a Cloud TPU."""
    rank: Annotated[int | None, OrOff] = None
    """Which of the processes this one is, from 0; with a coordinator that is not auto."""
    stall_timeout: Annotated[float, Positive] = 900.0
    """Seconds without progress (the start, compiling and the last audit left out) after which rvpo
    train ends a run of several processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.coordinator not in (None, "auto")
        host, _, port = (self.coordinator or "").rpartition(":")
        if named and not (host and port.isdecimal()):
            raise Refusal(
                f"parallel.coordinator must read HOST:PORT or auto, got {shown(self.coordinator)}.",
                "For example 10.0.0.2:8476, the machine of process 0.",
            )
        if named and (self.processes is None or self.rank is None):
            raise Refusal(
                "parallel.coordinator needs parallel.processes and parallel.rank, got "
                f"{self.processes} and {self.rank}.",
                "Every process gets the same coordinator and number, and a rank of its own.",
            )
        if self.rank is not None and not (named and self.rank < (self.processes or 1)):
            raise Refusal(
                f"parallel.rank must be below parallel.processes = {self.processes} and have a "
                f"parallel.coordinator, got {self.rank} and {self.coordinator}.",
                "Ranks count from 0.",
            )
        if self.impl in ("pmap", "jit") and (self.processes or 1) > 1:
            raise Refusal(
                f"parallel.impl {self.impl} is of one process, got {self.processes}.",
                "Leave it out, or give mesh.",
            )
