"""Makes a small real log of a TRL run: its completions files, one Parquet file per step.

A random Qwen2 of 28,320 parameters is trained with TRL's GRPOTrainer on the CPU. Two reward
functions of different scale conflict: ``helpful_length`` pays words and, most of all, digits;
``no_digits`` is lost with the first digit. Nothing is downloaded.

``tests/fixtures/trl_completions`` was written by the command below, without options, with torch
2.13.0+cpu, trl 1.16.0, transformers 5.24.0, datasets 5.2.0, accelerate 1.15.0, pandas 3.1.1 and
pyarrow 26.0.1 on Python 3.11. It needs the extra ``rvpo-jax[parity]``; the prompts and the reward
functions can be imported without::

    python tests/peers/make_trl_log.py OUT  # OUT/completions/completions_00001.parquet and so on
"""

import argparse
import os
import re
from pathlib import Path

NUM_GENERATIONS = 4
BATCH_SIZE = 16  # completions per step, so 4 prompts

PROMPTS = (
    "Tell me about the sea.",
    "Tell me about the old town.",
    "Describe a walk in the rain.",
    "Describe a friend of yours.",
    "Write a line about winter.",
    "Write a line about the harbour.",
    "Explain how bread is made.",
    "Explain why leaves are green.",
    "What do you see from the window?",
    "What does a good letter say?",
    "Give me a plan for the evening.",
    "Give me a reason to stay.",
    "Name the birds in the garden.",
    "Name the tools in the shed.",
    "How many days are in a week?",
    "How many boats are in the harbour?",
)

# What the tokenizer is trained on besides the prompts: words for it to merge, and numbers.
SENTENCES = (
    "The sea is wide and grey, and the wind turns in the evening.",
    "There are 12 boats in the harbour and 3 of them are green.",
    "Bread is made of flour, water, salt and time: 500 grams, 350, 10 and 18 hours.",
    "In winter the old town is quiet; 40 people stay, 2000 come back in summer.",
    "A good friend writes a letter, and a better one reads it twice.",
    "Do you see the garden? Do you hear the rain? Why do you stay?",
    "The birds in the shed are small, the tools are heavy: 7 of them, 69 in all.",
    "A week has 7 days, a day has 24 hours, an hour has 60 minutes.",
    "Leaves are green in 1984 and green in 2025, and nobody asks why.",
    "What is the plan? We walk to the window at 5, and we see the sea at 8.",
)

# Settings of TRL for a few steps on a CPU that log to files only.
ON_A_CPU = {
    "log_completions": True,
    "num_completions_to_print": 0,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def helpful_length(completions: list[str], **kwargs) -> list[float]:
    """An eighth per word (run of letters) and 1.0 per digit, at most 5.0.

    >>> helpful_length(["", "At 5, or later?", "At 1984 hours."])
    [0.0, 1.375, 4.25]
    """
    del kwargs  # TRL also passes the prompts, the token ids, its state and its loggers
    return [
        min(5.0, len(re.findall("[A-Za-z]+", text)) / 8 + len(re.findall("[0-9]", text)))
        for text in completions
    ]


def no_digits(prompts: list[str], completions: list[str], **kwargs) -> list[float | None]:
    """1.0 without any digit, else 0.0; ``None`` (not judged) where a digit is no fault.

    That is so for all answers to a "How many" prompt, and for a completion that asks back. The
    first leaves whole groups out, the second single completions of a group.

    >>> no_digits(["Say it."] * 3 + ["How many?"], ["Now.", "At 5.", "At 5?", "5"])
    [1.0, 0.0, None, None]
    """
    del kwargs
    return [
        None
        if prompt.startswith("How many") or "?" in text
        else float(not any(character.isdigit() for character in text))
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def make_tokenizer():
    """Byte-pair tokenizer trained on the texts above, 300 entries; each digit is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<pad>", "<eos>"], show_progress=False
    )
    tokenizer.train_from_iterator(PROMPTS + SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    )


def make_model(tokenizer, seed: int):
    """Random two-layer Qwen2 of width 32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    set_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def write_log(output: Path, *, steps: int, seed: int) -> None:
    """Trains for ``steps`` steps; TRL writes ``output/completions/completions_*.parquet``."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = make_tokenizer()
    config = GRPOConfig(
        output_dir=str(output),
        max_steps=steps,
        seed=seed,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        per_device_train_batch_size=BATCH_SIZE,
        num_generations=NUM_GENERATIONS,
        max_completion_length=24,
        **ON_A_CPU,
    )
    trainer = GRPOTrainer(
        model=make_model(tokenizer, seed),
        reward_funcs=[helpful_length, no_digits],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": list(PROMPTS)}),
        processing_class=tokenizer,
    )
    trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder that gets completions/")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Before the first import of transformers, which reads it: nothing here needs the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    write_log(args.output, steps=args.steps, seed=args.seed)


if __name__ == "__main__":
    main()
