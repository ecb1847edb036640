"""One step of Tunix's GRPO learner per request; runs in Tunix's own environment."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from lines import Requests
from tunix.generate import sampler as tunix_sampler
from tunix.models.qwen2 import model as qwen2
from tunix.rl import rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig


class Words:
    """A tokenizer whose words are ids: a prompt is "17 4 250"."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._eos_id, self._pad_id = work["eos_id"], work["pad_id"]

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        """Text of ids."""
        return " ".join(map(str, ids))

    def bos_id(self) -> None:
        """None: prompts begin with their first word."""

    def eos_id(self) -> int:
        """The end."""
        return self._eos_id

    def pad_id(self) -> int:
        """Padding."""
        return self._pad_id


class EndingSampler(tunix_sampler.Sampler):
    """Ends each completion where it should, and not before; the ends travel with the seed."""

    ends: np.ndarray  # of all completions of the step
    num_taken = 0
    seconds = 0.0

    def begin(self, ends: list[int]) -> None:
        """The next rollout ends so."""
        self.ends, self.num_taken, self.seconds = np.array(ends, np.int32), 0, 0.0

    def __call__(self, input_strings: Any, **kwargs: Any) -> Any:
        start, first = time.perf_counter(), self.num_taken
        self.num_taken += len(input_strings)
        seed = (jax.random.PRNGKey(first), jnp.asarray(self.ends[first : self.num_taken]))
        output = super().__call__(input_strings, **(kwargs | {"seed": seed}))
        self.seconds += time.perf_counter() - start
        return output

    def _sample(self, logits: Any, eos: Any, cache: Any, sampler_state: Any) -> Any:
        key, ends = sampler_state.seed
        num_tokens = sampler_state.decoding_step + 2 - sampler_state.num_input_tokens
        forced = jnp.where(ends == num_tokens, 1e9, -jnp.inf)
        logits = logits[:, -1:].at[:, 0, self.tokenizer.eos_id()].set(forced)
        state = dataclasses.replace(sampler_state, seed=key)
        state = super()._sample(logits=logits, eos=eos, cache=cache, sampler_state=state)
        return dataclasses.replace(state, seed=sampler_state.seed)


def model(work: dict[str, Any]) -> qwen2.Qwen2:
    """Random parameters in the sizes of the work."""
    sizes = work["sizes"]
    config = qwen2.ModelConfig(
        num_layers=sizes["num_layers"],
        vocab_size=work["vocab_size"],
        embed_dim=sizes["width"],
        hidden_dim=sizes["mlp_width"],
        num_heads=sizes["num_heads"],
        head_dim=sizes["head_dim"],
        num_kv_heads=sizes["num_kv_heads"],
        rope_theta=10_000,
        norm_eps=1e-6,
        use_tied_embedding=True,
    )
    return qwen2.Qwen2(config, rngs=nnx.Rngs(0))


def cluster_config(work: dict[str, Any]) -> rl_cluster.ClusterConfig:
    """One optimisation step per rollout, all on one device."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(1, 1), ("fsdp", "tp"))
    num_prompts, prompt_tokens = len(work["prompts"]), work["prompt_tokens"]
    adamw = optax.adamw(5e-4, b2=0.99, weight_decay=0.0)
    return rl_cluster.ClusterConfig(
        role_to_mesh=dict.fromkeys(rl_cluster.Role, mesh),
        training_config=rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.chain(optax.clip_by_global_norm(1.0), adamw),
            eval_every_n_steps=1_000_000,
            max_steps=1_000_000,
            mini_batch_size=num_prompts,
            train_micro_batch_size=work["microbatch"],
            rollout_micro_batch_size=work["rollout_microbatch"],
        ),
        rollout_config=RolloutConfig(
            max_tokens_to_generate=work["max_tokens"],
            max_prompt_length=prompt_tokens,
            kv_cache_size=prompt_tokens + work["max_tokens"],
            temperature=1.0,
        ),
    )


def batches(requests: Requests, cluster: Any, tokens: list[int]) -> Iterator[dict[str, list[str]]]:
    """The prompts, when a step is asked for; the learner comes back when it is done."""
    texts = [" ".join(map(str, ids)) for ids in requests.work["prompts"]]
    sampler = cluster.rollout._sampler
    while True:
        sampler.begin(requests.next())
        tokens.clear()
        start = time.perf_counter()
        yield {"prompts": texts}
        jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
        seconds = time.perf_counter() - start
        requests.answer(seconds=seconds, rollout=sampler.seconds, tokens=sum(tokens))


def main() -> None:
    requests = Requests()
    work = requests.work
    tunix_sampler.Sampler = EndingSampler  # of the cluster's own rollout engine
    cluster = rl_cluster.RLCluster(
        actor=model(work), tokenizer=Words(work), cluster_config=cluster_config(work)
    )
    tokens: list[int] = []

    def length(completions: list[str], **_: Any) -> list[float]:
        lengths = [len(text.split()) for text in completions]
        tokens.extend(lengths)
        return [num / 256 for num in lengths]

    grpo = GRPOConfig(num_generations=work["group_size"], beta=0.0)
    learner = GRPOLearner(rl_cluster=cluster, algo_config=grpo, reward_fns=length)
    learner.train(batches(requests, cluster, tokens))


if __name__ == "__main__":
    main()
