"""One step of TRL's GRPOTrainer per request; runs in TRL's own environment."""

import functools
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from lines import Requests
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LogitsProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer


class Ends(LogitsProcessor):
    """Ends each completion where it should, and not before."""

    def __init__(self, eos_id: int) -> None:
        self.eos_id, self.num_tokens, self.ends = eos_id, 0, torch.empty(0)

    def begin(self, ends: list[int]) -> None:
        """The next rollout ends so."""
        self.num_tokens, self.ends = 0, torch.tensor(ends)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.num_tokens += 1
        scores[:, self.eos_id] = torch.where(self.ends == self.num_tokens, 1e9, -torch.inf)
        return scores


class OnRequest(TrainerCallback):
    """Holds the trainer before each step until one is asked for."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.ends = Ends(requests.work["eos_id"])
        self.start = self.rollout = 0.0
        self.tokens = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits; the dataset's batch has been read, nothing has been sampled."""
        self.ends.begin(self.requests.next())
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Answers; the optimizer has made its step."""
        seconds = time.perf_counter() - self.start
        self.requests.answer(seconds=seconds, rollout=self.rollout, tokens=self.tokens)

    def generate(self, generate: Callable, *args: Any, **kwargs: Any) -> Any:
        """``generate`` with the ends, timed."""
        start = time.perf_counter()
        result = generate(*args, logits_processor=[self.ends], **kwargs)
        self.rollout = time.perf_counter() - start
        return result

    def length(self, completion_ids: list[list[int]], **_: Any) -> list[float]:
        """A reward that costs nothing."""
        lengths = [len(ids) for ids in completion_ids]
        self.tokens = sum(lengths)
        return [num / 256 for num in lengths]


def tokenizer(work: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Each id is a word: a prompt is "17 4 250"."""
    words = {str(index): index for index in range(work["vocab_size"])}
    tokens = Tokenizer(models.WordLevel(words, unk_token=str(work["pad_id"])))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token=str(work["eos_id"]), pad_token=str(work["pad_id"])
    )


def model(work: dict[str, Any]) -> Qwen2ForCausalLM:
    """Random parameters in the sizes of the work."""
    sizes = work["sizes"]
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=work["vocab_size"],
            hidden_size=sizes["width"],
            intermediate_size=sizes["mlp_width"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
            num_key_value_heads=sizes["num_kv_heads"],
            tie_word_embeddings=True,
            eos_token_id=work["eos_id"],
            pad_token_id=work["pad_id"],
            bos_token_id=None,
        )
    )


def settings(work: dict[str, Any], folder: str) -> GRPOConfig:
    """One optimisation step per rollout, as fast as TRL does it."""
    num = len(work["prompts"]) * work["group_size"]
    return GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=work["microbatch"],
        gradient_accumulation_steps=num // work["microbatch"],
        num_generations=work["group_size"],
        max_completion_length=work["max_tokens"],
        max_steps=1_000_000,
        beta=0.0,
        learning_rate=5e-4,
        lr_scheduler_type="constant",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        shuffle_dataset=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def main() -> None:
    requests = Requests()
    work, on_request = requests.work, OnRequest(requests)
    policy = model(work)
    policy.generate = functools.partial(on_request.generate, policy.generate)
    texts = [" ".join(map(str, ids)) for ids in work["prompts"]]
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=on_request.length,
            args=settings(work, folder),
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=tokenizer(work),
            callbacks=[on_request],
        )
        trainer.train()


if __name__ == "__main__":
    main()
