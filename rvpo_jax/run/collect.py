"""What a step collects: completions and their rewards, sampled and scored in parts.

``B`` prompts, ``G`` completions per prompt, ``M`` reward channels. While a part is sampled, the one
before is scored: a judge's answers are waited for beside the device's work. The next step's
rollout cannot begin before: it is sampled with parameters that these rewards decide.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from rvpo_jax.method.sampling import prompt_keys
from rvpo_jax.rewards import Scores
from rvpo_jax.run.parallel import processes
from rvpo_jax.run.recorder import Laps, Sampled
from rvpo_jax.run.setup import Run, Task
from rvpo_jax.types import Batch, Rollout, TrainState


def collect(
    run: Run,
    state: TrainState,
    examples: Sequence[Mapping[str, Any]],
    key: jax.Array,
    laps: Laps,
) -> Sampled:
    """One rollout batch with its rewards; of several processes, each has its share of the prompts.

    Completions do not depend on the parts: each has a key of its own.

    Args:
      run: the run.
      state: whose policy samples.
      examples: B rows of the data.
      key: of the run; each prompt of a step has one of its own.
      laps: of the step; gets ``rollout``, and ``reward``: what of the scoring is left after it.

    Returns:
      What was sampled.
    """
    task, rollout_config = run.task, run.config.rollout
    sample = run.policy.sampler(rollout_config.group_size)
    params = run.policy.sampling_params(state)
    keys = processes.mine(prompt_keys(key, laps.step, rollout_config.num_prompts))
    inputs = (*task.encode_batch(examples), keys)  # as a whole: the parts are equally wide
    num = len(examples) // rollout_config.num_parts
    parts = [slice(start, start + num) for start in range(0, len(examples), num)]
    rollouts, scored = [], []
    with ThreadPoolExecutor(1) as beside:
        for part in parts:
            rollouts.append(sample(params, *(array[part] for array in inputs)))
            if part is not parts[-1]:
                scored.append(beside.submit(_score, task, rollouts[-1], examples[part]))
        laps.lap("rollout")
        done = [one.result() for one in scored]
    done.append(_score(task, rollouts[-1], examples[parts[-1]]))
    rollout = jax.tree.map(lambda *arrays: np.concatenate(arrays), *rollouts)
    scores = _joined([scores for _, scores in done])
    batch = make_batch(rollout, scores.rewards, scores.where)
    laps.lap("reward")
    texts = [text for some, _ in done for text in some]
    return Sampled(examples=examples, texts=texts, batch=batch, rollout=rollout, scores=scores)


def make_batch(rollout: Rollout, rewards: Any, where: Any) -> Batch:
    """Joins a rollout with its rewards.

    Args:
      rollout: B prompts with G completions each.
      rewards: ``[B * G, M]`` float32.
      where: ``[B * G, M]`` bool.

    Returns:
      The batch.
    """
    groups = (*rollout.completions.shape[:2], -1)
    return Batch(
        prompts=rollout.prompts,
        prompt_mask=rollout.prompt_mask,
        completions=rollout.completions,
        completion_mask=rollout.completion_mask,
        old_logprobs=rollout.logprobs,
        rewards=rewards.reshape(groups),
        where=where.reshape(groups),
    )


def _score(
    task: Task, rollout: Rollout, examples: Sequence[Mapping[str, Any]]
) -> tuple[list[str], Scores]:
    texts = task.decode_batch(rollout)
    return texts, task.score(texts, examples)


def _joined(parts: Sequence[Scores]) -> Scores:
    return Scores(
        rewards=np.concatenate([part.rewards for part in parts]),
        where=np.concatenate([part.where for part in parts]),
        num_failed=sum((part.num_failed for part in parts[1:]), parts[0].num_failed),
    )
