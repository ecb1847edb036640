"""Held-out evaluation: one sampled completion per prompt, per-channel rates with intervals.

``N`` prompts, ``M`` reward channels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvpo_jax.basics.intervals import Rate, rate_text, wilson
from rvpo_jax.basics.refusals import Refusal
from rvpo_jax.basics.text import printable
from rvpo_jax.method.diagnostics import joint_pass
from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.run import pulse
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.setup import Run, Task

ALL_MET = "all channels met"
EVAL_STREAM = 2**31 - 1  # the fold of the run's key that evaluations sample with
LARGE = 10_000_000  # parameters from which compiling a sampler takes less time than it saves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Completions of held-out prompts and what they scored; texts are those of this process."""

    examples: Sequence[Mapping]  # N rows
    texts: Sequence[str]  # N completions
    rewards: np.ndarray  # [N, M] float32
    where: np.ndarray  # [N, M] bool
    lengths: np.ndarray  # [N] tokens


def evaluate_held_out(
    run: Run, params: Any, num_prompts: int, *, temperature: float | None = None
) -> Evaluation:
    """Samples one completion for each of the first held-out prompts and scores it.

    The same random numbers at every call, so that two evaluations differ by the policy alone.

    Args:
      run: the run.
      params: parameter tree.
      num_prompts: N at most; fewer where there are fewer held-out prompts.
      temperature: other than that of the rollouts; 0 takes the most likely token.

    Returns:
      The evaluation.
    """
    task = run.task
    num_prompts = min(num_prompts, len(task.held_out))
    chunk, group_size = _sampler_shape(run, params, num_prompts)
    sample = run.policy.sampler(group_size, temperature)
    at_once = chunk // processes.count()
    # Each process has a stretch of the prompts, as many as the others and in whole chunks: one
    # shape, one compilation. What is too much has the last prompt once more.
    filled = -(-num_prompts // chunk) * chunk
    indices = processes.mine(np.arange(filled))
    keys = prompt_keys(jax.random.key(run.config.seed), EVAL_STREAM, filled)[indices]
    examples = [task.held_out[min(index, num_prompts - 1)] for index in indices.tolist()]
    wanted = np.broadcast_to(np.arange(group_size) == 0, (at_once, group_size))
    texts: list[str] = []
    lengths: list[np.ndarray] = []
    for start in range(0, len(examples), at_once):
        part = examples[start : start + at_once]
        inputs = (*task.encode_batch(part), keys[start : start + at_once], wanted)
        rollout = sample(params, *inputs)
        texts += task.decode_batch(rollout)[::group_size]
        lengths.append(np.sum(rollout.completion_mask[:, 0], axis=-1))
        pulse.progress()
    num_own = int(np.sum(indices < num_prompts))
    scored = max(num_own, 1)  # a process may have nothing but what is too much
    scores = task.score(texts[:scored], examples[:scored])
    rows = (scores.rewards, scores.where, np.concatenate(lengths)[:scored].astype(np.int32))
    whole = processes.gather(jax.tree.map(lambda x: _padded(x, len(indices)), rows))
    rewards, where, lengths_of_all = jax.tree.map(lambda x: x[:num_prompts], whole)
    return Evaluation(
        examples=examples[:num_own],
        texts=texts[:num_own],
        rewards=rewards,
        where=where,
        lengths=lengths_of_all,
    )


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])


