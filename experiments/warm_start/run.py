"""Makes a warm start of the embedded task: the tiny policy imitates careless answers.

Writes a file of rvpo_jax/assets (float16). About 5 minutes each on two cores:

    python experiments/warm_start/run.py warm --leak 0.4
    python experiments/warm_start/run.py leaky --leak 0.7
"""

import argparse
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rvpo_jax.data.tokenizer import ByteTokenizer, pad_prompts
from rvpo_jax.data.tool_task import PIECES, ToolTask, demonstrate
from rvpo_jax.method import losses
from rvpo_jax.models.params_io import STARTS, save_params
from rvpo_jax.models.presets import architecture
from rvpo_jax.models.transformer import Transformer, init_params

PROMPT_TOKENS, COMPLETION_TOKENS = 32, 48


def make_batch(tokenizer, task, indices, rng, leak):
    """Prompts ``[B, P]``, mask, completions ``[B, 1, C]`` and mask of careless answers."""
    examples = [task[int(index)] for index in indices]
    prompts, prompt_mask = pad_prompts(
        [tokenizer.encode(example["prompt"]) for example in examples], PROMPT_TOKENS, 0
    )
    completions = np.zeros((len(examples), 1, COMPLETION_TOKENS), np.int32)
    for row, example in enumerate(examples):
        ids = [*tokenizer.encode(demonstrate(example, rng, leak)), tokenizer.eos_id]
        ids = ids[:COMPLETION_TOKENS]
        completions[row, 0, : len(ids)] = ids
    return prompts, prompt_mask, completions, completions != tokenizer.pad_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=STARTS)
    parser.add_argument("--leak", type=float, required=True, help="share of answers that leak")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    args = parser.parse_args()

    tokenizer = ByteTokenizer(PIECES)
    model = Transformer(architecture("tiny", tokenizer.vocab_size))
    params = init_params(model, jax.random.key(0))
    schedule = optax.warmup_cosine_decay_schedule(0.0, args.learning_rate, 100, args.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01)
    )
    task = ToolTask("train", args.steps * args.batch, seed=1)
    rng = random.Random(0)

    @jax.jit
    def step(params, opt_state, prompts, prompt_mask, completions, mask):
        def loss_fn(params):
            logits = model.apply({"params": params}, prompts, prompt_mask, completions)
            logprobs, _ = losses.token_logprobs(logits, completions)
            return -jnp.sum(logprobs, where=mask) / jnp.sum(mask)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state = optimizer.init(params)
    start = time.time()
    for index in range(args.steps):
        rows = range(index * args.batch, (index + 1) * args.batch)
        batch = make_batch(tokenizer, task, rows, rng, args.leak)
        params, opt_state, loss = step(params, opt_state, *batch)
        if index % 100 == 99:
            print(
                f"step {index + 1}  loss {float(loss):.4f}  {time.time() - start:.0f} s", flush=True
            )
            save_params(params, STARTS[args.name], np.float16)
    save_params(params, STARTS[args.name], np.float16)


if __name__ == "__main__":
    main()