def _sampler_shape(run: Run, params: Any, num_prompts: int) -> tuple[int, int]:
    """Prompts that are sampled at a time, and places for completions of each: one is filled.

    The sampler of the rollouts is compiled anyway. A large model has one of its own, with prompts
    in the places of a group: as many as hold the tokens of a rollout.
    """
    rollout = run.config.rollout
    few, group_size = rollout.prompts_at_once, rollout.group_size
    if num_prompts <= few or sum(leaf.size for leaf in jax.tree.leaves(params)) < LARGE:
        return few, group_size
    width = rollout.max_completion_tokens
    many = group_size * width // (run.task.prompt_tokens + width)  # times few: whole devices
    return few * min(max(many, 1), -(-num_prompts // few)), 1


def evaluation_row(task: Task, evaluation: Evaluation) -> dict[str, Any]:
    """What evals.jsonl keeps of an evaluation.

    Args:
      task: names and thresholds of the channels.
      evaluation: rewards of N completions.

    Returns:
      ``rates`` and ``means`` by channel; a mean is NaN where nothing was scored.
    """
    rates = pass_rates(task, evaluation)
    scored = np.maximum(evaluation.where.sum(0), 1)
    means = np.where(
        evaluation.where.any(0), (evaluation.rewards * evaluation.where).sum(0) / scored, np.nan
    )
    return {
        "rates": {name: dataclasses.asdict(rate) for name, rate in rates.items()},
        "means": dict(zip(task.channel_names, means.tolist(), strict=True)),
    }


def pass_rates(task: Task, evaluation: Evaluation) -> dict[str, Rate]:
    """Pass rate of each channel where it applies, and of all channels at once.

    Args:
      task: names and thresholds of the channels.
      evaluation: rewards of N completions.

    Returns:
      Rates by channel name; ``all channels met`` comes last.
    """
    rewards, where = evaluation.rewards, evaluation.where
    rates = {
        name: wilson(rewards[where[:, index], index] >= task.pass_at[index])
        for index, name in enumerate(task.channel_names)
    }
    joint = joint_pass(*map(jnp.asarray, (rewards, where, task.pass_at)))
    rates[ALL_MET] = wilson(np.asarray(joint))
    return rates


def sample_prompt(
    run: Run, params: Any, prompt: str, num: int, *, temperature: float | None = None
) -> Evaluation:
    """Samples completions of one prompt of the user's; nothing is scored.

    Args:
      run: the run.
      params: parameter tree.
      prompt: the text.
      num: N completions.
      temperature: other than that of the rollouts; 0 takes the most likely token.

    Returns:
      The evaluation, all of ``where`` False.

    Raises:
      ValueError: if the prompt is empty or too long.
    """
    task, policy = run.task, run.policy
    length = len(task.encode(prompt))
    if not 0 < length <= task.prompt_tokens:
        raise Refusal(
            f"--prompt must have 1 to {task.prompt_tokens} tokens, the widest prompt of this run, "
            f"got {length}.",
            "Shorten it, or train with longer prompts.",
        )
    num_rows = -(-num // policy.layout.num_shards) * policy.layout.num_shards
    keys = prompt_keys(jax.random.key(run.config.seed), EVAL_STREAM, num_rows)
    example = {"prompt": prompt}
    rollout = policy.sampler(1, temperature)(params, *task.encode_batch([example] * num_rows), keys)
    shape = (num, len(task.channels))
    return Evaluation(
        examples=[example] * num,
        texts=task.decode_batch(rollout)[:num],
        rewards=np.zeros(shape, np.float32),
        where=np.zeros(shape, bool),
        lengths=np.asarray(rollout.completion_mask).sum(-1)[:num, 0],
    )


def evaluation_table(task: Task, evaluation: Evaluation, step: int) -> Table:
    """Mean and pass rate of every channel.

    Args:
      task: names of the channels.
      evaluation: rewards of N completions.
      step: of the checkpoint.

    Returns:
      A rich table.
    """
    table = Table(
        title=f"Step {step}, {len(evaluation.texts)} held-out prompts, 95 % intervals",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("channel", "kind", "pass at", "mean", "pass rate"):
        table.add_column(name, justify="right" if name in ("mean", "pass rate") else "left")
    rates = pass_rates(task, evaluation)
    for index, channel in enumerate(task.channels):
        scored = evaluation.where[:, index]
        mean = f"{evaluation.rewards[scored, index].mean():.3f}" if scored.any() else "-"
        mark = f"{channel.pass_at:g} of {channel.low:g}..{channel.high:g}"
        rate = rate_text(dataclasses.asdict(rates[channel.name]))
        table.add_row(Text(printable(channel.name, keep="")), channel.kind, mark, mean, rate)
    table.add_section()
    table.add_row(ALL_MET, "", "", "", rate_text(dataclasses.asdict(rates[ALL_MET])))
    return table


def show_samples(task: Task, evaluation: Evaluation, console: Console) -> None:
    """Prints completions with their channel values; text from a policy is shown escaped.

    Args:
      task: names of the channels.
      evaluation: N completions.
      console: where to print.
    """
    for index, (example, text) in enumerate(
        zip(evaluation.examples, evaluation.texts, strict=True)
    ):
        console.rule(f"{index + 1}", align="left")
        console.print(
            printable(task.tokenizer.render(example["prompt"]).rstrip()), style="dim", markup=False
        )
        console.print(printable(text), markup=False, highlight=False)
        values = [
            f"{printable(name, keep='')} {evaluation.rewards[index, place]:g}"
            for place, name in enumerate(task.channel_names)
            if evaluation.where[index, place]
        ]
        if values:
            console.print("  ".join(values), style="bold", markup=False, highlight=False)
